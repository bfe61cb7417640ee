//! Says what is different between two records of a step: why the later one was no hit.
//!
//! What is compared is the structure that the keys were made from ([`Step::preimage_with`]), so that
//! a difference is named as people wrote it: an ARG, a flag, a base image. Which *files* of an input
//! differ is not in a key; for that, [`Difference::Files`] says where to look.
//!
//! [`Step::preimage_with`]: crate::Step::preimage_with

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use llb::Op;
use llb::op::{
    Exec, File, FileAction, FileChange, ModeChange, Mount, MountKind, Owner, Ulimit, UserName,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{InputKey, Selector};

/// What stands beside a key for people's sake, and is in no key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// What each input is, in their order.
    pub inputs: Vec<Origin>,
    /// Where the variables of an exec op are declared, those that the Dockerfile declares.
    pub declared: BTreeMap<String, Declared>,
}

/// What an input is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The vertex as people know it: `[build 2/5] COPY . .`
    pub name: String,
    /// For a base image, its name.
    pub image: Option<String>,
    /// For a base image, its id.
    pub id: Option<String>,
    /// Whether it is a directory of the person who builds.
    pub local: bool,
    /// What of it a mount shows: paths to marks that differ where the files do. Empty where nothing
    /// is mounted, or too much to keep.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileMark>,
}

/// What a file is, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    /// Its mode.
    pub mode: u32,
    /// All else that counts.
    pub content: String,
    /// Whether it is a directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
}

/// Where a variable is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// `ARG` or `ENV`.
    pub by: String,
    /// `Dockerfile:3`
    pub at: String,
}

/// One thing that is different between two records of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Difference {
    /// Another instruction altogether.
    Instruction,
    /// Another command.
    Command {
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: String,
        /// Before; `None` where it was not set.
        old: Option<String>,
        /// Now; `None` where it is not set any more.
        new: Option<String>,
        /// Where it is or was declared; `None` for one that comes with the base image.
        declared: Option<Declared>,
    },
    /// Something that an instruction says: `WORKDIR`, `--network`, `--chmod`, the destination.
    Setting {
        /// What.
        what: String,
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// A mount of a `RUN`.
    Mount {
        /// Where it is.
        target: String,
        /// `is new`, `is gone`, `changed`
        how: &'static str,
    },
    /// Another base image.
    Base {
        /// The name before.
        old: String,
        /// The name now.
        new: String,
    },
    /// The base image of the same name is another one.
    Moved {
        /// The name.
        image: String,
        /// The new id.
        id: String,
    },
    /// The step that it stands on is another one, or came out different.
    Follows {
        /// That step.
        #[serde(rename = "after")]
        step: String,
    },
    /// What it takes from an input is different. Which files that are, the trees say.
    Files {
        /// Which input.
        input: usize,
        /// The path that it takes, in the input.
        path: String,
        /// Whose the files are; empty for the build context.
        of: String,
    },
    /// The users and groups that names are looked up in.
    Accounts {
        /// The step that they come from.
        of: String,
    },
}

/// What a key was made from, read back.
#[derive(Debug, Deserialize)]
struct Preimage {
    op: Op,
    inputs: Vec<InputKey>,
    #[serde(default)]
    facts: Facts,
}

/// What stood beside a key, read back from a preimage; nothing where that has none.
pub fn facts_of(preimage: &Value) -> Facts {
    preimage
        .get("facts")
        .and_then(|facts| Facts::deserialize(facts).ok())
        .unwrap_or_default()
}

/// What is different between two preimages, the most telling first. Empty if nothing is, or if one
/// of them was written by a program that this one does not understand.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    match (Preimage::deserialize(old), Preimage::deserialize(new)) {
        (Ok(old), Ok(new)) => compare(&old, &new),
        _ => Vec::new(),
    }
}

fn compare(old: &Preimage, new: &Preimage) -> Vec<Difference> {
    let mut found = Vec::new();
    match (&old.op, &new.op) {
        (Op::Exec(before), Op::Exec(now)) => {
            let declared = |name: &str| {
                let place = new.facts.declared.get(name);
                place.or(old.facts.declared.get(name)).cloned()
            };
            exec(before, now, &declared, &mut found);
        }
        (Op::File(before), Op::File(now)) => file(before, now, &mut found),
        (before, now) if before == now => {}
        _ => found.push(Difference::Instruction),
    }
    if old.inputs.len() != new.inputs.len() && found.is_empty() {
        found.push(Difference::Instruction);
    }
    for (position, (before, now)) in old.inputs.iter().zip(&new.inputs).enumerate() {
        if before != now {
            let origins = (
                old.facts.inputs.get(position),
                new.facts.inputs.get(position),
            );
            input(position, (before, now), origins, &mut found);
        }
    }
    found
}

fn exec(
    old: &Exec,
    new: &Exec,
    declared: &dyn Fn(&str) -> Option<Declared>,
    found: &mut Vec<Difference>,
) {
    if old.args != new.args {
        found.push(Difference::Command {
            old: command(&old.args),
            new: command(&new.args),
        });
    }
    variables(&old.env, &new.env, declared, found);
    let mut setting = |what: &str, old: String, new: String| {
        if old != new {
            found.push(Difference::Setting {
                what: what.to_owned(),
                old,
                new,
            });
        }
    };
    let hosts = |exec: &Exec| {
        let names: Vec<&str> = exec.extra_hosts.keys().map(String::as_str).collect();
        names.join(",")
    };
    let size = |exec: &Exec| exec.shm_size.map_or(String::new(), |it| it.to_string());
    let lower = |text: String| text.to_lowercase();
    setting("WORKDIR", old.cwd.clone(), new.cwd.clone());
    setting("USER", old.user.clone(), new.user.clone());
    setting(
        "--network",
        lower(format!("{:?}", old.network)),
        lower(format!("{:?}", new.network)),
    );
    setting(
        "--security",
        lower(format!("{:?}", old.security)),
        lower(format!("{:?}", new.security)),
    );
    setting("host name", old.hostname.clone(), new.hostname.clone());
    setting("--add-host", hosts(old), hosts(new));
    setting("--shm-size", size(old), size(new));
    setting("--device", devices(old), devices(new));
    setting("--ulimit", ulimits(old), ulimits(new));
    let parent = |exec: &Exec| exec.cgroup_parent.clone().unwrap_or_default();
    setting("--cgroup-parent", parent(old), parent(new));
    mounts(&old.mounts, &new.mounts, found);
}

fn devices(exec: &Exec) -> String {
    let device = |it: &llb::op::Device| match it.required {
        true => format!("{},required", it.name),
        false => it.name.clone(),
    };
    exec.devices
        .iter()
        .map(device)
        .collect::<Vec<_>>()
        .join(" ")
}

/// As they are asked for.
fn ulimits(exec: &Exec) -> String {
    let value = |value: Option<u64>| value.map_or("-1".to_owned(), |it| it.to_string());
    let limit =
        |(name, it): (&String, &Ulimit)| format!("{name}={}:{}", value(it.soft), value(it.hard));
    exec.ulimits.iter().map(limit).collect::<Vec<_>>().join(",")
}

/// The command as written: a shell's `-c` is what nobody wrote.
fn command(args: &[String]) -> String {
    match args {
        [shell, option, text] if shell.ends_with("sh") && option.ends_with('c') => text.clone(),
        _ => args.join(" "),
    }
}

fn variables(
    old: &[String],
    new: &[String],
    declared: &dyn Fn(&str) -> Option<Declared>,
    found: &mut Vec<Difference>,
) {
    let split = |lines: &[String]| -> BTreeMap<String, String> {
        lines
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let (old_values, new_values) = (split(old), split(new));
    let names: BTreeSet<&String> = old_values.keys().chain(new_values.keys()).collect();
    let before = found.len();
    for name in names {
        let (before, now) = (old_values.get(name), new_values.get(name));
        if before != now {
            found.push(Difference::Variable {
                name: name.clone(),
                old: before.cloned(),
                new: now.cloned(),
                declared: declared(name),
            });
        }
    }
    if found.len() == before && old != new {
        found.push(Difference::Setting {
            what: "order of the variables".to_owned(),
            old: old.join(" "),
            new: new.join(" "),
        });
    }
}

fn mounts(old: &[Mount], new: &[Mount], found: &mut Vec<Difference>) {
    let at = |mounts: &[Mount], target: &str| -> Option<Mount> {
        let mount = mounts.iter().find(|it| it.target == target)?;
        let mut mount = mount.clone();
        // Which input it is only counts by what is in it, which the inputs tell.
        if let MountKind::Bind { input, .. } | MountKind::Cache { input, .. } = &mut mount.kind {
            *input = None;
        }
        Some(mount)
    };
    let targets: BTreeSet<&String> = old.iter().chain(new).map(|it| &it.target).collect();
    for target in targets {
        let how = match (at(old, target), at(new, target)) {
            (None, _) => "is new",
            (_, None) => "is gone",
            (Some(old), Some(new)) if old != new => "changed",
            _ => continue,
        };
        found.push(Difference::Mount {
            target: target.clone(),
            how,
        });
    }
}

fn file(old: &File, new: &File, found: &mut Vec<Difference>) {
    if old.actions.len() != new.actions.len() {
        return found.push(Difference::Setting {
            what: "number of sources".to_owned(),
            old: old.actions.len().to_string(),
            new: new.actions.len().to_string(),
        });
    }
    for (old, new) in old.actions.iter().zip(&new.actions) {
        if old != new {
            action(old, new, found);
        }
    }
}

fn action(old: &FileAction, new: &FileAction, found: &mut Vec<Difference>) {
    let before = found.len();
    let mut setting = |what: &str, old: String, new: String| {
        if old != new {
            found.push(Difference::Setting {
                what: what.to_owned(),
                old,
                new,
            });
        }
    };
    match (&old.change, &new.change) {
        (FileChange::Copy(old), FileChange::Copy(new)) => {
            setting("source", old.source.clone(), new.source.clone());
            setting(
                "destination",
                old.destination.clone(),
                new.destination.clone(),
            );
            setting("--chown", owner(&old.owner), owner(&new.owner));
            setting("--chmod", mode(&old.mode), mode(&new.mode));
            setting("--exclude", old.exclude.join(","), new.exclude.join(","));
            setting(
                "--parents",
                old.parents.to_string(),
                new.parents.to_string(),
            );
            setting("unpacking", old.unpack.to_string(), new.unpack.to_string());
        }
        (
            FileChange::MakeFile {
                path: old_path,
                data: old_data,
                mode: old_mode,
                owner: old_owner,
                ..
            },
            FileChange::MakeFile {
                path,
                data,
                mode,
                owner: new_owner,
                ..
            },
        ) => {
            setting("destination", old_path.clone(), path.clone());
            setting("--chown", owner(old_owner), owner(new_owner));
            setting("--chmod", format!("{old_mode:o}"), format!("{mode:o}"));
            if old_data != data {
                setting("text of the here-document", "one".into(), "another".into());
            }
        }
        (
            FileChange::MakeDirectory {
                path: old_path,
                mode: old_mode,
                owner: old_owner,
            },
            FileChange::MakeDirectory {
                path,
                mode,
                owner: new_owner,
            },
        ) => {
            setting("directory", old_path.clone(), path.clone());
            setting("owner", owner(old_owner), owner(new_owner));
            setting("mode", format!("{old_mode:o}"), format!("{mode:o}"));
        }
        _ => {}
    }
    if found.len() == before {
        found.push(Difference::Instruction);
    }
}

fn owner(owner: &Option<Owner>) -> String {
    let name = |name: &UserName| match name {
        UserName::Id(id) => id.to_string(),
        UserName::Name(name) => name.clone(),
    };
    match owner {
        None => String::new(),
        Some(Owner {
            user, group: None, ..
        }) => name(user),
        Some(Owner {
            user,
            group: Some(group),
            ..
        }) => format!("{}:{}", name(user), name(group)),
    }
}

fn mode(mode: &Option<ModeChange>) -> String {
    match mode {
        None => String::new(),
        Some(ModeChange::Octal(mode)) => format!("{mode:o}"),
        Some(ModeChange::Symbolic(mode)) => mode.clone(),
    }
}

fn input(
    position: usize,
    (old, new): (&InputKey, &InputKey),
    (was, is): (Option<&Origin>, Option<&Origin>),
    found: &mut Vec<Difference>,
) {
    let name = || is.map_or_else(String::new, |it| it.name.clone());
    if let (Some(old), Some(new)) = (was.and_then(|it| it.image.as_ref()), is)
        && let (Some(image), Some(id)) = (&new.image, &new.id)
    {
        let moved = was.and_then(|it| it.id.as_ref()) != Some(id);
        if old != image {
            return found.push(Difference::Base {
                old: old.clone(),
                new: image.clone(),
            });
        }
        if moved {
            return found.push(Difference::Moved {
                image: image.clone(),
                id: id.clone(),
            });
        }
    }
    let (InputKey::Content(old), InputKey::Content(new)) = (old, new) else {
        return found.push(Difference::Follows { step: name() });
    };
    let before = found.len();
    for (selector, key) in new {
        let same = |(other, _): &&(Selector, _)| other == selector;
        if old.iter().find(same).is_some_and(|(_, old)| old == key) {
            continue;
        }
        let of = || match is {
            Some(origin) if origin.local => String::new(),
            _ => name(),
        };
        found.push(match selector {
            Selector::Base if is.is_none_or(|it| !it.local) => Difference::Follows { step: name() },
            Selector::Names => Difference::Accounts { of: name() },
            Selector::Base | Selector::Tree => files(position, "/", of()),
            Selector::Path(path) => files(position, path, of()),
            Selector::Copy(copy) => files(position, &copy.path, of()),
        });
    }
    if found.len() == before {
        found.push(Difference::Follows { step: name() });
    }
}

fn files(input: usize, path: &str, of: String) -> Difference {
    Difference::Files {
        input,
        path: path.to_owned(),
        of,
    }
}

impl fmt::Display for Difference {
    /// The sentence, without a full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| match text {
            "" => "nothing".to_owned(),
            text => one_line(text),
        };
        match self {
            Self::Instruction => f.write_str("the instruction is another one"),
            Self::Command { old, new } => {
                write!(
                    f,
                    "the command changed: `{}` -> `{}`",
                    one_line(old),
                    one_line(new)
                )
            }
            Self::Variable {
                name,
                old,
                new,
                declared,
            } => {
                let by = declared.as_ref().map_or("ENV", |it| it.by.as_str());
                match (old, new) {
                    (Some(old), Some(new)) => {
                        write!(f, "{by} {name} {} -> {}", quoted(old), quoted(new))?;
                    }
                    (None, Some(new)) => write!(f, "{by} {name} is new: {}", quoted(new))?,
                    (Some(old), None) => write!(f, "{by} {name} is gone, it was {}", quoted(old))?,
                    (None, None) => write!(f, "{by} {name}")?,
                }
                match declared {
                    Some(place) => write!(f, ", declared at {}", place.at),
                    None => f.write_str(", from the base image"),
                }
            }
            Self::Setting { what, old, new } => {
                write!(f, "{what} {} -> {}", shown(old), shown(new))
            }
            Self::Mount { target, how } => write!(f, "the mount at {target} {how}"),
            Self::Base { old, new } => write!(f, "base {old} -> {new}"),
            Self::Moved { image, id } => write!(f, "base {image} moved to {id}"),
            Self::Follows { step } if step.is_empty() => {
                f.write_str("what it stands on is different")
            }
            Self::Follows { step } => write!(f, "`{}` came out different", one_line(step)),
            Self::Files { path, of, .. } if of.is_empty() => {
                write!(f, "{} changed", shown_path(path))
            }
            // A stage that is mounted whole.
            Self::Files { path, of, .. } if path == "/" => {
                write!(f, "`{}` came out different", one_line(of))
            }
            Self::Files { path, of, .. } => {
                write!(f, "{} of `{}` changed", shown_path(path), one_line(of))
            }
            Self::Accounts { of } => {
                write!(f, "/etc/passwd or /etc/group of `{}` changed", one_line(of))
            }
        }
    }
}

fn shown_path(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => "the build context",
        path => path,
    }
}

/// A value as it is, in quotes where it would not be seen to be one.
fn quoted(value: &str) -> String {
    let plain =
        !value.is_empty() && !value.contains(|it: char| it.is_whitespace() || it.is_control());
    if plain {
        one_line(value)
    } else {
        format!("{:?}", one_line(value))
    }
}

/// What fits into a sentence of a text of any size.
fn one_line(text: &str) -> String {
    const MOST: usize = 120;
    let text = text.trim();
    let line = text.lines().next().unwrap_or("");
    let mut cut: String = line.chars().take(MOST).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests;
