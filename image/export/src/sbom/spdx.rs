//! A bill of materials as an SPDX 2.3 document.

use jiff::Timestamp;
use oci::Digest;
use serde_json::{Value, json};
use snapshot::Snapshots;
use store::SnapshotId;

use super::{Distribution, Inventory, Package, PackageKind, SbomError, distribution};
use crate::attest::Predicate;

/// What a document is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The image's name, or what stands for one.
    pub name: String,
    /// The image's id, where it is one.
    pub image: Option<Digest>,
    /// When the document is made.
    pub created: Timestamp,
    /// The uppermost layer of the image.
    pub top: Option<SnapshotId>,
}

/// The inventory of an image as something that can be said about it.
///
/// # Errors
/// If the layers of the image cannot be read.
pub fn predicate(
    snapshots: &Snapshots,
    inventory: &Inventory,
    about: &About,
) -> Result<Predicate, SbomError> {
    let of = distribution(snapshots, about.top)?;
    Ok(Predicate {
        kind: "https://spdx.dev/Document".to_owned(),
        content: document(inventory, about, &of),
    })
}

const IMAGE: &str = "SPDXRef-Image";
const UNKNOWN: &str = "NOASSERTION";

fn document(inventory: &Inventory, about: &About, of: &Distribution) -> Value {
    let mut result = json!({
        "SPDXID": IMAGE,
        "name": about.name,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    });
    if let Some(image) = &about.image {
        result["versionInfo"] = json!(image);
        result["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": image.hex() }]);
    }
    let mut packages = vec![result];
    let mut relationships = vec![related("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
    for package in &inventory.packages {
        let id = id(package);
        relationships.push(related(IMAGE, "CONTAINS", &id));
        packages.push(described(package, &id, of));
    }
    // Nothing but what the document says goes into its name, so that the same has the same.
    let content =
        serde_json::to_vec(&packages).expect("the packages hold nothing that JSON cannot");
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": about.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/rbuild-{}", Digest::of(&content).hex()),
        "creationInfo": {
            "created": about.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "creators": [concat!("Tool: rbuild-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
    })
}

fn related(one: &str, how: &str, other: &str) -> Value {
    json!({ "spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other })
}

fn described(package: &Package, id: &str, of: &Distribution) -> Value {
    let mut value = json!({
        "SPDXID": id,
        "name": package.name,
        "versionInfo": package.version,
        "supplier": supplier(&package.supplier),
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "sourceInfo": format!("listed in {}", package.found_in),
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package.url(of),
        }],
    });
    // What databases say of licences is seldom an SPDX expression, so it is told as what it is.
    if !package.license.is_empty() {
        value["licenseComments"] = json!(format!("the package says: {}", package.license));
    }
    value
}

/// `Person: NAME (ADDRESS)`: who it is of the two, nobody knows, and SPDX takes either.
fn supplier(text: &str) -> String {
    let text = text.lines().next().unwrap_or_default().trim();
    match text.strip_suffix('>').and_then(|it| it.split_once('<')) {
        _ if text.is_empty() => UNKNOWN.to_owned(),
        Some((name, address)) if !name.trim().is_empty() => {
            format!("Person: {} ({})", name.trim().trim_matches('"'), address)
        }
        Some((_, address)) => format!("Person: {address}"),
        None => format!("Person: {text}"),
    }
}

/// An id that is the same for the same package: letters, digits, dots and hyphens alone are allowed.
fn id(package: &Package) -> String {
    let kind = match package.kind {
        PackageKind::Debian => "deb",
        PackageKind::Alpine => "apk",
        PackageKind::Python => "python",
        PackageKind::Node => "npm",
        PackageKind::Rpm => "rpm",
    };
    let plain = |it: char| it.is_ascii_alphanumeric() || it == '.' || it == '-';
    let name: String = package.name.chars().filter(|it| plain(*it)).collect();
    let whole = [&*package.name, &package.version, &package.architecture].join("\n");
    format!(
        "SPDXRef-Package-{kind}-{name}-{}",
        &Digest::of(whole.as_bytes()).hex()[..16]
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_document_has_what_spdx_asks_for() {
        let package = |name: &str, license: &str| Package {
            license: license.to_owned(),
            supplier: "Some Body <s@b.org>".to_owned(),
            found_in: "/var/lib/dpkg/status".to_owned(),
            ..Package::new(PackageKind::Node, name, "1+2")
        };
        let inventory = Inventory {
            packages: BTreeSet::from([package("@s/a", "MIT"), package("s-a", "")]),
            unread: Vec::new(),
        };
        let about = About {
            name: "app".to_owned(),
            image: Some(Digest::of(b"image")),
            created: Timestamp::UNIX_EPOCH,
            top: None,
        };
        let made = document(&inventory, &about, &Distribution::default());
        assert_eq!(made["spdxVersion"], "SPDX-2.3");
        assert_eq!(made["creationInfo"]["created"], "1970-01-01T00:00:00Z");
        let packages = made["packages"].as_array().unwrap();
        let ids: BTreeSet<&str> = packages
            .iter()
            .map(|it| it["SPDXID"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 3, "no two are the same");
        let plain = |it: char| it.is_ascii_alphanumeric() || it == '.' || it == '-';
        assert!(
            ids.iter()
                .all(|it| it.starts_with("SPDXRef-") && it.chars().all(plain))
        );
        assert_eq!(packages[1]["supplier"], "Person: Some Body (s@b.org)");
        assert_eq!(packages[1]["licenseComments"], "the package says: MIT");
        assert_eq!(packages[2].get("licenseComments"), None);
        let relationships = made["relationships"].as_array().unwrap();
        assert_eq!(relationships.len(), 3);
        assert_eq!(made, document(&inventory, &about, &Distribution::default()));
    }

    #[test]
    fn whoever_supplies_is_told_as_spdx_wants() {
        assert_eq!(supplier(""), "NOASSERTION");
        assert_eq!(supplier("A B <a@b>"), "Person: A B (a@b)");
        assert_eq!(supplier("<a@b>"), "Person: a@b");
        assert_eq!(supplier("a@b"), "Person: a@b");
    }
}
