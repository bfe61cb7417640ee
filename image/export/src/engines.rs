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
use oci::{Digest, Reference};
use registry::SocketError;
use serde::Deserialize;
use snapshot::Snapshots;
use store::{ImageRecord, StoreError};

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
    /// What goes between could not be written.
    #[error("cannot write the image for the engine")]
    Write(#[source] io::Error),
}

/// Gives an engine the image that goes by a name, under that name.
///
/// # Errors
/// If the engine cannot be reached, or does not take it.
pub fn hand_over(
    snapshots: &Snapshots,
    name: &Reference,
    engine: &Engine,
) -> Result<Handed, HandOverError> {
    let handing = Handing {
        snapshots,
        name,
        images: images(snapshots, name)?,
    };
    match engine {
        Engine::Docker(socket) => docker::hand_over(&handing, socket),
        Engine::Podman => podman::hand_over(&handing),
        Engine::Containerd => containerd::hand_over(&handing),
    }
}

/// The images that a name means, one a platform.
fn images(snapshots: &Snapshots, name: &Reference) -> Result<Vec<ImageRecord>, HandOverError> {
    let store = snapshots.store();
    let mut images = Vec::new();
    for (_, id) in store.platforms(name)? {
        images.extend(store.image(&id)?);
    }
    if images.is_empty() {
        let image = store.resolve(&name.to_string()).map_err(SaveError::from)?;
        images.push(image);
    }
    Ok(images)
}

/// An image on its way.
struct Handing<'a> {
    snapshots: &'a Snapshots,
    name: &'a Reference,
    images: Vec<ImageRecord>,
}

impl Handing<'_> {
    /// The layers, by their diff ids.
    fn layers(&self) -> impl Iterator<Item = &Digest> {
        self.images.iter().flat_map(|it| &it.diff_ids)
    }

    /// The layers whose chains are among `chains`.
    fn known_chains(&self, chains: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let mut known = BTreeSet::new();
        let mut other = BTreeSet::new();
        for image in &self.images {
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
            ..SaveOptions::default()
        };
        let words = [self.name.to_string()];
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
