//! The arguments of `build` and `run` that say what a process may use up.

use clap::Args;

use super::bytes;

/// Under docker's names.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LimitArgs {
    /// The most memory, as 512m
    #[arg(short, long, value_name = "BYTES", value_parser = bytes, help_heading = "What it may use up")]
    pub(crate) memory: Option<u64>,
    /// The most memory and swap together; -1 for any amount of swap
    #[arg(long, value_name = "BYTES", value_parser = bytes_or_all, allow_hyphen_values = true, help_heading = "What it may use up")]
    pub(crate) memory_swap: Option<i64>,
    /// The share of the processors' time where it is scarce; others have 1024
    #[arg(
        short,
        long,
        value_name = "NUMBER",
        help_heading = "What it may use up"
    )]
    pub(crate) cpu_shares: Option<u64>,
    /// The length of a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", help_heading = "What it may use up")]
    pub(crate) cpu_period: Option<u64>,
    /// How long a processor may be used in each period
    #[arg(
        long,
        value_name = "MICROSECONDS",
        allow_hyphen_values = true,
        help_heading = "What it may use up"
    )]
    pub(crate) cpu_quota: Option<i64>,
    /// The processors to run on: `0-2,4`
    #[arg(long, value_name = "LIST", help_heading = "What it may use up")]
    pub(crate) cpuset_cpus: Option<String>,
    /// The memory nodes to use: `0,1`
    #[arg(long, value_name = "LIST", help_heading = "What it may use up")]
    pub(crate) cpuset_mems: Option<String>,
    /// A limit of each single process: `nofile=1024:2048`
    #[arg(
        long,
        value_name = "TYPE=SOFT[:HARD]",
        help_heading = "What it may use up"
    )]
    pub(crate) ulimit: Vec<String>,
    /// The control group of the machine to be in
    #[arg(long, value_name = "PATH", help_heading = "What it may use up")]
    pub(crate) cgroup_parent: Option<String>,
}

/// A size, or -1.
pub(crate) fn bytes_or_all(text: &str) -> Result<i64, String> {
    match text.trim() {
        "-1" => Ok(-1),
        text => i64::try_from(bytes(text)?).map_err(|_| format!("`{text}` is too large")),
    }
}
