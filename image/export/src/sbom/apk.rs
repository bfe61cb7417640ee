//! apk's database.

use super::debian::paragraphs;
use super::{Package, PackageKind};

/// The packages of a database. Each line is a letter, a colon and a value.
pub(super) fn packages(text: &str) -> Vec<Package> {
    paragraphs(text).filter_map(|it| package(&it)).collect()
}

fn package(paragraph: &[&str]) -> Option<Package> {
    // The letters of files come behind those of the package, and mean something else.
    let field = |letter: &str| {
        let mut values = paragraph
            .iter()
            .filter_map(|line| line.strip_prefix(letter));
        values.next().unwrap_or_default()
    };
    let (name, version) = (field("P:"), field("V:"));
    (!name.is_empty() && !version.is_empty()).then(|| Package {
        architecture: field("A:").to_owned(),
        license: field("L:").to_owned(),
        supplier: field("m:").to_owned(),
        ..Package::new(PackageKind::Alpine, name, version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sbom::drawn;

    #[test]
    fn each_paragraph_is_a_package() {
        let text = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nm:T <t@a.org>\nF:lib\nR:ld-musl.so\n\nP:nameless\n";
        assert_eq!(
            drawn(&packages(text)),
            "pkg:apk/debian/musl@1.2.5-r0?arch=x86_64&distro=debian-12 | MIT | T <t@a.org>"
        );
    }
}
