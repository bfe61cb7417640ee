//! Node packages: those that are installed, and those that a lock file says are.

use serde_json::Value;

use super::{Package, PackageKind, text};

/// Whether a `package.json` is that of an installed package, and no part of one.
pub(super) fn is_installed(path: &str) -> bool {
    let Some((_, below)) = path.rsplit_once("node_modules/") else {
        return false;
    };
    let parts: Vec<&str> = below.split('/').collect();
    match &parts[..] {
        [scope, _, _] => scope.starts_with('@'),
        [name, _] => !name.starts_with('@'),
        _ => false,
    }
}

/// The package that a `package.json` is about.
pub(super) fn package(content: &str) -> Vec<Package> {
    let value: Value = serde_json::from_str(content).unwrap_or_default();
    let name = text(&value, "name");
    named(&name, &value).into_iter().collect()
}

/// The packages of a `package-lock.json`, of whichever version.
pub(super) fn locked(content: &str) -> Vec<Package> {
    let value: Value = serde_json::from_str(content).unwrap_or_default();
    let mut packages = Vec::new();
    if let Some(entries) = value["packages"].as_object() {
        for (path, entry) in entries {
            // The first is the project itself; links lead to parts of it.
            if let Some((_, name)) = path.rsplit_once("node_modules/") {
                packages.extend(named(name, entry));
            }
        }
        return packages;
    }
    let mut open = vec![&value["dependencies"]];
    while let Some(dependencies) = open.pop() {
        for (name, entry) in dependencies.as_object().into_iter().flatten() {
            packages.extend(named(name, entry));
            open.push(&entry["dependencies"]);
        }
    }
    packages
}

fn named(name: &str, value: &Value) -> Option<Package> {
    let version = text(value, "version");
    // A version that is an address says from where it comes, and not which it is.
    (!name.is_empty() && !version.is_empty() && !version.contains(':')).then(|| Package {
        license: text(value, "license"),
        ..Package::new(PackageKind::Node, name, &version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sbom::drawn;

    #[test]
    fn packages_are_found_in_both_files() {
        let own = r#"{"name":"@s/it","version":"1.0.0","license":"MIT","author":"x"}"#;
        assert_eq!(drawn(&package(own)), "pkg:npm/%40s/it@1.0.0 | MIT | ");
        let new = r#"{"lockfileVersion":3,"packages":{"":{"name":"app","version":"9"},
            "node_modules/a":{"version":"1.2.3","license":"ISC"},"node_modules/a/node_modules/@s/b":{"version":"2.0.0"},
            "lib":{"version":"0.1"},"node_modules/lib":{"link":true,"resolved":"lib"}}}"#;
        assert_eq!(
            drawn(&locked(new)),
            "pkg:npm/a@1.2.3 | ISC | \npkg:npm/%40s/b@2.0.0 |  | "
        );
        let old = r#"{"lockfileVersion":1,"dependencies":{"a":{"version":"1.0.0","dependencies":{"b":{"version":"2.0.0"}}},
            "c":{"version":"git+ssh://git@h/c.git#1"}}}"#;
        assert_eq!(
            drawn(&locked(old)),
            "pkg:npm/a@1.0.0 |  | \npkg:npm/b@2.0.0 |  | "
        );
        assert_eq!(locked("no json"), []);
    }
}
