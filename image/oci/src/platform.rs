//! Platforms: `os/architecture[/variant]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on, printed as `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system in Go's words, `linux`.
    pub os: String,
    /// Processor in Go's words, `amd64`, `arm64`.
    pub architecture: String,
    /// Flavour of the processor, `v7`; arm64's default `v8` is written as `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a [`Platform`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not one to three parts of letters, digits, `_`, `.` or `-`.
    #[error("platform `{0}` is not of the form `os/architecture[/variant]`")]
    Malformed(String),
    /// One word that is neither an operating system nor an architecture known here.
    #[error(
        "`{0}` is no operating system or architecture known here; write `os/architecture[/variant]`"
    )]
    Unknown(String),
}

const OPERATING_SYSTEMS: &[&str] = &[
    "linux", "windows", "darwin", "freebsd", "openbsd", "netbsd", "wasi",
];

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = normalise(std::env::consts::ARCH, None);
        Self {
            os: std::env::consts::OS.to_owned(),
            architecture,
            variant,
        }
    }

    /// A platform from its parts, with the architecture's aliases resolved (`x86_64`, `aarch64`, `armhf`).
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalise(architecture, variant);
        Self {
            os: os.to_lowercase(),
            architecture,
            variant,
        }
    }
}

/// Architecture and variant under their usual names, after containerd's `platforms.Normalize`.
fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let architecture = architecture.to_lowercase();
    let variant = variant.map(str::to_lowercase).filter(|it| !it.is_empty());
    let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
        ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("i386" | "i686" | "x86" | "386", _) => ("386", None),
        ("aarch64" | "arm64", Some("8" | "v8") | None) => ("arm64", None),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", Some("v7")),
        ("armel", _) => ("arm", Some("v6")),
        ("arm", None | Some("7")) => ("arm", Some("v7")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("8")) => ("arm", Some("v8")),
        ("powerpc64le" | "ppc64el", other) => ("ppc64le", other),
        (other, variant) => (other, variant),
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`, and like docker `os` or `architecture` alone, filled up from the host.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        if !parts.iter().all(is_word) {
            return Err(PlatformError::Malformed(text.to_owned()));
        }
        let host = Self::host();
        match parts[..] {
            ["local"] => Ok(host),
            [os] if OPERATING_SYSTEMS.contains(&os.to_lowercase().as_str()) => {
                Ok(Self::new(os, &host.architecture, host.variant.as_deref()))
            }
            [architecture] => match normalise(architecture, None).0.as_str() {
                "amd64" | "386" | "arm64" | "arm" | "ppc64le" | "s390x" | "riscv64"
                | "mips64le" | "loong64" => Ok(Self::new(&host.os, architecture, None)),
                _ => Err(PlatformError::Unknown(text.to_owned())),
            },
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError::Malformed(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_end_at_one_name() {
        let table = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("Linux/ARM/6", "linux/arm/v6"),
        ];
        for (written, meant) in table {
            assert_eq!(
                written
                    .parse::<Platform>()
                    .map(|it| it.to_string())
                    .as_deref(),
                Ok(meant)
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "/",
            "linux/",
            "linux/amd64/v1/x",
            "li nux/amd64",
            "nonsense",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
