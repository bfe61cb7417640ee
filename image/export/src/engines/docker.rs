//! Docker's engine, by its API.

use std::collections::BTreeSet;
use std::path::Path;

use oci::Digest;
use registry::Socket;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{HandOverError, Handed, Handing, Inspected};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    driver_status: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// One line of what docker says while it loads.
#[derive(Deserialize)]
struct Said {
    error: Option<String>,
}

pub(super) fn reach(socket: &Path) -> Result<(), HandOverError> {
    let pinged = Socket::new(socket).get("/_ping");
    pinged.map(drop).map_err(HandOverError::Docker)
}

pub(super) fn hand_over(handing: Handing<'_>, socket: &Path) -> Result<Handed, HandOverError> {
    let docker = Socket::new(socket);
    let (handing, chains) = match keeps_layers(&docker)? {
        true => (handing.of_host(), chains(&docker)?),
        false => (handing, BTreeSet::new()),
    };
    let known = handing.known_chains(&chains);
    let handed = handing.handed(&known);
    match load(&handing, &docker, known) {
        // An image may have gone since we asked.
        Err(HandOverError::Refused(_)) if handed.known > 0 => {
            load(&handing, &docker, BTreeSet::new())?;
            Ok(Handed { known: 0, ..handed })
        }
        loaded => loaded.map(|()| handed),
    }
}

fn load(
    handing: &Handing<'_>,
    docker: &Socket,
    known: BTreeSet<Digest>,
) -> Result<(), HandOverError> {
    let answer = handing.stream(known, |archive| {
        docker
            .post("/images/load?quiet=1", "application/x-tar", archive)
            .map_err(HandOverError::Docker)
    })?;
    let said = serde_json::Deserializer::from_slice(&answer).into_iter::<Said>();
    let refusal = said.flatten().find_map(|it| it.error);
    refusal.map_or(Ok(()), |why| Err(HandOverError::Refused(why)))
}

/// Whether docker keeps layers as files. Where it keeps images in containerd's store instead, a layer that
/// is not sent is missed, and an image may be for several platforms.
fn keeps_layers(docker: &Socket) -> Result<bool, HandOverError> {
    let info: Info = ask(docker, "/info")?;
    let status = info.driver_status.unwrap_or_default();
    let is_containerd = status
        .iter()
        .any(|(key, value)| key == "driver-type" && value.starts_with("io.containerd."));
    Ok(!is_containerd)
}

/// The chains of layers of all of docker's images.
fn chains(docker: &Socket) -> Result<BTreeSet<Digest>, HandOverError> {
    let mut chains = BTreeSet::new();
    for image in ask::<Vec<Listed>>(docker, "/images/json?all=1")? {
        // One that has gone since has no chains.
        let Ok(image) = ask::<Inspected>(docker, &format!("/images/{}/json", image.id)) else {
            continue;
        };
        chains.extend(image.chains());
    }
    Ok(chains)
}

fn ask<T: DeserializeOwned>(docker: &Socket, address: &str) -> Result<T, HandOverError> {
    let answer = docker.get(address).map_err(HandOverError::Docker)?;
    serde_json::from_slice(&answer).map_err(HandOverError::Answer)
}
