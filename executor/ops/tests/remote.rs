//! Files of the web and repositories, from servers on the loopback; hostile ones too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../cache/snapshot/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

use kit::repository::{Daemon, Repository};
use kit::web::{Fault, Page, Web};
use llb::Op;
use llb::op::{GitSource, GitTimes, HttpPin, HttpSource, Source};
use ops::{Cancel, Context, OpError, Ops, Ref, Session};
use support::{Stand, draw, path};

struct World {
    stand: Stand,
    ops: Ops,
    secrets: BTreeMap<String, String>,
    cancel: Cancel,
    said: Mutex<String>,
    dir: tempfile::TempDir,
}

struct Lent<'a>(&'a BTreeMap<String, String>);

impl Session for Lent<'_> {
    fn local(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn secret(&self, id: &str) -> Option<Vec<u8>> {
        Some(self.0.get(id)?.clone().into_bytes())
    }

    fn ssh(&self, _: &str) -> Option<ops::AgentFrom> {
        None
    }
}

impl World {
    fn new() -> Self {
        let stand = Stand::new();
        let ops = Ops::new(stand.snapshots.store().clone(), stand.snapshots.clone());
        Self {
            stand,
            ops,
            secrets: BTreeMap::new(),
            cancel: Cancel::default(),
            said: Mutex::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn with<T>(&self, what: impl FnOnce(&Context<'_>) -> T) -> T {
        what(&Context {
            session: &Lent(&self.secrets),
            log: &|_, said| {
                let said = String::from_utf8_lossy(said);
                self.said.lock().unwrap().push_str(&said);
            },
            log_limits: ops::LogLimits::NONE,
            spent: &|_| {},
            cancel: &self.cancel,
        })
    }

    fn resolve(&self, source: &Source) -> Result<Source, OpError> {
        self.with(|context| self.ops.resolve(source, context))
    }

    fn bring(&self, source: &Source) -> Result<Ref, OpError> {
        let op = Op::Source(source.clone());
        self.with(|context| Ok(self.ops.run(&op, &[], context)?.remove(0)))
    }

    /// Resolves and brings in; what is there then, or why nothing is.
    fn outcome(&self, source: &Source) -> String {
        let brought = self.resolve(source).and_then(|it| self.bring(&it));
        match brought {
            Ok(Ref::Snapshot(top)) => draw(&self.stand.snapshots.view(top).unwrap()),
            Ok(Ref::Local(_)) => panic!("a source is a snapshot"),
            Err(error) => words(&error),
        }
    }

    /// Where a test keeps its files.
    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", words(source)),
        None => error.to_string(),
    }
}

fn http(url: &str) -> HttpSource {
    HttpSource {
        url: url.to_owned(),
        checksum: None,
        filename: "file".to_owned(),
        mode: 0o600,
        owner: (0, 0),
        pin: None,
    }
}

fn pin(source: Source) -> HttpPin {
    match source {
        Source::Http(http) => http.pin.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn mtime(world: &World, brought: &Ref, name: &str) -> i64 {
    let Ref::Snapshot(top) = brought else {
        panic!("a source is a snapshot")
    };
    let view = world.stand.snapshots.view(*top).unwrap();
    path(&view).join(name).symlink_metadata().unwrap().mtime()
}

const TIME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

#[test]
fn a_file_is_sent_once_and_asked_for_each_time() {
    let (world, web) = (World::new(), Web::start().unwrap());
    web.put("/a", Page::new("one").etag("\"1\""));
    let source = Source::Http(http(&web.url("/a")));
    assert_eq!(world.outcome(&source), ". d 755 0:0 \nfile f 600 0:0 one\n");
    assert_eq!(world.outcome(&source), ". d 755 0:0 \nfile f 600 0:0 one\n");
    let first = world.resolve(&source).unwrap();
    web.put("/a", Page::new("two").etag("\"2\""));
    assert_ne!(world.resolve(&source).unwrap(), first);
    assert_eq!(world.outcome(&source), ". d 755 0:0 \nfile f 600 0:0 two\n");
    let statuses: Vec<u16> = web.asked().iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 304, 304, 200, 304]);
}

#[test]
fn a_file_is_as_old_as_the_server_says_and_that_counts() {
    let (world, web) = (World::new(), Web::start().unwrap());
    let page = |time: &str| Page {
        last_modified: Some(time.to_owned()),
        ..Page::new("same")
    };
    web.put("/a", page(TIME));
    let source = Source::Http(http(&web.url("/a")));
    let old = world.resolve(&source).unwrap();
    assert_eq!(
        mtime(&world, &world.bring(&old).unwrap(), "file"),
        1_445_412_480
    );
    assert_eq!(world.resolve(&source).unwrap(), old);
    web.put("/a", page("Thu, 22 Oct 2015 07:28:00 GMT"));
    let new = world.resolve(&source).unwrap();
    assert_ne!(
        pin(old.clone()).last_modified,
        pin(new.clone()).last_modified
    );
    assert_eq!(pin(old).content, pin(new).content);
    let statuses: Vec<u16> = web.asked().iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 304, 200]);
    web.put("/b", Page::new("of no time"));
    let timeless = world.resolve(&Source::Http(http(&web.url("/b")))).unwrap();
    assert_eq!(mtime(&world, &world.bring(&timeless).unwrap(), "file"), 0);
}

#[test]
fn a_known_checksum_needs_no_question_and_is_held_against_what_comes() {
    let (world, web) = (World::new(), Web::start().unwrap());
    web.put("/a", Page::new("honest"));
    let with = |content: &str| {
        Source::Http(HttpSource {
            checksum: Some(oci::Digest::of(content.as_bytes())),
            ..http(&web.url("/a"))
        })
    };
    world.resolve(&with("honest")).unwrap();
    assert_eq!(web.asked(), []);
    assert_eq!(
        world.outcome(&with("honest")),
        ". d 755 0:0 \nfile f 600 0:0 honest\n"
    );
    let other = oci::Digest::of(b"other");
    assert_eq!(
        world.outcome(&with("other")),
        format!(
            "digest mismatch for {}: {} (expected: {other})",
            web.url("/a"),
            oci::Digest::of(b"honest")
        )
    );
}

#[test]
fn a_file_that_changes_between_asking_and_fetching_is_not_taken_for_the_old_one() {
    let (world, web) = (World::new(), Web::start().unwrap());
    web.put("/a", Page::new("one"));
    let source = Source::Http(http(&web.url("/a")));
    let resolved = world.resolve(&source).unwrap();
    // Collected in the meantime, as far as anyone can tell.
    world
        .stand
        .snapshots
        .store()
        .remove_blob(&pin(resolved.clone()).content)
        .unwrap();
    web.put("/a", Page::new("two"));
    let error = world.bring(&resolved).unwrap_err();
    assert!(
        words(&error).ends_with("changed while the build ran"),
        "{error}"
    );
}

#[test]
fn a_server_does_not_choose_the_name() {
    let (world, web) = (World::new(), Web::start().unwrap());
    let header = "attachment; filename=../../x".to_owned();
    let page = Page {
        headers: vec![("content-disposition".to_owned(), header)],
        ..Page::new("content")
    };
    web.put("/a", page);
    let named = |name: &str| {
        world.outcome(&Source::Http(HttpSource {
            filename: name.to_owned(),
            ..http(&web.url("/a"))
        }))
    };
    assert_eq!(named("plain"), ". d 755 0:0 \nplain f 600 0:0 content\n");
    for name in ["../x", "a/b", "..", ".", "", "a\0b", &"x".repeat(256)] {
        assert_eq!(
            named(name),
            format!("{name:?} cannot be the name of a file")
        );
    }
}

#[test]
fn failures_of_a_server_are_told() {
    let (world, web) = (World::new(), Web::start().unwrap());
    let outcome = |path: &str| {
        let url = web.url(path);
        world
            .outcome(&Source::Http(http(&url)))
            .replace(&url, "URL")
    };
    assert_eq!(
        outcome("/missing"),
        "failed to load URL: invalid response status 404"
    );
    web.put(
        "/short",
        Page {
            fault: Fault::Breaks,
            ..Page::new("0123456789")
        },
    );
    assert!(outcome("/short").starts_with("failed to load URL: the answer ends in the middle"));
    web.put("/round", Page::redirect(&web.url("/round")));
    assert!(outcome("/round").contains("redirects more than 10 times"));
    web.put("/file", Page::redirect("file:///etc/passwd"));
    assert!(outcome("/file").contains("is no address of a server"));
    let gopher = world.outcome(&Source::Http(http("gopher://127.0.0.1/a")));
    assert!(gopher.contains("is no address of a server"), "{gopher}");
}

#[test]
fn credentials_go_to_their_host_and_no_other() {
    let (mut world, web, other) = (World::new(), Web::start().unwrap(), Web::start().unwrap());
    let token = format!("HTTP_AUTH_TOKEN_{}", web.host());
    world.secrets.insert(token, "token-1".to_owned());
    web.put("/moved", Page::redirect(&other.url("/a")));
    web.put("/here", Page::redirect("/a"));
    web.put("/a", Page::new("secret"));
    other.put("/a", Page::new("public"));
    for path in ["/moved", "/here"] {
        world.resolve(&Source::Http(http(&web.url(path)))).unwrap();
    }
    let sent = |web: &Web| -> Vec<Option<String>> {
        let asked = web.asked().into_iter();
        asked
            .map(|it| it.headers.get("authorization").cloned())
            .collect()
    };
    let bearer = Some("Bearer token-1".to_owned());
    assert_eq!(sent(&web), [bearer.clone(), bearer.clone(), bearer]);
    assert_eq!(sent(&other), [None]);
}

#[test]
fn credentials_of_an_address_are_sent_as_a_header_and_shown_nowhere() {
    let (world, web) = (World::new(), Web::start().unwrap());
    let url = web.url("/a").replace("http://", "http://me:p%40ss@");
    let error = world.outcome(&Source::Http(http(&url)));
    assert!(
        !error.contains("p%40ss") && !error.contains("p@ss"),
        "{error}"
    );
    let asked = &web.asked()[0];
    assert_eq!(asked.headers["authorization"], "Basic bWU6cEBzcw==");
}

#[test]
fn a_silent_server_does_not_hold_up_who_gives_up() {
    let (world, web) = (World::new(), Web::start().unwrap());
    web.put(
        "/a",
        Page {
            fault: Fault::Silent,
            ..Page::default()
        },
    );
    let source = Source::Http(http(&web.url("/a")));
    let begun = Instant::now();
    thread::scope(|scope| {
        let resolved = scope.spawn(|| world.resolve(&source));
        while web.asked().is_empty() {
            thread::yield_now();
        }
        world.cancel.cancel();
        assert!(matches!(resolved.join().unwrap(), Err(OpError::Cancelled)));
    });
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// A repository behind a daemon.
struct Served {
    repository: Repository,
    daemon: Daemon,
    name: &'static str,
}

impl Served {
    fn new(world: &World, name: &'static str) -> Self {
        let directory = world.place("served");
        Self {
            repository: Repository::create(&directory.join(name)).unwrap(),
            daemon: Daemon::start(&directory).unwrap(),
            name,
        }
    }

    fn source(&self) -> GitSource {
        git(&self.daemon.url(self.name))
    }
}

fn git(remote: &str) -> GitSource {
    GitSource {
        remote: remote.to_owned(),
        reference: String::new(),
        checksum: None,
        subdir: "/".to_owned(),
        keep_git_dir: false,
        submodules: true,
        times: GitTimes::Checkout,
        fetch_by_commit: false,
        pin: None,
    }
}

fn at(source: GitSource, reference: &str) -> Source {
    Source::Git(GitSource {
        reference: reference.to_owned(),
        ..source
    })
}

fn commit_of(source: &Source) -> String {
    match source {
        Source::Git(git) => git.pin.clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repository_is_its_files_at_a_reference() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    let repository = &served.repository;
    repository.write("README", "one").unwrap();
    repository.write_program("bin/run", "#!/bin/sh").unwrap();
    repository.link("link", "bin/run").unwrap();
    let first = repository.commit("first").unwrap();
    repository.git(&["tag", "light"]).unwrap();
    repository
        .git(&["tag", "--annotate", "--message=x", "v1"])
        .unwrap();
    repository.write("README", "two").unwrap();
    let second = repository.commit("second").unwrap();
    repository.git(&["branch", "next"]).unwrap();
    let meant = |reference: &str| {
        let resolved = world.resolve(&at(served.source(), reference)).unwrap();
        commit_of(&resolved)
    };
    for reference in ["v1", "light", "refs/tags/v1", &first] {
        assert_eq!(meant(reference), first, "{reference}");
    }
    for reference in ["", "main", "next", "refs/heads/next", &second] {
        assert_eq!(meant(reference), second, "{reference}");
    }
    let files = |readme: &str| {
        format!(
            ". d 755 0:0 \nREADME f 644 0:0 {readme}\nbin d 755 0:0 \nbin/run f 755 0:0 #!/bin/sh\nlink l bin/run\n"
        )
    };
    assert_eq!(world.outcome(&at(served.source(), "v1")), files("one"));
    assert_eq!(world.outcome(&at(served.source(), "")), files("two"));
    assert_eq!(world.outcome(&at(served.source(), &first)), files("one"));
    let missing = world.outcome(&at(served.source(), "nowhere"));
    assert!(
        missing.ends_with("does not contain ref nowhere"),
        "{missing}"
    );
}

#[test]
fn what_was_resolved_is_what_comes_also_when_the_branch_moves_on() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    served.repository.write("a", "old").unwrap();
    let old = served.repository.commit("old").unwrap();
    let resolved = world.resolve(&at(served.source(), "main")).unwrap();
    served.repository.write("a", "new").unwrap();
    served.repository.commit("new").unwrap();
    assert_eq!(commit_of(&resolved), old);
    let Ref::Snapshot(top) = world.bring(&resolved).unwrap() else {
        panic!("a source is a snapshot")
    };
    let drawn = draw(&world.stand.snapshots.view(top).unwrap());
    assert_eq!(drawn, ". d 755 0:0 \na f 644 0:0 old\n");
}

#[test]
fn a_commit_that_is_here_needs_no_server() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    served.repository.write("a", "1").unwrap();
    let commit = served.repository.commit("one").unwrap();
    let source = at(served.source(), &commit);
    let first = world.outcome(&source);
    drop(served);
    assert_eq!(world.outcome(&source), first);
}

#[test]
fn a_checksum_is_the_beginning_of_the_commit() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    served.repository.write("a", "1").unwrap();
    let commit = served.repository.commit("one").unwrap();
    let with = |checksum: &str| {
        Source::Git(GitSource {
            checksum: Some(checksum.to_owned()),
            ..served.source()
        })
    };
    for fine in [&commit, &commit[..7]] {
        assert_eq!(world.outcome(&with(fine)), ". d 755 0:0 \na f 644 0:0 1\n");
    }
    let wrong = "0123456789012345678901234567890123456789";
    assert_eq!(
        world.outcome(&with(wrong)),
        format!("expected checksum to match {wrong}, got {commit}")
    );
}

#[test]
fn the_git_directory_is_kept_if_asked_for_and_works() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    served.repository.write("a", "1").unwrap();
    let commit = served.repository.commit("one").unwrap();
    let source = Source::Git(GitSource {
        keep_git_dir: true,
        times: GitTimes::Commit,
        ..served.source()
    });
    let brought = world.bring(&world.resolve(&source).unwrap()).unwrap();
    let Ref::Snapshot(top) = &brought else {
        panic!("a source is a snapshot")
    };
    let view = world.stand.snapshots.view(*top).unwrap();
    let copy = world.place("copy");
    // By our own number: another program's `self` is another.
    let theirs = format!("/proc/{}/fd/{}/.", std::process::id(), view.as_raw_fd());
    let copied = std::process::Command::new("cp")
        .args(["-a", "--", &theirs])
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    let said = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(&copy)
        .args(["log", "--format=%H"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), commit);
    assert_eq!(mtime(&world, &brought, "a"), 1_577_934_245);
}

#[test]
fn submodules_are_filled_in_and_theirs() {
    let world = World::new();
    let served = Served::new(&world, "outer.git");
    let beside = |name: &str| Repository::create(&world.place("served").join(name)).unwrap();
    let (inner, innermost) = (beside("inner.git"), beside("innermost.git"));
    innermost.write("deep", "3").unwrap();
    innermost.commit("deep").unwrap();
    let add = |to: &Repository, name: &str| {
        // Relative, so that it is looked for where the outer one came from.
        let url = served.daemon.url(name);
        to.git(&["submodule", "--quiet", "add", "--", &url, "sub"])
            .unwrap();
        let relative = format!("../{name}");
        to.git(&["submodule", "set-url", "--", "sub", &relative])
            .unwrap();
    };
    inner.write("middle", "2").unwrap();
    add(&inner, "innermost.git");
    inner.commit("middle").unwrap();
    served.repository.write("top", "1").unwrap();
    add(&served.repository, "inner.git");
    served.repository.commit("top").unwrap();
    let drawn = world.outcome(&Source::Git(served.source()));
    let names: Vec<&str> = drawn
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, what)| what.starts_with("d 7") || what.starts_with("f 6"))
        .map(|(name, _)| name)
        .collect();
    let expected = [
        ".",
        ".gitmodules",
        "sub",
        "sub/.gitmodules",
        "sub/middle",
        "sub/sub",
        "sub/sub/deep",
        "top",
    ];
    assert_eq!(names, expected, "{drawn}");
    let without = world.outcome(&Source::Git(GitSource {
        submodules: false,
        ..served.source()
    }));
    assert!(
        without.contains("sub d 755 0:0 \n") && !without.contains("middle"),
        "{without}"
    );
}

#[test]
fn a_server_that_only_has_files_is_enough() {
    let (world, web) = (World::new(), Web::start().unwrap());
    let repository = Repository::create(&world.place("work")).unwrap();
    repository.write("a", "1").unwrap();
    repository.commit("one").unwrap();
    let bare = world.place("web/bare.git");
    let bare = bare.to_string_lossy();
    repository
        .git(&["clone", "--quiet", "--bare", ".", &bare])
        .unwrap();
    repository
        .git(&["-C", &bare, "update-server-info"])
        .unwrap();
    web.serve(world.place("web"));
    let drawn = world.outcome(&at(git(&web.url("/bare.git")), "main"));
    assert_eq!(drawn, ". d 755 0:0 \na f 644 0:0 1\n");
}

#[test]
fn a_token_goes_to_the_server_in_a_header_and_into_no_file() {
    let (mut world, web) = (World::new(), Web::start().unwrap());
    world
        .secrets
        .insert("GIT_AUTH_TOKEN".to_owned(), "canary-0451".to_owned());
    let repository = Repository::create(&world.place("work")).unwrap();
    repository.write("a", "1").unwrap();
    repository.commit("one").unwrap();
    let bare = world.place("web/bare.git");
    let bare = bare.to_string_lossy();
    repository
        .git(&["clone", "--quiet", "--bare", ".", &bare])
        .unwrap();
    repository
        .git(&["-C", &bare, "update-server-info"])
        .unwrap();
    web.serve(world.place("web"));
    let source = Source::Git(GitSource {
        keep_git_dir: true,
        ..git(&web.url("/bare.git"))
    });
    world.bring(&world.resolve(&source).unwrap()).unwrap();
    // base64 of `x-access-token:canary-0451`
    let header = "Basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5LTA0NTE=";
    let asked = web.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|it| it.headers["authorization"] == header));
    let store = world.stand.snapshots.store().root();
    assert_eq!(
        files_with(store, &["canary-0451", &header[6..]]),
        [] as [PathBuf; 0]
    );
}

/// The files below a directory that hold one of the words.
fn files_with(directory: &Path, words: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            found.extend(files_with(&path, words));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let has = |word: &&str| bytes.windows(word.len()).any(|it| it == word.as_bytes());
            if words.iter().any(has) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_directory_of_a_repository_is_one_and_lies_in_it() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    let repository = &served.repository;
    repository.write("dir/below/file", "1").unwrap();
    repository.link("etc", "/etc").unwrap();
    repository.link("up", "..").unwrap();
    repository.link("dir/here", "below").unwrap();
    repository.commit("one").unwrap();
    let below = |subdir: &str| {
        world.outcome(&Source::Git(GitSource {
            subdir: subdir.to_owned(),
            ..served.source()
        }))
    };
    assert_eq!(below("/dir/below"), ". d 755 0:0 \nfile f 644 0:0 1\n");
    let wrong = [
        "/etc",
        "/up",
        "/dir/here",
        "/../../etc",
        "/dir/below/file",
        "/missing",
        "/etc/ssh",
    ];
    for subdir in wrong {
        let outcome = below(subdir);
        assert!(
            outcome.contains("is no directory of the repository"),
            "{subdir}: {outcome}"
        );
    }
}

#[test]
fn nothing_that_looks_like_an_option_or_a_command_gets_to_git() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    served.repository.write("a", "1").unwrap();
    served.repository.commit("one").unwrap();
    let marker = world.place("marker");
    let evil = world.place("evil.sh");
    fs::write(&evil, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    fs::set_permissions(&evil, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let evil = evil.display();
    let references = [
        format!("--upload-pack={evil}"),
        format!("refs/heads/--upload-pack={evil}"),
        format!("-u{evil}"),
        format!("main:--upload-pack={evil}"),
    ];
    for reference in &references {
        let outcome = world.outcome(&at(served.source(), reference));
        assert!(outcome.starts_with("invalid git reference"), "{outcome}");
    }
    let file = format!("file://{}", served.repository.path().display());
    let addresses = [
        format!("ext::sh -c {evil}"),
        format!("--upload-pack={evil}"),
        format!("ssh://-oProxyCommand={evil}/x"),
        format!("git@-oProxyCommand={evil}:x"),
        file,
        served.repository.path().display().to_string(),
    ];
    for address in &addresses {
        let outcome = world.outcome(&Source::Git(git(address)));
        assert!(
            outcome.contains("is no address of a repository"),
            "{outcome}"
        );
    }
    assert!(!marker.exists());
}

#[test]
fn a_default_branch_with_the_name_of_an_option_is_a_name() {
    let world = World::new();
    let served = Served::new(&world, "project.git");
    served.repository.write("a", "1").unwrap();
    let commit = served.repository.commit("one").unwrap();
    // A component of a name does not begin with a point, as other directories of tests do.
    let place = tempfile::Builder::new().prefix("evil").tempdir().unwrap();
    let (marker, evil) = (place.path().join("marker"), place.path().join("evil.sh"));
    fs::write(&evil, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    fs::set_permissions(&evil, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let name = format!("refs/heads/--upload-pack={}", evil.display());
    let git_dir = served.repository.path().join(".git");
    // Git itself would not make one.
    fs::write(git_dir.join("packed-refs"), format!("{commit} {name}\n")).unwrap();
    fs::write(git_dir.join("HEAD"), format!("ref: {name}\n")).unwrap();
    let outcome = world.outcome(&Source::Git(served.source()));
    assert_eq!(outcome, ". d 755 0:0 \na f 644 0:0 1\n");
    assert!(!marker.exists());
}

#[test]
fn a_repository_runs_nothing_here() {
    let world = World::new();
    let marker = world.place("marker");
    let touch = format!("touch {}", marker.display());
    let urls = [
        format!("ext::sh -c {}", touch.replace(' ', "% ")),
        format!("file://{}", world.place("served/bait.git").display()),
        format!("{}", world.place("served/bait.git").display()),
        format!("-u{touch}"),
        format!("ssh://-oProxyCommand={touch}/x"),
    ];
    let served = Served::new(&world, "project.git");
    let bait = Repository::create(&world.place("served/bait.git")).unwrap();
    bait.write("bait", "1").unwrap();
    let bait = bait.commit("bait").unwrap();
    served.repository.write("a", "1").unwrap();
    served
        .repository
        .write(".gitattributes", "* filter=evil diff=evil\n")
        .unwrap();
    served
        .repository
        .write(
            ".git-config",
            &format!("[filter \"evil\"]\nsmudge = {touch}\n"),
        )
        .unwrap();
    let mut modules: Vec<String> = urls.iter().map(|url| format!("url = {url}\n")).collect();
    let good = served.daemon.url("bait.git");
    modules.push(format!("url = {good}\n\tupdate = !{touch}\n"));
    for module in &modules {
        let modules = format!("[submodule \"sub\"]\n\tpath = sub\n\t{module}");
        served.repository.write(".gitmodules", &modules).unwrap();
        let entry = format!("160000,{bait},sub");
        served.repository.git(&["add", "--all"]).unwrap();
        served
            .repository
            .git(&["update-index", "--add", "--cacheinfo", &entry])
            .unwrap();
        served
            .repository
            .git(&["commit", "--quiet", "--message=evil"])
            .unwrap();
        let outcome = world.outcome(&Source::Git(served.source()));
        assert!(
            outcome.starts_with("failed to fetch the submodules of"),
            "{module}: {outcome}"
        );
        assert!(!outcome.contains("sub/bait"), "{module}: {outcome}");
        assert!(!marker.exists(), "{module}: {outcome}");
    }
}

#[test]
fn the_names_and_paths_of_submodules_lead_nowhere_else() {
    let world = World::new();
    let marker = world.place("marker");
    let served = Served::new(&world, "project.git");
    let sub = Repository::create(&world.place("served/sub.git")).unwrap();
    let hook = format!("#!/bin/sh\ntouch {}\n", marker.display());
    sub.write_program("post-checkout", &hook).unwrap();
    sub.write_program("hooks/post-checkout", &hook).unwrap();
    let head = sub.commit("hooks").unwrap();
    let url = served.daemon.url("sub.git");
    // CVE-2018-11235: a name that leads out of `.git/modules`. CVE-2025-48384: a path that ends in a
    // carriage return. CVE-2024-32002: a path through a link into `.git`.
    let cases = [
        ("../../hooks-of-mine", "sub", ""),
        ("sub", "sub\r", ""),
        ("sub", "link/sub", ".git/modules"),
        ("sub", "../outside", ""),
        ("sub", ".git/hooks", ""),
    ];
    for (name, path, link) in cases {
        let repository = &served.repository;
        drop(repository.git(&["rm", "-rfq", "--cached", "--ignore-unmatch", "."]));
        drop(fs::remove_file(repository.path().join("link")));
        if !link.is_empty() {
            repository.link("link", link).unwrap();
        }
        let modules = format!("[submodule \"{name}\"]\n\tpath = \"{path}\"\n\turl = {url}\n");
        repository.write(".gitmodules", &modules).unwrap();
        drop(repository.git(&["add", "--all"]));
        // Git refuses some of these to begin with; what it takes is tried.
        let entry = format!("160000,{head},{path}");
        drop(repository.git(&["update-index", "--add", "--cacheinfo", &entry]));
        repository
            .git(&["commit", "--quiet", "--allow-empty", "--message=evil"])
            .unwrap();
        let outcome = world.outcome(&Source::Git(served.source()));
        assert!(!marker.exists(), "{name} {path:?}: {outcome}");
        assert!(!world.place("outside").exists());
    }
}
