//! Layers of which single files can be fetched: their tables against their tars, and others' readers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use export::{Compression, ImportOptions, MediaTypes, Output, SaveOptions};
use oci::Digest;
use serde_json::{Value, json};
use support::{Fixture, header};
use tar::EntryType;

const TABLE: &str = "stargz.index.json";
const TABLE_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
const UNPACKED_SIZE: &str = "io.containers.estargz.uncompressed-size";
const LANDMARK: &str = ".no.prefetch.landmark";

/// A member of each kind.
const KINDS: [&str; 9] = [
    "dir/",
    "dir/small",
    "dir/empty",
    "large",
    "exact",
    "fifo",
    "null",
    "link",
    "same",
];

/// A layer with a member of each kind.
fn tar_of_all_kinds() -> Vec<u8> {
    let large: Vec<u8> = (0..2_500_000u32).flat_map(u32::to_le_bytes).collect();
    let exact = vec![7; 4 << 20];
    let long = format!("dir/{}/", "long".repeat(40));
    let mut tar = tar::Builder::new(Vec::new());
    let mut device = header(EntryType::Char, 0o620, 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    device.set_uid(5);
    device.set_gid(6);
    let none: &[u8] = &[];
    let mut add = |mut header: tar::Header, path: &str, bytes: &[u8]| {
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    add(header(EntryType::Directory, 0o1777, 0), "dir/", none);
    add(
        header(EntryType::Regular, 0o4755, 6),
        "dir/small",
        b"small\n",
    );
    add(header(EntryType::Regular, 0o644, 0), "dir/empty", none);
    add(
        header(EntryType::Regular, 0o600, large.len()),
        "large",
        &large,
    );
    add(
        header(EntryType::Regular, 0o600, exact.len()),
        "exact",
        &exact,
    );
    add(header(EntryType::Directory, 0o755, 0), &long, none);
    let file = format!("{long}file");
    add(header(EntryType::Regular, 0o644, 5), &file, b"long\n");
    add(header(EntryType::Fifo, 0o644, 0), "fifo", none);
    add(device, "null", none);
    for (kind, name, target) in [
        (EntryType::Symlink, "link", "dir/small"),
        (EntryType::Link, "same", "dir/small"),
    ] {
        let mut header = header(kind, 0o777, 0);
        tar.append_link(&mut header, name, target).unwrap();
    }
    let records = [("SCHILY.xattr.user.color", &b"\xff\x00blue"[..])];
    tar.append_pax_extensions(records).unwrap();
    let mut last = header(EntryType::Regular, 0o644, 4);
    tar.append_data(&mut last, "with-attribute", &b"last"[..])
        .unwrap();
    tar.into_inner().unwrap()
}

fn fixture(tar: &[u8]) -> Fixture {
    let here = Fixture::new();
    let options = ImportOptions {
        name: Some("app:v1".parse().unwrap()),
        ..ImportOptions::default()
    };
    export::import(&here.snapshots, tar, &options).unwrap();
    here
}

fn options() -> SaveOptions {
    SaveOptions {
        compression: Some(Compression::Gzip),
        level: Some(1),
        estargz: true,
        media_types: Some(MediaTypes::Oci),
        ..SaveOptions::default()
    }
}

/// An image as a layout, read.
struct Layout {
    manifest: Value,
    config: Value,
    layers: Vec<Vec<u8>>,
}

fn save(fixture: &Fixture, name: &str) -> Layout {
    let path = fixture.path(name);
    save_to(fixture, Output::Layout(&path));
    read(&path)
}

fn save_to(fixture: &Fixture, output: Output<'_>) {
    export::save(&fixture.snapshots, &["app:v1"], &options(), output).unwrap();
}

fn read(layout: &Path) -> Layout {
    let blob = |digest: &Value| {
        let digest: Digest = digest.as_str().unwrap().parse().unwrap();
        let bytes = fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
        assert_eq!(Digest::of(&bytes), digest);
        bytes
    };
    let document = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let index = document(&fs::read(layout.join("index.json")).unwrap());
    let manifest = document(&blob(&index["manifests"][0]["digest"]));
    let config = document(&blob(&manifest["config"]["digest"]));
    let layers = manifest["layers"].as_array().unwrap().iter();
    Layout {
        layers: layers.map(|it| blob(&it["digest"])).collect(),
        manifest,
        config,
    }
}

fn unpacked(mut packed: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::bufread::MultiGzDecoder::new(&mut packed)
        .read_to_end(&mut tar)
        .unwrap();
    tar
}

/// Where the footer says that the table is, and the table.
fn table(layer: &[u8]) -> (usize, Vec<u8>) {
    let footer = &layer[layer.len() - 51..];
    assert_eq!(&footer[12..16], b"SG\x16\0");
    assert_eq!(&footer[32..38], b"STARGZ");
    assert_eq!(unpacked(footer), b"", "the footer is an empty member");
    let offset = std::str::from_utf8(&footer[16..32]).unwrap();
    let offset = usize::from_str_radix(offset, 16).unwrap();
    let member = flate2::bufread::GzDecoder::new(&layer[offset..]);
    let mut archive = tar::Archive::new(member);
    let mut file = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(file.path_bytes(), TABLE.as_bytes());
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    (offset, bytes)
}

/// What a table says of a member, found out from the tar. Where its content stands is checked apart.
fn expected(entry: &mut tar::Entry<'_, &[u8]>) -> (Value, Vec<u8>) {
    let mut xattrs = BTreeMap::new();
    for record in entry.pax_extensions().unwrap().into_iter().flatten() {
        let record = record.unwrap();
        if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
            assert_eq!(record.value_bytes(), b"\xff\x00blue");
            xattrs.insert(name.to_owned(), "/wBibHVl");
        }
    }
    let header = entry.header().clone();
    let kind = match header.entry_type() {
        EntryType::Regular => "reg",
        EntryType::Directory => "dir",
        EntryType::Symlink => "symlink",
        EntryType::Link => "hardlink",
        EntryType::Fifo => "fifo",
        EntryType::Char => "char",
        other => panic!("{other:?}"),
    };
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let mut said = json!({
        "name": String::from_utf8_lossy(&entry.path_bytes()),
        "type": kind,
        "mode": header.mode().unwrap(),
        "uid": header.uid().unwrap(),
        "gid": header.gid().unwrap(),
    });
    let time = header.mtime().unwrap();
    if time != 0 {
        assert_eq!(time, 1_600_000_000);
        said["modtime"] = json!("2020-09-13T12:26:40Z");
    }
    if let Some(target) = entry.link_name().unwrap() {
        said["linkName"] = json!(target);
    }
    if kind == "char" {
        said["devMajor"] = json!(header.device_major().unwrap().unwrap());
        said["devMinor"] = json!(header.device_minor().unwrap().unwrap());
    }
    if !xattrs.is_empty() {
        said["xattrs"] = json!(xattrs);
    }
    if !content.is_empty() {
        said["size"] = json!(content.len());
        said["digest"] = json!(Digest::of(&content));
    }
    (said, content)
}

/// The content of a file as its entries of the table lead to it; takes from the first what that says.
fn fetched(layer: &[u8], entries: &mut [Value], size: usize) -> Vec<u8> {
    let mut content = Vec::new();
    let count = entries.len();
    for (index, entry) in entries.iter_mut().enumerate() {
        let is_last = index + 1 == count;
        let fields = entry.as_object_mut().unwrap();
        let mut number = |name: &str| {
            fields
                .shift_remove(name)
                .map(|it| it.as_u64().unwrap() as usize)
        };
        let (offset, at, length) = (number("offset"), number("chunkOffset"), number("chunkSize"));
        assert_eq!(at.unwrap_or(0), content.len());
        assert_eq!(length.is_none(), is_last);
        let mut bytes = vec![0; length.unwrap_or(size - content.len())];
        // One gzip member begins there and has all of it.
        let mut member = flate2::bufread::GzDecoder::new(&layer[offset.unwrap()..]);
        member.read_exact(&mut bytes).unwrap();
        let digest = fields.shift_remove("chunkDigest").unwrap();
        assert_eq!(digest, json!(Digest::of(&bytes)));
        content.extend(bytes);
    }
    content
}

#[test]
fn a_table_says_of_each_member_what_the_tar_says() {
    let here = fixture(&tar_of_all_kinds());
    let layout = save(&here, "layout");
    let layer = &layout.layers[0];
    let tar = unpacked(layer);
    let (at_table, table) = table(layer);
    let annotations = &layout.manifest["layers"][0]["annotations"];
    assert_eq!(annotations[TABLE_DIGEST], json!(Digest::of(&table)));
    assert_eq!(annotations[UNPACKED_SIZE], json!(tar.len().to_string()));
    assert_eq!(
        layout.config["rootfs"]["diff_ids"],
        json!([Digest::of(&tar)])
    );

    let mut table: Value = serde_json::from_slice(&table).unwrap();
    assert_eq!(table["version"], 1);
    let mut entries = table["entries"].as_array_mut().unwrap().as_mut_slice();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut names = Vec::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let (said, content) = expected(&mut member);
        let name = said["name"].as_str().unwrap().to_owned();
        names.push(name.clone());
        if name == TABLE {
            assert!(
                entries.is_empty(),
                "the table comes last and is not in itself"
            );
            continue;
        }
        let chunks = entries[1..].iter().take_while(|it| it["type"] == "chunk");
        let (own, rest) = entries.split_at_mut(1 + chunks.count());
        entries = rest;
        if !content.is_empty() {
            assert!(own[0]["offset"].as_u64().unwrap() < at_table as u64);
            assert!(fetched(layer, own, content.len()) == content, "{name}");
        }
        assert_eq!(own[0], said);
    }
    let count = names.len();
    assert_eq!(names[count - 2..], [LANDMARK, TABLE]);
    for name in KINDS {
        assert!(names.iter().any(|it| it == name), "{name} in {names:?}");
    }
}

#[test]
fn the_same_layer_is_the_same_with_a_table_however_many_pack_it() {
    let tar = tar_of_all_kinds();
    let layers: Vec<_> = [1, 3]
        .into_iter()
        .map(|threads| {
            let pool = rayon_pool(threads);
            pool.install(|| save(&fixture(&tar), "layout").manifest)
        })
        .collect();
    assert_eq!(layers[0]["layers"], layers[1]["layers"]);
    // And what is remembered is what was made.
    let here = fixture(&tar);
    let (first, second) = (save(&here, "first"), save(&here, "second"));
    assert_eq!(first.manifest, second.manifest);
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
}

#[test]
fn a_layer_that_has_a_table_keeps_it() {
    let here = fixture(&tar_of_all_kinds());
    let first = save(&here, "layout");
    let there = Fixture::new();
    let archive = here.path("layout.tar");
    save_to(&here, Output::File(&archive));
    let loaded = export::load(&there.snapshots, fs::File::open(&archive).unwrap(), &[]).unwrap();
    let again = save(&there, "again");
    assert_eq!(loaded[0].id.to_string(), first.manifest["config"]["digest"]);
    assert_eq!(first.config, again.config);
    let digests = |it: &Layout| it.manifest["layers"][0]["digest"].clone();
    assert_eq!(digests(&first), digests(&again));
    let table = |it: &Layout| it.manifest["layers"][0]["annotations"][TABLE_DIGEST].clone();
    assert_eq!(table(&first), table(&again));
    assert!(export::misfits(there.store()).unwrap().is_empty());
    assert!(export::misfits(here.store()).unwrap().is_empty());
}

#[test]
fn those_who_know_no_tables_read_an_ordinary_layer() {
    let here = fixture(&tar_of_all_kinds());
    let saved = save(&here, "layout");
    let source = format!("oci:{}:v1", here.path("layout").display());
    let bundle = here.path("copy");
    let copied = Command::new("skopeo")
        .args(["copy", "--insecure-policy", &source])
        .arg(format!("dir:{}", bundle.display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let packed = here.path("layer");
    fs::write(&packed, &saved.layers[0]).unwrap();
    let listed = Command::new("tar")
        .arg("-tzf")
        .arg(&packed)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("dir/\ndir/empty\n"), "{listed}");
    assert!(
        listed.ends_with(&format!("{LANDMARK}\n{TABLE}\n")),
        "{listed}"
    );
}
