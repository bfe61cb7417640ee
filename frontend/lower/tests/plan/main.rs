//! Dockerfiles beside the plans they come to: `testdata/dockerfile/plan/NAME.Dockerfile` and `NAME.plan`.
//!
//! A line `#= --target x --build-arg A=1` anywhere in a case sets the options. With
//! `UPDATE_EXPECT=1` the plans are written anew; read them before committing.

mod any_file;
mod call;
mod coverage;
mod draw;
mod gotchas;
mod images;
mod malformed;
mod sizes;

use std::fs;
use std::path::{Path, PathBuf};

use dockerfile_parser::Parse;
use llb::op::LocalSource;
use lower::{Layout, NamedContext, NoCache, Options};
use oci::Platform;

/// The Dockerfiles of a folder of `testdata/dockerfile`.
fn cases(folder: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile");
    let entries = fs::read_dir(directory.join(folder)).expect("the cases are there");
    let paths = entries.map(|it| it.expect("an entry of a directory").path());
    let mut cases: Vec<PathBuf> = paths
        .filter(|it| it.extension().is_some_and(|it| it == "Dockerfile"))
        .collect();
    cases.sort();
    cases
}

fn options(text: &str) -> Options {
    let mut options = Options::new(Platform::new("linux", "amd64", None));
    let words = text
        .lines()
        .filter_map(|it| it.strip_prefix("#= "))
        .flat_map(str::split_whitespace);
    let words: Vec<&str> = words.collect();
    for pair in words.chunks(2) {
        let [flag, value] = pair else {
            panic!("an option without value: {pair:?}")
        };
        let pair = || {
            value
                .split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .expect("`name=value`")
        };
        match *flag {
            "--target" => options.target = Some((*value).to_owned()),
            "--platform" => options.platform = value.parse().expect("a platform"),
            "--name-platform" => options.name_platform = *value == "true",
            "--build-arg" => options.build_args.extend([pair()]),
            "--label" => options.labels.extend([pair()]),
            "--add-host" => options.extra_hosts.extend([pair()]),
            "--allow" if *value == "network.host" => options.allowed.network_host = true,
            "--allow" if *value == "device" => options.allowed.devices = lower::Devices::All,
            "--allow" if value.starts_with("device=") => {
                let (_, name) = pair();
                let (name, alias) = name.split_once(",alias=").unwrap_or((&name, &name));
                options.allowed.devices.add(alias, name);
            }
            "--allow" if *value == "security.insecure" => options.allowed.security_insecure = true,
            "--shm-size" => options.shm_size = Some(value.parse().expect("a number of bytes")),
            "--hostname" => options.hostname = (*value).to_owned(),
            "--build-context" => {
                let (name, value) = pair();
                let context = context(&name, &value);
                options.contexts.insert(&name, context).expect("a name");
            }
            "--ignore" => options.ignore.push((*value).to_owned()),
            "--strict-args" => options.strict_args = *value == "true",
            "--no-cache" if *value == "all" => options.no_cache = NoCache::All,
            "--no-cache" => {
                options.no_cache = NoCache::Stages(value.split(',').map(str::to_owned).collect());
            }
            "--network" => {
                options.network = match *value {
                    "host" => llb::op::Network::Host,
                    "none" => llb::op::Network::None,
                    _ => llb::op::Network::Default,
                }
            }
            other => panic!("no such option: {other}"),
        }
    }
    options
}

/// What `--build-context` says, as the engine reads it.
fn context(name: &str, value: &str) -> NamedContext {
    if value == "docker-image://scratch" {
        return NamedContext::Scratch;
    }
    if let Some(image) = value.strip_prefix("docker-image://") {
        return NamedContext::Image(image.parse().expect("an image's name"));
    }
    if let Some(directory) = value.strip_prefix("oci-layout://") {
        return NamedContext::Layout(Layout {
            directory: directory.into(),
            tag: None,
            digest: None,
        });
    }
    match lower::remote::remote_context(value) {
        Some(remote) => NamedContext::Remote(remote.expect("an address")),
        None => NamedContext::Directory(LocalSource {
            name: format!("context:{name}"),
            ignore: vec!["*.o".to_owned()],
        }),
    }
}

fn options_for(text: &str, parse: &Parse) -> Options {
    Options {
        findings: lower::findings(parse),
        ..options(text)
    }
}

fn planned(text: &str) -> String {
    let parsed = dockerfile_parser::parse(text.as_bytes());
    let options = options_for(text, &parsed);
    if let Err(error) = lower::check_frontend(&parsed.dockerfile, &options) {
        return draw::error(&error);
    }
    if let Some(problem) = parsed.first_error() {
        return format!("not parsed: {problem}\n");
    }
    match lower::plan(&parsed.dockerfile, &options, &images::Shelf::new()) {
        Ok(plan) => draw::plan(&plan),
        Err(error) => draw::error(&error),
    }
}

/// Compares each case of `folder` with the file beside it, or writes that.
fn check_cases(
    folder: &str,
    extension: &str,
    at_least: usize,
    draw: impl Fn(&str, &str) -> String,
) {
    let cases = cases(folder);
    let mut wrong = Vec::new();
    for case in &cases {
        let text = fs::read_to_string(case).expect("a case is text");
        let name = case.file_stem().expect("a name").to_string_lossy();
        let expected = case.with_extension(extension);
        let drawn = draw(&name, &text);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected, &drawn).expect("it can be written");
        }
        if fs::read_to_string(&expected).unwrap_or_default() != drawn {
            wrong.push(format!("{}:\n{drawn}", case.display()));
        }
    }
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_case_comes_to_its_plan() {
    check_cases("plan", "plan", 190, |_, text| planned(text));
}
