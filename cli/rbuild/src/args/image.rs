//! The arguments of the commands about images.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::BuildArgs;

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// List images
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Bring an image in from its registry
    Pull(PullArgs),
    /// Give an image to its registry
    Push(PushArgs),
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
    /// List images by the layers that they share
    Tree(TreeArgs),
    /// Show what one image has and another has otherwise
    Diff(DiffArgs),
    /// Show which layer, instruction and build put something into an image
    Blame(BlameArgs),
    /// Make an image of a root file system's tar
    Import(ImportArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
}

/// `image ls`
#[derive(Debug, Default, Args)]
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
    /// By the layers that images share, as `image tree`
    #[arg(long, conflicts_with_all = ["repository", "digests", "filter", "format", "no_trunc", "quiet"])]
    pub(crate) tree: bool,
}

/// `search`
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What to search for; `HOST:PORT/WORD` asks another registry than Docker Hub
    #[arg(value_name = "TERM")]
    pub(crate) term: String,
    /// Only images that are so: stars=, is-official=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// How many images at most, up to 100 [default: 25]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u32>,
    /// Do not cut descriptions
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

/// `image pull`
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The image's name
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// All tags of the name
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// The platform to choose of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// A registry that may be spoken to in plain http; those on this machine always may
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// Say only the image's name
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `image push`
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The image's name, which begins with the registry's; with a digest it is given without a tag.
    /// Behind `docker-daemon:`, `containers-storage:` or `containerd:` it goes straight into that
    /// engine on this machine
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// All tags of the name
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Only the image for this platform, of one for several
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// A registry that may be spoken to in plain http; those on this machine always may
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// Say only the image's name
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `login`
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
    /// Who you are there; asked for where it is not given
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The password, for everybody on this machine to see
    #[arg(short, long, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// A registry that may be spoken to in plain http; those on this machine always may
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
}

/// `logout`
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<String>,
}

/// `image rm`
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Also what has several names, or a container that is over
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep the layers for the cache
    #[arg(long)]
    pub(crate) no_prune: bool,
}

/// `image prune`
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also images that have a name, but for those of containers
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

/// `image tree`
#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    /// Only what shares layers with one of these [default: all images]
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// table or json
    #[arg(long, value_enum, hide_possible_values = true, value_name = "FORMAT")]
    pub(crate) format: Option<TreeFormat>,
}

/// How images are shown as a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TreeFormat {
    /// For people.
    Table,
    /// One list.
    Json,
}

/// `image diff`
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) old: String,
    /// What it is compared with
    #[arg(value_name = "OTHER")]
    pub(crate) new: String,
    /// Only these paths and what is below them, and nothing of the config
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `image blame`
#[derive(Debug, Args)]
pub(crate) struct BlameArgs {
    /// A name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// A path, which begins with `/`; the name of a variable or a label; or a field of the config as
    /// `Cmd` or `User`
    #[arg(value_name = "PATH|NAME", required = true)]
    pub(crate) things: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Do not cut anything
    #[arg(long)]
    pub(crate) no_trunc: bool,
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
    /// Only the images for these platforms
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
}

/// `image load`
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Only the images for these platforms [default: all]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// Say nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `image import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The tar, possibly compressed, or its URL; `-` is standard input
    #[arg(value_name = "FILE|URL")]
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
