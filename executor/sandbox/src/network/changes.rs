//! What was changed of the host, noted so that the last user, whoever that is, changes it back.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::firewall::Place;
use super::talk::Answer;

/// Where the kernel's settings are.
const SETTINGS: &str = "/proc/sys";

/// The notes, in a file. A change is noted before it is made.
#[derive(Debug)]
pub(super) struct Changes {
    file: PathBuf,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Setting {
        setting: String,
        /// What it was before.
        before: String,
        /// A setting and its value; where it has another by then, somebody else has taken over, and the change stays.
        unless_changed: (String, String),
    },
    /// Rules of ours among those of others.
    Rules(Place),
}

impl Changes {
    pub(super) fn new(state: &Path) -> Changes {
        Changes {
            file: state.join("changes"),
        }
    }

    /// Sets a setting, below `net`, to a value.
    pub(super) fn set(&self, setting: &str, value: &str) -> Answer<()> {
        self.set_while(setting, value, (setting, value))
    }

    /// The same; it is only set back while `unless_changed`, a setting, has the value that it is given with.
    pub(super) fn set_while(
        &self,
        setting: &str,
        value: &str,
        unless_changed: (&str, &str),
    ) -> Answer<()> {
        let before = get(setting)?;
        if before == value {
            return Ok(());
        }
        if !self.has(setting) {
            self.note(&Change::Setting {
                setting: setting.to_owned(),
                before,
                unless_changed: (unless_changed.0.to_owned(), unless_changed.1.to_owned()),
            })?;
        }
        set(setting, value)
    }

    /// Says that a setting loses its value by another change that comes now, and gets it back once
    /// `afterwards`, a setting, has the value that it is given with again.
    pub(super) fn keep(&self, setting: &str, afterwards: (&str, &str)) -> Answer<()> {
        self.note(&Change::Setting {
            setting: setting.to_owned(),
            before: get(setting)?,
            unless_changed: (afterwards.0.to_owned(), afterwards.1.to_owned()),
        })
    }

    /// Puts rules of ours among those of others.
    pub(super) fn insert(&self, place: Place) -> Answer<()> {
        self.note(&Change::Rules(place))?;
        place.insert()
    }

    /// Whether a setting was changed by rbuild.
    pub(super) fn has(&self, setting: &str) -> bool {
        let noted = self.noted();
        noted.iter().any(|it| it.setting() == Some(setting))
    }

    /// Changes everything back, the last first, as far as it is still there.
    pub(super) fn undo(&self) {
        for change in self.noted().into_iter().rev() {
            if let Err(error) = change.undo() {
                tracing::warn!(%error, "a change of the host stays");
            }
        }
        let _ = fs::remove_file(&self.file);
    }

    fn noted(&self) -> Vec<Change> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(Change::parse).collect()
    }

    fn note(&self, change: &Change) -> Answer<()> {
        let opened = fs::File::options()
            .append(true)
            .create(true)
            .open(&self.file);
        let noted = opened.and_then(|mut it| it.write_all(change.written().as_bytes()));
        noted.map_err(|it| format!("cannot write `{}`: {it}", self.file.display()))
    }
}

impl Change {
    fn setting(&self) -> Option<&str> {
        match self {
            Change::Setting { setting, .. } => Some(setting),
            Change::Rules(_) => None,
        }
    }

    fn undo(&self) -> Answer<()> {
        match self {
            Change::Setting {
                setting,
                before,
                unless_changed: (guard, value),
            } => match get(guard).as_ref() == Ok(value) {
                true => set(setting, before),
                false => Ok(()),
            },
            Change::Rules(place) => place.remove(),
        }
    }

    fn written(&self) -> String {
        match self {
            Change::Setting {
                setting,
                before,
                unless_changed: (guard, value),
            } => format!("{setting} {before} {guard} {value}\n"),
            Change::Rules(place) => format!("{RULES}{}\n", place.written()),
        }
    }

    /// A line that is not whole belongs to a change that was not made.
    fn parse(line: &str) -> Option<Change> {
        if let Some(place) = line.strip_prefix(RULES) {
            return Place::parse(place).map(Change::Rules);
        }
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let [setting, before, guard, value] = words.try_into().ok()?;
        Some(Change::Setting {
            setting,
            before,
            unless_changed: (guard, value),
        })
    }
}

/// How a line of a change of rules begins.
const RULES: &str = "rules ";

/// The value of a setting below `net`, as in `ipv4/ip_forward`.
pub(super) fn get(setting: &str) -> Answer<String> {
    let value = fs::read_to_string(path(setting));
    value
        .map(|it| it.trim().to_owned())
        .map_err(|it| format!("cannot read the setting `net/{setting}`: {it}"))
}

/// Gives a setting a value, where that is nobody else's business.
pub(super) fn set(setting: &str, value: &str) -> Answer<()> {
    let done = fs::write(path(setting), value);
    done.map_err(|it| format!("cannot set `net/{setting}` to {value}: {it}"))
}

/// Whether the kernel has a setting.
pub(super) fn exists(setting: &str) -> bool {
    path(setting).exists()
}

fn path(setting: &str) -> PathBuf {
    Path::new(SETTINGS).join("net").join(setting)
}
