//! The arguments of `build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::Growth;

use super::{LegacyArgs, LimitArgs, Network, bytes, bytes_or_all};
use crate::build::Asked;
use crate::progress::Mode;

/// What `--call` asks for; `None` is `build`. It has a name because clap takes an `Option` within an
/// `Option` for an option whose value may be left out.
pub(crate) type Called = Option<Asked>;

/// `build`
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// What COPY and ADD take files from: a directory, a URL of a tar or of a git repository
    /// (`REPOSITORY#REF:DIRECTORY`), or `-` for a tar or a Dockerfile on standard input
    #[arg(value_name = "PATH")]
    pub(crate) context: PathBuf,
    /// The Dockerfile, or its URL; `-` is standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "What to build")]
    pub(crate) file: Option<PathBuf>,
    /// What stands for stages and images of a name: a directory, a URL, a git repository,
    /// `docker-image://IMAGE` or `oci-layout://DIRECTORY[:TAG][@DIGEST]`
    #[arg(long, value_name = "NAME=CONTEXT", help_heading = "What to build")]
    pub(crate) build_context: Vec<String>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE", help_heading = "What to build")]
    pub(crate) target: Option<String>,
    /// The value of an ARG; taken from the environment where it has none
    #[arg(long, value_name = "KEY[=VALUE]", help_heading = "What to build")]
    pub(crate) build_arg: Vec<String>,
    /// Fail where a --build-arg is declared by no ARG
    #[arg(long, help_heading = "What to build")]
    pub(crate) strict_args: bool,
    /// The platform to build for; of several, the images go by one name
    #[arg(
        long,
        value_name = "OS/ARCH",
        value_delimiter = ',',
        help_heading = "What to build"
    )]
    pub(crate) platform: Vec<String>,
    /// Ask the registries what the tags of base images stand for now
    #[arg(long, conflicts_with = "offline", help_heading = "What to build")]
    pub(crate) pull: bool,
    /// Ask no registry: base images are those of the store, or what their tags stood for last
    #[arg(long, help_heading = "What to build")]
    pub(crate) offline: bool,
    /// A cache elsewhere: `NAME` in a registry, `type=registry,ref=NAME`, `type=local,src=DIR` or
    /// `type=s3,bucket=BUCKET,region=REGION`
    #[arg(long, value_name = "SPEC", help_heading = "What to build")]
    pub(crate) cache_from: Vec<String>,
    /// Run every step, even if its result is known
    #[arg(long, help_heading = "What to build")]
    pub(crate) no_cache: bool,
    /// Run the steps of these stages even if their results are known
    #[arg(
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        help_heading = "What to build"
    )]
    pub(crate) no_cache_filter: Vec<String>,
    /// A secret for RUN --mount=type=secret: `id=ID[,src=FILE|,env=VARIABLE]`
    #[arg(long, value_name = "SPEC", help_heading = "What RUN sees")]
    pub(crate) secret: Vec<String>,
    /// Keys for RUN --mount=type=ssh and for git: `default` is the agent that runs, `ID=SOCKET` another,
    /// and `ID=FILE[,FILE]` are keys themselves
    #[arg(long, value_name = "SPEC", help_heading = "What RUN sees")]
    pub(crate) ssh: Vec<String>,
    /// The network of RUN: default (its own, with NAT), none or host
    #[arg(
        long,
        value_name = "MODE",
        default_value = "default",
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "What RUN sees"
    )]
    pub(crate) network: Network,
    /// A line of /etc/hosts: `HOST:ADDRESS`
    #[arg(long, value_name = "HOST:ADDRESS", help_heading = "What RUN sees")]
    pub(crate) add_host: Vec<String>,
    /// The size of /dev/shm, as 64m
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "What RUN sees")]
    pub(crate) shm_size: Option<u64>,
    /// What RUN may do beyond its sandbox: network.host, security.insecure, device or `device=NAME`
    #[arg(long, value_name = "ENTITLEMENT", help_heading = "What RUN sees")]
    pub(crate) allow: Vec<String>,
    /// What RUN may use up: `memory=512m,cpu-quota=50000`
    #[arg(long, value_name = "KEY=VALUE", help_heading = "What it may use up")]
    pub(crate) resource: Vec<String>,
    /// The same, one by one
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// A name for the image
    #[arg(
        short,
        long,
        value_name = "NAME[:TAG]",
        help_heading = "What becomes of it"
    )]
    pub(crate) tag: Vec<String>,
    /// A label for the image
    #[arg(long, value_name = "KEY=VALUE", help_heading = "What becomes of it")]
    pub(crate) label: Vec<String>,
    /// What stands beside the image's manifest: `[TYPE[PLATFORM]:]KEY=VALUE`, where TYPE is manifest,
    /// index, manifest-descriptor or index-descriptor, or several with commas between
    #[arg(long, value_name = "KEY=VALUE", help_heading = "What becomes of it")]
    pub(crate) annotation: Vec<String>,
    /// Say something about the result: `type=sbom` what it is made of, `type=provenance` where it comes from
    /// (with mode=min or mode=max, version=v1 or version=v0.2, builder-id=ADDRESS)
    #[arg(long, value_name = "SPEC", help_heading = "What becomes of it")]
    pub(crate) attest: Vec<String>,
    /// The same as --attest type=provenance: true, false or `mode=min,…`
    #[arg(
        long,
        value_name = "SPEC",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "What becomes of it"
    )]
    pub(crate) provenance: Option<String>,
    /// The same as --attest type=sbom: true or false
    #[arg(
        long,
        value_name = "WHETHER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "What becomes of it"
    )]
    pub(crate) sbom: Option<String>,
    /// Where the result goes: `type=image` (the default: into rbuild's store), `type=registry`; straight into another
    /// engine on this machine, `type=docker`, `type=podman`, `type=containerd`; `type=docker,dest=FILE`, `type=oci,dest=FILE`
    /// (a directory with `tar=false`), `type=tar,dest=FILE`, `type=local,dest=DIR` or only DIR, and `-` for a tar on standard output
    #[arg(short, long, value_name = "SPEC", help_heading = "What becomes of it")]
    pub(crate) output: Vec<String>,
    /// Where the cache goes, besides the store: as --cache-from, `type=local,dest=DIR` or `type=inline`,
    /// with `mode=max` for all steps and `mounts=all` for cache mounts
    #[arg(long, value_name = "SPEC", help_heading = "What becomes of it")]
    pub(crate) cache_to: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE", help_heading = "What becomes of it")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what is known of the result to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "What becomes of it")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Refuse an image whose layers have more than SIZE, as 200MB
    #[arg(long, value_name = "SIZE", help_heading = "What becomes of it")]
    pub(crate) max_size: Option<oci::Bytes>,
    /// Refuse an image in which a step's layer grew by more than that: against the image that has the
    /// first of the names now, else that of the latest build
    #[arg(long, value_name = "SIZE|PERCENT", value_parser = growth, help_heading = "What becomes of it")]
    pub(crate) max_layer_growth: Option<Growth>,
    /// What to do where a secret can be read in the image: refuse it (the default), warn or ignore; where
    /// it is said, warn of private keys and known tokens as well
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "WHAT",
        help_heading = "What becomes of it"
    )]
    pub(crate) secret_leaks: Option<SecretLeaks>,
    /// How the build is shown: auto (the default), tty, plain, quiet, rawjson or none
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "MODE",
        help_heading = "What is shown"
    )]
    pub(crate) progress: Option<Mode>,
    /// Show nothing but the image's id
    #[arg(short, long, help_heading = "What is shown")]
    pub(crate) quiet: bool,
    /// Print the graph of the build instead of building: dot
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "FORMAT",
        help_heading = "What is shown"
    )]
    pub(crate) graph: Option<GraphFormat>,
    /// Look for what is odd or wrong in the Dockerfile instead of building; as --call=check
    #[arg(long, conflicts_with = "call", help_heading = "What is shown")]
    pub(crate) check: bool,
    /// Ask the Dockerfile about itself instead of building: check, outline or targets, then
    /// `,format=json` if you like; convertllb gives the graph of the build as JSON, with rbuild's own
    /// ops, and subrequests.describe lists these questions
    #[arg(long, value_name = "QUESTION", value_parser = Asked::parse, help_heading = "What is shown")]
    pub(crate) call: Option<Called>,
    /// Say which steps would run, why, and how long that takes, and do nothing; `--dry-run=json` too
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        hide_possible_values = true,
        conflicts_with_all = ["call", "check", "graph"],
        help_heading = "What is shown"
    )]
    pub(crate) dry_run: Option<ForecastFormat>,
    /// List what the context holds and what .dockerignore leaves out, largest first, instead of
    /// building; `=json` for programs
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "table",
        help_heading = "What is shown"
    )]
    pub(crate) list_context: Option<ListFormat>,
    /// Say what each step added to the image, changed, removed, and wasted; `=json` for programs
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "table",
        help_heading = "What is shown"
    )]
    pub(crate) size_report: Option<ListFormat>,
    /// Each step that runs says why it was not in the cache
    #[arg(long, help_heading = "What is shown")]
    pub(crate) explain: bool,
    /// Run all of it again once it is built, without the cache, and name the step and the file that come
    /// out different; `=json` for programs
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        hide_possible_values = true,
        conflicts_with_all = ["call", "check", "graph", "dry_run"],
        help_heading = "What becomes of it"
    )]
    pub(crate) verify_reproducible: Option<ForecastFormat>,
    /// How many steps run at once [default: all that can]
    #[arg(short, long, value_name = "NUMBER", help_heading = "What to build")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// How much of each step's output is shown and kept before the rest is left out, but for its last
    /// lines [default: 2m]; -1 for all of it
    #[arg(
        long,
        env = "BUILDKIT_STEP_LOG_MAX_SIZE",
        hide_env = true,
        value_name = "BYTES",
        value_parser = bytes_or_all,
        allow_hyphen_values = true,
        help_heading = "What is shown"
    )]
    pub(crate) step_log_max_size: Option<i64>,
    /// How much of each step's output is shown and kept of every second, as above [default: -1, all of it]
    #[arg(
        long,
        env = "BUILDKIT_STEP_LOG_MAX_SPEED",
        hide_env = true,
        value_name = "BYTES",
        value_parser = bytes_or_all,
        allow_hyphen_values = true,
        help_heading = "What is shown"
    )]
    pub(crate) step_log_max_speed: Option<i64>,
    /// Give the image to the registries that its names name; the same as --output=type=registry
    #[arg(long, help_heading = "What becomes of it")]
    pub(crate) push: bool,
    #[command(flatten)]
    pub(crate) legacy: LegacyArgs,
}

/// How to print what a build would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForecastFormat {
    /// For people.
    Text,
    /// One object.
    Json,
}

/// What becomes of an image in which a secret can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretLeaks {
    /// There is none.
    Refuse,
    /// It is told.
    Warn,
    /// Nobody looks.
    Ignore,
}

/// `5%` or `20MB`.
fn growth(text: &str) -> Result<Growth, String> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        let bytes: oci::Bytes = text
            .parse()
            .map_err(|error: oci::BytesError| error.to_string())?;
        return Ok(Growth::Bytes(bytes));
    };
    match percent.trim().parse() {
        Ok(percent) if percent >= 0.0 && f64::is_finite(percent) => Ok(Growth::Percent(percent)),
        _ => Err(format!("`{text}` is no growth; write 5% or 20MB")),
    }
}

/// How to list a context or sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people.
    Table,
    /// One object.
    Json,
}

/// How to print a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Graphviz
    Dot,
}
