//! What was typed, with types but without meaning yet: each command gives its arguments their meaning.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::Exit;
use crate::fault::Fault;
use crate::progress::Mode;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "rbuild", version, override_help = HELP, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct CommandLine {
    /// Keep everything in DIR [default: $RBUILD_ROOT, else /var/lib/rbuild or ~/.local/share/rbuild]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) root: Option<PathBuf>,
    /// Say more: causes, expanded warnings, what rbuild does
    #[arg(short = 'D', long, global = true, help_heading = "Global options")]
    pub(crate) debug: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const HELP: &str = "\
Builds a Dockerfile and runs the result, without a daemon.

Usage: rbuild [OPTIONS] PATH          build, the same as `rbuild build`
       rbuild [OPTIONS] COMMAND …

Build and run:
  build       Build an image from a Dockerfile
  run         Run a command in a new container

Images:
  images      List images
  tag         Give an image another name
  rmi         Remove images
  history     Show how an image came to be
  inspect     Show everything about images, as JSON
  import      Make an image of a root file system's tar
  save        Write images to an archive
  load        Read images from an archive
  image       All of these: ls, tag, rm, history, inspect, import, save, load, prune

Options:
      --root DIR   Keep everything in DIR [default: $RBUILD_ROOT, else /var/lib/rbuild or
                   ~/.local/share/rbuild]
  -D, --debug      Say more
  -h, --help       Print help, also `rbuild COMMAND --help`
  -V, --version    Print the version
";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    #[command(alias = "b")]
    Build(Box<BuildArgs>),
    /// Run a command in a new container
    Run(Box<RunArgs>),
    /// Work with images
    #[command(subcommand)]
    Image(ImageCommand),
    /// List images
    Images(LsArgs),
    /// Remove images
    Rmi(RmArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Show everything about images, as JSON
    Inspect(InspectArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
    /// Make an image of a root file system's tar
    Import(ImportArgs),
    /// Print the version
    Version,
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// List images
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove images that have no name
    Prune(PruneArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Show everything about images, as JSON
    Inspect(InspectArgs),
    /// Make an image of a root file system's tar
    Import(ImportArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
}

/// `build`
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The directory that COPY and ADD take files from
    #[arg(value_name = "PATH")]
    pub(crate) context: PathBuf,
    /// The Dockerfile; `-` is standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "What to build")]
    pub(crate) file: Option<PathBuf>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE", help_heading = "What to build")]
    pub(crate) target: Option<String>,
    /// The value of an ARG; taken from the environment where it has none
    #[arg(long, value_name = "KEY[=VALUE]", help_heading = "What to build")]
    pub(crate) build_arg: Vec<String>,
    /// Fail where a --build-arg is declared by no ARG
    #[arg(long, help_heading = "What to build")]
    pub(crate) strict_args: bool,
    /// The platform to build for
    #[arg(
        long,
        value_name = "OS/ARCH",
        value_delimiter = ',',
        help_heading = "What to build"
    )]
    pub(crate) platform: Vec<String>,
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
    /// An agent for RUN --mount=type=ssh: `default` or `ID=SOCKET`
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
    /// Where the result goes: `type=image` (the default), `type=docker,dest=FILE`, `type=oci,dest=FILE`
    #[arg(short, long, value_name = "SPEC", help_heading = "What becomes of it")]
    pub(crate) output: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE", help_heading = "What becomes of it")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what is known of the result to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "What becomes of it")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// How the build is shown: auto, tty, plain, quiet, rawjson or none
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "MODE",
        env = "BUILDKIT_PROGRESS",
        hide_env = true,
        default_value = "auto",
        help_heading = "What is shown"
    )]
    pub(crate) progress: Mode,
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
    /// How many steps run at once [default: all that can]
    #[arg(short, long, value_name = "NUMBER", help_heading = "What to build")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// What rbuild does anyway, accepted for docker's sake
    #[arg(long, hide = true)]
    load: bool,
    /// What rbuild does anyway, accepted for docker's sake
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    rm: Option<Option<bool>>,
    /// What rbuild does anyway, accepted for docker's sake
    #[arg(long, hide = true)]
    force_rm: bool,
}

/// How to print a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Graphviz
    Dot,
}

/// Whom a process can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// A network of its own, with NAT
    #[value(alias = "bridge")]
    Default,
    /// Nobody
    None,
    /// Whatever the machine can
    Host,
}

/// `run`
#[derive(Debug, Args)]
#[command(override_usage = "rbuild run [OPTIONS] IMAGE [COMMAND] [ARG…]")]
pub(crate) struct RunArgs {
    /// The image, then the command that runs instead of its own
    #[arg(
        value_name = "IMAGE [COMMAND…]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
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
    /// An empty file system in memory
    #[arg(long, value_name = "PATH[:OPTIONS]", help_heading = "What it sees")]
    pub(crate) tmpfs: Vec<String>,
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
    /// Keep the image's files as they are
    #[arg(long, help_heading = "How it runs")]
    pub(crate) read_only: bool,
    /// Give it all privileges
    #[arg(long, help_heading = "How it runs")]
    pub(crate) privileged: bool,
    /// Run a small init that reaps processes and forwards signals
    #[arg(long, help_heading = "How it runs")]
    pub(crate) init: bool,
    /// The size of /dev/shm, as 64m
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "How it runs")]
    pub(crate) shm_size: Option<u64>,
}

/// `image ls`
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only images of this name; `*` stands for anything but `/`
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) repository: Option<String>,
    /// All images
    #[arg(short, long, hide = true)]
    pub(crate) all: bool,
    /// Show the digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Only images that are so: dangling=, label=, label!=, before=, since=, until=, reference=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not cut ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `image rm`
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Also what has several names
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep the layers for the cache
    #[arg(long)]
    pub(crate) no_prune: bool,
}

/// `image prune`
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also images that have a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only images that are so: label=, label!=, until=
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `image tag`
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// A name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,
    /// The new name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) target: String,
}

/// `image history`
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// A name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Sizes and times for people
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// Do not cut anything
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `image inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// `json` for one line each, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// What is inspected: images are all there is
    #[arg(long = "type", hide = true, value_parser = ["image"])]
    pub(crate) kind: Option<String>,
}

/// `image save`
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// The archive [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `image load`
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Say nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `image import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The tar, possibly compressed; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A name for the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
    /// A Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// A comment for the history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// The platform that the image is for
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
}

/// Options of docker that mean something, but not to this rbuild yet.
const LATER: [&str; 41] = [
    "--allow",
    "--annotation",
    "--attest",
    "--build-context",
    "--cache-from",
    "--cache-to",
    "--call",
    "--check",
    "--cgroup-parent",
    "--policy",
    "--provenance",
    "--sbom",
    "--pull",
    "--push",
    "--resource",
    "--ulimit",
    "--isolation",
    "--memory",
    "--memory-swap",
    "--cpu-shares",
    "--cpu-quota",
    "--cpu-period",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--security-opt",
    "--squash",
    "--compress",
    "--builder",
    "--detach",
    "--restart",
    "--mount",
    "--publish",
    "--publish-all",
    "--expose",
    "--cap-add",
    "--cap-drop",
    "--cpus",
    "--device",
    "--label-file",
    "--tree",
    "--sysctl",
];

impl CommandLine {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// What to say and how to end; help and the version are such ends, too.
    pub(crate) fn read(arguments: Vec<OsString>) -> Result<Self, Fault> {
        Self::try_parse_from(with_command(arguments, Path::exists)).map_err(|error| {
            match error.kind() {
                ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    let printed = crate::output::print(&error.render().to_string());
                    printed
                        .err()
                        .map_or(Fault::silent(Exit::Success), Fault::from)
                }
                _ => complaint(&error),
            }
        })
    }
}

/// Clap's words in our form.
fn complaint(error: &clap::Error) -> Fault {
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
    {
        let name = flag.split(['=', ' ']).next().unwrap_or(flag);
        if LATER.contains(&name) {
            return Fault::usage(format!("`{name}` is not supported yet"));
        }
    }
    let text = error.render().to_string();
    let mut lines = text.trim_end().lines();
    let message = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .replace('\'', "`");
    let rest: Vec<&str> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut tips = rest.iter().filter_map(|line| line.strip_prefix("tip: "));
    // A dash is never the beginning of a value here.
    let tip = tips
        .find(|tip| !tip.starts_with("to pass"))
        .map(|tip| tip.replace('\'', "`"));
    // Names of missing arguments and possible values stand on lines of their own.
    let details: Vec<&str> = rest
        .iter()
        .copied()
        .filter(|line| line.starts_with(['<', '[', '-']) && !line.starts_with("[OPTIONS]"))
        .collect();
    let message = if details.is_empty() {
        message
    } else {
        format!("{message} {}", details.join(" "))
    };
    let fault = Fault::usage(message);
    match tip {
        Some(tip) => fault.hint(tip),
        None => fault.hint("`rbuild --help` and `rbuild COMMAND --help` say what there is"),
    }
}

const COMMANDS: [&str; 14] = [
    "build", "b", "run", "image", "images", "rmi", "tag", "history", "inspect", "save", "load",
    "import", "version", "help",
];

/// `rbuild .` and `rbuild -f FILE .` mean `rbuild build …`: a first word that is no command but an
/// option of build or an existing path.
fn with_command(mut arguments: Vec<OsString>, exists: impl Fn(&Path) -> bool) -> Vec<OsString> {
    let mut at = 1;
    while let Some(word) = arguments.get(at).and_then(|word| word.to_str()) {
        at += match word {
            "-D" | "--debug" => 1,
            "--root" => 2,
            _ if word.starts_with("--root=") => 1,
            _ => break,
        };
    }
    match arguments.get(at) {
        None => arguments.push("--help".into()),
        Some(word) if is_build(word, exists) => arguments.insert(at, "build".into()),
        Some(word) if word == "help" => {
            let topic = arguments.split_off(at + 1);
            arguments.truncate(at);
            arguments.extend(topic.into_iter().chain(["--help".into()]));
        }
        Some(_) => {}
    }
    arguments
}

fn is_build(word: &OsStr, exists: impl Fn(&Path) -> bool) -> bool {
    let Some(text) = word.to_str() else {
        return true;
    };
    match text {
        "-h" | "--help" | "-V" | "--version" => false,
        _ if COMMANDS.contains(&text) => false,
        _ => text.starts_with('-') || text.contains('/') || exists(Path::new(word)),
    }
}

/// `64m`, `1g`, `512k`, `1048576`: base 1024, as docker reads memory.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_lowercase();
    let digits = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match digits.chars().last() {
        Some('k') => (&digits[..digits.len() - 1], 10),
        Some('m') => (&digits[..digits.len() - 1], 20),
        Some('g') => (&digits[..digits.len() - 1], 30),
        Some('t') => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is no size; write 64m or 1g"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commanded(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        let exists = |path: &Path| path == Path::new(".") || path == Path::new("folder");
        let words = with_command(arguments, exists);
        words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn refused(line: &str) -> String {
        match CommandLine::read(line.split(' ').map(OsString::from).collect()) {
            Ok(read) => panic!("accepted: {read:?}"),
            Err(fault) => format!("{}{}", fault.words(), fault.status().code()),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_path_or_an_option_means_build() {
        let table = [
            ("rbuild .", "rbuild build ."),
            ("rbuild folder", "rbuild build folder"),
            ("rbuild ./missing", "rbuild build ./missing"),
            ("rbuild -f x .", "rbuild build -f x ."),
            ("rbuild --root /r .", "rbuild --root /r build ."),
            (
                "rbuild --root=/r -D -t x .",
                "rbuild --root=/r -D build -t x .",
            ),
            ("rbuild images", "rbuild images"),
            ("rbuild --version", "rbuild --version"),
            ("rbuild missing", "rbuild missing"),
            ("rbuild", "rbuild --help"),
            ("rbuild help", "rbuild --help"),
            ("rbuild help image ls", "rbuild image ls --help"),
        ];
        for (typed, meant) in table {
            assert_eq!(commanded(typed), meant);
        }
    }

    #[test]
    fn the_list_of_commands_is_complete() {
        use clap::CommandFactory as _;
        for command in CommandLine::command().get_subcommands() {
            for name in command.get_name_and_visible_aliases() {
                assert!(COMMANDS.contains(&name), "{name}");
                assert!(
                    name.len() == 1 || HELP.contains(name) || name == "version",
                    "{name} is not in the help"
                );
            }
        }
    }

    #[test]
    fn what_follows_the_image_is_the_containers() {
        let read = CommandLine::read(
            "rbuild run -it --rm -e A=1 busybox sh -c ls --rm"
                .split(' ')
                .map(OsString::from)
                .collect(),
        );
        let Command::Run(run) = read.unwrap().command else {
            panic!("no run")
        };
        assert_eq!(run.words, ["busybox", "sh", "-c", "ls", "--rm"]);
        assert!(run.interactive && run.tty && run.rm);
        assert_eq!(run.env, ["A=1"]);
    }

    #[test]
    fn what_cannot_be_meant_is_answered_in_a_line_or_two() {
        let table = [
            (
                "rbuild build --push .",
                "error: `--push` is not supported yet\n125",
            ),
            (
                "rbuild build --cache-from=x .",
                "error: `--cache-from` is not supported yet\n125",
            ),
            (
                "rbuild build --taget x .",
                "error: unexpected argument `--taget` found\nhint: a similar argument exists: `--target`\n125",
            ),
            (
                "rbuild imges",
                "error: unrecognized subcommand `imges`\nhint: some similar subcommands exist: `image`, `images`\n125",
            ),
            (
                "rbuild build --progress=loud .",
                "error: invalid value `loud` for `--progress <MODE>` [possible values: auto, tty, plain, quiet, rawjson, none]\nhint: `rbuild --help` and `rbuild COMMAND --help` say what there is\n125",
            ),
            (
                "rbuild tag x",
                "error: the following required arguments were not provided: <NAME[:TAG]>\nhint: `rbuild --help` and `rbuild COMMAND --help` say what there is\n125",
            ),
            (
                "rbuild build --shm-size=lots .",
                "error: invalid value `lots` for `--shm-size <BYTES>`: `lots` is no size; write 64m or 1g\nhint: `rbuild --help` and `rbuild COMMAND --help` say what there is\n125",
            ),
        ];
        for (typed, answer) in table {
            assert_eq!(refused(typed), answer, "{typed}");
        }
    }

    #[test]
    fn sizes_are_base_1024() {
        let table = [
            ("1048576", 1 << 20),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("1gib", 1 << 30),
            ("0", 0),
        ];
        for (text, size) in table {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "m", "-1", "1.5m", "99999999999t"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
