//! The arguments of `run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{LimitArgs, Network, bytes};

/// `run`
#[derive(Debug, Args)]
#[command(override_usage = "rbuild run [OPTIONS] IMAGE [COMMAND] [ARG…]")]
pub(crate) struct RunArgs {
    /// The image, then the command that runs instead of its own
    #[arg(
        value_name = "IMAGE [COMMAND…]",
        required = true,
        trailing_var_arg = true
    )]
    pub(crate) words: Vec<String>,
    /// Keep standard input open
    #[arg(short, long, help_heading = "How to talk to it")]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long, help_heading = "How to talk to it")]
    pub(crate) tty: bool,
    /// Remove the container when it ends
    #[arg(long, help_heading = "What becomes of it")]
    pub(crate) rm: bool,
    /// The container's name
    #[arg(long, value_name = "NAME", help_heading = "What becomes of it")]
    pub(crate) name: Option<String>,
    /// A variable; taken from the environment where it has no value
    #[arg(short, long, value_name = "KEY[=VALUE]", help_heading = "What it sees")]
    pub(crate) env: Vec<String>,
    /// Variables from a file
    #[arg(long, value_name = "FILE", help_heading = "What it sees")]
    pub(crate) env_file: Vec<PathBuf>,
    /// A directory or file of the machine: `HOST:CONTAINER[:ro]`
    #[arg(
        short,
        long,
        value_name = "HOST:CONTAINER[:ro]",
        help_heading = "What it sees"
    )]
    pub(crate) volume: Vec<String>,
    /// The network: default (its own, with NAT), none or host
    #[arg(
        long,
        alias = "net",
        value_name = "MODE",
        default_value = "default",
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "What it sees"
    )]
    pub(crate) network: Network,
    /// The host name
    #[arg(long, value_name = "NAME", help_heading = "What it sees")]
    pub(crate) hostname: Option<String>,
    /// A line of /etc/hosts: `HOST:ADDRESS`
    #[arg(long, value_name = "HOST:ADDRESS", help_heading = "What it sees")]
    pub(crate) add_host: Vec<String>,
    /// The directory to start in
    #[arg(short, long, value_name = "DIR", help_heading = "How it runs")]
    pub(crate) workdir: Option<String>,
    /// Whom it runs as
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "How it runs")]
    pub(crate) user: Option<String>,
    /// The program that runs instead of the image's own
    #[arg(long, value_name = "PROGRAM", help_heading = "How it runs")]
    pub(crate) entrypoint: Option<String>,
    /// When to ask the image's registry: missing, always or never
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "missing",
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Where it comes from"
    )]
    pub(crate) pull: PullWhen,
    /// The platform to choose of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", help_heading = "Where it comes from")]
    pub(crate) platform: Option<String>,
    /// Say nothing of what is brought in
    #[arg(short, long, help_heading = "Where it comes from")]
    pub(crate) quiet: bool,
    /// The size of /dev/shm, as 64m
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "What it may use up")]
    pub(crate) shm_size: Option<u64>,
    /// How many processes and threads at once; -1 for any number
    #[arg(
        long,
        value_name = "NUMBER",
        allow_hyphen_values = true,
        help_heading = "What it may use up"
    )]
    pub(crate) pids_limit: Option<i64>,
    /// How many processors' time, as 1.5
    #[arg(
        long,
        value_name = "NUMBER",
        conflicts_with_all = ["cpu_quota", "cpu_period"],
        help_heading = "What it may use up"
    )]
    pub(crate) cpus: Option<f64>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Keep the image's files as they are
    #[arg(long, help_heading = "How it runs")]
    pub(crate) read_only: bool,
}

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// Where the store has none of that name
    Missing,
    /// Each time
    Always,
    /// Never
    Never,
}

/// `ps`
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also those that are over
    #[arg(short, long)]
    pub(crate) all: bool,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not cut anything
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `rm`
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub(crate) containers: Vec<String>,
}
