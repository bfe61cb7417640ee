//! What `COPY`, `ADD`, `WORKDIR` and the like do to a tree.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../cache/snapshot/tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use llb::Op;
use llb::op::{
    Copy, File, FileAction, FileChange, LocalSource, ModeChange, Owner, OwnerNames, Source, Tree,
    UserName,
};
use ops::{Cancel, Context, OpError, Ops, Ref, Session};
use support::{Stand, draw, run};

struct World {
    stand: Stand,
    ops: Ops,
    context: tempfile::TempDir,
}

struct Lent(PathBuf);

impl Session for Lent {
    fn local(&self, name: &str) -> Option<PathBuf> {
        (name == "context").then(|| self.0.clone())
    }

    fn secret(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn ssh(&self, _: &str) -> Option<ops::AgentFrom> {
        None
    }
}

impl World {
    /// A build context from a script, whose files belong to a user of the host.
    fn new(context: &str) -> Self {
        let stand = Stand::new();
        let dir = tempfile::tempdir().unwrap();
        run(&OwnedFd::from(fs::File::open(dir.path()).unwrap()), context);
        let ops = Ops::new(stand.snapshots.store().clone(), stand.snapshots.clone());
        Self {
            stand,
            ops,
            context: dir,
        }
    }

    fn run(&self, op: &Op, inputs: &[Ref]) -> Result<Vec<Ref>, OpError> {
        let session = Lent(self.context.path().to_owned());
        let context = Context {
            session: &session,
            log: &|_, _| {},
            log_limits: ops::LogLimits::NONE,
            spent: &|_| {},
            cancel: &Cancel::default(),
        };
        self.ops.run(op, inputs, &context)
    }

    fn local(&self, ignore: &[&str]) -> Ref {
        let ignore = ignore.iter().map(|it| (*it).to_owned()).collect();
        let source = Source::Local(LocalSource {
            name: "context".to_owned(),
            ignore,
        });
        self.run(&Op::Source(source), &[]).unwrap().remove(0)
    }

    /// Runs changes one after the other on a base that a script makes, and draws what is new.
    fn outcome(&self, base: &str, ignore: &[&str], changes: Vec<FileChange>) -> String {
        let base = Ref::Snapshot((!base.is_empty()).then(|| self.stand.commit(None, base)));
        let before = self.draw(&base);
        match self.run(&Op::File(actions(changes)), &[base, self.local(ignore)]) {
            Err(error) => error.to_string(),
            Ok(outputs) => {
                let after = self.draw(&outputs[0]);
                let gone = before
                    .lines()
                    .filter(|line| !after.lines().any(|it| it == *line))
                    .map(|it| format!("- {it}"));
                let new = after
                    .lines()
                    .filter(|line| !before.lines().any(|it| it == *line))
                    .map(|it| format!("+ {it}"));
                gone.chain(new)
                    .map(|it| it.trim_end().to_owned())
                    .collect::<Vec<_>>()
                    .join("\n")
            }
        }
    }

    fn draw(&self, tree: &Ref) -> String {
        let Ref::Snapshot(top) = tree else {
            panic!("a snapshot")
        };
        draw(&self.stand.snapshots.view(*top).unwrap())
    }
}

fn actions(changes: Vec<FileChange>) -> File {
    let last = changes.len() - 1;
    let action = |(number, change)| FileAction {
        base: if number == 0 {
            Tree::Input(0)
        } else {
            Tree::Action(number - 1)
        },
        change,
        output: number == last,
    };
    File {
        actions: changes.into_iter().enumerate().map(action).collect(),
    }
}

fn plain(source: &str, destination: &str) -> Copy {
    Copy {
        from: Tree::Input(1),
        source: source.to_owned(),
        destination: destination.to_owned(),
        owner: None,
        mode: None,
        wildcard: true,
        unpack: false,
        exclude: Vec::new(),
        parents: false,
    }
}

fn owner(user: &str, group: Option<&str>) -> Option<Owner> {
    let name = |it: &str| {
        it.parse()
            .map_or_else(|_| UserName::Name(it.to_owned()), UserName::Id)
    };
    Some(Owner {
        user: name(user),
        group: group.map(name),
        names: OwnerNames::Changed,
    })
}

/// Copies `source` to `destination` and compares what changed.
fn check(context: &str, base: &str, (source, destination): (&str, &str), expected: &str) {
    let found = World::new(context).outcome(
        base,
        &[],
        vec![FileChange::Copy(plain(source, destination))],
    );
    assert_eq!(
        found, expected,
        "COPY {source} {destination} on `{base}` from `{context}`"
    );
}

#[test]
fn a_directory_gives_its_contents_as_root() {
    let context = "mkdir d; write d/f 1; chmod 600 d/f; mkdir d/s; chmod 700 d/s; sym f d/l; chown 5:6 d/f; chmod 711 d";
    check(
        context,
        "",
        ("/d", "/dst"),
        "+ dst d 755 0:0\n+ dst/f f 600 0:0 1\n+ dst/l l f\n+ dst/s d 700 0:0",
    );
    check(
        context,
        "mkdir dst; chmod 750 dst; chown 7:7 dst",
        ("/d", "/dst/"),
        "+ dst/f f 600 0:0 1\n+ dst/l l f\n+ dst/s d 700 0:0",
    );
    check(
        context,
        "mkdir dst; mkdir dst/s; write dst/s/old x",
        ("/d/", "/dst"),
        "- dst/s d 755 0:0\n+ dst/f f 600 0:0 1\n+ dst/l l f\n+ dst/s d 700 0:0",
    );
    check(
        context,
        "",
        ("/", "/all"),
        "+ all d 755 0:0\n+ all/d d 711 0:0\n+ all/d/f f 600 0:0 1\n+ all/d/l l f\n+ all/d/s d 700 0:0",
    );
}

#[test]
fn a_file_goes_where_docker_puts_it_as_root() {
    check("write f 1", "", ("/f", "/dst"), "+ dst f 644 0:0 1");
    check(
        "write f 1",
        "",
        ("/f", "/dst/"),
        "+ dst d 755 0:0\n+ dst/f f 644 0:0 1",
    );
    check(
        "write f 1",
        "mkdir dst",
        ("/f", "/dst"),
        "+ dst/f f 644 0:0 1",
    );
    check(
        "write f 1",
        "mkdir a",
        ("/f", "/a/b/c"),
        "+ a/b d 755 0:0\n+ a/b/c f 644 0:0 1",
    );
    check(
        "write f 1",
        "write dst 2",
        ("/f", "/dst"),
        "- dst f 644 0:0 2\n+ dst f 644 0:0 1",
    );
    check("write f 1", "", ("/f", "/"), "+ f f 644 0:0 1");
}

#[test]
fn links_in_the_destination_are_followed_inside_as_root() {
    check(
        "write f 1",
        "mkdir usr; mkdir usr/lib; sym usr/lib lib",
        ("/f", "/lib/"),
        "+ usr/lib/f f 644 0:0 1",
    );
    check(
        "write f 1",
        "mkdir usr; sym usr lib",
        ("/f", "/lib"),
        "+ usr/f f 644 0:0 1",
    );
    check(
        "write f 1",
        "mkdir usr; sym /../../usr lib",
        ("/f", "/lib/new"),
        "+ usr/new f 644 0:0 1",
    );
    check(
        "write f 1",
        "write real x; sym real link",
        ("/f", "/link"),
        "- link l real\n+ link f 644 0:0 1",
    );
    check(
        "mkdir d; write d/f 1",
        "sym /not/yet link",
        ("/d", "/link"),
        "+ not d 755 0:0\n+ not/yet d 755 0:0\n+ not/yet/f f 644 0:0 1",
    );
    check(
        "write f 1",
        "sym b a; sym a b",
        ("/f", "/a/x"),
        "/a/x: too many levels of symbolic links",
    );
}

#[test]
fn links_in_the_source_are_followed_only_when_named_as_root() {
    check(
        "write f 1; sym f l",
        "",
        ("/l", "/dst"),
        "+ dst f 644 0:0 1",
    );
    check(
        "mkdir d; write d/f 1; sym d l",
        "",
        ("/l", "/dst"),
        "+ dst d 755 0:0\n+ dst/f f 644 0:0 1",
    );
    check(
        "mkdir d; sym nowhere d/l",
        "",
        ("/d", "/dst"),
        "+ dst d 755 0:0\n+ dst/l l nowhere",
    );
    check("sym /etc/passwd l", "", ("/l", "/dst"), "\"/l\": not found");
    check("write f 1", "", ("/../../f", "/dst"), "+ dst f 644 0:0 1");
}

#[test]
fn what_is_of_another_kind_is_not_replaced_as_root() {
    check(
        "write f 1",
        "mkdir dst; mkdir dst/f",
        ("/f", "/dst/"),
        "cannot replace to directory /dst/f with file",
    );
    check(
        "mkdir d; write d/f 1",
        "write dst x",
        ("/d", "/dst"),
        "cannot copy to non-directory: /dst",
    );
    check(
        "mkdir d; mkdir d/f",
        "mkdir dst; write dst/f x",
        ("/d", "/dst"),
        "cannot copy to non-directory: /dst/f",
    );
    check(
        "mkdir d; write d/f 1",
        "mkdir dst; mkdir dst/f",
        ("/d", "/dst"),
        "cannot replace to directory /dst/f with file",
    );
}

#[test]
fn wildcards_may_match_nothing_and_names_may_not_as_root() {
    check(
        "write a.c 1; write b.c 2; write x 3",
        "",
        ("/*.c", "/dst/"),
        "+ dst d 755 0:0\n+ dst/a.c f 644 0:0 1\n+ dst/b.c f 644 0:0 2",
    );
    check("write x 3", "", ("/*.c", "/dst/"), "");
    check("write x 3", "", ("/y", "/dst/"), "\"/y\": not found");
    check(
        "mkdir d; write d/f 1; mkdir e; write e/g 2",
        "",
        ("/*", "/dst"),
        "+ dst d 755 0:0\n+ dst/f f 644 0:0 1\n+ dst/g f 644 0:0 2",
    );
}

#[test]
fn hard_links_attributes_and_special_files_survive_as_root() {
    let world = World::new(
        "mkdir d; write d/a 1; ln d/a d/b; xattr d/a user.k v; fifo d/p; chmod 4711 d/a",
    );
    let copied = world.run(
        &Op::File(actions(vec![FileChange::Copy(plain("/d", "/dst"))])),
        &[Ref::Snapshot(None), world.local(&[])],
    );
    let Ref::Snapshot(Some(id)) = copied.unwrap().remove(0) else {
        panic!("a snapshot")
    };
    let tree = world.stand.snapshots.tree(id).unwrap();
    let link = |path: &[u8]| match tree.get(path).unwrap().kind {
        snapshot::Kind::File { link, .. } => link,
        _ => panic!("a file"),
    };
    assert!(link(b"dst/a") != 0 && link(b"dst/a") == link(b"dst/b"));
    assert_eq!(&*tree.get(b"dst/b").unwrap().xattrs[0].name, b"user.k");
    assert_eq!(tree.get(b"dst/a").unwrap().mode, 0o4711);
    assert_eq!(tree.get(b"dst/p").unwrap().kind, snapshot::Kind::Fifo);
    let host = fs::metadata(world.context.path().join("d/a")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        tree.get(b"dst/a").unwrap().mtime,
        (host.mtime(), host.mtime_nsec() as u32)
    );
}

#[test]
fn owners_and_modes_are_set_as_asked_as_root() {
    let base = "mkdir etc; write etc/passwd web:x:33:34::/:; write etc/group staff:x:50:";
    let context = "mkdir d; write d/f 1; mkdir d/s; chmod 2750 d/s";
    let copy = |user: &str, group: Option<&str>, mode: Option<ModeChange>| {
        let copy = Copy {
            owner: owner(user, group),
            mode,
            ..plain("/d", "/new/dst")
        };
        World::new(context).outcome(base, &[], vec![FileChange::Copy(copy)])
    };
    let all = |owner: &str| {
        format!(
            "+ new d 755 {owner}\n+ new/dst d 755 {owner}\n+ new/dst/f f 644 {owner} 1\n+ new/dst/s d 2750 {owner}"
        )
    };
    assert_eq!(copy("web", None, None), all("33:34"));
    assert_eq!(copy("web", Some("staff"), None), all("33:50"));
    assert_eq!(copy("1000", Some("1001"), None), all("1000:1001"));
    assert_eq!(copy("33", None, None), all("33:34"));
    assert_eq!(copy("7", None, None), all("7:0"));
    assert_eq!(
        copy("nobody", None, None),
        "unknown user \"nobody\": it is not in /etc/passwd of the stage"
    );
    assert_eq!(
        copy("0", Some("none"), None),
        "unknown group \"none\": it is not in /etc/group of the stage"
    );
    assert_eq!(
        copy("0", Some("0"), Some(ModeChange::Octal(0o4755))),
        "+ new d 4755 0:0\n+ new/dst d 4755 0:0\n+ new/dst/f f 4755 0:0 1\n+ new/dst/s d 4755 0:0"
    );
    assert_eq!(
        copy(
            "5",
            Some("5"),
            Some(ModeChange::Symbolic("u=rwX,go=".to_owned()))
        ),
        "+ new d 700 5:5\n+ new/dst d 700 5:5\n+ new/dst/f f 600 5:5 1\n+ new/dst/s d 2700 5:5"
    );
    assert_eq!(
        copy("0", Some("0"), Some(ModeChange::Symbolic("64a".to_owned()))),
        "invalid chmod parameter: \"64a\""
    );
}

#[test]
fn a_passwd_that_is_no_file_does_not_hang_as_root() {
    let copy = Copy {
        owner: owner("web", None),
        ..plain("/f", "/f")
    };
    let found = World::new("write f 1").outcome(
        "mkdir etc; fifo etc/passwd",
        &[],
        vec![FileChange::Copy(copy)],
    );
    assert_eq!(found, "cannot look up names in /etc/passwd");
}

#[test]
fn ignored_and_excluded_files_stay_behind_as_root() {
    let context = "mkdir d; write d/a.o 1; write d/b.c 2; mkdir d/keep; write d/keep/x 3; write d/keep/y.o 4; write top.o 5";
    let found = World::new(context).outcome(
        "",
        &["**/*.o", "d/keep", "!d/keep/x"],
        vec![FileChange::Copy(plain("/", "/"))],
    );
    assert_eq!(
        found,
        "+ d d 755 0:0\n+ d/b.c f 644 0:0 2\n+ d/keep d 755 0:0\n+ d/keep/x f 644 0:0 3"
    );
    let found =
        World::new(context).outcome("", &["d"], vec![FileChange::Copy(plain("/d/b.c", "/"))]);
    assert_eq!(found, "\"/d/b.c\": not found");
    let copy = Copy {
        exclude: vec!["*.o".to_owned(), "keep".to_owned()],
        ..plain("/d", "/dst")
    };
    let found = World::new(context).outcome("", &[], vec![FileChange::Copy(copy)]);
    assert_eq!(found, "+ dst d 755 0:0\n+ dst/b.c f 644 0:0 2");
}

#[test]
fn parents_are_kept_behind_the_pivot_as_root() {
    let context = "mkdir a; mkdir a/b; chmod 700 a/b; mkdir a/b/c; write a/b/c/f 1";
    let copy = |source: &str| {
        let copy = Copy {
            parents: true,
            ..plain(source, "/dst/")
        };
        World::new(context).outcome("", &[], vec![FileChange::Copy(copy)])
    };
    assert_eq!(
        copy("/a/b/c/f"),
        "+ dst d 755 0:0\n+ dst/a d 755 0:0\n+ dst/a/b d 700 0:0\n+ dst/a/b/c d 755 0:0\n+ dst/a/b/c/f f 644 0:0 1"
    );
    assert_eq!(
        copy("/a/./b/c"),
        "+ dst d 755 0:0\n+ dst/b d 700 0:0\n+ dst/b/c d 755 0:0\n+ dst/b/c/f f 644 0:0 1"
    );
    assert_eq!(
        copy("/**/f"),
        "+ dst d 755 0:0\n+ dst/a d 755 0:0\n+ dst/a/b d 700 0:0\n+ dst/a/b/c d 755 0:0\n+ dst/a/b/c/f f 644 0:0 1"
    );
}

#[test]
fn actions_build_on_each_other_as_root() {
    let make = |path: &str, name: Option<&str>| FileChange::MakeFile {
        path: path.to_owned(),
        data: b"hello".to_vec(),
        mode: 0o640,
        owner: owner("3", Some("4")),
        name: name.map(str::to_owned),
    };
    let directory = |path: &str| FileChange::MakeDirectory {
        path: path.to_owned(),
        mode: 0o711,
        owner: None,
    };
    let remove = |path: &str, allow_missing| FileChange::Remove {
        path: path.to_owned(),
        allow_missing,
    };
    let world = World::new("write f 1");
    let found = world.outcome(
        "mkdir old; write old/x 1; write w 2",
        &[],
        vec![
            directory("/w1/w2"),
            make("/w1/", Some("eof")),
            remove("/old", false),
            directory("/old"),
            remove("/w", false),
            FileChange::Copy(plain("/f", "/old/")),
            remove("/none", true),
        ],
    );
    assert_eq!(found, "- old/x f 644 0:0 1\n- w f 644 0:0 2\n- old d 755 0:0\n+ old d 711 0:0\n+ old/f f 644 0:0 1\n+ w1 d 711 0:0\n+ w1/eof f 640 3:4 hello\n+ w1/w2 d 711 0:0"
        .replace("- old/x f 644 0:0 1\n- w f 644 0:0 2\n- old d 755 0:0", "- old d 755 0:0\n- old/x f 644 0:0 1\n- w f 644 0:0 2"));
    assert_eq!(
        world.outcome("", &[], vec![remove("/none", false)]),
        "\"/none\": not found"
    );
    assert_eq!(
        world.outcome("mkdir d; chmod 700 d", &[], vec![directory("/d")]),
        ""
    );
}

#[test]
fn archives_are_unpacked_by_what_is_in_them_as_root() {
    let world = World::new("write plain.tar.gz not-an-archive; write empty.tar x");
    fs::write(world.context.path().join("empty.tar"), "").unwrap();
    let id = world
        .stand
        .commit(None, "mkdir d; write d/f 1; chown 8:9 d/f; sym f d/l");
    let tar = world.stand.pack(id).0;
    let write =
        |name: &str, bytes: &[u8]| fs::write(world.context.path().join(name), bytes).unwrap();
    write("a.tar", &tar);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    write("a.bin", &gzip.finish().unwrap());
    write("a.zst", &zstd::encode_all(tar.as_slice(), 1).unwrap());
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&tar).unwrap();
    write("a.bz2", &bz.finish().unwrap());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    write("a.xz", &xz.finish().unwrap());
    let add = |name: &str, user: Option<&str>| {
        let copy = Copy {
            unpack: true,
            owner: user.and_then(|it| owner(it, Some(it))),
            ..plain(name, "/dst")
        };
        world.outcome("mkdir x", &[], vec![FileChange::Copy(copy)])
    };
    for name in ["/a.tar", "/a.bin", "/a.zst", "/a.bz2", "/a.xz"] {
        assert_eq!(
            add(name, None),
            "+ dst d 755 0:0\n+ dst/d d 755 0:0\n+ dst/d/f f 644 8:9 1\n+ dst/d/l l f",
            "{name}"
        );
    }
    assert_eq!(
        add("/a.tar", Some("5")),
        "+ dst d 755 5:5\n+ dst/d d 755 5:5\n+ dst/d/f f 644 5:5 1\n+ dst/d/l l f"
    );
    assert_eq!(add("/plain.tar.gz", None), "+ dst f 644 0:0 not-an-archive");
    assert_eq!(add("/empty.tar", None), "+ dst f 644 0:0");
    write(
        "broken.tar.gz",
        &fs::read(world.context.path().join("a.bin")).unwrap()[..90],
    );
    let broken = add("/broken.tar.gz", None);
    assert!(
        broken.starts_with("cannot unpack /broken.tar.gz") || broken.starts_with("+ dst f"),
        "{broken}"
    );
}

#[test]
fn a_stage_is_copied_with_its_owners_as_root() {
    let world = World::new("");
    let stage = world.stand.commit(
        None,
        "mkdir out; write out/bin 1; chown 5:6 out/bin; chown 7:8 out",
    );
    let op = Op::File(actions(vec![FileChange::Copy(plain("/out", "/usr/"))]));
    let made = world
        .run(&op, &[Ref::Snapshot(None), Ref::Snapshot(Some(stage))])
        .unwrap();
    assert_eq!(
        world.draw(&made[0]),
        ". d 755 0:0 \nusr d 755 0:0 \nusr/bin f 644 5:6 1\n"
    );
}

#[test]
fn a_merge_lays_layers_over_each_other_without_copying_as_root() {
    let world = World::new("");
    let base = world.stand.commit(None, "mkdir a; write a/x 1; sym a l");
    let link = world.stand.commit(None, "mkdir l; write l/y 2");
    let merged = world
        .run(
            &Op::Merge,
            &[Ref::Snapshot(Some(base)), Ref::Snapshot(Some(link))],
        )
        .unwrap();
    assert_eq!(
        world.draw(&merged[0]),
        ". d 755 0:0 \na d 755 0:0 \na/x f 644 0:0 1\nl d 755 0:0 \nl/y f 644 0:0 2\n"
    );
    let upper = world.stand.commit(Some(base), "rm a/x; write a/z 3");
    let own = world
        .run(
            &Op::Diff,
            &[Ref::Snapshot(Some(base)), Ref::Snapshot(Some(upper))],
        )
        .unwrap();
    // Not drawn through a mount: its whiteouts have nothing to hide yet.
    let Ref::Snapshot(own_top) = own[0] else {
        panic!("a snapshot")
    };
    let alone = support::draw_merged(&world.stand.snapshots.merged(own_top).unwrap());
    assert_eq!(alone, ". d 755 0:0 \na d 755 0:0 \na/z f 644 0:0 3\n");
    let again = world
        .run(&Op::Merge, &[Ref::Snapshot(Some(base)), own[0].clone()])
        .unwrap();
    assert_eq!(
        world.draw(&again[0]),
        world.draw(&Ref::Snapshot(Some(upper)))
    );
    let other = world.stand.commit(None, "mkdir a; write a/x 1; write b 4");
    let difference = world
        .run(
            &Op::Diff,
            &[Ref::Snapshot(Some(base)), Ref::Snapshot(Some(other))],
        )
        .unwrap();
    let merged = world
        .run(
            &Op::Merge,
            &[Ref::Snapshot(Some(base)), difference[0].clone()],
        )
        .unwrap();
    assert_eq!(
        world.draw(&merged[0]),
        world.draw(&Ref::Snapshot(Some(other)))
    );
}

#[test]
fn a_cancelled_copy_stops_and_leaves_nothing_as_root() {
    let world = World::new("write f 1");
    let cancel = Cancel::default();
    cancel.cancel();
    let session = Lent(world.context.path().to_owned());
    let context = Context {
        session: &session,
        log: &|_, _| {},
        log_limits: ops::LogLimits::NONE,
        spent: &|_| {},
        cancel: &cancel,
    };
    let op = Op::File(actions(vec![FileChange::Copy(plain("/f", "/f"))]));
    let error = world
        .ops
        .run(&op, &[Ref::Snapshot(None), world.local(&[])], &context)
        .unwrap_err();
    assert!(matches!(error, OpError::Cancelled), "{error}");
    assert!(support::find(&world.stand.snapshots.store().root().join("tmp"), "f").is_none());
    assert!(Path::new(world.context.path()).join("f").exists());
}
