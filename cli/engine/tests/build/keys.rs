//! What counts for a key: each row changes one thing between two builds and says which steps ran the
//! second time. Every other step was taken from the cache.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::time::{Duration, SystemTime};

use engine::{AgentFrom, Allowed, ContextFrom, NoCache, Request, SecretFrom};
use llb::op::Network;

use crate::room::Room;

/// One thing that changes.
struct Row {
    /// It in a few words.
    what: &'static str,
    dockerfile: &'static str,
    change: fn(&Room, &mut Request),
    /// The instructions that run for it.
    ran: &'static [&'static str],
}

const NOTHING: &[&str] = &[];

/// Builds every row twice and compares.
fn check(rows: &[Row]) {
    let wrong: Vec<String> = rows.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn wrong(row: &Row) -> Option<String> {
    let room = Room::with_base(row.dockerfile);
    for file in ["a.txt", "b.txt", "src/one.txt", "src/two.txt", "run.sh"] {
        room.write(file, format!("this is {file}"));
    }
    symlink("a.txt", room.context().join("link")).unwrap();
    symlink("one.txt", room.context().join("src/link")).unwrap();
    let mut request = room.request();
    request
        .secrets
        .insert("key".to_owned(), SecretFrom::Value(b"one".to_vec()));
    request.allowed = Allowed::ALL;
    room.build_as(&request)
        .unwrap_or_else(|error| panic!("{}: {error}", row.what));
    (row.change)(&room, &mut request);
    room.build_as(&request)
        .unwrap_or_else(|error| panic!("{}: {error}", row.what));
    let mut ran: Vec<String> = room
        .steps()
        .iter()
        .filter_map(|line| line.strip_suffix(": DONE"))
        .filter_map(|name| Some(name.split_once("] ")?.1.to_owned()))
        .collect();
    ran.sort_unstable();
    let mut expected = row.ran.to_vec();
    expected.sort_unstable();
    (ran != expected).then(|| format!("{}: {ran:?} ran, not {expected:?}", row.what))
}

/// Another Dockerfile.
fn text(room: &Room, dockerfile: &str) {
    room.write("Dockerfile", dockerfile);
}

/// Another image under the name `busybox`.
fn retag(room: &Room, dockerfile: &str) {
    let aside = room.home().join("base");
    fs::create_dir_all(&aside).unwrap();
    fs::write(aside.join("Dockerfile"), dockerfile).unwrap();
    let request = Request {
        context: ContextFrom::Directory(aside),
        tags: vec!["busybox".parse().unwrap()],
        ..room.request()
    };
    room.build_as(&request).unwrap();
}

fn chmod(room: &Room, path: &str, mode: u32) {
    fs::set_permissions(room.context().join(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn rename(room: &Room, from: &str, to: &str) {
    let to = room.context().join(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(room.context().join(from), to).unwrap();
}

fn relink(room: &Room, path: &str, target: &str) {
    let path = room.context().join(path);
    fs::remove_file(&path).unwrap();
    symlink(target, path).unwrap();
}

fn build_arg(request: &mut Request, name: &str, value: &str) {
    request.build_args.insert(name.to_owned(), value.to_owned());
}

#[test]
fn as_root_of_a_base_its_content_and_its_config_count_and_not_its_name() {
    const ON_BASE: &str = "FROM busybox\nRUN echo 1 > /1\nCOPY a.txt /\n";
    check(&[
        Row {
            what: "the base has other files",
            dockerfile: ON_BASE,
            change: |room, _| retag(room, "FROM busybox\nRUN echo more > /more\n"),
            ran: &["RUN echo 1 > /1", "COPY a.txt /"],
        },
        Row {
            what: "the base was made again with the same files",
            dockerfile: ON_BASE,
            change: |room, _| retag(room, "FROM busybox\nLABEL made=again\n"),
            ran: NOTHING,
        },
        Row {
            what: "the base sets another variable",
            dockerfile: "FROM busybox\nCOPY a.txt /\nRUN echo 1 > /1\n",
            change: |room, _| retag(room, "FROM busybox\nENV MORE=1\n"),
            ran: &["RUN echo 1 > /1"],
        },
        Row {
            what: "the same base by another name",
            dockerfile: ON_BASE,
            change: |room, _| {
                text(
                    room,
                    "FROM docker.io/library/busybox:latest\nRUN echo 1 > /1\nCOPY a.txt /\n",
                );
            },
            ran: NOTHING,
        },
        Row {
            what: "the same base by an ARG",
            dockerfile: ON_BASE,
            change: |room, _| {
                text(
                    room,
                    "ARG BASE=busybox\nFROM $BASE\nRUN echo 1 > /1\nCOPY a.txt /\n",
                );
            },
            ran: NOTHING,
        },
        Row {
            what: "another base below COPY --link",
            dockerfile: "FROM busybox\nCOPY --link a.txt /to/\nRUN cat /to/a.txt > /2\n",
            change: |room, _| retag(room, "FROM busybox\nRUN echo more > /more\n"),
            // To put the layer onto the other base copies nothing.
            ran: &["LINK COPY --link a.txt /to/", "RUN cat /to/a.txt > /2"],
        },
        Row {
            what: "another base below COPY without --link",
            dockerfile: "FROM busybox\nCOPY a.txt /to/\n",
            change: |room, _| retag(room, "FROM busybox\nRUN echo more > /more\n"),
            ran: &["COPY a.txt /to/"],
        },
        Row {
            what: "another base of a stage from which the same file is copied",
            dockerfile: "FROM busybox AS one\nRUN echo 1 > /1\nFROM scratch\nCOPY --from=one /1 /\n",
            change: |room, _| retag(room, "FROM busybox\nRUN echo more > /more\n"),
            ran: &["RUN echo 1 > /1"],
        },
    ]);
}

#[test]
fn as_root_of_variables_those_in_the_environment_of_a_run_count() {
    const WITH_ARG: &str =
        "FROM busybox\nRUN echo 1 > /1\nARG WHICH=1\nCOPY a.txt /\nRUN echo 2 > /2\n";
    const WITH_ENV: &str =
        "FROM busybox\nRUN echo 1 > /1\nENV WHICH=1\nCOPY a.txt /\nRUN echo 2 > /2\n";
    check(&[
        Row {
            what: "an ENV counts for each RUN after it",
            dockerfile: WITH_ENV,
            change: |room, _| text(room, &WITH_ENV.replace("WHICH=1", "WHICH=2")),
            ran: &["RUN echo 2 > /2"],
        },
        Row {
            what: "an ARG's default counts for each RUN after it, used or not",
            dockerfile: WITH_ARG,
            change: |room, _| text(room, &WITH_ARG.replace("WHICH=1", "WHICH=2")),
            ran: &["RUN echo 2 > /2"],
        },
        Row {
            what: "a --build-arg counts as the default does",
            dockerfile: WITH_ARG,
            change: |_, request| build_arg(request, "WHICH", "2"),
            ran: &["RUN echo 2 > /2"],
        },
        Row {
            what: "a --build-arg that is the default",
            dockerfile: WITH_ARG,
            change: |_, request| build_arg(request, "WHICH", "1"),
            ran: NOTHING,
        },
        Row {
            what: "a --build-arg that nothing declares",
            dockerfile: WITH_ARG,
            change: |_, request| build_arg(request, "UNKNOWN", "2"),
            ran: NOTHING,
        },
        Row {
            what: "an ARG before FROM is in no RUN",
            dockerfile: "ARG WHICH=1\nFROM busybox\nRUN echo 1 > /1\n",
            change: |_, request| build_arg(request, "WHICH", "2"),
            ran: NOTHING,
        },
        Row {
            what: "an ARG of another stage",
            dockerfile: "FROM busybox AS one\nARG WHICH=1\nRUN echo 1 > /1\nFROM busybox\nRUN echo 2 > /2\nCOPY --from=one /1 /\n",
            change: |_, request| build_arg(request, "WHICH", "2"),
            ran: &["RUN echo 1 > /1"],
        },
        Row {
            what: "an ARG after everything",
            dockerfile: "FROM busybox\nRUN echo 1 > /1\nARG WHICH=1\nLABEL which=$WHICH\n",
            change: |_, request| build_arg(request, "WHICH", "2"),
            ran: NOTHING,
        },
        Row {
            what: "a proxy needs no ARG and counts for nothing",
            dockerfile: WITH_ARG,
            change: |_, request| {
                build_arg(request, "HTTP_PROXY", "http://proxy:3128");
                build_arg(request, "no_proxy", "localhost");
            },
            ran: NOTHING,
        },
        Row {
            what: "a proxy that is declared counts as any other ARG",
            dockerfile: "FROM busybox\nARG HTTP_PROXY\nRUN echo 1 > /1\n",
            change: |_, request| build_arg(request, "HTTP_PROXY", "http://proxy:3128"),
            ran: &["RUN echo 1 > /1"],
        },
        Row {
            what: "what is said to the builder",
            dockerfile: WITH_ARG,
            change: |_, request| build_arg(request, "BUILDKIT_INLINE_CACHE", "1"),
            ran: NOTHING,
        },
        Row {
            what: "a variable in the source of a COPY counts as what it becomes",
            dockerfile: "FROM busybox\nARG NAME=a\nCOPY ${NAME}.txt /to\n",
            change: |_, request| build_arg(request, "NAME", "b"),
            ran: &["COPY b.txt /to"],
        },
    ]);
}

#[test]
fn as_root_of_copied_files_content_name_and_mode_count_and_not_time_owner_or_place() {
    const ONE: &str = "FROM busybox\nCOPY a.txt /to/\n";
    const DIRECTORY: &str = "FROM busybox\nCOPY src /to\n";
    check(&[
        Row {
            what: "the content",
            dockerfile: ONE,
            change: |room, _| room.write("a.txt", "other"),
            ran: &["COPY a.txt /to/"],
        },
        Row {
            what: "the same content again",
            dockerfile: ONE,
            change: |room, _| room.write("a.txt", "this is a.txt"),
            ran: NOTHING,
        },
        Row {
            what: "the time",
            dockerfile: ONE,
            change: |room, _| {
                let file = fs::File::options()
                    .write(true)
                    .open(room.context().join("a.txt"))
                    .unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
                    .unwrap();
            },
            ran: NOTHING,
        },
        Row {
            what: "the owner of a file of the context",
            dockerfile: ONE,
            change: |room, _| chown(room.context().join("a.txt"), Some(1000), Some(1000)).unwrap(),
            ran: NOTHING,
        },
        Row {
            what: "the mode",
            dockerfile: ONE,
            change: |room, _| chmod(room, "a.txt", 0o755),
            ran: &["COPY a.txt /to/"],
        },
        Row {
            what: "the mode where --chmod gives one: a checkout with another umask",
            dockerfile: "FROM busybox\nCOPY --chmod=755 a.txt /to/\n",
            change: |room, _| chmod(room, "a.txt", 0o664),
            ran: NOTHING,
        },
        Row {
            what: "modes of a directory and what is in it where --chmod gives one",
            dockerfile: "FROM busybox\nCOPY --chmod=755 src /to/\n",
            change: |room, _| {
                chmod(room, "src", 0o775);
                chmod(room, "src/one.txt", 0o664);
            },
            ran: NOTHING,
        },
        Row {
            what: "the mode where --chmod only changes it",
            dockerfile: "# syntax=docker/dockerfile:1-labs\nFROM busybox\nCOPY --chmod=g+w a.txt /to/\n",
            change: |room, _| chmod(room, "a.txt", 0o755),
            ran: &["COPY --chmod=g+w a.txt /to/"],
        },
        Row {
            what: "the mode of the directory whose content is copied",
            dockerfile: DIRECTORY,
            change: |room, _| chmod(room, "src", 0o700),
            ran: NOTHING,
        },
        Row {
            what: "the mode of a directory in it",
            dockerfile: "FROM busybox\nCOPY . /to\n",
            change: |room, _| chmod(room, "src", 0o700),
            ran: &["COPY . /to"],
        },
        Row {
            what: "a file elsewhere under its own name",
            dockerfile: ONE,
            change: |room, _| {
                rename(room, "a.txt", "lib/a.txt");
                text(room, "FROM busybox\nCOPY lib/a.txt /to/\n");
            },
            ran: NOTHING,
        },
        Row {
            what: "a file under another name",
            dockerfile: ONE,
            change: |room, _| {
                rename(room, "a.txt", "c.txt");
                text(room, "FROM busybox\nCOPY c.txt /to/\n");
            },
            ran: &["COPY c.txt /to/"],
        },
        Row {
            what: "a directory elsewhere under its own name",
            dockerfile: DIRECTORY,
            change: |room, _| {
                rename(room, "src", "lib/src");
                text(room, "FROM busybox\nCOPY lib/src /to\n");
            },
            ran: NOTHING,
        },
        Row {
            what: "a file elsewhere whose path is kept",
            dockerfile: "FROM busybox\nCOPY --parents src/one.txt /to/\n",
            change: |room, _| {
                rename(room, "src/one.txt", "lib/one.txt");
                text(room, "FROM busybox\nCOPY --parents lib/one.txt /to/\n");
            },
            ran: &["COPY --parents lib/one.txt /to/"],
        },
        Row {
            what: "a file that is not copied",
            dockerfile: DIRECTORY,
            change: |room, _| room.write("b.txt", "other"),
            ran: NOTHING,
        },
        Row {
            what: "a file that the pattern does not match",
            dockerfile: "FROM busybox\nCOPY a*.txt /to/\n",
            change: |room, _| room.write("b.txt", "other"),
            ran: NOTHING,
        },
        Row {
            what: "one more file that the pattern matches",
            dockerfile: "FROM busybox\nCOPY a*.txt /to/\n",
            change: |room, _| room.write("an.txt", "new"),
            ran: &["COPY a*.txt /to/"],
        },
        Row {
            what: "a file that --exclude leaves out",
            dockerfile: "FROM busybox\nCOPY --exclude=two.* src /to\n",
            change: |room, _| room.write("src/two.txt", "other"),
            ran: NOTHING,
        },
        Row {
            what: "a file that .dockerignore leaves out from now on",
            dockerfile: "FROM busybox\nCOPY src /to\nCOPY a.txt /to/\n",
            change: |room, _| room.write(".dockerignore", "src/two.txt\n"),
            ran: &["COPY src /to", "COPY a.txt /to/"],
        },
        Row {
            what: "a file that .dockerignore leaves out and nothing copies",
            dockerfile: DIRECTORY,
            change: |room, _| room.write(".dockerignore", "b.txt\n"),
            ran: NOTHING,
        },
        Row {
            what: "a new empty directory",
            dockerfile: DIRECTORY,
            change: |room, _| fs::create_dir(room.context().join("src/empty")).unwrap(),
            ran: &["COPY src /to"],
        },
        Row {
            what: "a file that is gone",
            dockerfile: DIRECTORY,
            change: |room, _| fs::remove_file(room.context().join("src/two.txt")).unwrap(),
            ran: &["COPY src /to"],
        },
        Row {
            what: "the target of a symlink in a directory",
            dockerfile: DIRECTORY,
            change: |room, _| relink(room, "src/link", "two.txt"),
            ran: &["COPY src /to"],
        },
        Row {
            what: "a symlink that is named and now leads to other content",
            dockerfile: "FROM busybox\nCOPY link /to/\n",
            change: |room, _| relink(room, "link", "b.txt"),
            ran: &["COPY link /to/"],
        },
        Row {
            what: "a symlink that is named and leads to the same content elsewhere",
            dockerfile: "FROM busybox\nCOPY link /to/\n",
            change: |room, _| {
                room.write("same.txt", "this is a.txt");
                relink(room, "link", "same.txt");
            },
            ran: NOTHING,
        },
        Row {
            what: "where it goes",
            dockerfile: ONE,
            change: |room, _| text(room, "FROM busybox\nCOPY a.txt /there/\n"),
            ran: &["COPY a.txt /there/"],
        },
        Row {
            what: "whose it is to be",
            dockerfile: ONE,
            change: |room, _| text(room, "FROM busybox\nCOPY --chown=1:1 a.txt /to/\n"),
            ran: &["COPY --chown=1:1 a.txt /to/"],
        },
        Row {
            what: "whose it was in a stage",
            dockerfile: "FROM busybox AS one\nRUN echo 1 > /1\nFROM scratch\nCOPY --from=one /1 /\n",
            change: |room, _| {
                text(
                    room,
                    "FROM busybox AS one\nRUN echo 1 > /1; chown 1 /1\nFROM scratch\nCOPY --from=one /1 /\n",
                );
            },
            ran: &["RUN echo 1 > /1; chown 1 /1", "COPY --from=one /1 /"],
        },
        Row {
            what: "whose it was in a stage, where --chown says whose it is",
            dockerfile: "FROM busybox AS one\nRUN echo 1 > /1\nFROM scratch\nCOPY --chown=2:2 --from=one /1 /\n",
            change: |room, _| {
                text(
                    room,
                    "FROM busybox AS one\nRUN echo 1 > /1; chown 1 /1\nFROM scratch\nCOPY --chown=2:2 --from=one /1 /\n",
                );
            },
            ran: &["RUN echo 1 > /1; chown 1 /1"],
        },
        Row {
            what: "the number of a user that is named",
            dockerfile: "FROM busybox\nCOPY --chown=user a.txt /to/\n",
            change: |room, _| {
                retag(
                    room,
                    "FROM busybox\nRUN sed -i 's/^user:x:1000/user:x:1001/' /etc/passwd\n",
                );
            },
            ran: &["COPY --chown=user a.txt /to/"],
        },
        Row {
            what: "the text of a file in the Dockerfile",
            dockerfile: "FROM busybox\nCOPY <<F /to/f\none\nF\n",
            change: |room, _| text(room, "FROM busybox\nCOPY <<F /to/f\ntwo\nF\n"),
            ran: &["COPY <<F /to/f"],
        },
    ]);
}

#[test]
fn as_root_of_a_run_its_surroundings_count_and_not_what_it_borrows() {
    const PLAIN: &str = "FROM busybox\nRUN echo 1 > /1\n";
    const SECRET: &str =
        "FROM busybox\nRUN --mount=type=secret,id=key cat /run/secrets/key | wc -c > /1\n";
    const MOUNTED: &str =
        "FROM busybox\nRUN --mount=source=src,target=/src cat /src/one.txt > /1\n";
    const ADDED: &str = "FROM busybox\nWORKDIR /one\nRUN echo 1 > /1\n";
    check(&[
        Row {
            what: "the command",
            dockerfile: PLAIN,
            change: |room, _| text(room, "FROM busybox\nRUN echo 2 > /1\n"),
            ran: &["RUN echo 2 > /1"],
        },
        Row {
            what: "another command that does the same, and what stands on it",
            dockerfile: "FROM busybox\nRUN echo 1 > /1\nRUN cp /1 /2\n",
            change: |room, _| text(room, "FROM busybox\nRUN echo 1 | cat > /1\nRUN cp /1 /2\n"),
            ran: &["RUN echo 1 | cat > /1"],
        },
        Row {
            what: "the text of a script in the Dockerfile",
            dockerfile: "FROM busybox\nRUN <<S\necho 1 > /1\nS\n",
            change: |room, _| text(room, "FROM busybox\nRUN <<S\necho 2 > /1\nS\n"),
            ran: &["RUN <<S (echo 2 > /1)"],
        },
        Row {
            what: "comments, also within an instruction, and empty lines",
            dockerfile: PLAIN,
            change: |room, _| {
                text(
                    room,
                    "# why\nFROM busybox\n\n# how\nRUN \\\n# what\n  echo 1 > /1\n",
                );
            },
            ran: NOTHING,
        },
        Row {
            what: "the directory",
            dockerfile: ADDED,
            change: |room, _| text(room, &ADDED.replace("/one", "/two")),
            ran: &["WORKDIR /two", "RUN echo 1 > /1"],
        },
        Row {
            what: "the user, for RUN and not for COPY",
            dockerfile: "FROM busybox\nUSER 1\nCOPY a.txt /to/\nRUN echo 1 > /tmp/1\n",
            change: |room, _| {
                text(
                    room,
                    "FROM busybox\nUSER 2\nCOPY a.txt /to/\nRUN echo 1 > /tmp/1\n",
                );
            },
            ran: &["RUN echo 1 > /tmp/1"],
        },
        Row {
            what: "the shell",
            dockerfile: PLAIN,
            change: |room, _| {
                text(
                    room,
                    "FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo 1 > /1\n",
                );
            },
            ran: &["RUN echo 1 > /1"],
        },
        Row {
            what: "the value of a secret",
            dockerfile: SECRET,
            change: |_, request| {
                request
                    .secrets
                    .insert("key".to_owned(), SecretFrom::Value(b"two".to_vec()));
            },
            ran: NOTHING,
        },
        Row {
            what: "which secret",
            dockerfile: SECRET,
            change: |room, request| {
                request
                    .secrets
                    .insert("door".to_owned(), SecretFrom::Value(b"one".to_vec()));
                text(
                    room,
                    &SECRET.replace("id=key", "id=door,target=/run/secrets/key"),
                );
            },
            ran: &[
                "RUN --mount=type=secret,id=door,target=/run/secrets/key cat /run/secrets/key | wc -c > /1",
            ],
        },
        Row {
            what: "which agent",
            dockerfile: "FROM busybox\nRUN --mount=type=ssh echo 1 > /1\n",
            change: |room, request| {
                let agent = AgentFrom::Socket(room.home().join("agent"));
                request.ssh.insert("default".to_owned(), agent);
            },
            ran: NOTHING,
        },
        Row {
            what: "what a cache mount holds",
            dockerfile: "FROM busybox\nRUN --mount=type=cache,id=c,target=/c echo 1 > /1\n",
            change: |room, _| {
                let mounts = room.engine.store().cache_mounts().unwrap();
                fs::write(mounts[0].path.join("more"), "more").unwrap();
            },
            ran: NOTHING,
        },
        Row {
            what: "where a cache mount is",
            dockerfile: "FROM busybox\nRUN --mount=type=cache,id=c,target=/c echo 1 > /1\n",
            change: |room, _| {
                text(
                    room,
                    "FROM busybox\nRUN --mount=type=cache,id=c,target=/d echo 1 > /1\n",
                );
            },
            ran: &["RUN --mount=type=cache,id=c,target=/d echo 1 > /1"],
        },
        Row {
            what: "a file in a bind mount",
            dockerfile: MOUNTED,
            change: |room, _| room.write("src/two.txt", "other"),
            ran: &["RUN --mount=source=src,target=/src cat /src/one.txt > /1"],
        },
        Row {
            what: "a file beside a bind mount",
            dockerfile: MOUNTED,
            change: |room, _| room.write("a.txt", "other"),
            ran: NOTHING,
        },
        Row {
            what: "where in the context a bind mount's files stand",
            dockerfile: MOUNTED,
            change: |room, _| {
                rename(room, "src", "lib/src");
                text(room, &MOUNTED.replace("source=src", "source=lib/src"));
            },
            ran: NOTHING,
        },
        Row {
            what: "the size of a tmpfs",
            dockerfile: "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m echo 1 > /1\n",
            change: |room, _| {
                text(
                    room,
                    "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=2m echo 1 > /1\n",
                );
            },
            ran: &["RUN --mount=type=tmpfs,target=/t,size=2m echo 1 > /1"],
        },
        Row {
            what: "the network of the instruction",
            dockerfile: "FROM busybox\nRUN --network=host echo 1 > /1\n",
            change: |room, _| text(room, "FROM busybox\nRUN --network=none echo 1 > /1\n"),
            ran: &["RUN --network=none echo 1 > /1"],
        },
        Row {
            what: "the network of the build",
            dockerfile: PLAIN,
            change: |_, request| request.network = Network::Host,
            ran: &["RUN echo 1 > /1"],
        },
        Row {
            what: "one more host",
            dockerfile: PLAIN,
            change: |_, request| {
                request
                    .extra_hosts
                    .insert("db".to_owned(), "10.0.0.1".to_owned());
            },
            ran: &["RUN echo 1 > /1"],
        },
    ]);
}

#[test]
fn as_root_the_address_of_a_host_does_not_count() {
    let room = Room::with_base("FROM busybox\nRUN echo 1 > /1\n");
    let mut request = room.request();
    for address in ["10.0.0.1", "10.0.0.2"] {
        request
            .extra_hosts
            .insert("db".to_owned(), address.to_owned());
        room.build_as(&request).unwrap();
    }
    let cached = room.steps();
    assert!(cached.iter().all(|it| it.ends_with("CACHED")), "{cached:?}");
}

#[test]
fn as_root_what_is_said_of_an_image_or_of_other_stages_runs_nothing() {
    const STAGES: &str = "FROM busybox AS one\nRUN echo 1 > /1\nFROM busybox AS two\nRUN echo 2 > /2\n\
        FROM busybox\nCOPY --from=one /1 /\nRUN echo 3 > /3\n";
    check(&[
        Row {
            what: "the name of a stage",
            dockerfile: STAGES,
            change: |room, _| {
                text(
                    room,
                    &STAGES
                        .replace("AS one", "AS uno")
                        .replace("from=one", "from=uno"),
                );
            },
            ran: NOTHING,
        },
        Row {
            what: "a stage that nothing needs",
            dockerfile: STAGES,
            change: |room, _| text(room, &STAGES.replace("echo 2 >", "echo two >")),
            ran: NOTHING,
        },
        Row {
            what: "one more stage before all others",
            dockerfile: STAGES,
            change: |room, _| {
                text(
                    room,
                    &format!("FROM busybox AS zero\nRUN echo 0 > /0\n{STAGES}"),
                );
            },
            ran: NOTHING,
        },
        Row {
            what: "the target",
            dockerfile: STAGES,
            change: |_, request| request.target = Some("one".to_owned()),
            ran: NOTHING,
        },
        Row {
            what: "a target that was not built before",
            dockerfile: STAGES,
            change: |_, request| request.target = Some("two".to_owned()),
            ran: &["RUN echo 2 > /2"],
        },
        Row {
            what: "a label, by flag and by instruction",
            dockerfile: STAGES,
            change: |room, request| {
                request.labels.insert("by".to_owned(), "me".to_owned());
                text(room, &STAGES.replace("AS one\n", "AS one\nLABEL of=1\n"));
            },
            ran: NOTHING,
        },
        Row {
            what: "what containers of the image do",
            dockerfile: STAGES,
            change: |room, _| {
                text(room, &STAGES.replace(
                    "FROM busybox\nCOPY",
                    "FROM busybox\nCMD [\"ls\"]\nENTRYPOINT [\"env\"]\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nHEALTHCHECK NONE\nCOPY",
                ));
            },
            ran: NOTHING,
        },
        Row {
            what: "a tag",
            dockerfile: STAGES,
            change: |_, request| request.tags.push("app".parse().unwrap()),
            ran: NOTHING,
        },
        Row {
            what: "without the cache everything runs",
            dockerfile: STAGES,
            change: |_, request| request.no_cache = NoCache::All,
            ran: &["RUN echo 1 > /1", "COPY --from=one /1 /", "RUN echo 3 > /3"],
        },
        Row {
            what: "without the cache for a stage, what comes out the same ends it",
            dockerfile: STAGES,
            change: |_, request| request.no_cache = NoCache::Stages(vec!["one".to_owned()]),
            ran: &["RUN echo 1 > /1"],
        },
    ]);
}
