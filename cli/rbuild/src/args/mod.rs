//! What was typed, with types but without meaning yet: each command gives its arguments their meaning.

mod build;
mod cache;
mod complaint;
mod image;
mod legacy;
mod limits;
mod run;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};

use crate::exit::Exit;
use crate::fault::Fault;

pub(crate) use build::{BuildArgs, ForecastFormat, GraphFormat, ListFormat, SecretLeaks};
pub(crate) use cache::{
    BuildHistoryCommand, BuildInspectArgs, BuildLsArgs, BuilderCommand, CacheCommand, CacheCpArgs,
    CacheLsArgs, CachePruneArgs, DfArgs, DuArgs, ExplainArgs, InfoArgs, MountArgs, StoreCommand,
    SystemCommand, VerifyArgs,
};
pub(crate) use image::{
    BlameArgs, DiffArgs, HistoryArgs, ImageCommand, ImportArgs, InspectArgs, LoadArgs, LoginArgs,
    LogoutArgs, LsArgs, PruneArgs, PullArgs, PushArgs, RmArgs, SaveArgs, SearchArgs, TagArgs,
    TreeArgs, TreeFormat,
};
use legacy::LegacyArgs;
pub(crate) use limits::{LimitArgs, bytes_or_all};
pub(crate) use oci::size as bytes;
pub(crate) use run::{ForgetArgs, PsArgs, PullWhen, RunArgs};

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
  ps          List containers
  rm          Forget containers that are over

Images:
  images      List images
  pull        Bring an image in from its registry
  push        Give an image to its registry
  search      Find images on Docker Hub
  login       Keep a name and a password for a registry; `logout` forgets them
  tag         Give an image another name
  rmi         Remove images
  history     Show how an image came to be
  inspect     Show everything about images, as JSON
  import      Make an image of a root file system's tar
  save        Write images to an archive
  load        Read images from an archive
  image       All of these: ls, pull, push, tag, rm, history, inspect, import, save, load; also prune,
              and tree, diff, blame: what images share, how two differ, who put something there

Cache:
  explain     Say why the steps of the latest build ran
  cache       ls, du, inspect, cp, rm of what is kept between builds; prune
  builder     The same under docker's name: du, prune; also `buildx`
  system      df: how much of the disk everything takes; info: what this machine can do
  store       verify: compare everything with its digest

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
    /// List containers
    Ps(PsArgs),
    /// Forget containers that are over
    Rm(ForgetArgs),
    /// Work with images
    #[command(subcommand)]
    Image(ImageCommand),
    /// List images
    Images(LsArgs),
    /// Bring an image in from its registry
    Pull(PullArgs),
    /// Give an image to its registry
    Push(PushArgs),
    /// Find images on Docker Hub
    Search(SearchArgs),
    /// Keep a name and a password for a registry
    Login(LoginArgs),
    /// Forget them
    Logout(LogoutArgs),
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
    /// Say why the steps of the latest build ran
    Explain(ExplainArgs),
    /// What is kept between builds
    #[command(subcommand)]
    Cache(CacheCommand),
    /// What is kept between builds, under docker's name
    #[command(subcommand, alias = "buildx")]
    Builder(BuilderCommand),
    /// All that rbuild keeps
    #[command(subcommand)]
    System(SystemCommand),
    /// The store itself
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print the version
    Version,
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

impl CommandLine {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    /// What to say and how to end; help and the version are such ends, too.
    pub(crate) fn read(arguments: Vec<OsString>) -> Result<Self, Fault> {
        let arguments = with_command(arguments, Path::exists);
        Self::try_parse_from(&arguments).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let printed = crate::output::print(&error.render().to_string());
                printed
                    .err()
                    .map_or(Fault::silent(Exit::Success), Fault::from)
            }
            _ => complaint::complaint(&error, &arguments),
        })
    }
}

const COMMANDS: [&str; 27] = [
    "search", "push", "login", "logout", "explain", "cache", "builder", "buildx", "system",
    "store", "build", "b", "run", "ps", "rm", "image", "images", "rmi", "tag", "history",
    "inspect", "pull", "save", "load", "import", "version", "help",
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
}
