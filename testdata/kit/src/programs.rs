//! Programs of this machine, taken along into a root file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies programs, and the libraries that they are linked with, below `root`, each to where it is here.
///
/// # Panics
/// If one is not installed.
///
/// # Errors
/// If something cannot be copied.
pub fn copy(names: &[&str], root: &Path) -> io::Result<()> {
    for name in names {
        let program = ["/usr/bin", "/bin", "/usr/sbin"]
            .map(|directory| Path::new(directory).join(name))
            .into_iter()
            .find(|it| it.is_file())
            .unwrap_or_else(|| panic!("no `{name}` here: `testdata/test` installs it"));
        let listed = Command::new("ldd").arg(&program).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let libraries = listed.split_whitespace().filter(|it| it.starts_with('/'));
        for file in libraries.map(PathBuf::from).chain([program]) {
            let place = root.join(file.strip_prefix("/").expect("it is absolute"));
            fs::create_dir_all(place.parent().expect("a file has a directory"))?;
            fs::copy(&file, place)?;
        }
    }
    Ok(())
}
