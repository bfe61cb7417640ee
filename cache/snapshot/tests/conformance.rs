//! What every way to keep layers must do: one check over chains that are written as small scripts.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use proptest::prelude::*;
use snapshot::{DiffInfo, Packing, Select, SnapshotId};
use support::{Stand, draw};

/// Runs one script a layer through a mount and holds every way to look at the chain against the others:
/// as it was made, and as its layers come out elsewhere, unpacked and packed.
fn check(scripts: &[&str]) {
    Stand::each(|stand| check_with(&stand, scripts));
}

fn check_with(stand: &Stand, scripts: &[&str]) {
    let mut top = None;
    let mut mirrors = [
        Mirror::new(Packing::None),
        Mirror::new(Packing::All),
        Mirror::new(Packing::Large),
    ];
    for script in scripts {
        let active = stand.snapshots.prepare(top).unwrap();
        let mount = active.mount().unwrap();
        support::run(&mount, script);
        let seen_through_mount = draw(&mount);
        drop(mount);
        let id = active.commit().unwrap();

        let view = stand.snapshots.view(Some(id)).unwrap();
        assert_eq!(
            draw(&view),
            seen_through_mount,
            "a view shows what was written: {scripts:?}"
        );
        let manifests = support::draw_merged(&stand.snapshots.merged(Some(id)).unwrap());
        assert_eq!(
            manifests, seen_through_mount,
            "the manifests know it: {scripts:?}"
        );

        let (tar, info) = stand.pack(id);
        assert_eq!(
            stand.pack(id).0,
            tar,
            "the same layer packs into the same bytes"
        );
        for mirror in &mut mirrors {
            mirror.apply(&tar, &info);
            mirror.check(&seen_through_mount, &info, &format!("{scripts:?}"));
            assert_eq!(
                mirror.stand.snapshots.content(mirror.top).unwrap(),
                stand.snapshots.content(Some(id)).unwrap(),
                "equal layers have equal keys: {scripts:?}"
            );
        }
        top = Some(id);
    }
    let [unpacked, ..] = &mirrors;
    let difference = unpacked.difference();
    for mirror in &mirrors {
        assert_eq!(mirror.difference(), difference, "{scripts:?}");
        let whole = |stand: &Stand, top| stand.snapshots.checksum(top, &Select::Tree).unwrap();
        assert_eq!(whole(stand, top), whole(&mirror.stand, mirror.top));
        mirror.check_elsewhere();
    }
}

/// The same chain in another store, from layer tars.
struct Mirror {
    stand: Stand,
    packing: Packing,
    top: Option<SnapshotId>,
}

impl Mirror {
    fn new(packing: Packing) -> Self {
        let mut stand = Stand::new();
        stand.snapshots = stand.snapshots.packing(packing);
        Self {
            stand,
            packing,
            top: None,
        }
    }

    fn apply(&mut self, tar: &[u8], info: &DiffInfo) {
        let applied = self
            .stand
            .snapshots
            .apply(self.top, &mut &*tar, Some(info.diff_id));
        self.top = Some(applied.unwrap());
    }

    fn check(&self, seen: &str, info: &DiffInfo, what: &str) {
        let snapshots = &self.stand.snapshots;
        let view = snapshots.view(self.top).unwrap();
        assert_eq!(draw(&view), seen, "{:?}: {what}", self.packing);
        let manifests = support::draw_merged(&snapshots.merged(self.top).unwrap());
        assert_eq!(manifests, seen, "{:?}: {what}", self.packing);
        assert_eq!(
            self.stand.pack(self.top.unwrap()).1.diff_id,
            info.diff_id,
            "a round trip changes no byte: {:?}: {what}",
            self.packing
        );
        let is_packed = snapshots.store().layer_index(self.top.unwrap()).exists();
        assert_eq!(is_packed, self.packing == Packing::All, "{what}");
        assert!(snapshots.store().has_layer(self.top.unwrap()));
        assert_eq!(snapshots.damaged().unwrap(), [], "{what}");
    }

    /// The layers on another chain, and what they change together, are what they are for others.
    fn check_elsewhere(&self) {
        let Some(top) = self.top else { return };
        let snapshots = &self.stand.snapshots;
        let base = self.stand.commit(None, "mkdir elsewhere; write a_base 1");
        let layers = snapshots.chain(top).unwrap();
        let stacked = snapshots.stack(Some(base), &layers[..1]).unwrap();
        let seen = draw(&snapshots.view(Some(stacked)).unwrap());
        let known = support::draw_merged(&snapshots.merged(Some(stacked)).unwrap());
        assert_eq!(seen, known, "{:?}", self.packing);
        assert_eq!(snapshots.damaged().unwrap(), []);
    }

    /// What the layers above the first change together.
    fn difference(&self) -> oci::Key {
        let snapshots = &self.stand.snapshots;
        let layers = snapshots.chain(self.top.unwrap()).unwrap();
        let difference = snapshots.difference(layers[0], *layers.last().unwrap());
        snapshots.content(Some(difference.unwrap())).unwrap()
    }
}

#[test]
fn files_of_all_kinds_survive_as_root() {
    check(&[
        "mkdir d; write d/f hello; ln d/f d/g; sym f d/l; sym /nowhere dangling; fifo p; mknod z 1 5; \
             chmod 4755 d/f; chown 1000:3000000 d; xattr d/f user.note a=b; chmod 1777 d",
    ]);
}

#[test]
fn what_a_layer_removes_is_gone_as_root() {
    check(&[
        "mkdir a; write a/x 1; write a/y 2; write b 3",
        "rm a/x; rm b",
        "rm a",
        "mkdir a; write a/z 4",
    ]);
}

#[test]
fn a_directory_made_anew_hides_the_old_one_as_root() {
    check(&[
        "mkdir a; mkdir a/s; write a/s/x 1; write a/y 2",
        "rm a; mkdir a; write a/new 3",
        "write a/more 4",
    ]);
}

#[test]
fn types_can_change_between_layers_as_root() {
    check(&[
        "mkdir a; write a/x 1; write f 2; sym a l",
        "rm a; write a now-a-file; rm f; mkdir f; write f/in 3",
        "rm l; mkdir l; write l/y 4",
        "rm a; sym f a",
    ]);
}

#[test]
fn metadata_alone_makes_a_layer_as_root() {
    check(&[
        "mkdir a; write a/x 1",
        "chmod 700 a",
        "chown 5:6 a/x",
        "xattr a user.k v",
        "chmod 711 .",
    ]);
}

#[test]
fn an_empty_layer_is_a_layer_as_root() {
    check(&["", "write a 1", "", ""]);
}

#[test]
fn layers_that_only_change_the_root_show_that_as_root() {
    check(&[
        "mkdir a; write a/x 1",
        "chmod 711 .",
        "",
        "chown 5:6 .; xattr . user.k v",
        "",
        "rm a",
        "",
        "",
    ]);
}

#[test]
fn more_layers_than_the_kernel_mounts_are_mounted_where_few_hold_anything_as_root() {
    let stand = Stand::new();
    let mut top = None;
    for number in 0..520 {
        let script = match number {
            7 => "write low 1",
            300 => "write middle 1; rm low",
            _ => "",
        };
        top = Some(stand.commit(top, script));
    }
    let expected = ". d 755 0:0 \nmiddle f 644 0:0 1\n";
    // Who did not make them has to look.
    for stand in [&stand, &Stand::at(stand.snapshots.store().root())] {
        assert_eq!(draw(&stand.snapshots.view(top).unwrap()), expected);
        let active = stand.snapshots.prepare(top).unwrap();
        assert_eq!(draw(&active.mount().unwrap()), expected);
    }
}

#[test]
fn long_names_and_large_numbers_survive_as_root() {
    let long = "n".repeat(200);
    let deep = format!("{long}/{long}");
    check(&[&format!(
        "mkdir {long}; write {deep} x; ln {deep} second; sym {deep} link; chown 4000000000:2097152 {deep}; write \u{e4}\u{f6} umlaut"
    )]);
}

#[test]
fn links_across_layers_are_cut_as_overlayfs_cuts_them_as_root() {
    check(&["write a 1; ln a b; ln a c", "append b 2", "rm c; ln b d"]);
}

#[test]
fn a_chain_of_128_layers_works_as_root() {
    Stand::each(|stand| {
        let mut top = None;
        for number in 0..128 {
            let active = stand.snapshots.prepare(top).unwrap();
            let mount = active.mount().unwrap();
            support::run(
                &mount,
                &format!("write f{number} {number}; write last {number}"),
            );
            drop(mount);
            top = Some(active.commit().unwrap());
        }
        let seen = draw(&stand.snapshots.view(top).unwrap());
        assert_eq!(seen.lines().count(), 1 + 128 + 1);
        assert!(seen.contains("last f 644 0:0 127\n"), "{seen}");
        assert_eq!(
            support::draw_merged(&stand.snapshots.merged(top).unwrap()),
            seen
        );
    });
}

#[test]
fn a_view_cannot_be_written_as_root() {
    Stand::each(|stand| {
        let id = stand.commit(None, "write a 1");
        for top in [None, Some(id)] {
            let view = stand.snapshots.view(top).unwrap();
            let error = std::fs::write(support::path(&view).join("new"), "x").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        }
    });
}

#[test]
fn a_dropped_layer_leaves_nothing_as_root() {
    Stand::each(|stand| {
        let before = support::count_files(stand.snapshots.store().root());
        let active = stand.snapshots.prepare(None).unwrap();
        support::run(&active.mount().unwrap(), "mkdir a; write a/b 1");
        drop(active);
        assert!(support::count_files(stand.snapshots.store().root()) <= before + 3);
        assert!(support::find(stand.snapshots.store().root(), "b").is_none());
    });
}

#[test]
fn committed_layers_do_not_depend_on_when_they_were_made_as_root() {
    Stand::each(|stand| {
        let script = "mkdir a; write a/x 1; chmod 640 a/x";
        let first = stand.commit(None, script);
        let second = stand.commit(None, &format!("write other 1; {script}; rm other"));
        assert_eq!(
            stand.snapshots.content(Some(first)).unwrap(),
            stand.snapshots.content(Some(second)).unwrap()
        );
    });
}

#[test]
fn many_processes_share_a_store_as_root() {
    if let Some(root) = std::env::var_os("SNAPSHOT_TEST_STORE") {
        let stand = Stand::at(Path::new(&root));
        let mut top = None;
        for number in 0..5 {
            top = Some(stand.commit(top, &format!("write f{number} {number}")));
        }
        let (tar, info) = stand.pack(top.unwrap());
        stand
            .snapshots
            .apply(None, &mut tar.as_slice(), Some(info.diff_id))
            .unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..6)
        .map(|_| {
            let mut child = std::process::Command::new(&me);
            child
                .args(["--exact", "many_processes_share_a_store_as_root"])
                .env("SNAPSHOT_TEST_STORE", dir.path());
            child
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A random command over few names, so that commands meet. One that cannot be done is passed over.
fn command() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec!["a", "b", "a/x", "a/y", "a/b", "a/b/x", "b/x", "b/a"]);
    let verb = prop::sample::select(vec![
        "mkdir", "write", "rm", "rm", "sym", "ln", "chmod", "append",
    ]);
    (verb, path.clone(), path, 0..100u32).prop_map(|(verb, path, other, number)| match verb {
        "write" | "append" => format!("try-{verb} {path} {number}"),
        "sym" => format!("try-sym {other} {path}"),
        "ln" => format!("try-ln {other} {path}"),
        "chmod" => format!("try-chmod {:o} {path}", 0o700 + number % 0o70),
        verb => format!("try-{verb} {path}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_chains_look_the_same_from_every_side_as_root(
        layers in prop::collection::vec(prop::collection::vec(command(), 1..8), 1..5)
    ) {
        let scripts: Vec<String> = layers.iter().map(|commands| commands.join("; ")).collect();
        check(&scripts.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Does with a layer, without a mount, what a script does with one.
fn write_unmounted(layer: &snapshot::Layer, script: &str) {
    for command in script.split(';').map(str::trim).filter(|it| !it.is_empty()) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let path = Path::new(words[1]);
        let parent = layer
            .open_directory(path.parent().unwrap(), &mut |_| Ok(()))
            .unwrap();
        let name = path.file_name().unwrap();
        match words[0] {
            "mkdir" => drop(parent.make_directory(name).unwrap()),
            "rm" => parent.remove(name).unwrap(),
            "write" => {
                parent.make_room(name).unwrap();
                let own = snapshot::Root::from_fd(
                    std::os::fd::AsFd::as_fd(&parent.own())
                        .try_clone_to_owned()
                        .unwrap(),
                );
                own.write_file(Path::new(name), words[2].as_bytes(), 0o644)
                    .unwrap();
            }
            other => panic!("no command {other}"),
        }
    }
}

#[test]
fn a_layer_written_without_a_mount_is_the_same_layer_as_root() {
    let scripts = [
        "mkdir a; mkdir a/s; write a/s/x 1; write a/y 2; write b 3",
        "rm b; mkdir b; write b/z 4; rm a/s; mkdir a/s; write a/s/w 5",
        "write a/y 6; rm a; write a 7",
        "rm a; mkdir a; write a/n 8; rm a/n",
    ];
    Stand::each(|stand| {
        let (mut mounted, mut unmounted) = (None, None);
        for script in scripts {
            mounted = Some(stand.commit(mounted, script));
            let active = stand.snapshots.prepare(unmounted).unwrap();
            write_unmounted(&active.layer().unwrap(), script);
            unmounted = Some(active.commit().unwrap());
            let drawn = |top| draw(&stand.snapshots.view(top).unwrap());
            assert_eq!(drawn(unmounted), drawn(mounted), "{script}");
            let content = |top| stand.snapshots.content(top).unwrap();
            assert_eq!(content(unmounted), content(mounted), "{script}");
        }
    });
}
