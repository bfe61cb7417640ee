//! The work that is measured.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use kit::busybox;

use crate::{
    contender::{Build, Contender},
    elsewhere::RemoteCache,
    inputs,
    measure::{self, Cost},
    overhead::RunOverhead,
    transport::{Packing, Transport},
};

/// All scenarios, in the order of the table.
pub(crate) static SCENARIOS: &[&'static dyn Scenario] = &[
    &Cached,
    &RUN_OVERHEAD,
    &ManyFiles,
    &BigFile,
    &FanOut,
    &RunTrue,
    &Plan,
    &REMOTE_CACHE,
    &PACKING,
    &TRANSPORT,
];

static PACKING: Packing = Packing::new();

static TRANSPORT: Transport = Transport::new();

static REMOTE_CACHE: RemoteCache = RemoteCache::new();

static RUN_OVERHEAD: RunOverhead = RunOverhead::new();

/// Steps of the cached build, and `RUN`s of the build that shows their overhead.
pub(crate) const STEPS: usize = 20;

/// Instructions of the file that is only read and planned.
const INSTRUCTIONS: usize = 100_000;

/// Stages that sleep side by side.
const STAGES: usize = 8;

/// What all scenarios share: where to work, how much of it, and the base image.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) work: PathBuf,
    /// A directory with a short name, for those who want short paths.
    pub(crate) state: PathBuf,
    pub(crate) quick: bool,
    /// The rbuild under test.
    pub(crate) rbuild: PathBuf,
    /// The base image as a tar.
    pub(crate) base: PathBuf,
    /// The same as a directory.
    pub(crate) base_directory: PathBuf,
}

/// A cost with the name of its row.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) row: &'static str,
    /// Whose it is where it is a floor: `cp -r`; and where somebody does it in another way than usual.
    pub(crate) what: &'static str,
    pub(crate) cost: Cost,
}

impl Sample {
    /// Whose it is, of somebody who is called `name`.
    pub(crate) fn whose(&self, name: &'static str) -> &'static str {
        if self.what.is_empty() {
            name
        } else {
            self.what
        }
    }
}

/// One kind of work. For every contender that is admitted `prepare` is called once, then `round` in turn with the
/// others; `floor` is called after each round. A round returns a sample for each row the scenario has.
pub(crate) trait Scenario: Sync {
    /// The word it is chosen by.
    fn name(&self) -> &'static str;

    /// How many rounds make a trustworthy median.
    fn rounds(&self, quick: bool) -> usize;

    /// Whether `contender` takes part, given who else does.
    fn admits(&self, contender: &Contender, all: &[Contender]) -> bool {
        contender.builds_beside(all)
    }

    /// What is not measured: imports, first builds.
    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()>;

    /// One measurement.
    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>>;

    /// The same work done by the kernel and the simplest program, if there is such a thing.
    fn floor(&self, bench: &Bench, round: usize) -> Result<Vec<Sample>>;

    /// What the table cannot show, once all rounds are over.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Bench {
    pub(crate) fn new((work, state): (&Path, &Path), rbuild: &Path, quick: bool) -> Result<Self> {
        let base = work.join("base.tar");
        let base_directory = work.join("base");
        busybox::write_rootfs_to(&base)?;
        fs::create_dir(&base_directory)?;
        measure::run(
            Command::new("tar")
                .arg("-xf")
                .arg(&base)
                .arg("-C")
                .arg(&base_directory),
        )?;
        Ok(Self {
            work: work.to_path_buf(),
            state: state.to_path_buf(),
            rbuild: rbuild.to_path_buf(),
            quick,
            base,
            base_directory,
        })
    }

    /// Where `contender` works for `scenario`.
    pub(crate) fn place(&self, scenario: &str, contender: &str) -> PathBuf {
        self.work.join(scenario).join(contender)
    }

    pub(crate) fn fresh(&self, scenario: &dyn Scenario, contender: &Contender) -> Result<PathBuf> {
        let place = self.place(scenario.name(), contender.name);
        fs::create_dir_all(place.join("context"))?;
        Ok(place)
    }

    /// The cost of starting and ending `program` `count` times.
    pub(crate) fn repeated(&self, count: usize, program: &[&str]) -> Result<Cost> {
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!(
                "i=0; while [ $i -lt {count} ]; do \"$@\"; i=$((i+1)); done"
            ))
            .arg("sh");
        measure::cost(command.args(program), &[])
    }
}

/// What a bare process costs, and one in namespaces of its own.
pub(crate) fn process_floors(
    bench: &Bench,
    row: &'static str,
    count: usize,
) -> Result<Vec<Sample>> {
    let busybox = bench.base_directory.join("bin/busybox");
    let busybox = busybox.to_string_lossy();
    let bare = bench.repeated(count, &[&busybox, "true"])?;
    let unshared = bench.repeated(
        count,
        &[
            "unshare",
            "-mpuin",
            "--fork",
            "chroot",
            &bench.base_directory.to_string_lossy(),
            "/bin/true",
        ],
    )?;
    Ok(vec![
        Sample {
            row,
            what: "fork+exec",
            cost: bare,
        },
        Sample {
            row,
            what: "unshare, chroot",
            cost: unshared,
        },
    ])
}

pub(crate) fn write(path: &Path, text: &str) -> Result<PathBuf> {
    fs::write(path, text)?;
    Ok(path.to_path_buf())
}

/// A build of twenty steps of which nothing changed.
struct Cached;

impl Cached {
    const ROW: &'static str = "cached build of 20 steps";

    fn build(bench: &Bench, contender: &Contender) -> Result<Cost> {
        let place = bench.place("cached", contender.name);
        let build = Build {
            store: &place.join("store"),
            context: &place.join("context"),
            dockerfile: &place.join("Dockerfile"),
            tag: "bench-cached",
            args: &[],
            cold: false,
        };
        measure::cost(&contender.build(bench, &build), contender.daemons())
    }
}

impl Scenario for Cached {
    fn name(&self) -> &'static str {
        "cached"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 5 } else { 15 }
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        let place = bench.fresh(self, contender)?;
        let mut text = format!("FROM {}\nWORKDIR /work\n", contender.base());
        for step in 0..(STEPS - 1) {
            if step % 2 == 0 {
                writeln!(text, "COPY file{step} ./")?;
                fs::write(
                    place.join("context").join(format!("file{step}")),
                    step.to_string(),
                )?;
            } else {
                writeln!(text, "RUN echo {step} > made{step}")?;
            }
        }
        write(&place.join("Dockerfile"), &text)?;
        contender.import(&place.join("store"), &bench.base)?;
        Self::build(bench, contender).map(drop)
    }

    fn round(&self, bench: &Bench, contender: &Contender, _round: usize) -> Result<Vec<Sample>> {
        Ok(vec![Sample {
            row: Self::ROW,
            what: "",
            cost: Self::build(bench, contender)?,
        }])
    }

    fn floor(&self, bench: &Bench, _round: usize) -> Result<Vec<Sample>> {
        process_floors(bench, Self::ROW, 1).map(|mut it| it.drain(..1).collect())
    }
}

/// A context of many small files: copied, copied with one changed, and not changed at all.
struct ManyFiles;

impl ManyFiles {
    const COLD: &'static str = "COPY of many files, cold";
    const CHANGED: &'static str = "the same, one file changed";
    const UNCHANGED: &'static str = "the same, unchanged";

    fn tree(bench: &Bench) -> Result<PathBuf> {
        let tree = bench.work.join("context/tree");
        if !tree.exists() {
            inputs::write_tree(&tree, if bench.quick { 5_000 } else { 50_000 })?;
        }
        Ok(tree)
    }
}

impl Scenario for ManyFiles {
    fn name(&self) -> &'static str {
        "context"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 2 } else { 3 }
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        Self::tree(bench)?;
        let place = bench.fresh(self, contender)?;
        write(&place.join("Dockerfile"), "FROM scratch\nCOPY . /src/\n").map(drop)
    }

    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>> {
        let place = bench.place(self.name(), contender.name);
        let tree = Self::tree(bench)?;
        let measured = |row, cold| -> Result<Sample> {
            let build = Build {
                store: &place.join(format!("store{round}")),
                context: &tree,
                dockerfile: &place.join("Dockerfile"),
                tag: "bench-context",
                args: &[],
                cold,
            };
            let cost = measure::cost(&contender.build(bench, &build), contender.daemons())?;
            Ok(Sample {
                row,
                what: "",
                cost,
            })
        };
        let cold = measured(Self::COLD, true)?;
        fs::write(
            tree.join("d0007/f07.c"),
            format!("/* {} {round} */\n", contender.name),
        )?;
        Ok(vec![
            cold,
            measured(Self::CHANGED, false)?,
            measured(Self::UNCHANGED, false)?,
        ])
    }

    fn floor(&self, bench: &Bench, round: usize) -> Result<Vec<Sample>> {
        let tree = Self::tree(bench)?;
        let copy = bench.work.join(format!("context/copy{round}"));
        let copied = measure::cost(Command::new("cp").arg("-r").arg(&tree).arg(copy), &[])?;
        let walked = measure::cost(
            Command::new("find")
                .arg(&tree)
                .args(["-printf", "%s %C@\n"]),
            &[],
        )?;
        Ok(vec![
            Sample {
                row: Self::COLD,
                what: "cp -r",
                cost: copied,
            },
            Sample {
                row: Self::UNCHANGED,
                what: "find, with stat",
                cost: walked,
            },
        ])
    }
}

/// One large file into an image, and that image into an archive.
pub(crate) struct BigFile;

impl BigFile {
    const COPY: &'static str = "COPY of a large file, cold";
    const SAVE: &'static str = "save of that image";

    pub(crate) fn context(bench: &Bench) -> Result<PathBuf> {
        let context = bench.work.join("big-file/context");
        let file = context.join("large");
        if !file.exists() {
            fs::create_dir_all(&context)?;
            inputs::write_file(&file, if bench.quick { 128 } else { 1024 })?;
        }
        Ok(context)
    }
}

impl Scenario for BigFile {
    fn name(&self) -> &'static str {
        "big-file"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 2 } else { 3 }
    }

    fn admits(&self, contender: &Contender, _all: &[Contender]) -> bool {
        contender.builds()
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        Self::context(bench)?;
        let place = bench.fresh(self, contender)?;
        write(
            &place.join("Dockerfile"),
            "FROM scratch\nCOPY large /\nCMD [\"/large\"]\n",
        )
        .map(drop)
    }

    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>> {
        let place = bench.place(self.name(), contender.name);
        let mut build = Build {
            store: &place.join(format!("store{round}")),
            context: &Self::context(bench)?,
            dockerfile: &place.join("Dockerfile"),
            tag: "bench-large",
            args: &[],
            cold: true,
        };
        let built = measure::cost(&contender.build(bench, &build), contender.daemons())?;
        build.cold = false;
        let out = place.join(format!("saved{round}.tar"));
        let saved = measure::cost(&contender.save(bench, &build, &out), contender.daemons())?;
        ensure!(
            fs::metadata(&out).is_ok_and(|it| it.len() > 1 << 20),
            "it saved no image"
        );
        Ok(vec![
            Sample {
                row: Self::COPY,
                what: "",
                cost: built,
            },
            Sample {
                row: Self::SAVE,
                what: "",
                cost: saved,
            },
        ])
    }

    fn floor(&self, bench: &Bench, round: usize) -> Result<Vec<Sample>> {
        let from = Self::context(bench)?.join("large");
        let to = |name: &str| bench.work.join(format!("big-file/{name}{round}"));
        let copied = measure::cost(
            Command::new("cp")
                .arg("--reflink=never")
                .arg(&from)
                .arg(to("copy")),
            &[],
        )?;
        let zipped = measure::cost(
            Command::new("/bin/sh")
                .args(["-c", "gzip -c \"$1\" > \"$2\"", "sh"])
                .arg(&from)
                .arg(to("gzip")),
            &[],
        )?;
        Ok(vec![
            Sample {
                row: Self::COPY,
                what: "cp",
                cost: copied,
            },
            Sample {
                row: Self::SAVE,
                what: "gzip",
                cost: zipped,
            },
        ])
    }
}

/// Eight stages that have nothing to do with each other.
struct FanOut;

impl FanOut {
    const ROW: &'static str = "8 stages of sleep 1";
}

impl Scenario for FanOut {
    fn name(&self) -> &'static str {
        "fan-out"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 1 } else { 3 }
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        let place = bench.fresh(self, contender)?;
        let mut text = String::new();
        for stage in 0..STAGES {
            writeln!(
                text,
                "FROM {} AS s{stage}\nARG BUST\nRUN sleep 1; echo {stage} > /out{stage}",
                contender.base()
            )?;
        }
        writeln!(text, "FROM scratch")?;
        for stage in 0..STAGES {
            writeln!(text, "COPY --from=s{stage} /out{stage} /")?;
        }
        write(&place.join("Dockerfile"), &text)?;
        contender.import(&place.join("store"), &bench.base)
    }

    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>> {
        let place = bench.place(self.name(), contender.name);
        let build = Build {
            store: &place.join("store"),
            context: &place.join("context"),
            dockerfile: &place.join("Dockerfile"),
            tag: "bench-fan",
            args: &[format!("BUST={}-{round}", std::process::id())],
            cold: false,
        };
        let cost = measure::cost(&contender.build(bench, &build), contender.daemons())?;
        Ok(vec![Sample {
            row: Self::ROW,
            what: "",
            cost,
        }])
    }

    fn floor(&self, _bench: &Bench, _round: usize) -> Result<Vec<Sample>> {
        let cost = measure::cost(Command::new("sleep").arg("1"), &[])?;
        Ok(vec![Sample {
            row: Self::ROW,
            what: "sleep 1",
            cost,
        }])
    }
}

/// How long a container takes that does nothing.
struct RunTrue;

impl RunTrue {
    const ROW: &'static str = "run IMAGE true";
}

impl Scenario for RunTrue {
    fn name(&self) -> &'static str {
        "run"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 5 } else { 15 }
    }

    fn admits(&self, contender: &Contender, _all: &[Contender]) -> bool {
        contender.runs()
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        let place = bench.fresh(self, contender)?;
        contender.import(&place.join("store"), &bench.base)
    }

    fn round(&self, bench: &Bench, contender: &Contender, _round: usize) -> Result<Vec<Sample>> {
        let store = bench.place(self.name(), contender.name).join("store");
        let cost = measure::cost(&contender.run_true(&store), contender.daemons())?;
        Ok(vec![Sample {
            row: Self::ROW,
            what: "",
            cost,
        }])
    }

    fn floor(&self, bench: &Bench, _round: usize) -> Result<Vec<Sample>> {
        process_floors(bench, Self::ROW, 1)
    }
}

/// A very long file that is read, checked and planned, and not built.
struct Plan;

impl Plan {
    const ROW: &'static str = "plan 100,000 instructions";
}

impl Scenario for Plan {
    fn name(&self) -> &'static str {
        "plan"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 3 } else { 9 }
    }

    fn admits(&self, contender: &Contender, _all: &[Contender]) -> bool {
        contender.plans()
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        let place = bench.fresh(self, contender)?;
        let text = inputs::long_dockerfile(contender.base(), INSTRUCTIONS);
        write(&place.join("Dockerfile"), &text)?;
        contender.import(&place.join("store"), &bench.base)
    }

    fn round(&self, bench: &Bench, contender: &Contender, _round: usize) -> Result<Vec<Sample>> {
        let place = bench.place(self.name(), contender.name);
        let build = Build {
            store: &place.join("store"),
            context: &place.join("context"),
            dockerfile: &place.join("Dockerfile"),
            tag: "bench-plan",
            args: &[],
            cold: false,
        };
        let mut command = contender.build(bench, &build);
        let cost = measure::cost(command.arg("--call=check"), contender.daemons())?;
        Ok(vec![Sample {
            row: Self::ROW,
            what: "",
            cost,
        }])
    }

    /// What reading that many lines costs somebody who does not want to know what they say.
    fn floor(&self, bench: &Bench, _round: usize) -> Result<Vec<Sample>> {
        let file = bench.place(self.name(), "rbuild").join("Dockerfile");
        let cost = measure::cost(Command::new("wc").arg(file), &[])?;
        Ok(vec![Sample {
            row: Self::ROW,
            what: "wc",
            cost,
        }])
    }
}
