//! What is built: a Dockerfile, the files it copies, and the server it fetches one from.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use kit::busybox;
use kit::web::{Page, Web};
use rustix::fs::XattrFlags;

use crate::seed::Chance;

const DOCKERFILE: &str = include_str!("Dockerfile");
const FILES: usize = 24;

/// The files on disk and the server.
pub(crate) struct Project {
    /// The directory to build.
    pub(crate) directory: PathBuf,
    /// The base image, to import.
    pub(crate) base: PathBuf,
    web: Web,
}

impl Project {
    /// Makes the project below `work`: the same bytes every time.
    pub(crate) fn make(work: &Path) -> Result<Self> {
        let directory = work.join("project");
        let base = work.join("busybox.tar");
        busybox::write_rootfs_to(&base)?;
        write_tree(&directory)?;
        fs::write(directory.join("Dockerfile"), DOCKERFILE)?;
        let web = Web::start()?;
        let page = Page {
            last_modified: Some("Mon, 01 Jan 2024 00:00:00 GMT".to_owned()),
            ..Page::new(vec![b'f'; 5000]).etag("\"1\"")
        };
        web.put("/fetched", page);
        Ok(Self {
            directory,
            base,
            web,
        })
    }

    /// The arguments of the build.
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec![
            "build".to_owned(),
            "--progress=plain".to_owned(),
            "--offline".to_owned(),
            "--tag=app".to_owned(),
            "--build-arg=SOURCE_DATE_EPOCH=1000000000".to_owned(),
            format!("--build-arg=SITE={}", self.web.url("")),
            self.directory.display().to_string(),
        ]
    }
}

fn write_tree(directory: &Path) -> Result<()> {
    let tree = directory.join("tree");
    let mut chance = Chance::of(1, "files", 0);
    for number in 0..FILES {
        let folder = tree.join(format!("d{}", number % 5));
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("f{number}"));
        // From nothing to several pages.
        let bytes: Vec<u8> = (0..number * 997).map(|_| chance.next() as u8).collect();
        fs::write(&file, bytes)?;
    }
    let noted = tree.join("d1/f1");
    rustix::fs::setxattr(&noted, "user.note", b"kept", XattrFlags::empty())
        .context("the temporary directory keeps no attributes")?;
    std::os::unix::fs::symlink("d1/f1", tree.join("link"))?;
    fs::write(directory.join("manifest"), manifest(directory)?)?;
    let tar = Command::new("tar")
        .args([
            "--sort=name",
            "--mtime=@1000000000",
            "-cf",
            "vendor.tar",
            "tree/d1",
            "tree/d2",
        ])
        .current_dir(directory)
        .status()?;
    ensure!(tar.success(), "tar failed");
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for number in 0..FILES {
        let file = tree.join(format!("d{}/f{number}", number % 5));
        fs::File::options()
            .append(true)
            .open(file)?
            .set_modified(time)?;
    }
    Ok(())
}

/// The sums of all files, as `sha256sum -c` wants them.
fn manifest(directory: &Path) -> Result<Vec<u8>> {
    let mut shell = Command::new("sh")
        .args(["-s"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let script = "find tree -type f | LC_ALL=C sort | xargs sha256sum";
    let mut stdin = shell.stdin.take().context("stdin is a pipe")?;
    stdin.write_all(script.as_bytes())?;
    drop(stdin);
    let output = shell.wait_with_output()?;
    ensure!(
        output.status.success() && !output.stdout.is_empty(),
        "sha256sum failed"
    );
    Ok(output.stdout)
}
