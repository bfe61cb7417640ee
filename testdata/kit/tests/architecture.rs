//! The architecture, held by `cargo test`: which crate may use which, and how a manifest is written.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the workspace has nothing to say"
)]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use kit::manifest::{self, Entry, Manifest};

/// Every crate, in the order of the pipeline, with the crates of ours it may use directly.
///
/// A crate may use only what stands above it here, so the table itself cannot describe a cycle.
/// ARCHITECTURE.md says why the hinges are where they are; change both together.
const MAY_USE: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("dockerfile-parser", &[]),
    ("registry", &["oci"]),
    ("sandbox", &[]),
    ("llb", &["oci"]),
    ("lower", &["dockerfile-parser", "llb", "oci"]),
    ("solve", &["llb", "oci"]),
    ("store", &["oci"]),
    ("snapshot", &["store", "oci"]),
    (
        "ops",
        &[
            "registry", "llb", "solve", "snapshot", "store", "sandbox", "oci",
        ],
    ),
    ("container", &["sandbox", "snapshot", "store", "oci"]),
    ("export", &["registry", "snapshot", "store", "oci"]),
    (
        "remote",
        &["registry", "export", "snapshot", "store", "oci"],
    ),
    (
        "engine",
        &[
            "registry",
            "lower",
            "solve",
            "ops",
            "export",
            "remote",
            "snapshot",
            "store",
            "llb",
            "dockerfile-parser",
            "oci",
        ],
    ),
    (
        "rbuild",
        &[
            "registry",
            "llb",
            "dockerfile-parser",
            "engine",
            "container",
            "export",
            "remote",
            "solve",
            "snapshot",
            "store",
            "sandbox",
            "oci",
        ],
    ),
    ("kit", &[]),
];

/// Test support any crate's tests may use.
const TEST_SUPPORT: &str = "kit";

/// The only keys a manifest may take a dependency with.
const DEPENDENCY_SECTIONS: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

#[test]
fn crates_depend_only_downwards() {
    let root = manifest::workspace_root();
    let members = manifest::members(&root).unwrap();
    let mut problems = String::new();
    for member in &members {
        let name = name_of(member);
        let Some((_, allowed)) = MAY_USE.iter().find(|it| it.0 == name) else {
            writeln!(
                problems,
                "{}: the crate `{name}` is not in the table MAY_USE of {}.\n  A new crate needs a different trust, a \
                 different purity, a second consumer that must not see the rest, or a cycle to break; anything else is a \
                 module. If it has one of these, add its line to the table and to ARCHITECTURE.md.",
                shown(&root, member),
                file!(),
            )
            .unwrap();
            continue;
        };
        for (section, dependency) in ours_in(member) {
            let is_test_support = section == "dev-dependencies" && dependency == TEST_SUPPORT;
            if !allowed.contains(&&*dependency) && !is_test_support {
                problems += &refusal(&root, member, &dependency);
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn the_table_names_every_crate_once_and_in_order() {
    for (at, (name, allowed)) in MAY_USE.iter().enumerate() {
        let above: Vec<&str> = MAY_USE[..at].iter().map(|it| it.0).collect();
        assert!(!above.contains(name), "`{name}` has two lines in MAY_USE");
        for dependency in *allowed {
            assert!(
                above.contains(dependency),
                "in MAY_USE `{name}` uses `{dependency}`, which stands below it"
            );
        }
    }
    let found: Vec<String> = manifest::members(&manifest::workspace_root())
        .unwrap()
        .iter()
        .map(|it| name_of(it).to_owned())
        .collect();
    for (name, _) in MAY_USE {
        assert!(
            found.iter().any(|it| it == name),
            "MAY_USE names `{name}`, but no such crate stands in the workspace"
        );
    }
}

#[test]
fn a_crate_is_named_for_its_folder_and_listed_in_the_workspace() {
    let root = manifest::workspace_root();
    let workspace = Manifest::read(&root.join("Cargo.toml")).unwrap();
    let listed = workspace.value("workspace", "members").unwrap().to_owned();
    for member in manifest::members(&root).unwrap() {
        let folder = member.path.parent().unwrap();
        let stage = folder
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        let name = name_of(&member);
        assert_eq!(
            folder.file_name().unwrap().to_str(),
            Some(name),
            "folder and crate carry different names"
        );
        assert!(
            listed.contains(&format!("\"{stage}/*\""))
                || listed.contains(&format!("\"{stage}/{name}\"")),
            "`{name}` is not matched by the members of the root Cargo.toml: add \"{stage}/{name}\""
        );
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let root = manifest::workspace_root();
    for member in manifest::members(&root).unwrap() {
        assert_eq!(
            member.value("lints", "workspace"),
            Some("true"),
            "{}: add a `[lints]` section with `workspace = true`; an exception is an `#[expect(…, reason = \"…\")]` \
             where it is needed",
            shown(&root, &member)
        );
    }
}

#[test]
fn versions_stand_only_in_the_workspace() {
    let root = manifest::workspace_root();
    let workspace = Manifest::read(&root.join("Cargo.toml")).unwrap();
    let declared: Vec<&str> = workspace
        .section("workspace.dependencies")
        .map(|it| it.key.as_str())
        .collect();
    let mut problems = String::new();
    for member in manifest::members(&root).unwrap() {
        for section in member.sections() {
            let is_table = DEPENDENCY_SECTIONS
                .iter()
                .any(|it| section.starts_with(&format!("{it}.")));
            let is_targeted = section.starts_with("target.") && section.contains("dependencies");
            if is_table || is_targeted {
                writeln!(
                    problems,
                    "{}: [{section}]: list the dependency in [dependencies] as `name.workspace = true`",
                    shown(&root, &member)
                )
                .unwrap();
            }
        }
        for entry in DEPENDENCY_SECTIONS.iter().flat_map(|it| member.section(it)) {
            if let Some(advice) = version_problem(entry, &declared) {
                writeln!(
                    problems,
                    "{}: `{} = {}`: {advice}",
                    shown(&root, &member),
                    entry.key,
                    entry.value
                )
                .unwrap();
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn unsafe_code_stands_only_in_the_sandboxs_sys_module() {
    let root = manifest::workspace_root();
    let workspace = Manifest::read(&root.join("Cargo.toml")).unwrap();
    assert_eq!(
        workspace.value("workspace.lints.rust", "unsafe_code"),
        Some("deny")
    );
    let allowed = root.join("executor/sandbox/src/sys");
    let mut problems = String::new();
    for member in manifest::members(&root).unwrap() {
        visit_sources(member.path.parent().unwrap(), &mut |path, text| {
            let lifted = text
                .lines()
                .any(|it| it.contains("(unsafe_code") && it.trim_start().starts_with('#'));
            // `sys.rs` and what stands in `sys/` is the module; the `mod sys;` line may carry the exception.
            let is_sys = path.starts_with(&allowed) || path.with_extension("") == allowed;
            let declares_sys = path == root.join("executor/sandbox/src/lib.rs");
            if lifted && !is_sys && !declares_sys {
                let path = path.strip_prefix(&root).unwrap().display();
                writeln!(
                    problems,
                    "{path}: move the unsafe call into sandbox's `sys` module, or use rustix"
                )
                .unwrap();
            }
        });
    }
    assert!(problems.is_empty(), "\n{problems}");
}

fn name_of(member: &Manifest) -> &str {
    member
        .value("package", "name")
        .expect("a member has a name")
}

fn shown(root: &Path, member: &Manifest) -> String {
    member
        .path
        .strip_prefix(root)
        .unwrap_or(&member.path)
        .display()
        .to_string()
}

/// The dependencies of `member` that are ours, with the section they stand in.
fn ours_in(member: &Manifest) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for section in DEPENDENCY_SECTIONS {
        for entry in member.section(section) {
            let dependency = entry.key.split('.').next().unwrap_or_default();
            if MAY_USE.iter().any(|it| it.0 == dependency) {
                found.push((*section, dependency.to_owned()));
            }
        }
    }
    found
}

/// What to write instead of `entry`, if it is not written the house's way.
fn version_problem(entry: &Entry, declared: &[&str]) -> Option<String> {
    let name = entry.key.split('.').next().unwrap_or_default();
    let from_workspace = entry.key == format!("{name}.workspace") && entry.value == "true"
        || entry.key == name
            && entry.value.contains("workspace = true")
            && !entry.value.contains("version");
    if !from_workspace {
        return Some(format!(
            "write `{name}.workspace = true` here, and the version in the root's [workspace.dependencies]"
        ));
    }
    (!declared.contains(&name))
        .then(|| format!("declare `{name}` in the root's [workspace.dependencies]"))
}

/// Why `member` may not use `dependency`, and what to do instead.
fn refusal(root: &Path, member: &Manifest, dependency: &str) -> String {
    let name = name_of(member);
    let rank: BTreeMap<&str, usize> = MAY_USE
        .iter()
        .enumerate()
        .map(|(at, it)| (it.0, at))
        .collect();
    let advice = if rank[dependency] > rank[name] {
        format!(
            "`{dependency}` comes later in the pipeline than `{name}`. Take what you need from it as a plain value or as \
             a small trait that `{name}` defines, and let the caller bring them together"
        )
    } else {
        format!(
            "`{name}` was to be readable without `{dependency}`. Ask a crate between them to offer it, or, if the \
             architecture is wrong, change MAY_USE in {} and ARCHITECTURE.md in the same commit and say why",
            file!()
        )
    };
    format!(
        "{}: `{name}` may not use `{dependency}`.\n  {advice}.\n",
        shown(root, member)
    )
}

fn visit_sources(folder: &Path, visit: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            visit_sources(&path, visit);
        } else if path.extension().is_some_and(|it| it == "rs") {
            visit(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
