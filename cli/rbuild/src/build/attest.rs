//! `--attest`, `--provenance` and `--sbom`: what is said about a result.

use engine::{Attest, ProvenanceOf};
use export::{Mode, Version};

use crate::args::BuildArgs;
use crate::fault::Fault;
use crate::spec::fields;

const KNOWN: &str = "known are type=sbom, and type=provenance with mode=min or mode=max, version=v1 or version=v0.2, builder-id=ADDRESS and reproducible=true";

/// What the options ask for; of two about the same thing, the later counts.
pub(super) fn attest(args: &BuildArgs) -> Result<Attest, Fault> {
    let mut attest = Attest::default();
    for text in &args.attest {
        read(&mut attest, &format!("--attest {text}"), text)?;
    }
    let short = [("sbom", &args.sbom), ("provenance", &args.provenance)];
    for (kind, value) in short {
        let Some(value) = value else { continue };
        let text = match value.as_str() {
            "true" | "1" => format!("type={kind}"),
            "false" | "0" => format!("type={kind},disabled=true"),
            fields => format!("type={kind},{fields}"),
        };
        read(&mut attest, &format!("--{kind}={value}"), &text)?;
    }
    Ok(attest)
}

/// Reads one of them; `option` is how the person wrote it.
fn read(attest: &mut Attest, option: &str, text: &str) -> Result<(), Fault> {
    let wrong = |why: &str| Fault::usage(format!("`{option}`: {why}")).hint(KNOWN);
    let fields = fields(text).map_err(|error| wrong(&error.to_string()))?;
    let mut kind = None;
    let mut is_disabled = false;
    let mut of = ProvenanceOf::default();
    let mut own = None;
    for (key, value) in fields {
        if key == "disabled" && value.is_none() {
            is_disabled = true;
            continue;
        }
        let Some(value) = value else {
            return Err(wrong(&format!("`{key}` has no value")));
        };
        match (key.as_str(), value.as_str()) {
            ("type", _) => kind = Some(value),
            ("disabled", "true" | "1") => is_disabled = true,
            ("disabled", "false" | "0") => {}
            ("generator", _) => {
                return Err(wrong(
                    "rbuild reads the package databases itself and runs no generator",
                ));
            }
            ("mode", "min") => of.mode = Mode::Min,
            ("mode", "max") => of.mode = Mode::Max,
            ("version", "v1") => of.version = Version::V1,
            ("version", "v0.2") => of.version = Version::V02,
            ("builder-id", _) => of.builder_id = value,
            ("reproducible", "true" | "1") => of.says_reproducible = true,
            ("reproducible", "false" | "0") => {}
            _ => return Err(wrong(&format!("`{key}={value}` is not known"))),
        }
        if !matches!(key.as_str(), "type" | "disabled") {
            own = Some(key);
        }
    }
    match (kind.as_deref(), own) {
        (Some("provenance"), _) => attest.provenance = (!is_disabled).then_some(of),
        (Some("sbom"), Some(key)) => return Err(wrong(&format!("an SBOM has no `{key}`"))),
        (Some("sbom"), None) => attest.sbom = !is_disabled,
        (Some(kind), _) => return Err(wrong(&format!("there is no attestation of type `{kind}`"))),
        (None, _) => return Err(wrong("it says no type")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(option: &str) -> String {
        let mut attest = Attest::default();
        match read(&mut attest, &format!("--attest {option}"), option) {
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
            Ok(()) => {
                let provenance = attest.provenance.map(|it| {
                    let (mode, version) = (it.mode, it.version);
                    format!(
                        "{mode:?} {version:?} {:?} {}",
                        it.builder_id, it.says_reproducible
                    )
                });
                format!("{} sbom={}", provenance.unwrap_or_default(), attest.sbom)
            }
        }
    }

    #[test]
    fn attestations_are_asked_for_as_with_buildx() {
        let table = [
            ("type=sbom", " sbom=true"),
            ("type=sbom,disabled=true", " sbom=false"),
            ("type=provenance,disabled", " sbom=false"),
            ("type=provenance", r#"Max V1 "" false sbom=false"#),
            (
                "type=provenance,mode=min,version=v0.2,builder-id=https://ci,reproducible=true",
                r#"Min V02 "https://ci" true sbom=false"#,
            ),
            (
                "type=sbom,generator=x",
                "error: `--attest type=sbom,generator=x`: rbuild reads the package databases itself and runs no generator",
            ),
            (
                "type=sbom,mode=min",
                "error: `--attest type=sbom,mode=min`: an SBOM has no `mode`",
            ),
            (
                "type=provenance,mode=most",
                "error: `--attest type=provenance,mode=most`: `mode=most` is not known",
            ),
            (
                "type=vex",
                "error: `--attest type=vex`: there is no attestation of type `vex`",
            ),
            ("mode=min", "error: `--attest mode=min`: it says no type"),
        ];
        for (option, expected) in table {
            assert_eq!(said(option), expected, "{option}");
        }
    }
}
