//! Registries and archives that mean harm, and what rbuild says to each: one sentence, soon, and without
//! much memory. `testdata/unwanted/table.md` is the list.
//!
//! The sentences are held to the letter, the memory to a limit; the times are those of the day on which
//! the list was last written (`UPDATE_EXPECT=1`).

mod archives;
mod measured;
mod registries;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use kit::rbuild::Rbuild;
use kit::web::{Page, Web};
use oci::{Digest, Platform, media_type};

use measured::{Measured, measure};

/// What a case may take of memory; an honest pull takes as much.
const MOST_MEMORY: u64 = 128 << 20;

/// What is done to a stand to make it hostile, and the command that is run then.
struct Case {
    name: &'static str,
    make: fn(&Stand) -> Vec<String>,
}

/// A registry that says what it is told, another server that nobody should ask, and an rbuild.
struct Stand {
    rbuild: Rbuild,
    web: Web,
    other: Web,
}

impl Stand {
    fn new() -> Self {
        let rbuild = Rbuild::new(super::RBUILD);
        // A whole test of what is unlimited would take as long as that.
        rbuild.write(
            "config.toml",
            "[limits]\nlayer = \"64m\"\nfiles = 10000\ndepth = 100\n[transfer]\nstall = \"2s\"\nattempts = 2\n",
        );
        rbuild.write("docker/config.json", "{}");
        Self {
            rbuild,
            web: Web::start().unwrap(),
            other: Web::start().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.rbuild.work().join(name)
    }

    /// Serves bytes as the blob that they are.
    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.blob_page(&digest, Page::new(bytes));
        digest
    }

    fn blob_page(&self, digest: &Digest, page: Page) {
        self.web.put(&format!("/v2/app/blobs/{digest}"), page);
    }

    fn manifest(&self, body: impl Into<Vec<u8>>) -> Vec<String> {
        self.manifest_page(Page::new(body))
    }

    fn manifest_page(&self, page: Page) -> Vec<String> {
        self.web.put("/v2/app/manifests/v1", page);
        self.pull()
    }

    fn pull(&self) -> Vec<String> {
        words(&["pull", "-q", &format!("{}/app:v1", self.web.host())])
    }

    /// An image of one layer, honest but for what the layer is.
    fn layer(&self, tar: &[u8], packed: &[u8]) -> Vec<String> {
        self.blob(packed);
        let config = config(&[Digest::of(tar)]);
        self.blob(&config);
        self.manifest(manifest(&[described(&config)], &[described(packed)]))
    }

    /// Keeps a name and a password for the registry.
    fn log_in(&self) {
        // base64 of `somebody:secret`
        let auths = format!(
            r#"{{"auths":{{"{}":{{"auth":"c29tZWJvZHk6c2VjcmV0"}}}}}}"#,
            self.web.host()
        );
        self.rbuild.write("docker/config.json", auths);
    }

    fn load(&self, parts: &[Part]) -> Vec<String> {
        fs::write(self.path("a.tar"), archive(parts)).unwrap();
        words(&["load", "-i", "a.tar"])
    }

    /// One line about what happened, without what differs from run to run.
    fn run(&self, case: &Case) -> Result<(String, Measured), String> {
        let line = (case.make)(self);
        let mut command = self.rbuild.command(&line);
        command
            .env("RBUILD_CONFIG", self.path("config.toml"))
            .env("DOCKER_CONFIG", self.path("docker"));
        let measured = measure(&command);
        let said = self.rbuild.stable(&measured.stderr);
        let said = said
            .replace(&self.web.host(), "REGISTRY")
            .replace(&self.other.host(), "OTHER");
        let said = said.trim_end().replace('|', "\\|");
        let asked = self.other.asked();
        let listed = self.rbuild.run(["images", "-q"]).success().stdout;
        let problems = [
            (measured.code != Some(1), "it does not end with 1"),
            (said.lines().count() != 1, "it is not one line"),
            (said.len() > 400, "it is too long"),
            (measured.memory > MOST_MEMORY, "it takes too much memory"),
            (!listed.is_empty(), "it leaves an image"),
            (
                asked
                    .iter()
                    .any(|it| it.headers.contains_key("authorization")),
                "somebody else got the password",
            ),
        ];
        let problems = problems.iter().filter(|(is_so, _)| *is_so);
        let problems: Vec<&str> = problems.map(|(_, what)| *what).collect();
        match problems.is_empty() {
            true => Ok((said, measured)),
            false => Err(format!(
                "{}: {}: {said}\n{measured:?}\n",
                case.name,
                problems.join(", ")
            )),
        }
    }
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|it| (*it).to_owned()).collect()
}

fn described(bytes: &[u8]) -> String {
    descriptor(&Digest::of(bytes).to_string(), bytes.len() as u64)
}

fn descriptor(digest: &str, size: u64) -> String {
    format!(r#"{{"mediaType":"x","size":{size},"digest":"{digest}"}}"#)
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let ids: Vec<String> = diff_ids.iter().map(|it| format!("\"{it}\"")).collect();
    format!(
        r#"{{"architecture":"{}","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        Platform::host().architecture,
        ids.join(",")
    )
    .into_bytes()
}

fn manifest(config: &[String], layers: &[String]) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media_type::MANIFEST,
        config.join(","),
        layers.join(",")
    )
}

fn index(entries: &[String]) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        media_type::INDEX,
        entries.join(",")
    )
}

/// A member of a tar as it is written, whatever that means.
#[derive(Clone)]
struct Part {
    kind: u8,
    path: String,
    target: &'static str,
    content: Vec<u8>,
}

fn file(path: &str, content: impl Into<Vec<u8>>) -> Part {
    Part {
        kind: b'0',
        path: path.to_owned(),
        target: "",
        content: content.into(),
    }
}

fn part(kind: u8, path: &str, target: &'static str) -> Part {
    Part {
        kind,
        target,
        ..file(path, "")
    }
}

fn header(part: &Part, size: u64) -> [u8; 512] {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::new(part.kind));
    let bytes = header.as_mut_bytes();
    bytes[..part.path.len()].copy_from_slice(part.path.as_bytes());
    bytes[157..157 + part.target.len()].copy_from_slice(part.target.as_bytes());
    header.set_cksum();
    *header.as_bytes()
}

/// All parts, with the end of an archive behind them.
fn archive(parts: &[Part]) -> Vec<u8> {
    let mut tar = Vec::new();
    for part in parts {
        tar.extend(header(part, part.content.len() as u64));
        tar.extend(&part.content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// So many MiB of zeros in gzip, in members of 16 MiB each.
fn gzipped_zeros(mebibytes: usize) -> Vec<u8> {
    gzip(&vec![0; 16 << 20]).repeat(mebibytes / 16)
}

#[test]
fn what_means_harm_gets_one_sentence_as_root() {
    let cases = registries::CASES.iter().chain(archives::CASES);
    let mut rows = Vec::new();
    let mut problems = String::new();
    for case in cases {
        match Stand::new().run(case) {
            Ok((said, measured)) => rows.push((case.name, said, measured)),
            Err(problem) => problems.push_str(&problem),
        }
    }
    assert!(problems.is_empty(), "{problems}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/unwanted/table.md");
    let table = table(&rows);
    let held = fs::read_to_string(&path).unwrap_or_default();
    if columns(&held) != columns(&table) || std::env::var_os("UPDATE_EXPECT").is_some() {
        kit::expect::check(&path, &table).unwrap_or_else(|why| panic!("{why}"));
    }
}

const HEAD: &str = "\
# What unwanted input is answered

Written by `cli/rbuild/tests/e2e/unwanted.rs`, which holds the first two columns to the letter and the last to a limit.
The limits of the cases are `layer = \"64m\"`, `files = 10000`, `depth = 100` and `stall = \"2s\"`, so that they need
not be as large as what the usual ones refuse. Times and memory are those of a debug build.

| case | answer | time | peak memory |
|---|---|---|---|
";

fn table(rows: &[(&str, String, Measured)]) -> String {
    let mut table = HEAD.to_owned();
    for (name, said, measured) in rows {
        table.push_str(&format!(
            "| {name} | {said} | {:.1} s | {} MiB |\n",
            measured.time.as_secs_f64(),
            measured.memory >> 20
        ));
    }
    table
}

/// The columns that do not depend on the day.
fn columns(table: &str) -> Vec<&str> {
    let rows = table.lines().map(|line| {
        let held = line.rsplitn(4, " | ").nth(3).or(Some(line));
        held.unwrap_or(line)
    });
    rows.collect()
}
