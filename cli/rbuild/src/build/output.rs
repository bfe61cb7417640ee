//! `--output`: where the result of a build goes.

use std::path::PathBuf;

use crate::fault::Fault;
use crate::spec::fields;

/// Where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Into the store, as an image.
    Image,
    /// Nowhere: only the cache knows it.
    CacheOnly,
    /// Into an archive as well.
    Archive {
        /// The file; standard output where `None`.
        destination: Option<PathBuf>,
        /// A name that the option gives to the image.
        names: Vec<String>,
    },
}

impl Output {
    /// Reads the text of one `--output`.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let (mut kind, mut destination, mut names) = (None, None, Vec::new());
        for (key, value) in fields(text).map_err(|error| Fault::usage(error.to_string()))? {
            match (key.as_str(), value) {
                ("type", Some(value)) => kind = Some(value),
                ("dest", Some(value)) => destination = Some(value),
                ("name", Some(value)) => names.extend(value.split(',').map(str::to_owned)),
                // Harmless ways to ask for what is done anyway.
                ("push" | "unpack", Some(value)) if value == "false" => {}
                ("oci-mediatypes" | "tar" | "store", Some(value)) if value == "true" => {}
                (path, None) => {
                    return Err(later(&format!(
                        "`--output {path}`, the file system as a {}",
                        if path == "-" { "tar" } else { "directory" }
                    )));
                }
                (key, Some(_)) => return Err(later(&format!("`{key}=` of `--output`"))),
            }
        }
        match kind.as_deref() {
            Some("image") if destination.is_some() => {
                Err(Fault::usage("`--output type=image` has no `dest=`").hint(KNOWN))
            }
            Some("image") => Ok(Self::Image),
            Some("cacheonly") => Ok(Self::CacheOnly),
            Some("docker") if destination.is_none() => Ok(Self::Image),
            // One archive serves both: an OCI layout with docker's manifest.json.
            Some("docker" | "oci") => {
                let destination = destination.filter(|it| it != "-").map(PathBuf::from);
                Ok(Self::Archive { destination, names })
            }
            Some(kind @ ("local" | "tar" | "registry")) => {
                Err(later(&format!("`--output type={kind}`")))
            }
            Some(kind) => Err(Fault::usage(format!("`{kind}` is no type of output")).hint(KNOWN)),
            None => Err(Fault::usage(format!("`--output {text}` says no type")).hint(KNOWN)),
        }
    }
}

const KNOWN: &str = "known are type=image, type=docker, type=oci and type=cacheonly";

fn later(what: &str) -> Fault {
    Fault::usage(format!("{what} is not supported yet")).hint(KNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match Output::parse(text) {
            Ok(output) => format!("{output:?}"),
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn outputs_are_bxs() {
        let table = [
            ("type=image", "Image"),
            ("type=docker", "Image"),
            ("type=cacheonly", "CacheOnly"),
            (
                "type=docker,dest=x.tar",
                r#"Archive { destination: Some("x.tar"), names: [] }"#,
            ),
            (
                "type=oci,dest=-",
                "Archive { destination: None, names: [] }",
            ),
            (
                "type=oci,dest=x,name=a:1",
                r#"Archive { destination: Some("x"), names: ["a:1"] }"#,
            ),
            ("type=image,push=false", "Image"),
            (
                "./out",
                "error: `--output ./out`, the file system as a directory is not supported yet",
            ),
            (
                "-",
                "error: `--output -`, the file system as a tar is not supported yet",
            ),
            (
                "type=local,dest=x",
                "error: `--output type=local` is not supported yet",
            ),
            (
                "type=image,push=true",
                "error: `push=` of `--output` is not supported yet",
            ),
            ("type=nonsense", "error: `nonsense` is no type of output"),
            ("dest=x", "error: `--output dest=x` says no type"),
            (
                "type=image,dest=x",
                "error: `--output type=image` has no `dest=`",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
