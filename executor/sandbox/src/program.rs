//! Programs of the host that work for rbuild.

use std::env;
use std::path::PathBuf;

/// Where programs are when nobody says it.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a program is, by `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| USUAL.into());
    env::split_paths(&path)
        .map(|it| it.join(name))
        .find(|it| it.is_file())
}
