//! Layer tars that somebody made to do harm: refused, or harmless, and never anything outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::Read;
use std::path::Path;

use snapshot::{ApplyError, Packing};
use support::{Stand, draw};

/// A tar from words: `f path content`, `d path`, `l path target` (symlink), `h path target` (hard
/// link), `c path major minor`; a `@key=value` after them is a PAX record.
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    fn new(script: &str) -> Self {
        let mut tar = Self { bytes: Vec::new() };
        for command in script.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            tar.member(command);
        }
        tar.bytes.extend([0; 1024]);
        tar
    }

    fn member(&mut self, command: &str) {
        let (words, pax): (Vec<&str>, Vec<&str>) = command
            .split_whitespace()
            .partition(|it| !it.starts_with('@'));
        let records: String = pax.iter().map(|it| record(&it[1..])).collect();
        if !records.is_empty() {
            self.header(b'x', "pax", "", records.len() as u64);
            self.content(records.as_bytes());
        }
        match words.as_slice() {
            ["f", path, content] => {
                self.header(b'0', path, "", content.len() as u64);
                self.content(content.as_bytes());
            }
            ["f", path] => self.header(b'0', path, "", 0),
            ["d", path] => self.header(b'5', path, "", 0),
            ["l", path, target] => self.header(b'2', path, target, 0),
            ["h", path, target] => self.header(b'1', path, target, 0),
            ["c", path, major, minor] => {
                self.header(b'3', path, "", 0);
                let at = self.bytes.len() - 512;
                self.bytes[at + 329..at + 336]
                    .copy_from_slice(format!("{:07o}", major.parse::<u32>().unwrap()).as_bytes());
                self.bytes[at + 337..at + 344]
                    .copy_from_slice(format!("{:07o}", minor.parse::<u32>().unwrap()).as_bytes());
                self.checksum(at);
            }
            ["t", letter, path] => self.header(letter.as_bytes()[0], path, "", 0),
            other => panic!("no member {other:?}"),
        }
    }

    fn header(&mut self, letter: u8, path: &str, target: &str, size: u64) {
        let mut block = [0; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..107].copy_from_slice(b"0000755");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = letter;
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        let at = self.bytes.len();
        self.bytes.extend(block);
        self.checksum(at);
    }

    fn checksum(&mut self, at: usize) {
        let block = &mut self.bytes[at..at + 512];
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    fn content(&mut self, content: &[u8]) {
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}

fn record(text: &str) -> String {
    let mut length = text.len() + 3;
    while format!("{length} {text}\n").len() != length {
        length += 1;
    }
    format!("{length} {text}\n")
}

/// Applies a tar on a base that has `usr/lib/libc`, `lib -> usr/lib`, `etc/passwd` and `gone`, and says
/// what the tree looks like then, without what is as before; or why it was refused.
fn outcome(stand: &Stand, tar: &[u8]) -> String {
    let base = "mkdir usr; mkdir usr/lib; write usr/lib/libc x; sym usr/lib lib; mkdir etc; write etc/passwd hello; write gone x";
    let base = stand.commit(None, base);
    let before = draw(&stand.snapshots.view(Some(base)).unwrap());
    match stand.snapshots.apply(Some(base), &mut &*tar, None) {
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            text
        }
        Ok(id) => {
            let after = draw(&stand.snapshots.view(Some(id)).unwrap());
            let gone = before
                .lines()
                .filter(|line| !after.lines().any(|it| it == *line))
                .map(|line| format!("- {line}"));
            let new = after
                .lines()
                .filter(|line| !before.lines().any(|it| it == *line))
                .map(|line| format!("+ {line}"));
            gone.chain(new)
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
                .join("\n")
        }
    }
}

fn check(script: &str, expected: &str) {
    for packing in [Packing::None, Packing::All] {
        let mut stand = Stand::new();
        stand.snapshots = stand.snapshots.packing(packing);
        check_in(&stand, script, expected);
    }
}

fn check_in(stand: &Stand, script: &str, expected: &str) {
    let victim = stand
        .snapshots
        .store()
        .root()
        .parent()
        .unwrap()
        .join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let script = script.replace("VICTIM", &victim.to_string_lossy());
    let found = outcome(stand, &Tar::new(&script).bytes);
    assert_eq!(found, expected, "{script}");
    assert_eq!(
        std::fs::read_to_string(&victim).unwrap(),
        "untouched",
        "{script}"
    );
    assert!(!Path::new("/rbuild-escaped").exists(), "{script}");
}

#[test]
fn names_that_point_outside_are_refused_as_root() {
    check(
        "f ../escaped x",
        "cannot unpack the layer: archive member `../escaped` leaves the root",
    );
    check(
        "f a/../../../escaped x",
        "cannot unpack the layer: archive member `a/../../../escaped` leaves the root",
    );
    check(
        "h link ../../etc/passwd",
        "cannot unpack the layer: archive member `link` leaves the root",
    );
    check(
        "f . x",
        "cannot unpack the layer: archive member `/` takes the place of the root",
    );
}

#[test]
fn absolute_names_and_links_stay_inside_as_root() {
    check("f /rbuild-escaped x", "+ rbuild-escaped f 755 0:0 x");
    check(
        "l out /; f out/rbuild-escaped x",
        "+ out l /\n+ rbuild-escaped f 755 0:0 x",
    );
    check(
        "l out ../../../..; f out/rbuild-escaped x",
        "+ out l ../../../..\n+ rbuild-escaped f 755 0:0 x",
    );
}

#[test]
fn the_name_of_a_file_of_the_host_means_one_inside_as_root() {
    let stand = Stand::new();
    let victim = stand
        .snapshots
        .store()
        .root()
        .parent()
        .unwrap()
        .join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let name = victim.to_string_lossy();
    let found = outcome(
        &stand,
        &Tar::new(&format!("l there {name}; f {name} x; f there y")).bytes,
    );
    assert!(found.contains("+ there f 755 0:0 y"), "{found}");
    assert!(found.contains("/victim f 755 0:0 x"), "{found}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
}

#[test]
fn a_link_is_replaced_and_not_written_through_as_root() {
    check("l a etc/passwd; f a x", "+ a f 755 0:0 x");
    check(
        "l d etc; d d; f d/passwd x",
        "+ d d 755 0:0\n+ d/passwd f 755 0:0 x",
    );
}

#[test]
fn links_without_end_are_an_error_as_root() {
    check(
        "l a b; l b a; f a/x y",
        "cannot unpack the layer: archive member `a/x` is behind links without end",
    );
}

#[test]
fn hard_links_reach_lower_layers_and_nothing_else_as_root() {
    check("h passwd2 etc/passwd", "+ passwd2 f 644 0:0 hello");
    check("h passwd2 /etc/passwd", "+ passwd2 f 644 0:0 hello");
    check(
        "h x VICTIM",
        "cannot unpack the layer: archive member `x` is a link to what is not there",
    );
    check(
        "h x etc",
        "cannot unpack the layer: archive member `x` is a hard link to a directory",
    );
    check(
        "f x y; h x x",
        "cannot unpack the layer: archive member `x` is a link to itself",
    );
}

#[test]
fn lower_links_are_hidden_by_directories_as_in_containerd_as_root() {
    check(
        "f lib/new x",
        "- lib l usr/lib\n+ lib d 755 0:0\n+ lib/new f 755 0:0 x",
    );
}

#[test]
fn whiteouts_remove_what_they_name_and_nothing_else_as_root() {
    check("f .wh.gone", "- gone f 644 0:0 x");
    check(
        "f etc/.wh..wh..opq; f etc/new x",
        "- etc/passwd f 644 0:0 hello\n+ etc/new f 755 0:0 x",
    );
    check(
        "f etc/.wh.",
        "cannot unpack the layer: archive member `etc/.wh.` removes something that has no name",
    );
    check(
        "f etc/.wh...",
        "cannot unpack the layer: archive member `etc/.wh...` removes something that has no name",
    );
    check("f .wh..wh.plnk", "");
    check("f new x; f .wh.new", "+ new f 755 0:0 x");
    check(
        "f .wh.etc; d etc; f etc/only x",
        "- etc/passwd f 644 0:0 hello\n+ etc/only f 755 0:0 x",
    );
}

#[test]
fn overlayfs_cannot_be_told_lies_as_root() {
    check(
        "c w 0 0",
        "cannot unpack the layer: archive member `w` is a device that overlayfs takes for a whiteout",
    );
    check("d etc @SCHILY.xattr.trusted.overlay.opaque=y", "");
    check(
        "f x y @SCHILY.xattr.trusted.overlay.redirect=/etc",
        "+ x f 755 0:0 y",
    );
}

#[test]
fn ambiguous_members_are_refused_as_root() {
    check(
        "t Z x",
        "cannot unpack the layer: archive member `x` is of an unknown type",
    );
    check(
        "f x y @uid=4294967295",
        "cannot unpack the layer: archive member `x` has a uid that no file can have",
    );
    check(
        "f x y @uid=4294967296",
        "cannot unpack the layer: archive member `x` has a uid that no file can have",
    );
    check(
        "d x @size=512",
        "cannot unpack the layer: archive member `x` has content although it is no file",
    );
}

#[test]
fn a_pax_size_counts_and_smuggles_nothing_as_root() {
    // The header says nothing follows, the record says a block does: what looks like a header in it is content.
    let mut tar = Tar { bytes: Vec::new() };
    let inner = Tar::new("f smuggled x").bytes;
    let pax = record("size=512");
    tar.header(b'x', "pax", "", pax.len() as u64);
    tar.content(pax.as_bytes());
    tar.header(b'0', "outer", "", 0);
    tar.bytes.extend(&inner[..512]);
    tar.member("f after x");
    tar.bytes.extend([0; 1024]);
    let found = outcome(&Stand::new(), &tar.bytes);
    assert!(!found.contains("+ smuggled"), "{found}");
    assert!(found.contains("+ after f"), "{found}");
}

#[test]
fn an_attribute_with_a_line_break_is_kept_as_root() {
    let mut tar = Tar { bytes: Vec::new() };
    let pax = record("SCHILY.xattr.user.note=a\nb") + &record("path=named-by-pax");
    tar.header(b'x', "pax", "", pax.len() as u64);
    tar.content(pax.as_bytes());
    tar.member("f x y");
    tar.bytes.extend([0; 1024]);
    let stand = Stand::new();
    let id = stand
        .snapshots
        .apply(None, &mut tar.bytes.as_slice(), None)
        .unwrap();
    let tree = stand.snapshots.tree(id).unwrap();
    let xattrs = &tree.get(b"named-by-pax").unwrap().xattrs;
    assert_eq!(&*xattrs[0].value, b"a\nb");
}

#[test]
fn half_an_archive_is_refused_and_leaves_nothing_as_root() {
    let tar = Tar::new("d a; f a/b content; f c more").bytes;
    for cut in [1, 511, 513, 1030, 2000] {
        for packing in [Packing::None, Packing::All] {
            let mut stand = Stand::new();
            stand.snapshots = stand.snapshots.packing(packing);
            let found = outcome(&stand, &tar[..cut]);
            assert!(
                found.starts_with("cannot unpack the layer: "),
                "{cut}: {found}"
            );
            for left in ["a", "tar", "index"] {
                assert!(
                    support::find(stand.snapshots.store().root(), left).is_none(),
                    "{cut}: {left}"
                );
            }
        }
    }
    // Without the zeros at the end it is whole all the same.
    assert!(outcome(&Stand::new(), &tar[..tar.len() - 1024]).contains("+ a/b"));
}

#[test]
fn another_diff_id_is_refused_as_root() {
    let stand = Stand::new();
    let tar = Tar::new("f a x").bytes;
    let claimed = oci::Digest::of(b"something else");
    let error = stand
        .snapshots
        .apply(None, &mut tar.as_slice(), Some(claimed))
        .unwrap_err();
    assert!(matches!(error, ApplyError::WrongDiffId { .. }), "{error}");
    let found = oci::Digest::of(&tar);
    let id = stand
        .snapshots
        .apply(None, &mut tar.as_slice(), Some(found))
        .unwrap();
    // The chain is known now: nothing is read.
    let mut unreadable = std::io::empty().chain(Broken);
    assert_eq!(
        stand
            .snapshots
            .apply(None, &mut unreadable, Some(found))
            .unwrap(),
        id
    );
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("read although it was not needed"))
    }
}

#[test]
fn a_disk_full_of_nothing_is_bounded_as_root() {
    let mut tar = Tar { bytes: Vec::new() };
    tar.header(b'0', "huge", "", 7 << 30);
    let zeros = std::io::repeat(0).take(7 << 30);
    let stand = Stand::new();
    let limits = snapshot::UnpackLimits {
        bytes: 1 << 20,
        ..Default::default()
    };
    let active = stand.snapshots.prepare(None).unwrap();
    let how = snapshot::Unpack {
        into: Path::new(""),
        rules: snapshot::Rules::Layer,
        owner: None,
        limits,
    };
    let mut archive = snapshot::Archive::new(tar.bytes.as_slice().chain(zeros));
    let error = snapshot::unpack(&mut archive, &active.layer().unwrap(), &how).unwrap_err();
    assert_eq!(error.to_string(), "the archive has more than 1048576 bytes");
    let deep = Tar::new(&format!("d {}", "a/".repeat(40))).bytes;
    let limits = snapshot::UnpackLimits {
        depth: 30,
        ..Default::default()
    };
    let how = snapshot::Unpack { limits, ..how };
    let error = snapshot::unpack(
        &mut snapshot::Archive::new(deep.as_slice()),
        &active.layer().unwrap(),
        &how,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "the archive has more than 30 directories in one name"
    );
}
