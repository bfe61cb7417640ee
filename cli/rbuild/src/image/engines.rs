//! Other engines on this machine that take images: where they are, and what is said of an image that goes
//! there.

use std::path::PathBuf;

use export::{Engine, Given, Handed};
use snapshot::Snapshots;

use crate::fault::Fault;

/// An engine, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
    Containerd,
}

impl Kind {
    /// Behind `push`, before the image's name and a colon.
    pub(crate) fn of_transport(word: &str) -> Option<Self> {
        Some(match word {
            "docker-daemon" => Self::Docker,
            "containers-storage" => Self::Podman,
            "containerd" => Self::Containerd,
            _ => return None,
        })
    }

    /// The `type=` of an output.
    pub(crate) fn of_output(word: &str) -> Option<Self> {
        Some(match word {
            "docker" => Self::Docker,
            "podman" => Self::Podman,
            "containerd" => Self::Containerd,
            _ => return None,
        })
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
        }
    }

    /// Where it is.
    pub(crate) fn find(self) -> Result<Engine, Fault> {
        Ok(match self {
            Self::Docker => Engine::Docker(docker_socket(std::env::var("DOCKER_HOST").ok())?),
            Self::Podman => Engine::Podman,
            Self::Containerd => Engine::Containerd,
        })
    }

    /// Whether it is there: nobody builds for an hour to learn that it is not.
    pub(crate) fn reach(self) -> Result<(), Fault> {
        export::reach(&self.find()?).map_err(|error| {
            Fault::from(error)
                .prefix("ERROR: failed to build: ")
                .hint("`--output type=image` keeps the image in rbuild's own store, `type=docker,dest=FILE` writes an archive")
        })
    }
}

fn docker_socket(host: Option<String>) -> Result<PathBuf, Fault> {
    let Some(host) = host.filter(|it| !it.is_empty()) else {
        return Ok(PathBuf::from("/var/run/docker.sock"));
    };
    match host.strip_prefix("unix://") {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(Fault::usage(format!(
            "DOCKER_HOST is `{host}`: images go only to an engine on this machine, by unix://PATH"
        ))),
    }
}

/// Gives an image to an engine, and says in one line what came of it.
pub(crate) fn hand_over(
    snapshots: &Snapshots,
    image: Given<'_>,
    engine: &Engine,
) -> Result<String, Fault> {
    let Handed { layers, known } = export::hand_over(snapshots, image, engine)?;
    let loaded = match image {
        Given::Named(name) => format!("Loaded image: {}", name.familiar()),
        Given::Unnamed(id) => format!("Loaded image ID: {id}"),
    };
    Ok(format!(
        "{loaded} ({known} of {layers} layers were there)\n"
    ))
}
