//! A machine with nothing on it builds what another one has put into a registry's cache.

use std::{
    fmt::Write as _,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use kit::docker_registry::{Access, Server};

use crate::{
    contender::{Build, Contender},
    measure,
    scenario::{Bench, Sample, Scenario},
    tally::Tally,
};

/// Steps of the build, each of which makes a file of half a megabyte that does not pack.
const STEPS: usize = 20;

/// The registry, while the scenario goes on, and what each contender took from it.
pub(crate) struct RemoteCache {
    server: Mutex<Option<Server>>,
    taken: Tally,
}

impl RemoteCache {
    const UNCHANGED: &'static str = "cold machine, registry cache, 20 steps cached";
    const CHANGED: &'static str = "cold machine, registry cache, the last of 20 steps changed";

    pub(crate) const fn new() -> Self {
        Self {
            server: Mutex::new(None),
            taken: Tally::new(),
        }
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `127.0.0.1:PORT/CONTENDER`; the registry is started by who asks first.
    fn repository(&self, contender: &Contender) -> String {
        let mut server = self.server();
        let server = server.get_or_insert_with(|| Server::start(Access::Everybody));
        format!("{}/{}", server.address(), contender.name)
    }

    /// Builds in the store `store`, with what the cache has.
    fn build(
        &self,
        bench: &Bench,
        contender: &Contender,
        store: &str,
        (bust, export): (&str, bool),
    ) -> Result<measure::Cost> {
        let place = bench.place(self.name(), contender.name);
        let build = Build {
            store: &place.join(store),
            context: &place.join("context"),
            dockerfile: &place.join("Dockerfile"),
            tag: "bench-remote",
            args: &[format!("BUST={bust}")],
            cold: false,
        };
        let cache = format!("{}/cache", self.repository(contender));
        let command = contender.build_with_cache(bench, &build, &cache, export);
        measure::cost(&command, contender.daemons())
    }

    /// One row: a fresh machine, and what it took from the registry.
    fn row(
        &self,
        bench: &Bench,
        contender: &Contender,
        (row, store, bust): (&'static str, &str, &str),
    ) -> Result<Sample> {
        let given = || self.server().as_ref().map_or(0, Server::bytes_given);
        let before = given();
        let cost = self.build(bench, contender, store, (bust, false))?;
        let taken = given() - before;
        self.taken.add(row, contender.name, taken);
        Ok(Sample {
            row,
            what: "",
            cost,
        })
    }
}

impl Scenario for RemoteCache {
    fn name(&self) -> &'static str {
        "remote-cache"
    }

    fn rounds(&self, quick: bool) -> usize {
        if quick { 2 } else { 5 }
    }

    fn admits(&self, contender: &Contender, _all: &[Contender]) -> bool {
        contender.has_registry_caches()
    }

    fn prepare(&self, bench: &Bench, contender: &Contender) -> Result<()> {
        let place = bench.fresh(self, contender)?;
        let store = place.join("store");
        contender.import(&store, &bench.base)?;
        // A base that is imported twice is two images: both machines take the same from the registry.
        let base = format!("{}/base:1", self.repository(contender));
        contender.push_base(&store, &base)?;
        let mut text = format!("FROM {base}\n");
        for step in 1..STEPS {
            writeln!(
                text,
                "RUN head -c 500000 /dev/urandom > /made{step}; echo {step} >> /log"
            )?;
        }
        writeln!(text, "ARG BUST\nRUN echo $BUST > /last")?;
        fs::write(place.join("Dockerfile"), text)?;
        self.build(bench, contender, "store", ("first", true))
            .map(drop)
            .context("cannot fill the cache")
    }

    fn round(&self, bench: &Bench, contender: &Contender, round: usize) -> Result<Vec<Sample>> {
        let changed = format!("changed-{round}");
        let stores = [format!("a{round}"), format!("b{round}")];
        Ok(vec![
            self.row(bench, contender, (Self::UNCHANGED, &stores[0], "first"))?,
            self.row(bench, contender, (Self::CHANGED, &stores[1], &changed))?,
        ])
    }

    fn floor(&self, _bench: &Bench, _round: usize) -> Result<Vec<Sample>> {
        Ok(Vec::new())
    }

    fn notes(&self) -> Vec<String> {
        // The registry goes with the scenario.
        *self.server() = None;
        self.taken.notes("from the registry")
    }
}
