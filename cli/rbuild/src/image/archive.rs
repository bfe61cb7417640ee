//! `image save`, `load` and `import`: images out and in.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use export::{Change, Described, ImportOptions, Loaded, SaveError, SaveOptions};
use oci::{Platform, Reference};
use registry::http;
use snapshot::Snapshots;
use store::Store;

use crate::args::{ImportArgs, LoadArgs, SaveArgs};
use crate::build::SYNC_LIMIT;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::{OutputError, print};
use crate::progress::terminal::say;
use crate::registries;

/// Writes images to a file or to standard output.
pub(crate) fn save(store: Store, args: &SaveArgs) -> Result<(), Fault> {
    let options = SaveOptions {
        platforms: platforms(&args.platform)?,
        ..SaveOptions::default()
    };
    let to = args
        .output
        .as_deref()
        .map_or(ArchiveTo::Stdout, ArchiveTo::File);
    write(&Snapshots::new(store), &args.images, to, &options)?;
    Ok(())
}

/// Where an archive goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ArchiveTo<'a> {
    /// Into a file.
    File(&'a Path),
    /// Into a directory, as an OCI layout.
    Layout(&'a Path),
    /// To standard output.
    Stdout,
}

/// Writes the images that `words` mean, and gives what the archive calls the one or all of them.
pub(crate) fn write(
    snapshots: &Snapshots,
    words: &[String],
    to: ArchiveTo<'_>,
    options: &SaveOptions,
) -> Result<Option<Described>, Fault> {
    let mut stdout = io::stdout().lock();
    let out = match to {
        ArchiveTo::File(path) => export::Output::File(path),
        ArchiveTo::Layout(path) => export::Output::Layout(path),
        ArchiveTo::Stdout if stdout.is_terminal() => {
            return Err(Fault::from(anyhow::anyhow!(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect"
            )));
        }
        ArchiveTo::Stdout => export::Output::Stream(&mut stdout),
    };
    export::save(snapshots, words, options, out).map_err(|error| match (to, error) {
        (ArchiveTo::Stdout, SaveError::Write(source)) => OutputError(source).into(),
        (_, other) => other.into(),
    })
}

/// Reads images from a file or from standard input.
pub(crate) fn load(store: Store, args: &LoadArgs) -> Result<(), Fault> {
    let input = input(args.input.as_deref())?;
    let snapshots = registries::snapshots(store)?;
    let loaded = export::load(&snapshots, input, &platforms(&args.platform)?)?;
    if !args.quiet {
        tell(&loaded)?;
    }
    snapshots.store().mark_synced(SYNC_LIMIT)?;
    Ok(())
}

fn platforms(words: &[String]) -> Result<Vec<Platform>, Fault> {
    words
        .iter()
        .map(|text| super::platform(Some(text)))
        .collect()
}

fn tell(loaded: &[Loaded]) -> Result<(), Fault> {
    for (name, before) in loaded.iter().flat_map(|image| &image.taken) {
        say(&format!(
            "The image {} already exists, renaming the old one with ID {before} to empty string\n",
            name.familiar()
        ));
    }
    let lines = loaded.iter().flat_map(|image| match &image.names[..] {
        [] => vec![format!("Loaded image ID: {}\n", image.id)],
        names => names
            .iter()
            .map(|name| format!("Loaded image: {}\n", name.familiar()))
            .collect(),
    });
    Ok(print(&lines.collect::<String>())?)
}

/// Makes an image of a root file system.
pub(crate) fn import(store: Store, args: &ImportArgs) -> Result<(), Fault> {
    let usage = |error: anyhow::Error| Fault::from(error).exit(Exit::Usage);
    let changes = args
        .change
        .iter()
        .map(|text| Change::parse(text).map_err(|error| usage(error.into())));
    let options = ImportOptions {
        name: args
            .name
            .as_deref()
            .map(str::parse::<Reference>)
            .transpose()
            .map_err(|error| usage(error.into()))?,
        changes: changes.collect::<Result<_, _>>()?,
        message: args
            .message
            .clone()
            .unwrap_or_else(|| format!("Imported from {}", shown(&args.file))),
        platform: match &args.platform {
            Some(text) => text
                .parse()
                .map_err(|error| usage(anyhow::Error::new::<oci::PlatformError>(error)))?,
            None => Platform::host(),
        },
    };
    let input = match address(&args.file) {
        Some(address) => download(&address)?,
        None => input(Some(args.file.as_path()).filter(|path| *path != Path::new("-")))?,
    };
    let snapshots = registries::snapshots(store)?;
    let id = export::import(&snapshots, input, &options)?;
    print(&format!("{id}\n"))?;
    snapshots.store().mark_synced(SYNC_LIMIT)?;
    Ok(())
}

/// The address of a server, where that is what stands for a file.
fn address(file: &Path) -> Option<String> {
    let text = file.to_str()?;
    let is_address = text.starts_with("http://") || text.starts_with("https://");
    (is_address && !file.exists()).then(|| text.to_owned())
}

/// What the history says of where a root file system came from.
fn shown(file: &Path) -> String {
    match address(file) {
        Some(address) => llb::without_credentials(&address),
        None => file.display().to_string(),
    }
}

/// What a server answers with, as it comes in.
fn download(address: &str) -> Result<Box<dyn Read + Send>, Fault> {
    let url = llb::without_credentials(address);
    let request = http::Request {
        url: address.to_owned(),
        ..http::Request::default()
    };
    let reply = http::Http::new(http::Retry::default()).send(&request)?;
    match reply.status {
        200 => Ok(Box::new(reply.into_reader())),
        status => {
            let message = format!("cannot import `{url}`: the server answered {status}");
            Err(anyhow::Error::msg(message).into())
        }
    }
}

/// The file, or standard input where none is named.
fn input(path: Option<&Path>) -> Result<Box<dyn Read + Send>, Fault> {
    match path {
        Some(path) => {
            let file = File::open(path).map_err(|source| {
                anyhow::Error::from(source).context(format!("cannot open `{}`", path.display()))
            })?;
            Ok(Box::new(file))
        }
        None if io::stdin().is_terminal() => {
            Err(Fault::usage("standard input is a terminal").hint("name a file, or redirect one"))
        }
        None => Ok(Box::new(io::stdin())),
    }
}
