//! Devices that a step is lent, as the machine describes them: the container device interface (CDI).
//!
//! Vendors and administrators put *descriptions* where they can be found. A description names devices
//! of one class (`vendor.example/gpu`) and says how a process is changed that has one: its device
//! nodes, mounts, variables and groups. A description may ask for more than that, such as programs to
//! be run on the machine; then the device is not lent, since half of it is of no use.

mod description;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use llb::op;
use sandbox::{DeviceKind, MountSource};
use snapshot::Account;

use description::{Description, Edits, Node, Shared};

/// Where descriptions are: the interface's own places, and BuildKit's. What stands in a later one counts more.
const DIRECTORIES: [&str; 3] = ["/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"];
/// The annotation with another name, by which devices of a class can be asked for together: BuildKit's.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Permissions of a node of which nothing is said.
const USUAL_MODE: u32 = 0o666;

/// Why a step is not lent a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The machine describes no such device. In BuildKit's words.
    #[error("required device {name:?} is not registered: {why}")]
    Missing {
        /// As the step calls it.
        name: String,
        /// What is there instead.
        why: String,
    },
    /// It is described twice, in one file or in files that count as much.
    #[error("device {name:?} is described twice, in `{}` and in `{}`", one.display(), other.display())]
    Twice {
        /// Its whole name.
        name: String,
        /// The one description.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Its description asks for what no step gets.
    #[error("device {name:?} cannot be lent: {why} (`{}`)", file.display())]
    Unfit {
        /// Its whole name.
        name: String,
        /// What it asks for.
        why: String,
        /// Its description.
        file: PathBuf,
    },
}

/// How a process is changed that is lent devices.
#[derive(Debug, Default)]
pub(super) struct Lent {
    pub(super) mounts: Vec<sandbox::Mount>,
    pub(super) env: Vec<String>,
    pub(super) groups: Vec<u32>,
}

/// Finds what is asked for, for a process of `account`. What is not there and not required is told
/// with `tell`.
pub(super) fn lend(
    asked: &[op::Device],
    account: &Account,
    tell: &dyn Fn(&str, &str),
) -> Result<Lent, DeviceError> {
    let mut lent = Lent::default();
    if asked.is_empty() {
        return Ok(lent);
    }
    let registry = Registry::read(&DIRECTORIES.map(PathBuf::from));
    let (mut devices, mut descriptions) = (BTreeSet::new(), BTreeSet::new());
    for device in asked {
        let found = registry.find(&device.name)?;
        match (&found[..], device.required) {
            ([], true) => {
                return Err(DeviceError::Missing {
                    name: device.name.clone(),
                    why: registry.why_not(device.class()),
                });
            }
            ([], false) => tell(&device.name, &registry.why_not(device.class())),
            _ => {}
        }
        for one in found {
            if !devices.insert(one.name()) {
                continue;
            }
            // What a description says of all its devices counts once.
            if descriptions.insert(&one.description.file) {
                one.apply(&one.description.container_edits, account, &mut lent)?;
            }
            one.apply(one.edits(), account, &mut lent)?;
        }
    }
    Ok(lent)
}

/// All that the machine describes.
struct Registry {
    /// The more they count, the later.
    descriptions: Vec<Description>,
    unreadable: Vec<String>,
}

/// One device of a description.
#[derive(Debug, Clone, Copy)]
struct Found<'a> {
    description: &'a Description,
    index: usize,
}

impl Registry {
    fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self {
            descriptions: Vec::new(),
            unreadable: Vec::new(),
        };
        for (rank, directory) in directories.iter().enumerate() {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                match Description::read(&file, rank) {
                    Ok(Some(description)) => registry.descriptions.push(description),
                    Ok(None) => {}
                    Err(why) => registry
                        .unreadable
                        .push(format!("`{}` cannot be read: {why}", file.display())),
                }
            }
        }
        registry
    }

    /// Every device by its whole name, each once: of those that count most the first, with another
    /// that counts as much where there is one.
    fn all(&self) -> Vec<(Found<'_>, Option<&Description>)> {
        let mut all: Vec<(Found<'_>, Option<&Description>)> = Vec::new();
        for description in &self.descriptions {
            for index in 0..description.devices.len() {
                let found = Found { description, index };
                match all.iter_mut().find(|(it, _)| it.name() == found.name()) {
                    None => all.push((found, None)),
                    Some(known) if known.0.description.rank < description.rank => {
                        *known = (found, None);
                    }
                    Some((_, rival)) => *rival = Some(description),
                }
            }
        }
        all.sort_by_key(|(it, _)| it.name());
        all
    }

    /// Why nothing goes by a name of this class: what could not be read, or what there is instead.
    fn why_not(&self, class: &str) -> String {
        if !self.unreadable.is_empty() {
            return self.unreadable.join("; ");
        }
        let mut all = self.all();
        all.retain(|(it, _)| it.description.kind == class);
        let names: Vec<String> = all.iter().map(|(it, _)| it.name()).collect();
        match &names[..] {
            [] => format!("nothing in {} describes a {class}", DIRECTORIES.join(", ")),
            names => format!("this machine has {}", names.join(", ")),
        }
    }

    /// What goes by a name: a device, all of a class, the first of one, or those that say so.
    fn find(&self, name: &str) -> Result<Vec<Found<'_>>, DeviceError> {
        let (class, own) = match name.split_once('=') {
            Some((class, own)) => (class, Some(own)),
            None => (name, None),
        };
        let mut all = self.all();
        all.retain(|(it, _)| it.description.kind == class);
        match own {
            None => all.truncate(1),
            Some("*") => {}
            Some(_) if all.iter().any(|(it, _)| it.name() == name) => {
                all.retain(|(it, _)| it.name() == name);
            }
            Some(own) => all.retain(|(it, _)| it.annotation(CLASS) == Some(own)),
        }
        all.into_iter().map(Found::alone).collect()
    }
}

impl<'a> Found<'a> {
    /// Itself, unless nobody can say which of two is meant.
    fn alone((found, rival): (Self, Option<&Description>)) -> Result<Self, DeviceError> {
        match rival {
            None => Ok(found),
            Some(rival) => Err(DeviceError::Twice {
                name: found.name(),
                one: found.description.file.clone(),
                other: rival.file.clone(),
            }),
        }
    }

    fn name(&self) -> String {
        let name = &self.description.devices[self.index].name;
        format!("{}={name}", self.description.kind)
    }

    fn edits(&self) -> &'a Edits {
        &self.description.devices[self.index].container_edits
    }

    fn annotation(&self, key: &str) -> Option<&'a str> {
        let own = &self.description.devices[self.index].annotations;
        let value = own.get(key).or(self.description.annotations.get(key));
        value.map(String::as_str)
    }

    fn apply(&self, edits: &Edits, account: &Account, lent: &mut Lent) -> Result<(), DeviceError> {
        let unfit = |why: String| DeviceError::Unfit {
            name: self.name(),
            why,
            file: self.description.file.clone(),
        };
        if let Some(hook) = edits.hooks.first() {
            return Err(unfit(format!(
                "it has `{}` run on this machine ({}), which rbuild does not do",
                hook.path, hook.hook_name
            )));
        }
        if edits.intel_rdt.is_some() || !edits.net_devices.is_empty() {
            return Err(unfit(
                "it asks for more than nodes, mounts, variables and groups".to_owned(),
            ));
        }
        for node in &edits.device_nodes {
            lent.mounts.push(mount_of(node, account).map_err(unfit)?);
        }
        for shared in &edits.mounts {
            lent.mounts.push(shared_mount(shared).map_err(unfit)?);
        }
        if let Some(wrong) = edits.env.iter().find(|it| !it.contains('=')) {
            return Err(unfit(format!("the variable `{wrong}` has no value")));
        }
        lent.env.extend(edits.env.iter().cloned());
        let groups = edits.additional_gids.iter().filter(|it| **it != 0);
        lent.groups.extend(groups);
        Ok(())
    }
}

/// A node of the process's own. What is not said of it is as the machine's is.
fn mount_of(node: &Node, account: &Account) -> Result<sandbox::Mount, String> {
    let host = node.host_path.as_deref().unwrap_or(&node.path);
    if !node.path.starts_with("/dev/") {
        return Err(format!("its node `{}` is not below /dev", node.path));
    }
    let access = node.permissions.as_deref().unwrap_or("rwm");
    if !is_access(access) {
        return Err(format!(
            "`{access}` is not what may be done with its node `{}`",
            node.path
        ));
    }
    let kind = match node.kind.as_deref() {
        Some("c" | "u") => Some(DeviceKind::Character),
        Some("b") => Some(DeviceKind::Block),
        None | Some("") => None,
        Some(other) => return Err(format!("its node `{}` is of the kind {other}", node.path)),
    };
    let (kind, major, minor) = match (kind, node.major, node.minor) {
        (Some(kind), Some(major), Some(minor)) => (kind, major, minor),
        _ => numbers(Path::new(host)).map_err(|error| format!("`{host}`: {error}"))?,
    };
    Ok(sandbox::Mount {
        source: MountSource::Device(sandbox::Device {
            kind,
            major,
            minor,
            mode: node.file_mode.unwrap_or(USUAL_MODE),
            uid: node.uid.unwrap_or(account.uid),
            gid: node.gid.unwrap_or(account.gid),
            access: access.to_owned(),
            host: PathBuf::from(host),
        }),
        target: PathBuf::from(&node.path),
        read_only: false,
    })
}

/// Some of `r`, `w` and `m`, each once.
fn is_access(text: &str) -> bool {
    let each = |it: char| "rwm".contains(it) && text.matches(it).count() == 1;
    !text.is_empty() && text.chars().all(each)
}

/// Which device the machine's own node leads to.
fn numbers(host: &Path) -> io::Result<(DeviceKind, u32, u32)> {
    let found = fs::metadata(host)?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return Err(io::Error::other("this is no device")),
    };
    let device = found.rdev();
    Ok((kind, rustix::fs::major(device), rustix::fs::minor(device)))
}

fn shared_mount(shared: &Shared) -> Result<sandbox::Mount, String> {
    let is_bind = matches!(shared.kind.as_deref(), None | Some("" | "none" | "bind"));
    if !is_bind || !Path::new(&shared.host_path).is_absolute() {
        return Err(format!(
            "its mount at `{}` is none of a path of this machine",
            shared.container_path
        ));
    }
    Ok(sandbox::Mount {
        source: MountSource::Host(PathBuf::from(&shared.host_path)),
        target: PathBuf::from(&shared.container_path),
        read_only: shared.options.iter().any(|it| it == "ro"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
        let home = tempfile::tempdir().unwrap();
        let directories = ["first", "second", "none"].map(|it| home.path().join(it));
        for (path, text) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let registry = Registry::read(&directories);
        (home, registry)
    }

    fn found(registry: &Registry, name: &str) -> String {
        match registry.find(name) {
            Ok(found) => found.iter().map(Found::name).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    const GPUS: &str = "\
cdiVersion: 0.6.0
kind: v.example/gpu
annotations: {org.mobyproject.buildkit.device.class: all-of-them}
devices:
  - name: b
  - name: a
    annotations: {org.mobyproject.buildkit.device.class: fast}
    containerEdits: {env: [A=1]}
";

    #[test]
    fn a_name_means_one_all_the_first_or_those_that_say_so() {
        let json = r#"{"cdiVersion":"0.5.0","kind":"v.example/net","devices":[{"name":"1"}]}"#;
        let (_home, registry) = registry(&[
            ("first/gpu.yaml", GPUS),
            ("second/net.json", json),
            ("second/notes.txt", "nothing"),
        ]);
        assert_eq!(registry.unreadable, [] as [String; 0]);
        for (name, expected) in [
            ("v.example/gpu=b", "v.example/gpu=b"),
            ("v.example/gpu", "v.example/gpu=a"),
            ("v.example/gpu=*", "v.example/gpu=a v.example/gpu=b"),
            ("v.example/gpu=fast", "v.example/gpu=a"),
            ("v.example/gpu=all-of-them", "v.example/gpu=b"),
            ("v.example/gpu=c", ""),
            ("v.example/net=1", "v.example/net=1"),
            ("v.example/disk", ""),
        ] {
            assert_eq!(found(&registry, name), expected, "{name}");
        }
    }

    #[test]
    fn of_two_descriptions_the_later_directory_counts_and_beside_each_other_none() {
        let other = GPUS.replace("A=1", "A=2");
        let (_home, later) = registry(&[("first/g.yaml", GPUS), ("second/g.yaml", &other)]);
        let found = later.find("v.example/gpu=a").unwrap();
        assert_eq!(found[0].edits().env, ["A=2"]);
        let (_home, beside) = registry(&[("first/g.yaml", GPUS), ("first/h.yaml", &other)]);
        let error = beside.find("v.example/gpu=a").unwrap_err().to_string();
        assert!(error.contains("g.yaml` and in `"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_told_where_something_is_missing() {
        let (_home, registry) = registry(&[("first/g.yaml", "cdiVersion: 0.6.0\nknd: v/gpu\n")]);
        let [why] = &registry.unreadable[..] else {
            panic!("{:?}", registry.unreadable)
        };
        assert!(
            why.contains("g.yaml` cannot be read: ") && why.contains("knd"),
            "{why}"
        );
        assert!(!why.contains('\n'), "{why}");
    }

    #[test]
    fn what_no_step_gets_is_refused_with_its_description() {
        let root = Account {
            uid: 7,
            gid: 8,
            groups: Vec::new(),
            home: String::new(),
        };
        let lend = |edits: &str| {
            let text = format!(
                "cdiVersion: 1.0.0\nkind: v/c\ndevices: [{{name: x, containerEdits: {{{edits}}}}}]\n"
            );
            let (home, registry) = registry(&[("first/g.yaml", &text)]);
            assert_eq!(registry.unreadable, [] as [String; 0], "{edits}");
            let found = registry.find("v/c=x").unwrap();
            let mut lent = Lent::default();
            match found[0].apply(found[0].edits(), &root, &mut lent) {
                Ok(()) => format!("{:?} {:?} {:?}", lent.mounts, lent.env, lent.groups),
                Err(error) => error
                    .to_string()
                    .replace(&home.path().display().to_string(), "@"),
            }
        };
        let table = [
            (
                "hooks: [{hookName: createContainer, path: /usr/bin/ldconfig}]",
                "device \"v/c=x\" cannot be lent: it has `/usr/bin/ldconfig` run on this machine (createContainer), which rbuild does not do (`@/first/g.yaml`)",
            ),
            (
                "intelRdt: {closID: a}",
                "device \"v/c=x\" cannot be lent: it asks for more than nodes, mounts, variables and groups (`@/first/g.yaml`)",
            ),
            (
                "deviceNodes: [{path: /etc/x, type: c, major: 1, minor: 3}]",
                "device \"v/c=x\" cannot be lent: its node `/etc/x` is not below /dev (`@/first/g.yaml`)",
            ),
            (
                "deviceNodes: [{path: /dev/x, type: p}]",
                "device \"v/c=x\" cannot be lent: its node `/dev/x` is of the kind p (`@/first/g.yaml`)",
            ),
            (
                "deviceNodes: [{path: /dev/x, type: c, permissions: rwr}]",
                "device \"v/c=x\" cannot be lent: `rwr` is not what may be done with its node `/dev/x` (`@/first/g.yaml`)",
            ),
            (
                "deviceNodes: [{path: /dev/x, hostPath: /etc/passwd}]",
                "device \"v/c=x\" cannot be lent: `/etc/passwd`: this is no device (`@/first/g.yaml`)",
            ),
            (
                "mounts: [{hostPath: tmpfs, containerPath: /x, type: tmpfs}]",
                "device \"v/c=x\" cannot be lent: its mount at `/x` is none of a path of this machine (`@/first/g.yaml`)",
            ),
            (
                "env: [A]",
                "device \"v/c=x\" cannot be lent: the variable `A` has no value (`@/first/g.yaml`)",
            ),
            (
                "env: [A=1], additionalGids: [0, 44], mounts: [{hostPath: /usr, containerPath: /u, options: [rbind, ro]}], \
                 deviceNodes: [{path: /dev/x, hostPath: /dev/null, fileMode: 0640, permissions: r}]",
                "[Mount { source: Device(Device { kind: Character, major: 1, minor: 3, mode: 416, uid: 7, gid: 8, access: \"r\", host: \"/dev/null\" }), target: \"/dev/x\", read_only: false }, \
                 Mount { source: Host(\"/usr\"), target: \"/u\", read_only: true }] [\"A=1\"] [44]",
            ),
        ];
        for (edits, expected) in table {
            assert_eq!(lend(edits), expected, "{edits}");
        }
    }
}
