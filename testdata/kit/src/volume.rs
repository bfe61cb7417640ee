//! File systems of our own, which can be full and whose power can fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::UnmountFlags;

/// What a volume is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Memory.
    Tmpfs,
    /// ext4 on a file, mounted with these options.
    Ext4(&'static str),
    /// XFS on a file.
    Xfs,
}

/// How the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// What the journal has in memory is lost.
    Losing,
    /// The journal is written to the end, but not the files it speaks of.
    Journalled,
}

/// A mounted file system. Unmounted when dropped.
#[derive(Debug)]
pub struct Volume {
    kind: Kind,
    image: PathBuf,
    point: PathBuf,
}

impl Volume {
    /// Makes a file system of so many bytes at `point`, and mounts it.
    pub fn make(kind: Kind, point: &Path, bytes: u64) -> Result<Self> {
        let volume = Self {
            kind,
            image: point.with_extension("image"),
            point: point.to_owned(),
        };
        fs::create_dir_all(point)?;
        if kind == Kind::Tmpfs {
            let size = format!("size={bytes}");
            quietly(
                Command::new("mount")
                    .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                    .arg(point),
            )?;
            return Ok(volume);
        }
        fs::File::create(&volume.image)?.set_len(bytes)?;
        let mut format = match kind {
            Kind::Xfs => Command::new("mkfs.xfs"),
            _ => Command::new("mkfs.ext4"),
        };
        quietly(format.arg("-q").arg(&volume.image))?;
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Gives a full volume room again.
    pub fn grow(&self, ballast: &Path, bytes: u64) -> Result<()> {
        if self.kind != Kind::Tmpfs {
            return fs::remove_file(ballast).context("no ballast");
        }
        let options = format!("remount,size={bytes}");
        quietly(
            Command::new("mount")
                .args(["-o", &options])
                .arg(&self.point),
        )
    }

    /// Writes all to the disk.
    pub fn sync(&self) -> Result<()> {
        let directory = fs::File::open(&self.point)?;
        Ok(rustix::fs::syncfs(directory)?)
    }

    /// From now on nothing reaches the disk, and all that asks for it fails.
    pub fn cut(&self, cut: Cut) -> Result<()> {
        let shutdown = match cut {
            Cut::Losing => "shutdown",
            Cut::Journalled => "shutdown -f",
        };
        quietly(
            Command::new("xfs_io")
                .args(["-x", "-c", shutdown])
                .arg(&self.point),
        )
    }

    /// As a machine that starts again: what was on the disk and nothing else.
    pub fn restart(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        let options = match self.kind {
            Kind::Ext4(options) => format!("loop,{options}"),
            _ => "loop".to_owned(),
        };
        quietly(
            Command::new("mount")
                .args(["-o", &options])
                .arg(&self.image)
                .arg(&self.point),
        )
    }

    /// Fails where something still uses it.
    fn unmount(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = rustix::mount::unmount(&self.point, UnmountFlags::empty()) {
            ensure!(
                Instant::now() < deadline,
                "the volume cannot be unmounted: {error}"
            );
            thread::sleep(Duration::from_millis(5));
        }
        while let Some(device) = self.loop_device() {
            ensure!(Instant::now() < deadline, "{device} still has the volume");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The device that its image is attached to.
    fn loop_device(&self) -> Option<String> {
        let devices = fs::read_dir("/sys/block").ok()?;
        devices.flatten().find_map(|device| {
            let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
            let ours = file.trim().ends_with(self.image.to_str()?);
            ours.then(|| device.file_name().to_string_lossy().into_owned())
        })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            let _ = rustix::mount::unmount(&self.point, UnmountFlags::DETACH);
        }
        let _ = fs::remove_file(&self.image);
    }
}

/// Runs a tool of the system.
pub fn quietly(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{:?} failed: {}", command.get_program(), said.trim());
    }
    Ok(())
}
