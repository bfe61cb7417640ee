//! How a command gets the rights that it needs, and where its store is then.

use std::path::PathBuf;
use std::sync::OnceLock;

use sandbox::rootless::{EnterError, Rung};

use crate::fault::Fault;

/// Appended to the name of the default store where there is one id only: what is made there cannot
/// be used with more of them.
const SINGLE: &str = "-single";

/// With whose rights this process works, once it has climbed.
static RUNG: OnceLock<Rung> = OnceLock::new();

/// Enters a user namespace where that is needed, and says where the store is: at `root` where that
/// was typed. To be called while the process has one thread.
pub(crate) fn climb(root: Option<PathBuf>) -> Result<PathBuf, Fault> {
    let named = root.is_some() || std::env::var_os("RBUILD_ROOT").is_some_and(|it| !it.is_empty());
    let root = root.map_or_else(store::default_root, Ok)?;
    store::check_owner(&root)?;
    let rung = sandbox::rootless::enter().map_err(worded)?;
    let single = matches!(rung, Rung::Single { .. });
    tracing::debug!(?rung, "entered");
    let _ = RUNG.set(rung);
    if named || !single {
        return Ok(root);
    }
    let mut name = root.file_name().unwrap_or_default().to_owned();
    name.push(SINGLE);
    Ok(root.with_file_name(name))
}

/// With whose rights this process works; `None` before it has climbed.
pub(crate) fn rung() -> Option<&'static Rung> {
    RUNG.get()
}

/// What helps where there is one id only.
pub(crate) fn lacking() -> Option<String> {
    match RUNG.get() {
        Some(Rung::Single { reason }) => Some(format!(
            "rbuild has a single user id here, so nothing can belong to anybody else: {reason}; \
             even so, `apt-get -o APT::Sandbox::User=root` installs what belongs to root alone"
        )),
        _ => None,
    }
}

fn worded(error: EnterError) -> Fault {
    let help = match &error {
        EnterError::Forbidden { obstacle, .. } => Some(obstacle.help()),
        _ => None,
    };
    let fault = Fault::from(error);
    match help {
        Some(help) => fault.hint(help),
        None => fault,
    }
}
