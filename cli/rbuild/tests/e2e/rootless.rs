//! A user who is not root: with subordinate ids, and with no id but his own. Needs root, to become him.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use kit::rbuild::{Output, Rbuild, finish, run};
use kit::user::{ID, RANGE, User};

use super::{RBUILD, rbuild};

const WITH_RANGES: User = User {
    ranges: true,
    tun: true,
};

const ALONE: User = User {
    ranges: false,
    tun: true,
};

/// An rbuild of such a user, with `busybox` in his store.
fn of(user: User) -> Rbuild {
    let rbuild = Rbuild::of(user, RBUILD);
    rbuild.import_busybox();
    rbuild
}

#[track_caller]
fn contains(output: &Output, text: &str) {
    let transcript = output.transcript();
    assert!(transcript.contains(text), "no {text:?} in\n{transcript}");
}

/// Owners of all kinds of files, by all ways in which files come into layers; one of them is beyond all ranges.
const OWNERS: &str = "\
FROM busybox AS base
COPY --chown=1000:50 tree /home/tree
COPY --chown=400000:7 tree /far
ADD --chown=3:4 tree.tar /unpacked/
COPY --link --chown=9:9 file /linked/file
RUN echo more >> /home/tree/below/file; chmod 700 /home/tree/below; touch -h -c /far/link; echo new > /new
WORKDIR /home/tree/work
RUN rm -r /far/below; mkdir /far/below; rm /home/tree/link
FROM busybox
COPY --from=base /home /all/home/
COPY --from=base /far /unpacked /all/
ENV A=b
";

/// The files of every layer of an image, as lines: all but times.
fn layers(rbuild: &Rbuild, image: &str) -> String {
    let unpacked = rbuild.work().join("saved");
    fs::create_dir(&unpacked).unwrap();
    chown(&unpacked, Some(ID), Some(ID)).unwrap();
    let line = format!("rbuild save {image} | tar -x -C saved && cat saved/manifest.json");
    let manifest = run(&mut rbuild.shell(&line)).success().stdout;
    let (_, list) = manifest.split_once("\"Layers\":[").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let mut text = String::new();
    for name in list.split(',').map(|it| it.trim().trim_matches('"')) {
        text += &format!("{}\n", list_tar(&unpacked.join(name)));
    }
    fs::remove_dir_all(unpacked).unwrap();
    text
}

fn list_tar(path: &Path) -> String {
    let listed = std::process::Command::new("tar")
        .args(["--numeric-owner", "--full-time", "-tvf"])
        .arg(path)
        .output()
        .unwrap();
    let mut lines = String::new();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for line in listed.lines().filter(|it| !it.contains("-> busybox")) {
        // Mode, owner, size or device, date, time, name.
        let words: Vec<_> = line.split_whitespace().collect();
        lines += &[&words[..3], &words[5..]].concat().join(" ");
        lines.push('\n');
    }
    lines
}

fn make_owners(rbuild: &Rbuild) {
    rbuild
        .write("Dockerfile", OWNERS)
        .write("file", "text\n")
        .write("tree/below/file", "text\n");
    std::os::unix::fs::symlink("below/file", rbuild.work().join("tree/link")).unwrap();
    run(std::process::Command::new("tar")
        .args(["-cf", "tree.tar", "tree"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir(rbuild.work()))
    .success();
    rbuild
        .run(["build", "--target", "base", "-t", "base", "."])
        .success();
    rbuild.run(["build", "-t", "all", "."]).success();
}

#[test]
fn the_layers_of_a_user_are_those_that_root_makes_as_root() {
    let root = rbuild();
    make_owners(&root);
    let expected = ["base", "all"].map(|image| layers(&root, image));
    assert!(
        expected[0].contains("lrwxrwxrwx 400000/7 0 far/link -> below/file"),
        "{}",
        expected[0]
    );
    assert!(expected[1].contains("1000/50"), "{}", expected[1]);
    for user in [WITH_RANGES, ALONE] {
        let rbuild = of(user);
        make_owners(&rbuild);
        for (image, expected) in ["base", "all"].iter().zip(&expected) {
            assert_eq!(&layers(&rbuild, image), expected, "{image} of {user:?}");
        }
        // What files do not say themselves is not taken for damage.
        rbuild.run(["store", "verify"]).success();
    }
}

#[test]
fn devices_in_an_image_of_a_user_come_out_again_as_root() {
    for user in [WITH_RANGES, ALONE] {
        let rbuild = Rbuild::of(user, RBUILD);
        let line = "mkdir root root/etc; tar -cf root.tar -C root . -C /dev null";
        run(&mut rbuild.shell(line)).success();
        rbuild.run(["import", "root.tar", "devices"]).success();
        let listed = layers(&rbuild, "devices");
        assert!(listed.contains("crw-rw-rw- 0/0 1,3 null"), "{listed}");
    }
}

#[test]
fn with_ranges_a_step_is_whom_it_wants_to_be_as_root() {
    let rbuild = of(WITH_RANGES);
    let dockerfile = "\
FROM busybox
RUN touch /mine && chown 1000:50 /mine && stat -c %u:%g /mine
USER user
RUN id
";
    rbuild.write("Dockerfile", dockerfile);
    let built = rbuild
        .run(["build", "--progress=plain", "-t", "t", "."])
        .success();
    contains(&built, "1000:50");
    contains(
        &built,
        "uid=1000(user) gid=1000(user) groups=50(staff),1000(user)",
    );
    let ran = rbuild.run(["run", "--rm", "t", "id", "-u"]).success();
    assert_eq!(ran.stdout, "1000\n");
    // On the disk the file belongs to one of his subordinate ids.
    let owners = owners_below(&rbuild.root());
    assert!(owners.contains_key(&(RANGE.0 + 999)), "{owners:?}");
    assert!(
        !owners.contains_key(&0) && !owners.contains_key(&1000),
        "{owners:?}"
    );
    // And is gone with the image and the cache.
    rbuild.run(["rmi", "t", "busybox"]).success();
    rbuild.run(["builder", "prune", "-a", "-f"]).success();
    let owners = owners_below(&rbuild.root());
    assert_eq!(owners.keys().collect::<Vec<_>>(), [&ID]);
}

fn owners_below(path: &Path) -> BTreeMap<u32, u32> {
    let mut owners = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            *owners.entry(metadata.uid()).or_default() += 1;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    owners
}

#[test]
fn alone_a_step_that_wants_to_be_somebody_else_fails_and_says_what_is_missing_as_root() {
    let rbuild = of(ALONE);
    let hint = "hint: rbuild has a single user id here, so nothing can belong to anybody else: `/etc/subuid` has no range for user someone";
    rbuild.write("Dockerfile", "FROM busybox\nRUN touch /a && chown 5 /a\n");
    let failed = rbuild.run(["build", "."]).failure(1);
    contains(&failed, "chown: /a: Invalid argument");
    contains(&failed, hint);
    contains(&failed, "APT::Sandbox::User=root");

    rbuild.write("Dockerfile", "FROM busybox\nUSER user\nRUN id\n");
    let failed = rbuild.run(["build", "."]).failure(1);
    contains(&failed, "there is no user 1000 in this user namespace");
    contains(&failed, hint);

    let failed = rbuild
        .run(["run", "--rm", "-u", "7", "busybox", "id"])
        .failure(125);
    contains(&failed, "there is no user 7 in this user namespace");
    contains(&failed, hint);

    let ran = rbuild.run(["run", "--rm", "busybox", "id", "-u"]).success();
    assert_eq!(ran.stdout, "0\n");
}

#[test]
fn what_a_container_of_a_user_sees_is_as_closed_as_roots_as_root() {
    let script = "cat /proc/1/comm; ls /dev; echo x > /dev/null; head -c 1 /dev/zero | wc -c; \
                  head -c 1 /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/sysrq; mknod /tmp/mem c 1 1; \
                  mount -t tmpfs t /tmp; ls /proc/self/fd; wc -c < /sys/kernel/uevent_seqnum > /dev/null && echo sys";
    let seen = |rbuild: &Rbuild, network: &str| {
        let arguments = [
            "run",
            "--rm",
            "--network",
            network,
            "busybox",
            "sh",
            "-c",
            script,
        ];
        rbuild.run(arguments).transcript()
    };
    for user in [WITH_RANGES, ALONE] {
        let (root, his) = (rbuild(), of(user));
        for network in ["none", "host"] {
            let expected =
                seen(&root, network).replace("mknod: /tmp/mem: Operation not permitted\n", "");
            let found = seen(&his, network);
            // Making a device is nothing that a user can; opening it is nothing that root can either.
            assert_eq!(
                found.replace("err| mknod: /tmp/mem: Operation not permitted\n", ""),
                expected
            );
        }
    }
}

#[test]
fn mounts_of_a_step_are_there_for_a_user_as_root() {
    let dockerfile = "\
FROM busybox
RUN --mount=type=cache,target=/c,uid=1000,gid=1000 echo a >> /c/f; cat /c/f
RUN --mount=type=cache,target=/c,uid=1000,gid=1000 echo b >> /c/f; cat /c/f | tr -d '\\n'
RUN --mount=type=secret,id=s cat /run/secrets/s
RUN --mount=type=tmpfs,target=/t touch /t/a
RUN --mount=type=bind,target=/b,rw touch /b/new; ls /b
RUN --mount=type=bind,from=busybox,target=/b test -x /b/bin/busybox && echo bound
";
    for user in [WITH_RANGES, ALONE] {
        let rbuild = of(user);
        rbuild.write("Dockerfile", dockerfile).write("s", "quiet\n");
        let arguments = ["build", "--progress=plain", "--secret", "id=s,src=s", "."];
        let built = rbuild.run(arguments).success();
        for line in [" ab\n", " quiet\n", " new\n", " bound\n"] {
            contains(&built, line);
        }
    }
}

/// A line that runs rbuild where this is the only network stack that is installed.
fn with_only(stack: &str, arguments: &str) -> String {
    format!(
        "mkdir -p /tmp/only-$$; for it in newuidmap newgidmap sh {stack}; do ln -s \"$(command -v $it)\" /tmp/only-$$; done; \
         rbuild=$(command -v rbuild); PATH=/tmp/only-$$ \"$rbuild\" {arguments}; status=$?; rm -r /tmp/only-$$; exit $status"
    )
}

#[test]
fn the_network_of_a_user_is_a_stack_in_user_space_as_root() {
    for (stack, inside) in [
        ("slirp4netns", "inet 10.0.2.100/24"),
        ("pasta", "scope global eth0"),
    ] {
        let rbuild = of(WITH_RANGES);
        let script = "ip -o addr show eth0; cat /etc/resolv.conf";
        let line = with_only(stack, &format!("run --rm busybox sh -c '{script}'"));
        let ran = run(&mut rbuild.shell(&line)).success();
        contains(&ran, inside);
        contains(&ran, "nameserver ");
        rbuild.write(
            "Dockerfile",
            format!("FROM busybox\nRUN {script}\nRUN true\n"),
        );
        let line = with_only(stack, "build --progress=plain .");
        let built = run(&mut rbuild.shell(&line)).success();
        let notice = format!(
            "rbuild: RUN reaches the outside, through {stack}: only root can set up a bridge"
        );
        assert_eq!(built.stderr.matches(&notice).count(), 1, "{}", built.stderr);
    }
}

#[test]
fn where_there_is_no_network_for_a_user_he_hears_why_and_works_on_as_root() {
    let rbuild = of(User {
        tun: false,
        ..ALONE
    });
    let ran = rbuild
        .run(["run", "--rm", "busybox", "ls", "/sys/class/net"])
        .success();
    assert_eq!(ran.stdout, "lo\n");
    contains(
        &ran,
        "warning: the container has no network: only root can set up a bridge; `",
    );
    contains(&ran, "`slirp4netns` ended at once");
    rbuild.write("Dockerfile", "FROM busybox\nRUN ls /sys/class/net\n");
    let built = rbuild.run(["build", "--progress=plain", "."]).success();
    contains(
        &built,
        "rbuild: RUN reaches nothing: only root can set up a bridge; `",
    );
    contains(&built, "`slirp4netns` ended at once");
}

#[test]
fn a_store_is_its_makers_and_of_one_kind_as_root() {
    let rbuild = of(WITH_RANGES);
    let foreign = rbuild.home().join("foreign");
    fs::create_dir(&foreign).unwrap();
    let at = foreign.to_str().unwrap();
    let refused = rbuild.run(["--root", at, "images"]).failure(1);
    contains(&refused, &format!("belongs to user 0, not to user {ID}"));

    // By default the two kinds do not meet.
    let home = rbuild.home().join("data");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(ID), Some(ID)).unwrap();
    let images = |rbuild: &Rbuild| {
        let mut command = rbuild.command(["images"]);
        run(command
            .env_remove("RBUILD_ROOT")
            .env("XDG_DATA_HOME", &home))
        .success();
    };
    images(&rbuild);
    for file in ["subuid", "subgid"] {
        fs::write(rbuild.home().join("etc").join(file), "").unwrap();
    }
    images(&rbuild);
    let mut names: Vec<_> = fs::read_dir(&home)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["rbuild", "rbuild-single"]);
    let refused = rbuild.run(["images"]).failure(1);
    contains(
        &refused,
        &format!(
            "was made with other ids (users 0={ID}+1 1={}+{};",
            RANGE.0, RANGE.1
        ),
    );
}

#[test]
fn files_that_only_he_can_read_are_read_and_outputs_are_his_as_root() {
    let rbuild = of(ALONE);
    rbuild
        .write("Dockerfile", "FROM busybox\nCOPY --chmod=600 secret /\nRUN cat /secret && mkdir /out && cp /secret /out/\nFROM scratch\nCOPY --from=0 --chown=0:0 /out /\n")
        .write("secret", "quiet\n");
    let secret = rbuild.work().join("secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&secret, Some(ID), Some(ID)).unwrap();
    rbuild.run(["build", "-t", "t", "."]).success();
    rbuild.run(["save", "-o", "out.tar", "t"]).success();
    let out = rbuild.work().join("out.tar");
    assert_eq!(out.metadata().unwrap().uid(), ID);
    let mut bytes = Vec::new();
    File::open(out).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes.windows(6).any(|it| it == b"quiet\n"));
}

#[test]
fn the_machine_is_asked_for_every_rung_as_root() {
    let said = |rbuild: &Rbuild| {
        let format = "{{.Rung}}{{range .Rungs}} {{.Name}}={{.Usable}}{{end}} {{.Overlay.Usable}}";
        let command = rbuild.run(["system", "info", "--format", format]);
        command.success().stdout
    };
    let root = Rbuild::new(RBUILD);
    assert!(
        said(&root).starts_with("root root=true "),
        "{}",
        said(&root)
    );
    assert_eq!(
        said(&Rbuild::of(WITH_RANGES, RBUILD)),
        "subuid root=false subuid=true single=true true\n"
    );
    let alone = Rbuild::of(ALONE, RBUILD);
    assert_eq!(
        said(&alone),
        "single root=false subuid=false single=true true\n"
    );
    let words = alone.run(["system", "info"]).success();
    contains(
        &words,
        "out| Works as:         root of a user namespace with a single id",
    );
    contains(
        &words,
        "out|   subuid:         no: `/etc/subuid` has no range for user someone (`usermod",
    );
    contains(&words, "out|   slirp4netns:    yes");
    contains(&words, "out| WARNING: nothing can belong to another user: ");
    let json = alone.run(["system", "info", "--format", "json"]).success();
    contains(&json, "\"Version\":\"");
}

#[test]
fn programs_that_may_not_do_their_work_leave_a_user_with_one_id_as_root() {
    let rbuild = Rbuild::of(WITH_RANGES, RBUILD);
    let line = "setpriv --no-new-privs rbuild system info";
    let said = run(&mut rbuild.shell(line)).success();
    contains(&said, "root of a user namespace with a single id");
    contains(&said, "subuid:         no: `newuidmap` refused: ");
}

/// Runs what else it is given in a user namespace in which there can be no other. Only the second shell is root there:
/// when the first began, nobody was anybody.
const FORBID: &str = "echo ready; read go; exec sh -c \
                      'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"' sh \"$@\"";

#[test]
fn where_user_namespaces_are_switched_off_a_user_hears_how_they_are_switched_on_as_root() {
    let rbuild = Rbuild::of(ALONE, RBUILD);
    for (arguments, expected) in [
        (&["images"][..], "exit 1"),
        (&["system", "info"], "Works as:         nobody"),
    ] {
        let inner = rbuild.command(arguments);
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--user", "sh", "-c", FORBID, "sh"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(
                inner
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .current_dir(rbuild.work())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", child.id()), "0 0 100000").unwrap();
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let said = finish(child).unwrap();
        contains(&said, expected);
        contains(
            &said,
            &format!(
                "user {ID} cannot be root of a user namespace: user namespaces are switched off"
            ),
        );
        contains(&said, "sysctl user.max_user_namespaces=15000");
    }
}

#[test]
fn a_fork_bomb_of_a_user_comes_to_a_limit_also_without_control_groups_as_root() {
    for user in [WITH_RANGES, ALONE] {
        let rbuild = of(user);
        let bomb = "while true; do sleep 100000 & done";
        let limits = rbuild.run([
            "run",
            "--rm",
            "--network=none",
            "busybox",
            "sh",
            "-c",
            "ulimit -u",
        ]);
        let most: u64 = limits.success().stdout.trim().parse().unwrap();
        assert!(most <= 32_768, "{most}");
        let output = rbuild.run([
            "run",
            "--rm",
            "--network=none",
            "--pids-limit=64",
            "busybox",
            "sh",
            "-c",
            bomb,
        ]);
        contains(&output.failure(2), "can't fork");
    }
}
