//! Python packages: what pip and others write beside them.

use super::debian::field;
use super::{Package, PackageKind};

/// Whether a path is that of such a description.
pub(super) fn is_description(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (name, above) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    match name {
        "METADATA" => above.ends_with(".dist-info"),
        "PKG-INFO" => above.ends_with(".egg-info"),
        _ => name.ends_with(".egg-info"),
    }
}

/// The package that a description is about.
pub(super) fn packages(text: &str) -> Vec<Package> {
    let header: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    let field = |name| field(&header, name);
    let (name, version) = (field("Name"), field("Version"));
    if name.is_empty() || version.is_empty() {
        return Vec::new();
    }
    let said = |text: &str| match text {
        "UNKNOWN" => String::new(),
        text => text.to_owned(),
    };
    let license = match field("License-Expression") {
        "" => field("License"),
        expression => expression,
    };
    vec![Package {
        license: said(license),
        supplier: said(field("Author-email")),
        ..Package::new(PackageKind::Python, &normal(name), version)
    }]
}

/// The name as the index knows it: `Foo.Bar_baz` is `foo-bar-baz`.
fn normal(name: &str) -> String {
    let mut normal = String::new();
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            _ => normal.push(character.to_ascii_lowercase()),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sbom::drawn;

    #[test]
    fn a_description_is_of_one_package() {
        let text = "Metadata-Version: 2.1\nName: Foo.Bar_-baz\nVersion: 1.0+local\nLicense: UNKNOWN\n\
                    License-Expression: MIT\nAuthor-email: a@b.c\n\nName: not this\n";
        assert_eq!(
            drawn(&packages(text)),
            "pkg:pypi/foo-bar-baz@1.0%2Blocal | MIT | a@b.c"
        );
        assert_eq!(packages("Name: it\n"), []);
    }
}
