//! Images straight into other engines on this machine, by the ways they offer: what they have already is
//! named and not sent.
//!
//! | engine | its way in | what is left out |
//! |---|---|---|
//! | docker | `POST /images/load` at its socket | layers of chains that its images have, where it keeps layers as files |
//! | podman | `podman pull oci:DIRECTORY` | layers that its storage has |
//! | containerd | `ctr images import` | blobs that its content store has |

mod containerd;
mod docker;
mod podman;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Output as Ended, Stdio};

use oci::config::chain_ids;
use oci::{Digest, Platform, Reference};
use registry::SocketError;
use serde::Deserialize;
use snapshot::Snapshots;
use store::{ImageRecord, StoreError};

use crate::attest::Attestations;
use crate::save::{self, SaveError, SaveOptions};

/// Another engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// Docker's, with its socket.
    Docker(PathBuf),
    /// Podman's storage, of the person who runs rbuild.
    Podman,
    /// containerd, in the namespace and at the address that `ctr` finds in the environment.
    Containerd,
}

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given<'a> {
    /// The image, or the images of several platforms, of a name.
    Named(&'a Reference),
    /// The image with an id.
    Unnamed(&'a Digest),
}

/// What was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed {
    /// Layers of the image.
    pub layers: usize,
    /// Those that the engine had, as far as it could be asked.
    pub known: usize,
}

/// Why an engine did not get an image.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// There is no such image, or it cannot be read.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Docker does not answer, or not as it should.
    #[error("docker does not take the image")]
    Docker(#[source] SocketError),
    /// Docker said no.
    #[error("docker does not take the image: {0}")]
    Refused(String),
    /// What docker says is not what it should say.
    #[error("docker answers what cannot be read")]
    Answer(#[source] serde_json::Error),
    /// The engine's program does not run.
    #[error("cannot run `{program}`")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine's program says no.
    #[error("`{program}` does not take the image: {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// Its words, the last line.
        said: String,
    },
    /// The engine finds images by their names only.
    #[error("containerd keeps images by their names, and this one has none")]
    Nameless,
    /// What goes between could not be written.
    #[error("cannot write the image for the engine")]
    Write(#[source] io::Error),
}

/// Gives an engine the image that goes by a name, under that name; or one without a name, which
/// containerd does not take.
///
/// Of an image for several platforms, an engine that has no place for more gets that for this machine.
///
/// # Errors
/// If the engine cannot be reached, or does not take it.
pub fn hand_over(
    snapshots: &Snapshots,
    image: Given<'_>,
    engine: &Engine,
) -> Result<Handed, HandOverError> {
    let handing = Handing {
        snapshots,
        image,
        images: images(snapshots, image)?,
    };
    match engine {
        Engine::Docker(socket) => docker::hand_over(handing, socket),
        Engine::Podman => podman::hand_over(&handing.of_host()),
        Engine::Containerd => containerd::hand_over(&handing),
    }
}

/// Whether an engine is there.
///
/// # Errors
/// If it is not, or does not answer.
pub fn reach(engine: &Engine) -> Result<(), HandOverError> {
    match engine {
        Engine::Docker(socket) => docker::reach(socket),
        Engine::Podman => podman::reach(),
        Engine::Containerd => containerd::reach(),
    }
}

/// The image, or those of several platforms, in the order of the platforms.
fn images(
    snapshots: &Snapshots,
    image: Given<'_>,
) -> Result<Vec<(Platform, ImageRecord)>, HandOverError> {
    let store = snapshots.store();
    let mut images = Vec::new();
    if let Given::Named(name) = image {
        for (platform, id) in store.platforms(name)? {
            images.extend(store.image(&id)?.map(|image| (platform, image)));
        }
    }
    if images.is_empty() {
        let found = store.resolve(&image.word()).map_err(SaveError::from)?;
        let config = save::config(&found, &save::read_blob(store, &found.id)?)?;
        images.push((config.platform(), found));
    }
    Ok(images)
}

/// An image on its way.
struct Handing<'a> {
    snapshots: &'a Snapshots,
    image: Given<'a>,
    images: Vec<(Platform, ImageRecord)>,
}

impl Given<'_> {
    /// What stands for it in words.
    fn word(&self) -> String {
        match self {
            Self::Named(name) => name.to_string(),
            Self::Unnamed(id) => id.to_string(),
        }
    }
}

impl Handing<'_> {
    /// Only the image for this machine; or the first, where there is none.
    fn of_host(mut self) -> Self {
        let host = Platform::host();
        let of_host = self.images.iter().position(|(it, _)| *it == host);
        self.images = vec![self.images.swap_remove(of_host.unwrap_or(0))];
        self
    }

    /// Whether this machine can run it.
    fn is_of_host(&self) -> bool {
        let host = Platform::host();
        self.images.iter().any(|(platform, _)| *platform == host)
    }

    /// How it is written, but for what the engine knows: alone, since what is said about an image would be
    /// another image to them.
    fn options(&self) -> SaveOptions {
        SaveOptions {
            attestations: Some(Attestations::default()),
            platforms: self.images.iter().map(|(it, _)| it.clone()).collect(),
            ..SaveOptions::default()
        }
    }

    /// The layers, by their diff ids.
    fn layers(&self) -> impl Iterator<Item = &Digest> {
        self.images.iter().flat_map(|(_, image)| &image.diff_ids)
    }

    /// The layers whose chains are among `chains`.
    fn known_chains(&self, chains: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let mut known = BTreeSet::new();
        let mut other = BTreeSet::new();
        for (_, image) in &self.images {
            for (chain, layer) in chain_ids(&image.diff_ids).iter().zip(&image.diff_ids) {
                match chains.contains(chain) {
                    true => known.insert(*layer),
                    false => other.insert(*layer),
                };
            }
        }
        // One that is also needed on top of something else is sent.
        &known - &other
    }

    fn handed(&self, known: &BTreeSet<Digest>) -> Handed {
        let layers: BTreeSet<&Digest> = self.layers().collect();
        Handed {
            layers: layers.len(),
            known: layers.iter().filter(|it| known.contains(**it)).count(),
        }
    }

    /// Writes the image as an archive, without what is known, for `take` to read.
    fn stream<T>(
        &self,
        known: BTreeSet<Digest>,
        take: impl FnOnce(&mut dyn Read) -> Result<T, HandOverError>,
    ) -> Result<T, HandOverError> {
        let (mut reader, mut writer) = io::pipe().map_err(HandOverError::Write)?;
        let options = SaveOptions {
            known,
            ..self.options()
        };
        let words = [self.image.word()];
        std::thread::scope(|threads| {
            let saving = threads.spawn(move || {
                save::save(
                    self.snapshots,
                    &words,
                    &options,
                    save::Output::Stream(&mut writer),
                )
            });
            let taken = take(&mut reader);
            // Whoever does not read to the end has said why.
            drop(reader);
            let saved = saving.join().expect("writing an archive does not panic");
            match (taken, saved) {
                (Ok(_), Err(error)) => Err(error.into()),
                (taken, _) => taken,
            }
        })
    }
}

/// What docker and podman say of an image.
#[derive(Deserialize)]
struct Inspected {
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    layers: Option<Vec<Digest>>,
}

impl Inspected {
    /// Its layers, each with all below it.
    fn chains(self) -> Vec<Digest> {
        chain_ids(&self.root_fs.layers.unwrap_or_default())
    }
}

/// Runs an engine's program to its end, giving it what can be read.
fn run(
    program: &'static str,
    args: &[&str],
    input: Option<&mut dyn Read>,
) -> Result<String, HandOverError> {
    let mut command = Command::new(program);
    command.args(args);
    wait(program, command, input)
}

/// The same for a program with more to it than arguments.
fn wait(
    program: &'static str,
    mut command: Command,
    input: Option<&mut dyn Read>,
) -> Result<String, HandOverError> {
    let failed = |source| HandOverError::Program { program, source };
    let stdin = match input {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // One that does not read to the end says why it ends.
        let _ = io::copy(input, &mut stdin);
    }
    let ended = child.wait_with_output().map_err(failed)?;
    match ended.status.success() {
        true => Ok(String::from_utf8_lossy(&ended.stdout).into_owned()),
        false => Err(HandOverError::Failed {
            program,
            said: last_words(&ended),
        }),
    }
}

fn last_words(ended: &Ended) -> String {
    let said = String::from_utf8_lossy(&ended.stderr);
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or_else(
        || ended.status.to_string(),
        |line| line.trim().chars().take(500).collect(),
    )
}
