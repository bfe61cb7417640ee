//! `system info`: what this machine lets rbuild do, tried out, and what is missing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sandbox::rootless::{Probe, Rung};
use serde_json::{Value, json};
use snapshot::Snapshots;
use store::Store;

use crate::args::InfoArgs;
use crate::exit::Exit;
use crate::fault::{Fault, chain};
use crate::output::print;
use crate::template::Template;
use crate::{human, rootless};

/// Prints what was found. Not even a machine that lets rbuild do nothing makes this fail.
pub(crate) fn info(root: Option<PathBuf>, args: &InfoArgs) -> Result<(), Fault> {
    let template = args.format.as_deref().map(|format| match format {
        "json" => Template::parse("{{json .}}"),
        format => Template::parse(format),
    });
    let template = template
        .transpose()
        .map_err(|error| Fault::from(error).exit(Exit::Usage))?;
    // The probes come first: they need the rights of the caller, and this process in one thread.
    let probe = sandbox::rootless::probe();
    let found = survey(&probe, root);
    let text = match template {
        Some(template) => template.fill(&found)? + "\n",
        None => words(&found),
    };
    Ok(print(&text)?)
}

/// Whether something can be had, and why not.
type Finding = Result<(), String>;

fn finding(name: &str, found: &Finding) -> Value {
    json!({
        "Name": name,
        "Usable": found.is_ok(),
        "Reason": found.as_ref().err().map_or("", String::as_str),
    })
}

fn survey(probe: &Probe, root: Option<PathBuf>) -> Value {
    let climbed = rootless::climb(root);
    let place = climbed
        .as_ref()
        .map_or_else(|_| String::new(), |root| root.display().to_string());
    let overlay: Finding = match climbed {
        Ok(root) => overlay(&root),
        Err(fault) => Err(fault.reason()),
    };
    let rung = match rootless::rung() {
        Some(Rung::Root) => "root",
        Some(Rung::Ranges) => "subuid",
        Some(Rung::Single { .. }) => "single",
        None => "",
    };
    let ways = sandbox::network::ways();
    let (version, controllers) = sandbox::control_groups();
    let emulators = emulators(Path::new("/proc/sys/fs/binfmt_misc"));
    let names = rustix::system::uname();
    let mut networks: Vec<Value> = ways
        .iter()
        .map(|(name, found)| finding(name, found))
        .collect();
    networks.extend(["host", "none"].map(|name| finding(name, &Ok(()))));
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "StoreRoot": place,
        "OperatingSystem": operating_system(),
        "KernelVersion": names.release().to_string_lossy(),
        "Architecture": names.machine().to_string_lossy(),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory(),
        "Rung": rung,
        "Rungs": [
            finding("root", &probe.root),
            finding("subuid", &probe.ranges),
            finding("single", &probe.single),
        ],
        "Driver": if overlay.is_ok() { "overlay" } else { "copies" },
        "Overlay": finding("overlay", &overlay),
        "CgroupVersion": version.map_or_else(String::new, |it| it.to_string()),
        "CgroupControllers": controllers,
        "Networks": networks,
        "Emulators": emulators,
        "Warnings": missing(&overlay, &ways, &controllers),
    })
}

/// What somebody who builds may miss, and what helps.
fn missing(
    overlay: &Finding,
    ways: &[(&'static str, Finding)],
    controllers: &[String],
) -> Vec<String> {
    let mut missing = Vec::new();
    match (rootless::rung(), overlay) {
        (None, found) => missing.push(format!("rbuild cannot work: {}", reason_of(found))),
        (_, Err(reason)) => missing.push(format!(
            "every step copies the files below it: {reason}; a store elsewhere may do without ($RBUILD_ROOT, or a volume)"
        )),
        (Some(Rung::Single { reason }), Ok(())) => {
            missing.push(format!("nothing can belong to another user: {reason}"));
        }
        _ => {}
    }
    if ways.iter().all(|(_, found)| found.is_err()) {
        let reasons: Vec<_> = ways.iter().map(|(_, found)| reason_of(found)).collect();
        let reasons = reasons.join("; ");
        missing.push(format!("RUN has no network of its own: {reasons}"));
    }
    if controllers.is_empty() {
        let processes = match rootless::rung() {
            Some(Rung::Ranges | Rung::Single { .. }) => {
                "processes are counted for each user of a build, all its steps together"
            }
            _ => "processes cannot be limited either",
        };
        missing.push(format!(
            "memory and processors cannot be limited, and {processes}: no control group can be written"
        ));
    }
    missing
}

fn reason_of(found: &Finding) -> &str {
    found.as_ref().err().map_or("", String::as_str)
}

fn overlay(root: &Path) -> Finding {
    let store = Store::open(root).map_err(|error| chain(&error.into()))?;
    let probed = Snapshots::new(store).probe();
    probed.map_err(|error| chain(&error.into()))
}

/// Which foreign machines' programs the kernel hands to an emulator: the names of its rules.
fn emulators(rules: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(rules)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let rule = fs::read_to_string(entry.path()).unwrap_or_default();
            rule.starts_with("enabled\n") && rule.contains("\ninterpreter ")
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn operating_system() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |it| it.trim_matches('"').to_owned())
}

/// Bytes.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(0, |it| it << 10)
}

fn words(found: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{:<18}{value}", format!("{name}:"));
    };
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = |value: &Value| match value["Usable"].as_bool() {
        Some(true) => "yes".to_owned(),
        _ => format!("no: {}", string(&value["Reason"])),
    };
    let names = |value: &Value| -> String {
        let all = value.as_array().map_or(&[][..], Vec::as_slice);
        all.iter().map(&string).collect::<Vec<_>>().join(", ")
    };
    let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
    line("Version", &string(&found["Version"]));
    line("Store", &string(&found["StoreRoot"]));
    line(
        "Works as",
        match found["Rung"].as_str() {
            Some("root") => "root",
            Some("subuid") => "root of a user namespace with subordinate ids",
            Some("single") => "root of a user namespace with a single id",
            _ => "nobody",
        },
    );
    for rung in entries(&found["Rungs"]) {
        line(&format!("  {}", string(&rung["Name"])), &verdict(&rung));
    }
    line("Overlay", &verdict(&found["Overlay"]));
    let groups = match (
        found["CgroupVersion"].as_str(),
        names(&found["CgroupControllers"]),
    ) {
        (Some("") | None, _) => "none".to_owned(),
        (Some(version), controllers) if controllers.is_empty() => {
            format!("version {version}, none that can be written")
        }
        (Some(version), controllers) => format!("version {version}: {controllers}"),
    };
    line("Control groups", &groups);
    line("Network", "");
    for way in entries(&found["Networks"]) {
        line(&format!("  {}", string(&way["Name"])), &verdict(&way));
    }
    let emulators = match names(&found["Emulators"]) {
        names if names.is_empty() => {
            "none registered (Debian: `qemu-user-static`, `binfmt-support`)".to_owned()
        }
        names => names,
    };
    line("Emulators", &emulators);
    line("System", &string(&found["OperatingSystem"]));
    line(
        "Kernel",
        &format!(
            "{} {}",
            string(&found["KernelVersion"]),
            string(&found["Architecture"])
        ),
    );
    line("Processors", &found["NCPU"].to_string());
    line(
        "Memory",
        &human::size(found["MemTotal"].as_u64().unwrap_or(0)),
    );
    for warning in entries(&found["Warnings"]) {
        let _ = writeln!(text, "WARNING: {}", string(&warning));
    }
    text.lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_are_on_and_name_a_program_are_emulators() {
        let rules = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("register", ""),
            ("status", "enabled\n"),
            (
                "qemu-riscv64",
                "disabled\ninterpreter /usr/bin/qemu-riscv64\n",
            ),
            (
                "qemu-aarch64",
                "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: F\n",
            ),
        ] {
            fs::write(rules.path().join(name), text).unwrap();
        }
        assert_eq!(emulators(rules.path()), ["qemu-aarch64"]);
        assert_eq!(emulators(&rules.path().join("none")), Vec::<String>::new());
    }
}
