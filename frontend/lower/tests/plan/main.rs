//! Dockerfiles beside the plans they come to: `testdata/dockerfile/plan/NAME.Dockerfile` and `NAME.plan`.
//!
//! A line `#= --target x --build-arg A=1` anywhere in a case sets the options. With
//! `UPDATE_EXPECT=1` the plans are written anew; read them before committing.

mod any_file;
mod draw;
mod images;

use std::fs;
use std::path::{Path, PathBuf};

use lower::{NoCache, Options};
use oci::Platform;

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile/plan");
    let entries = fs::read_dir(directory).expect("the cases are there");
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
            "--shm-size" => options.shm_size = Some(value.parse().expect("a number of bytes")),
            "--hostname" => options.hostname = (*value).to_owned(),
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

fn planned(text: &str) -> String {
    let parsed = dockerfile_parser::parse(text.as_bytes());
    let mut options = options(text);
    if let Err(error) = lower::check_frontend(&parsed.dockerfile, &options) {
        return draw::error(&error);
    }
    options.findings = lower::findings(&parsed);
    if let Some(problem) = parsed.first_error() {
        return format!("not parsed: {problem}\n");
    }
    match lower::plan(&parsed.dockerfile, &options, &images::Shelf::new()) {
        Ok(plan) => draw::plan(&plan),
        Err(error) => draw::error(&error),
    }
}

#[test]
fn every_case_comes_to_its_plan() {
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let text = fs::read_to_string(case).expect("a case is text");
        let expected = case.with_extension("plan");
        let planned = planned(&text);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected, &planned).expect("the plan can be written");
        }
        if fs::read_to_string(&expected).unwrap_or_default() != planned {
            wrong.push(format!("{}:\n{planned}", case.display()));
        }
    }
    assert!(cases.len() >= 70, "only {} cases", cases.len());
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_thousand_stages_need_no_deep_stack() {
    let stages =
        (1..1000).map(|it| format!("FROM s{} AS s{it}\nCOPY --from=s{} /a /b\n", it - 1, it - 1));
    let text = format!(
        "FROM scratch AS s0\nCOPY a /\n{}",
        stages.collect::<String>()
    );
    let parsed = dockerfile_parser::parse(text.as_bytes());
    let plan = lower::plan(&parsed.dockerfile, &options(""), &images::Shelf::new())
        .expect("it is well-formed");
    assert_eq!(plan.layers.len(), 1000);
}
