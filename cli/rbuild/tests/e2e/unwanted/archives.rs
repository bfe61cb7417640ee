//! Archives that mean harm.

use oci::Digest;

use super::{
    Case, Part, Stand, archive, config, descriptor, file, gzipped_zeros, header, index, manifest,
    part, words,
};

const fn case(name: &'static str, make: fn(&Stand) -> Vec<String>) -> Case {
    Case { name, make }
}

/// A path in Docker's list that is no honest one.
fn with_layer(stand: &Stand, layer: &str, mut parts: Vec<Part>) -> Vec<String> {
    parts.push(file("c.json", config(&[Digest::of(b"")])));
    let list = format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":["{layer}"]}}]"#);
    parts.push(file("manifest.json", list));
    stand.load(&parts)
}

/// A document of a layout under its digest.
fn blob(content: impl Into<Vec<u8>>) -> (Part, String) {
    let content = content.into();
    let digest = Digest::of(&content);
    let entry = descriptor(&digest.to_string(), content.len() as u64);
    (
        file(&format!("blobs/sha256/{}", digest.hex()), content),
        entry,
    )
}

/// A file that a shell pipe makes, which is read from there.
fn stream(stand: &Stand, bytes: &[u8]) -> Vec<String> {
    std::fs::write(stand.path("a.tar"), bytes).unwrap();
    words(&["load", "-i", "a.tar"])
}

pub(super) const CASES: &[Case] = &[
    case("archive: empty", |stand| stream(stand, b"")),
    case("archive: no tar", |stand| {
        stream(stand, &b"no tar at all\n".repeat(100))
    }),
    case("archive: ends in the middle", |stand| {
        let tar = archive(&[file("manifest.json", vec![b' '; 4000])]);
        stream(stand, &tar[..2000])
    }),
    case("archive: unpacks to 4 GiB of zeros", |stand| {
        stream(stand, &gzipped_zeros(4096))
    }),
    case("archive: one file is 1 EiB long", |stand| {
        stream(stand, &header(&file("layer.tar", ""), 0o7_777_777_777))
    }),
    case("archive: manifest.json of 64 MiB", |stand| {
        stand.load(&[file("manifest.json", vec![b' '; 64 << 20])])
    }),
    case("archive: 70,000 members", |stand| {
        let parts: Vec<Part> = (0..70_000).map(|it| file(&format!("{it}"), "")).collect();
        stand.load(&parts)
    }),
    case("archive: a member comes twice", |stand| {
        stand.load(&[file("x", "1"), file("x", "2")])
    }),
    case("archive: a member above it", |stand| {
        stand.load(&[file("a/../../etc/passwd", "x")])
    }),
    case("archive: an absolute link", |stand| {
        with_layer(stand, "l", vec![part(b'2', "l", "/etc/shadow")])
    }),
    case("archive: a link above it", |stand| {
        with_layer(stand, "a/l", vec![part(b'2', "a/l", "../../etc/shadow")])
    }),
    case("archive: links in a circle", |stand| {
        with_layer(stand, "a", vec![part(b'2', "a", "b"), part(b'2', "b", "a")])
    }),
    case("archive: a hard link through a link", |stand| {
        with_layer(
            stand,
            "h",
            vec![part(b'2', "d", ".."), part(b'1', "h", "d/etc/shadow")],
        )
    }),
    case("archive: a device as a layer", |stand| {
        with_layer(stand, "dev", vec![part(b'3', "dev", "")])
    }),
    case("archive: a list that leads out", |stand| {
        with_layer(stand, "../../etc/shadow", vec![])
    }),
    case("archive: a list that leads to the host", |stand| {
        with_layer(stand, "/etc/shadow", vec![])
    }),
    case("archive: another layer than promised", |stand| {
        with_layer(stand, "l", vec![file("l", archive(&[file("x", "y")]))])
    }),
    case("archive: a list that is nested without end", |stand| {
        stand.load(&[file("manifest.json", "[".repeat(100_000))])
    }),
    case("archive: a name that is none", |stand| {
        let list = r#"[{"Config":"c.json","RepoTags":["\u001b[2J/../x"],"Layers":[]}]"#;
        stand.load(&[file("c.json", config(&[])), file("manifest.json", list)])
    }),
    case("archive: indices within indices", |stand| {
        let (part, mut entry) = blob(manifest(&[descriptor("sha256:00", 1)], &[]));
        let mut parts = vec![part];
        for _ in 0..10 {
            let (part, next) = blob(index(&[entry]));
            parts.push(part);
            entry = next;
        }
        parts.push(file("index.json", index(&[entry])));
        stand.load(&parts)
    }),
    case(
        "archive: an index that leads to one a thousand times, and that again",
        |stand| {
            let (part, mut entry) = blob(index(&[]));
            let mut parts = vec![part];
            for _ in 0..10 {
                let (part, next) = blob(index(&vec![entry; 1000]));
                parts.push(part);
                entry = next;
            }
            parts.push(file("index.json", index(&[entry])));
            stand.load(&parts)
        },
    ),
    case("archive: a digest that is a path", |stand| {
        let entry = descriptor("sha256:../../../etc/passwd", 1);
        stand.load(&[file("index.json", index(&[entry]))])
    }),
    case("archive: a blob under another's digest", |stand| {
        let name = format!("blobs/sha256/{}", Digest::of(b"other").hex());
        stand.load(&[file(&name, "bytes"), file("index.json", index(&[]))])
    }),
    case("archive: 501 layers", |stand| {
        let layers = vec!["\"l\""; 501].join(",");
        let list = format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":[{layers}]}}]"#);
        let parts = [
            file("c.json", config(&[Digest::of(b""); 501])),
            file("l", ""),
            file("manifest.json", list),
        ];
        stand.load(&parts)
    }),
    case("archive: xz that wants 1 GiB to unpack", |stand| {
        let line = "head -c 4096 /dev/zero | xz --lzma2=dict=1GiB > a.tar";
        kit::rbuild::run(&mut stand.rbuild.shell(line)).success();
        words(&["load", "-i", "a.tar"])
    }),
];
