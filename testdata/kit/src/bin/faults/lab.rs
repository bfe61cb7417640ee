//! Where the runs happen, and what has to be true after each.
//!
//! A lab is a process in mount and network namespaces of its own. All its files are in memory, over `/tmp`, where
//! nobody else sees them; however it ends, the kernel takes them away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kit::leftovers;
use kit::uplink;

use crate::cell::Cell;
use crate::context::Project;
use crate::picture;
use crate::seed::Chance;
use kit::volume::quietly;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// How long the kernel may take to end what a killed process had.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a store holds when a case begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It is not there.
    Empty,
    /// The base image.
    Imported,
    /// The base image and the whole build.
    Built,
}

/// The place, and what a clean build comes to in it.
pub(crate) struct Lab {
    work: PathBuf,
    rbuild: PathBuf,
    project: Project,
    imported: Cell,
    built: Cell,
    clean: Clean,
}

/// What a build in a new store came to.
struct Clean {
    picture: Vec<String>,
    /// The names in the store that are not numbers or digests of content.
    names: BTreeSet<String>,
    duration: Duration,
    /// How many steps say that they were cached when it is built again.
    cached: usize,
}

impl Lab {
    /// Sets up a lab for the program at `rbuild`, in this process.
    pub(crate) fn prepare(rbuild: &Path) -> Result<Self> {
        let program = fs::read(rbuild)
            .with_context(|| format!("no rbuild to test at `{}`: build it", rbuild.display()))?;
        let size = "size=80%";
        quietly(Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs", "/tmp"]))?;
        // The state of the network's bridge is a machine's, and this is another one.
        quietly(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
        // A name of its own, because processes are told apart by the paths that they name.
        let work = PathBuf::from(format!("/tmp/faults-{}", std::process::id()));
        fs::create_dir_all(&work)?;
        let rbuild = work.join("rbuild");
        fs::write(&rbuild, program)?;
        quietly(Command::new("chmod").arg("0755").arg(&rbuild))?;
        uplink::connect()?;
        fs::write(work.join("boot_id"), "")?;
        boot(&work, &mut Chance::of(0, "boot", 0))?;
        quietly(
            Command::new("mount")
                .arg("--bind")
                .arg(work.join("boot_id"))
                .arg(BOOT),
        )?;
        let project = Project::make(&work)?;
        let imported = Cell::at(&rbuild, work.join("imported"))?;
        imported.run(&import(&project))?.good()?;
        let built = Cell::at(&rbuild, work.join("built"))?;
        built.copy_from(&imported)?;
        let clean = Clean::take(&project, &built)?;
        let lab = Self {
            work,
            rbuild,
            project,
            imported,
            built,
            clean,
        };
        // What two clean builds do not agree on is nothing to judge by.
        let again = lab.cell(Start::Empty)?;
        lab.judge(&again).context("two clean builds differ")?;
        again.remove()?;
        Ok(lab)
    }

    /// How long a build takes that has everything to do.
    pub(crate) fn duration(&self) -> Duration {
        self.clean.duration
    }

    /// A cell in memory.
    pub(crate) fn cell(&self, start: Start) -> Result<Cell> {
        self.cell_in(&self.work, start)
    }

    /// Where a volume can be mounted.
    pub(crate) fn volume(&self) -> PathBuf {
        self.work.join("volume")
    }

    /// A cell in a directory.
    pub(crate) fn cell_in(&self, directory: &Path, start: Start) -> Result<Cell> {
        let cell = Cell::at(&self.rbuild, directory.join("cell"))?;
        match start {
            Start::Empty => {}
            Start::Imported => cell.copy_from(&self.imported)?,
            Start::Built => cell.copy_from(&self.built)?,
        }
        Ok(cell)
    }

    /// Removes what a failed case left, as far as that goes.
    pub(crate) fn tidy(&self) {
        let _ = fs::remove_dir_all(self.work.join("cell"));
        let _ = fs::remove_dir_all(self.volume());
    }

    /// The arguments of a build.
    pub(crate) fn build(&self) -> Vec<String> {
        self.project.arguments()
    }

    /// The arguments of a build that has everything to do, whatever is there.
    pub(crate) fn build_anew(&self) -> Vec<String> {
        let mut arguments = self.project.arguments();
        arguments.insert(1, "--no-cache".to_owned());
        arguments
    }

    /// The arguments that bring the base image in.
    pub(crate) fn import(&self) -> Vec<String> {
        import(&self.project)
    }

    /// From now on the machine was started anew.
    pub(crate) fn reboot(&self, chance: &mut Chance) -> Result<()> {
        boot(&self.work, chance)
    }

    /// Nothing of a command that ended is left but files.
    pub(crate) fn nothing_runs(&self, cell: &Cell, pid: u32) -> Result<()> {
        self.no_process(cell)?;
        let left = leftovers::cgroups_settle(pid, PATIENCE);
        ensure!(left.is_empty(), "left behind: {}", left.join(" | "));
        Ok(())
    }

    /// No process and no mount is left.
    pub(crate) fn no_process(&self, cell: &Cell) -> Result<()> {
        let left = leftovers::settle(cell.home(), PATIENCE);
        ensure!(left.is_empty(), "left behind: {}", left.join(" | "));
        Ok(())
    }

    /// The next build is right, and nothing is left of what was before it.
    pub(crate) fn judge(&self, cell: &Cell) -> Result<()> {
        self.judge_build(cell).map(drop)
    }

    /// As [`Lab::judge`], where nothing that was built may have been lost.
    pub(crate) fn judge_durable(&self, cell: &Cell) -> Result<()> {
        let cached = self.judge_build(cell)?;
        ensure!(
            cached == self.clean.cached,
            "{cached} steps were cached instead of {}, after the build had ended",
            self.clean.cached
        );
        Ok(())
    }

    fn judge_build(&self, cell: &Cell) -> Result<usize> {
        if !cell.run(&["image", "inspect", "busybox"])?.decent()? {
            cell.run(&self.import())?.good()?;
        }
        let built = cell.run(&self.build())?.good()?;
        let cached = cached(&built.stderr);
        self.judge_result(cell)?;
        verify(cell)?;
        let names: Vec<String> = names(&cell.root())?
            .difference(&self.clean.names)
            .cloned()
            .collect();
        ensure!(names.is_empty(), "left in the store: {}", names.join(" "));
        self.no_process(cell)?;
        no_links()?;
        Ok(cached)
    }

    /// The image is that of a clean build.
    pub(crate) fn judge_result(&self, cell: &Cell) -> Result<()> {
        let found = picture::of(cell)?;
        match picture::difference(&self.clean.picture, &found) {
            Some(difference) => bail!("the image is another: {difference}"),
            None => Ok(()),
        }
    }
}

impl Clean {
    fn take(project: &Project, cell: &Cell) -> Result<Self> {
        let since = Instant::now();
        cell.run(&project.arguments())?.good()?;
        let duration = since.elapsed();
        let again = cell.run(&project.arguments())?.good()?;
        let picture = picture::of(cell)?;
        verify(cell)?;
        Ok(Self {
            picture,
            names: names(&cell.root())?,
            duration,
            cached: cached(&again.stderr),
        })
    }
}

fn import(project: &Project) -> Vec<String> {
    let base = project.base.display().to_string();
    ["image", "import", &base, "busybox"]
        .map(str::to_owned)
        .to_vec()
}

fn cached(log: &str) -> usize {
    log.lines()
        .filter(|it| it.starts_with('#') && it.ends_with(" CACHED"))
        .count()
}

fn verify(cell: &Cell) -> Result<()> {
    let ran = cell.run(&["store", "verify"])?;
    let said = ran.said();
    ensure!(
        ran.decent()?,
        "store verify: {}",
        said.trim().replace('\n', " | ")
    );
    Ok(())
}

/// No network link of rbuild's is left.
fn no_links() -> Result<()> {
    let left = uplink::links_settle(PATIENCE);
    ensure!(
        left.is_empty(),
        "network links are left: {}",
        left.join(" ")
    );
    Ok(())
}

fn boot(work: &Path, chance: &mut Chance) -> Result<()> {
    let (high, low) = (chance.next(), chance.next());
    let id = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\n",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    );
    fs::write(work.join("boot_id"), id).context("cannot start a new boot")
}

/// What is in a store by name. Layers and blobs are left out: their names tell nothing, and `store verify` knows
/// those that belong to nothing. So are caches, which hold what they hold.
fn names(root: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let path = entry.path();
            let name = path.strip_prefix(root)?.display().to_string();
            let inside = ["snapshots", "blobs", "mounts", "sources"].contains(&name.as_str());
            if entry.file_type()?.is_dir() && !inside {
                waiting.push(path);
            }
            names.insert(name);
        }
    }
    Ok(names)
}
