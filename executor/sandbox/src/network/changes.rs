//! What was changed of the host, noted so that the last user, whoever that is, changes it back.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
struct Change {
    setting: String,
    /// What it was before.
    before: String,
    /// A setting and its value; where it has another by then, somebody else has taken over, and the change stays.
    unless_changed: (String, String),
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
            self.note(&Change {
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
        self.note(&Change {
            setting: setting.to_owned(),
            before: get(setting)?,
            unless_changed: (afterwards.0.to_owned(), afterwards.1.to_owned()),
        })
    }

    /// Whether a setting was changed by rbuild.
    pub(super) fn has(&self, setting: &str) -> bool {
        self.noted().iter().any(|it| it.setting == setting)
    }

    /// Changes everything back, the last first, as far as it is still there.
    pub(super) fn undo(&self) {
        for change in self.noted().into_iter().rev() {
            let (guard, value) = &change.unless_changed;
            if get(guard).as_ref() == Ok(value)
                && let Err(error) = set(&change.setting, &change.before)
            {
                tracing::warn!(%error, "a setting stays");
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
    fn written(&self) -> String {
        let (guard, value) = &self.unless_changed;
        format!("{} {} {guard} {value}\n", self.setting, self.before)
    }

    /// A line that is not whole belongs to a change that was not made.
    fn parse(line: &str) -> Option<Change> {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let [setting, before, guard, value] = words.try_into().ok()?;
        Some(Change {
            setting,
            before,
            unless_changed: (guard, value),
        })
    }
}

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
