//! One file of the container device interface.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

/// No description is longer.
const LONGEST: u64 = 4 << 20;

/// Devices of one class.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Description {
    /// Where it stands.
    #[serde(skip)]
    pub(super) file: PathBuf,
    /// Of two that describe the same device, the higher counts.
    #[serde(skip)]
    pub(super) rank: usize,
    #[serde(rename = "cdiVersion")]
    _version: String,
    /// `VENDOR/CLASS`
    pub(super) kind: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// What all of its devices have in common.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// One device.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// How a process is changed that has the device.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) net_devices: Vec<IgnoredAny>,
    pub(super) hooks: Vec<Hook>,
    pub(super) mounts: Vec<Shared>,
    pub(super) intel_rdt: Option<IgnoredAny>,
    #[serde(alias = "additionalGIDs")]
    pub(super) additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A program that is to be run on the machine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
}

/// A file or directory of the machine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Shared {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

impl Description {
    /// Reads a file; `None` if its name is not that of a description.
    pub(super) fn read(path: &Path, rank: usize) -> Result<Option<Self>, String> {
        let is_json = match path.extension().and_then(|it| it.to_str()) {
            Some("json") => true,
            Some("yaml" | "yml") => false,
            _ => return Ok(None),
        };
        let text = read(path).map_err(|error| error.to_string())?;
        let read: Result<Self, String> = match is_json {
            true => serde_json::from_str(&text).map_err(|error| error.to_string()),
            false => yaml(&text),
        };
        Ok(Some(Self {
            file: path.to_owned(),
            rank,
            ..read?
        }))
    }
}

fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// As the interface's own library reads it, for which `0640` is an octal number.
fn yaml(text: &str) -> Result<Description, String> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let read = serde_saphyr::from_str_with_options(text, options);
    read.map_err(|error| {
        let words = error.to_string();
        words.lines().next().unwrap_or_default().to_owned()
    })
}
