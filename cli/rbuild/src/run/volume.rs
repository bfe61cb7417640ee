//! `--volume`: directories and files of the machine.

use std::path::{Component, Path, PathBuf};

use crate::fault::Fault;

/// A directory or file of the machine, and where the container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Absolute.
    pub(crate) source: PathBuf,
    /// Absolute, within the container.
    pub(crate) target: String,
    /// Whether the container can only look.
    pub(crate) read_only: bool,
}

impl Volume {
    /// Reads `HOST:CONTAINER[:ro]`. A relative HOST begins with `.`, as with docker; it is relative to `here`.
    pub(crate) fn parse(text: &str, here: &Path) -> Result<Self, Fault> {
        let wrong =
            |why: &str| Fault::usage(format!("invalid volume specification `{text}`: {why}"));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [_] => return Err(wrong("volumes without a HOST are not supported yet")),
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => return Err(wrong("it has too many colons")),
        };
        if source.is_empty() || target.is_empty() {
            return Err(wrong("HOST and CONTAINER cannot be empty"));
        }
        if !source.starts_with(['/', '.', '~']) {
            return Err(wrong(
                "volumes with a name are not supported yet; a directory begins with `/` or `./`",
            ));
        }
        if !target.starts_with('/') {
            return Err(wrong("the path in the container is not absolute"));
        }
        let mut read_only = false;
        for option in options.split(',').filter(|it| !it.is_empty()) {
            match option {
                "ro" => read_only = true,
                // Labels of a security module that is not there, and what is done anyway.
                "rw" | "z" | "Z" | "rprivate" => {}
                _ => {
                    return Err(wrong(&format!(
                        "the option `{option}` is not supported yet"
                    )));
                }
            }
        }
        Ok(Self {
            source: absolute(here, source),
            target: target.to_owned(),
            read_only,
        })
    }

    /// Makes the directory where nothing is, as docker does for `-v`.
    pub(crate) fn provide(&self) -> Result<(), Fault> {
        if self.source.symlink_metadata().is_ok() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.source).map_err(|source| {
            anyhow::Error::from(source)
                .context(format!("cannot create `{}`", self.source.display()))
                .into()
        })
    }
}

fn absolute(here: &Path, path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in here.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_directories_of_the_machine() {
        let read = |text| match Volume::parse(text, Path::new("/here/now")) {
            Ok(volume) => format!(
                "{} {} {}",
                volume.source.display(),
                volume.target,
                volume.read_only
            ),
            Err(fault) => fault
                .words()
                .trim_end()
                .replace("error: invalid volume specification ", ""),
        };
        let table = [
            ("/a:/b", "/a /b false"),
            ("/a:/b:ro", "/a /b true"),
            ("/a:/b:rw,z", "/a /b false"),
            ("./a:/b", "/here/now/a /b false"),
            (".:/b", "/here/now /b false"),
            ("../a:/b", "/here/a /b false"),
            ("/b", "`/b`: volumes without a HOST are not supported yet"),
            (
                "name:/b",
                "`name:/b`: volumes with a name are not supported yet; a directory begins with `/` or `./`",
            ),
            ("/a:b", "`/a:b`: the path in the container is not absolute"),
            ("/a:", "`/a:`: HOST and CONTAINER cannot be empty"),
            (
                "/a:/b:rshared",
                "`/a:/b:rshared`: the option `rshared` is not supported yet",
            ),
            ("/a:/b:ro:x", "`/a:/b:ro:x`: it has too many colons"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
