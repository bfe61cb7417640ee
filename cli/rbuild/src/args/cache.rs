//! The arguments of the commands about what is kept between builds.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::bytes;

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the cache mounts
    #[command(visible_alias = "list")]
    Ls(CacheLsArgs),
    /// Show what the cache holds and how much it takes
    Du(DuArgs),
    /// Show everything about a cache mount, as JSON
    Inspect(MountArgs),
    /// Copy files of a cache mount out: `ID[:PATH] DIRECTORY`
    Cp(CacheCpArgs),
    /// Remove cache mounts
    Rm(MountArgs),
    /// Remove what no image and no running build needs
    Prune(CachePruneArgs),
}

/// `builder` and `buildx`, as far as they are about the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderCommand {
    /// Show what the cache holds and how much it takes
    Du(DuArgs),
    /// Remove what no image and no running build needs
    Prune(CachePruneArgs),
    /// Build an image from a Dockerfile
    Build(Box<super::BuildArgs>),
    /// What builds took that are over
    #[command(subcommand)]
    History(BuildHistoryCommand),
}

/// What to tell of builds that are over.
#[derive(Debug, Subcommand)]
pub(crate) enum BuildHistoryCommand {
    /// List the builds, the latest first
    Ls(BuildLsArgs),
    /// Show what each step that a build ran took: time, processors, memory, disk
    Inspect(BuildInspectArgs),
}

/// `builder history ls`
#[derive(Debug, Args)]
pub(crate) struct BuildLsArgs {
    /// Only the latest so many
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) last: Option<u32>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `builder history inspect`
#[derive(Debug, Args)]
pub(crate) struct BuildInspectArgs {
    /// The build's id, as `builder history ls` shows it [default: the latest]
    #[arg(value_name = "BUILD ID")]
    pub(crate) build: Option<i64>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// What to do with all that rbuild keeps.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show how much of the disk images and the cache take
    Df(DfArgs),
    /// Show what this machine lets rbuild do, and what is missing
    Info(InfoArgs),
}

/// `system df`
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    pub(crate) format: Option<String>,
    /// Every image, container and piece of the cache
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// `system info`
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// `json`, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// What to do with the store itself.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Compare everything with its digest
    Verify(VerifyArgs),
}

/// `cache ls`
#[derive(Debug, Args)]
pub(crate) struct CacheLsArgs {
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `cache inspect`, `cache rm`
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// Ids of cache mounts, or their whole names as `rbuild cache ls` shows them
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// `cache cp`
#[derive(Debug, Args)]
pub(crate) struct CacheCpArgs {
    /// The cache mount, and what of it: all where no path is given
    #[arg(value_name = "ID[:PATH]")]
    pub(crate) source: String,
    /// Where to
    #[arg(value_name = "DIRECTORY")]
    pub(crate) destination: PathBuf,
}

/// `cache du`
#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    /// Only these: ids as this command or, for cache mounts, as `rbuild cache ls` shows them
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Only items that are so; the keys are those of prune
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Everything about each item
    #[arg(long)]
    pub(crate) verbose: bool,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `cache prune`
#[derive(Debug, Args)]
pub(crate) struct CachePruneArgs {
    /// Also forget results that images still hold
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only items that are so: until=, id=, parents=, type=, description=, inuse=, mutable=, shared=;
    /// also with `!=` and `~=`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Remove only until the cache takes so much
    #[arg(long, value_name = "BYTES", value_parser = bytes, alias = "keep-storage")]
    pub(crate) max_used_space: Option<u64>,
    /// Always leave so much
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) reserved_space: Option<u64>,
    /// Remove only until so much of the disk is free
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) min_free_space: Option<u64>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Say what would go, how much and why, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Everything about each item
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// `store verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Remove what is damaged, with what depends on it; the next build makes it anew
    #[arg(long)]
    pub(crate) repair: bool,
}

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Only these steps: a number in the stage (`3`, `3/5`), a line of the Dockerfile, a stage, or
    /// words of the instruction
    #[arg(value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// As JSON, one line a step
    #[arg(long)]
    pub(crate) json: bool,
}
