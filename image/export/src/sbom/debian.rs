//! dpkg's database, and the texts of the same form that others write.

use super::{Package, PackageKind};

/// The packages of a database that are installed.
pub(super) fn packages(text: &str) -> Vec<Package> {
    paragraphs(text).filter_map(|it| package(&it)).collect()
}

/// The paragraphs of a text, each as its lines.
pub(super) fn paragraphs(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        while lines.next_if(|line| line.trim().is_empty()).is_some() {}
        let mut paragraph = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.trim().is_empty()) {
            paragraph.push(line);
        }
        (!paragraph.is_empty()).then_some(paragraph)
    })
}

/// The first line of a field; empty where there is none.
pub(super) fn field<'a>(paragraph: &[&'a str], name: &str) -> &'a str {
    let value = paragraph.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    });
    value.unwrap_or_default()
}

fn package(paragraph: &[&str]) -> Option<Package> {
    let field = |name| field(paragraph, name);
    // `status.d` has only what is installed and does not say so.
    let state = field("Status");
    let is_installed = state.is_empty() || state.split(' ').next_back() == Some("installed");
    let (name, version) = (field("Package"), field("Version"));
    (is_installed && !name.is_empty() && !version.is_empty()).then(|| Package {
        architecture: field("Architecture").to_owned(),
        supplier: field("Maintainer").to_owned(),
        ..Package::new(PackageKind::Debian, name, version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sbom::drawn;

    #[test]
    fn what_is_installed_is_listed() {
        let text = "Package: bash\nStatus: install ok installed\nMaintainer: M <m@d.org>\n\
                    Architecture: amd64\nVersion: 1:5.2-2+b1\nDescription: a shell\n with\n .\n lines: too\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\n\
                    Package: half\nStatus: install ok half-configured\nVersion: 1\n\n\
                    Package: bare\nVersion: 2~rc1\nArchitecture: all\n";
        assert_eq!(
            drawn(&packages(text)),
            "pkg:deb/debian/bash@1%3A5.2-2%2Bb1?arch=amd64&distro=debian-12 |  | M <m@d.org>\n\
             pkg:deb/debian/bare@2~rc1?arch=all&distro=debian-12 |  | "
        );
        assert_eq!(packages("\u{fffd}\0no database"), []);
    }
}
