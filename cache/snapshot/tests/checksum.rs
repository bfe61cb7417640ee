//! Which changes count for a copy, and which do not: the same for chains and for directories of the host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::fd::OwnedFd;

use oci::Key;
use snapshot::{Counting, Patterns, Select, SelectCopy};
use support::{Stand, run};

fn copy(path: &str) -> SelectCopy {
    SelectCopy {
        path: path.to_owned(),
        wildcard: true,
        exclude: Patterns::default(),
        parents: false,
        counting: Counting::All,
    }
}

struct World {
    stand: Stand,
}

impl World {
    fn new() -> Self {
        Self {
            stand: Stand::new(),
        }
    }

    /// The key of a part of a tree that a script makes, which must be the same for a chain of one
    /// layer, for a chain in which every command is a layer, and for a directory of the host.
    fn key(&self, script: &str, select: &Select) -> Key {
        let one = self.stand.commit(None, script);
        let mut many = None;
        for command in script.split(';') {
            many = Some(self.stand.commit(many, command));
        }
        let dir = tempfile::tempdir().unwrap();
        run(
            &OwnedFd::from(std::fs::File::open(dir.path()).unwrap()),
            &format!("chmod 755 .; {script}"),
        );
        let key = self.stand.snapshots.checksum(Some(one), select).unwrap();
        assert_eq!(
            self.stand.snapshots.checksum(many, select).unwrap(),
            key,
            "{script}"
        );
        for _ in 0..2 {
            let local = self
                .stand
                .snapshots
                .local(dir.path(), Patterns::default())
                .unwrap();
            assert_eq!(local.checksum(select).unwrap(), key, "{script}");
        }
        key
    }

    fn same(&self, select: SelectCopy, one: &str, other: &str) {
        let select = Select::Copy(select);
        assert_eq!(
            self.key(one, &select),
            self.key(other, &select),
            "{one} and {other}"
        );
    }

    fn differ(&self, select: SelectCopy, one: &str, other: &str) {
        let select = Select::Copy(select);
        assert_ne!(
            self.key(one, &select),
            self.key(other, &select),
            "{one} and {other}"
        );
    }
}

#[test]
fn what_a_copy_takes_counts_and_nothing_else_as_root() {
    let world = World::new();
    world.same(
        copy("/d"),
        "mkdir d; write d/f 1",
        "write x 2; mkdir d; write d/f 1",
    );
    world.differ(copy("/d"), "mkdir d; write d/f 1", "mkdir d; write d/f 2");
    world.differ(copy("/d"), "mkdir d; write d/f 1", "mkdir d; write d/g 1");
    world.differ(
        copy("/d"),
        "mkdir d; write d/f 1",
        "mkdir d; write d/f 1; chmod 600 d/f",
    );
    world.same(
        copy("/d"),
        "mkdir d; write d/f 1",
        "mkdir d; write d/f 1; chmod 700 d",
    );
    world.differ(
        copy("/d"),
        "mkdir d; mkdir d/s",
        "mkdir d; mkdir d/s; chmod 700 d/s",
    );
    world.differ(
        copy("/d"),
        "mkdir d; write d/f 1",
        "mkdir d; write d/f 1; xattr d/f user.k v",
    );
    world.differ(copy("/f"), "write f 1", "write f 1; chmod 755 f");
    world.differ(copy("/d"), "mkdir d; sym a d/l", "mkdir d; sym b d/l");
}

#[test]
fn a_named_link_counts_as_what_it_names_as_root() {
    let world = World::new();
    world.same(copy("/f"), "write f 1", "write real 1; sym real f");
    world.same(
        copy("/d/f"),
        "mkdir d; write d/f 1",
        "mkdir e; write e/f 1; sym /e d",
    );
}

#[test]
fn modes_and_owners_that_are_set_anew_do_not_count_as_root() {
    let world = World::new();
    let select = SelectCopy {
        counting: Counting::NoMode,
        ..copy("/d")
    };
    world.same(
        select,
        "mkdir d; write d/f 1",
        "mkdir d; write d/f 1; chmod 600 d/f",
    );
    let one = world.stand.commit(None, "write f 1");
    let other = world.stand.commit(None, "write f 1; chown 5:6 f");
    let key = |id, counting| {
        let select = Select::Copy(SelectCopy {
            counting,
            ..copy("/f")
        });
        world.stand.snapshots.checksum(Some(id), &select).unwrap()
    };
    assert_ne!(key(one, Counting::All), key(other, Counting::All));
    assert_eq!(key(one, Counting::NoOwner), key(other, Counting::NoOwner));
}

#[test]
fn excluded_files_do_not_count_as_root() {
    let world = World::new();
    let select = || SelectCopy {
        exclude: Patterns::new(["*.o", "s", "!s/keep"]).unwrap(),
        ..copy("/d")
    };
    world.same(
        select(),
        "mkdir d; write d/f 1",
        "mkdir d; write d/f 1; write d/x.o 2",
    );
    world.same(
        select(),
        "mkdir d; write d/f 1",
        "mkdir d; write d/f 1; mkdir d/s; write d/s/x 2",
    );
    world.differ(
        select(),
        "mkdir d; write d/f 1",
        "mkdir d; write d/f 1; mkdir d/s; write d/s/keep 2",
    );
}

#[test]
fn wildcards_count_the_names_they_match_as_root() {
    let world = World::new();
    world.same(
        copy("/*.c"),
        "write a.c 1; write x 2",
        "write a.c 1; write y 3",
    );
    world.differ(copy("/*.c"), "write a.c 1", "write b.c 1");
    world.differ(copy("/*.c"), "write a.c 1", "write a.c 1; write b.c 1");
    world.same(copy("/*.none"), "write a 1", "write b 2");
    let missing = world
        .stand
        .snapshots
        .checksum(None, &Select::Copy(copy("/a")));
    assert_eq!(missing.unwrap_err().to_string(), "\"/a\": not found");
}

#[test]
fn kept_parents_count_as_root() {
    let world = World::new();
    let select = |path: &str| SelectCopy {
        parents: true,
        ..copy(path)
    };
    world.differ(
        select("/a/*/f"),
        "mkdir a; mkdir a/b; write a/b/f 1",
        "mkdir a; mkdir a/c; write a/c/f 1",
    );
    world.differ(
        select("/a/f"),
        "mkdir a; write a/f 1",
        "mkdir a; write a/f 1; chmod 700 a",
    );
}

#[test]
fn ignored_files_of_the_host_do_not_count_as_root() {
    let stand = Stand::new();
    let dir = tempfile::tempdir().unwrap();
    let fd = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
    run(
        &fd,
        "mkdir d; write d/f 1; write d/x.o 2; mkdir node; write node/y 3",
    );
    let key = || {
        let local = stand
            .snapshots
            .local(dir.path(), Patterns::new(["**/*.o", "node"]).unwrap())
            .unwrap();
        (
            local.checksum(&Select::Tree).unwrap(),
            local.checksum(&Select::Copy(copy("/node"))).is_err(),
        )
    };
    let before = key();
    run(&fd, "append d/x.o 4; append node/y 5");
    assert_eq!(key(), before);
    assert!(before.1);
    run(&fd, "append d/f 6");
    assert_ne!(key().0, before.0);
}

#[test]
fn a_change_that_keeps_size_and_times_is_noticed_as_root() {
    let stand = Stand::new();
    let dir = tempfile::tempdir().unwrap();
    let fd = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
    run(&fd, "write f 1");
    let key = || {
        let local = stand
            .snapshots
            .local(dir.path(), Patterns::default())
            .unwrap();
        local.checksum(&Select::Copy(copy("/f"))).unwrap()
    };
    let mtime = std::fs::metadata(dir.path().join("f"))
        .unwrap()
        .modified()
        .unwrap();
    let before = key();
    for content in 2..9 {
        run(&fd, &format!("write f {content}"));
        std::fs::File::options()
            .write(true)
            .open(dir.path().join("f"))
            .unwrap()
            .set_modified(mtime)
            .unwrap();
        assert_ne!(key(), before, "{content}");
    }
}
