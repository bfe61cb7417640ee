//! Registries, as the machine and the person have them configured.

use std::path::{Path, PathBuf};

use registry::{Client, DockerConfig, Settings};
use snapshot::Snapshots;
use store::Store;

use crate::fault::Fault;

/// What the machine says of registries.
const MACHINE: &str = "/etc/rbuild/config.toml";

/// Who speaks to registries, as docker's credentials say.
pub(crate) fn client() -> Result<Client, Fault> {
    Ok(Client::new(settings()?, Box::new(DockerConfig)))
}

/// The snapshots of a store, with the limits that the configuration sets for what comes from elsewhere.
pub(crate) fn snapshots(store: Store) -> Result<Snapshots, Fault> {
    Ok(Snapshots::limited(store, settings()?.limits))
}

/// How registries are reached: `$RBUILD_CONFIG` alone, else the machine's file and over it the
/// person's.
pub(crate) fn settings() -> Result<Settings, Fault> {
    Ok(Settings::read(files(|name| {
        std::env::var_os(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    }))?)
}

fn files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(file) = variable("RBUILD_CONFIG") {
        return vec![file];
    }
    let home = variable("HOME").map(|home| home.join(".config"));
    let own = variable("XDG_CONFIG_HOME").or(home);
    let own = own.map(|directory| directory.join("rbuild/config.toml"));
    [Path::new(MACHINE).to_owned()]
        .into_iter()
        .chain(own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_persons_file_stands_over_the_machines_and_a_named_one_alone() {
        let with = |set: &'static [(&str, &str)]| {
            let found = files(move |name| {
                let value = set.iter().find(|(key, _)| *key == name);
                value.map(|(_, value)| PathBuf::from(value))
            });
            let shown: Vec<String> = found.iter().map(|it| it.display().to_string()).collect();
            shown.join(" ")
        };
        assert_eq!(with(&[]), "/etc/rbuild/config.toml");
        assert_eq!(
            with(&[("HOME", "/h")]),
            "/etc/rbuild/config.toml /h/.config/rbuild/config.toml"
        );
        assert_eq!(
            with(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]),
            "/etc/rbuild/config.toml /x/rbuild/config.toml"
        );
        assert_eq!(with(&[("HOME", "/h"), ("RBUILD_CONFIG", "/c")]), "/c");
    }
}
