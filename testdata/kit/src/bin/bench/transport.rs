//! Images on their way: packed into archives, into a registry, and out of it.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Result, ensure};
use kit::docker_registry::{Access, Server};

use crate::{
    contender::{Build, Contender},
    inputs, measure,
    scenario::{Bench, BigFile, Sample, Scenario, write},
    tally::Tally,
};

/// Layers of the image that goes to the registry and back.
const LAYERS: usize = 20;

/// One large layer, packed in each of the usual ways.
pub(crate) struct Packing {
    written: Tally,
}

impl Packing {
    pub(crate) const fn new() -> Self {
        Self {
            written: Tally::new(),
        }
    }

    const ROWS: [(&'static str, &'static str); 2] = [
        ("gzip", "a large layer packed with gzip"),
        ("zstd", "a large layer packed with zstd"),
    ];
}

impl Scenario for Packing {
    fn name(&self) -> &'static str {
        "packing"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 2 } else { 3 }
    }

    fn admits(&self, contender: &Contender, _all: &[Contender]) -> bool {
        contender.moves()
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        BigFile::context(bench)?;
        let place = bench.fresh(self, contender)?;
        write(&place.join("Dockerfile"), "FROM scratch\nCOPY large /\n").map(drop)
    }

    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>> {
        let place = bench.place(self.name(), contender.name);
        let mut samples = Vec::new();
        for (with, row) in Self::ROWS {
            // A layer that was packed once may be remembered.
            let build = Build {
                store: &place.join(format!("{with}{round}")),
                context: &BigFile::context(bench)?,
                dockerfile: &place.join("Dockerfile"),
                tag: "bench-packing",
                args: &[],
                cold: false,
            };
            contender.obtain(bench, &build)?;
            let out = place.join(format!("{with}{round}.tar"));
            let cost = measure::cost(&contender.pack(bench, &build, &out, with), &[])?;
            let written = fs::metadata(&out).map_or(0, |it| it.len());
            ensure!(written > 1 << 20, "it wrote no image");
            self.written.add(row, contender.name, written);
            samples.push(Sample {
                row,
                what: "",
                cost,
            });
        }
        Ok(samples)
    }

    fn floor(&self, bench: &Bench, round: usize) -> Result<Vec<Sample>> {
        let floors = [
            (Self::ROWS[0].1, "tar | pigz", "pigz"),
            (Self::ROWS[1].1, "tar | zstd -T0", "zstd -q -T0"),
        ];
        let samples = floors.iter().map(|(row, what, packer)| {
            let out = bench.work.join(format!("packing/floor{round}"));
            let line = format!("tar -c -C \"$1\" . | {packer} > \"$2\"");
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &line, "sh"]);
            command.arg(BigFile::context(bench)?).arg(&out);
            let cost = measure::cost(&command, &[])?;
            let written = fs::metadata(&out).map_or(0, |it| it.len());
            self.written.add(row, what, written);
            Ok(Sample { row, what, cost })
        });
        samples.collect()
    }

    fn notes(&self) -> Vec<String> {
        self.written.notes("written")
    }
}

/// Twenty layers to a registry on loopback, and back.
pub(crate) struct Transport {
    server: Mutex<Option<Server>>,
    sent: Tally,
}

impl Transport {
    const PUSH: &'static str = "push of 20 layers";
    const PULL: &'static str = "pull of 20 layers";

    pub(crate) const fn new() -> Self {
        Self {
            server: Mutex::new(None),
            sent: Tally::new(),
        }
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `127.0.0.1:PORT/CONTENDER/ROUND`; the registry is started by who asks first.
    fn repository(&self, contender: &Contender, round: usize) -> String {
        let mut server = self.server();
        let server = server.get_or_insert_with(|| Server::start(Access::Everybody));
        format!("{}/{}/{round}:1", server.address(), contender.name)
    }

    /// The bytes of all that the registry has.
    fn stored(&self) -> u64 {
        let blobs = self.server().as_ref().map_or_else(Vec::new, Server::blobs);
        let sizes = blobs.iter().filter_map(|it| fs::metadata(it).ok());
        sizes.map(|it| it.len()).sum()
    }

    fn context(bench: &Bench) -> Result<PathBuf> {
        let context = bench.work.join("transport/context");
        if !context.exists() {
            fs::create_dir_all(&context)?;
            let size = if bench.quick { 2 } else { 16 };
            for layer in 0..LAYERS {
                inputs::write_file(&context.join(format!("file{layer}")), size)?;
            }
        }
        Ok(context)
    }
}

impl Scenario for Transport {
    fn name(&self) -> &'static str {
        "transport"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 2 } else { 3 }
    }

    fn admits(&self, contender: &Contender, _all: &[Contender]) -> bool {
        contender.moves()
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        Self::context(bench)?;
        let place = bench.fresh(self, contender)?;
        let mut text = "FROM scratch\n".to_owned();
        for layer in 0..LAYERS {
            writeln!(text, "COPY file{layer} /")?;
        }
        write(&place.join("Dockerfile"), &text).map(drop)
    }

    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>> {
        let place = bench.place(self.name(), contender.name);
        let name = self.repository(contender, round);
        let context = Self::context(bench)?;
        // Skopeo and buildah remember, for all users of a machine, what of which layer is where: nobody has seen
        // these, and so nobody can spare himself the packing and sending.
        for layer in 0..LAYERS {
            let unseen = format!("{}, round {round}, layer {layer}\n", contender.name);
            inputs::stamp(&context.join(format!("file{layer}")), &unseen)?;
        }
        let build = Build {
            store: &place.join(format!("from{round}")),
            context: &context,
            dockerfile: &place.join("Dockerfile"),
            tag: &name,
            args: &[],
            cold: false,
        };
        contender.obtain(bench, &build)?;
        let before = self.stored();
        let pushed = measure::cost(&contender.push(&build, &name), &[])?;
        let sent = self.stored() - before;
        self.sent.add(Self::PUSH, contender.name, sent);
        let store = place.join(format!("to{round}"));
        let pulled = measure::cost(&contender.pull(&store, &name), &[])?;
        let sample = |row, cost| Sample {
            row,
            what: "",
            cost,
        };
        Ok(vec![sample(Self::PUSH, pushed), sample(Self::PULL, pulled)])
    }

    fn floor(&self, bench: &Bench, round: usize) -> Result<Vec<Sample>> {
        let packed = bench.work.join(format!("transport/floor{round}.tar.gz"));
        let unpacked = bench.work.join(format!("transport/floor{round}"));
        fs::create_dir(&unpacked)?;
        let run = |line: &str, from: &PathBuf, to: &PathBuf| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", line, "sh"]).arg(from).arg(to);
            measure::cost(&command, &[])
        };
        let context = Self::context(bench)?;
        Ok(vec![
            Sample {
                row: Self::PUSH,
                what: "tar | pigz",
                cost: run("tar -c -C \"$1\" . | pigz > \"$2\"", &context, &packed)?,
            },
            Sample {
                row: Self::PULL,
                what: "pigz -d | tar",
                cost: run("pigz -dc \"$1\" | tar -x -C \"$2\"", &packed, &unpacked)?,
            },
        ])
    }

    fn notes(&self) -> Vec<String> {
        // The registry goes with the scenario.
        *self.server() = None;
        self.sent.notes("sent")
    }
}
