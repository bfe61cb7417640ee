//! Whatever a file says, it comes to a plan or to an error.

use lower::{NoCache, Options};
use oci::Platform;
use proptest::prelude::*;

use crate::images::Shelf;

const STARTS: &[&str] = &[
    "FROM debian:12",
    "FROM scratch AS a",
    "FROM a AS b",
    "FROM --platform=$BUILDPLATFORM rich AS c",
    "FROM $X",
    "FROM triggers",
    "ARG X=debian:12",
];

const INSTRUCTIONS: &[&str] = &[
    "ARG",
    "ENV",
    "LABEL",
    "RUN",
    "CMD",
    "ENTRYPOINT",
    "SHELL",
    "COPY",
    "ADD",
    "WORKDIR",
    "USER",
    "EXPOSE",
    "VOLUME",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ONBUILD",
    "ONBUILD RUN",
    "MAINTAINER",
];

const WORDS: &[&str] = &[
    "a",
    "b=$a",
    "${X:-y}",
    "${X:?}",
    "'q",
    "\"q w\"",
    "/a/../..",
    "--from=a",
    "--from=0",
    "--from=$X",
    "--from=rich",
    "--chown=u:g",
    "--chmod=u+x",
    "--chmod=9",
    "--link",
    "--link=x",
    "--parents",
    "--exclude=*",
    "--exclude=[",
    "--mount=type=cache,target=/c",
    "--mount=from=b,target=x,rw",
    "--mount=type=secret,id=s,env=S",
    "--mount=\"a\",b",
    "--network=none",
    "--security=x",
    "--interval=1s",
    "--retries=-1",
    "CMD",
    "NONE",
    "80-90/UDP",
    "9",
    "[\"a\", \"b\"]",
    "[]",
    "<<E\nx$a\nE",
    "<<-'E'\n\t#!x\nE",
    "\\",
    "é",
    "*",
    "/./",
    "http://x/y.git",
    "$",
    "${",
];

fn line() -> impl Strategy<Value = String> {
    let words = || prop::collection::vec(prop::sample::select(WORDS), 0..5);
    let instruction = (prop::sample::select(INSTRUCTIONS), words())
        .prop_map(|(it, words)| format!("{it} {}", words.join(" ")));
    prop_oneof![1 => prop::sample::select(STARTS).prop_map(str::to_owned), 4 => instruction]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_comes_to_a_plan_or_an_error(lines in prop::collection::vec(line(), 0..12), target in 0_usize..4) {
        let text = format!("FROM debian:12\n{}", lines.join("\n"));
        let parsed = dockerfile_parser::parse(text.as_bytes());
        let mut options = Options::new(Platform::new("linux", "amd64", None));
        options.target = (target > 0).then(|| target.to_string());
        options.no_cache = NoCache::All;
        options.build_args.insert("X".to_owned(), "a".to_owned());
        if let Ok(plan) = lower::plan(&parsed.dockerfile, &options, &Shelf::new()) {
            let entries = plan.config.history.iter().filter(|it| !it.empty_layer).count();
            prop_assert_eq!(entries, plan.config.rootfs.diff_ids.len() + plan.layers.len());
            prop_assert_eq!(plan.root, plan.layers.last().map(|it| it.output).or(plan.root));
            for layer in &plan.layers {
                prop_assert!(!plan.config.history[layer.history].empty_layer);
            }
        }
    }

    #[test]
    fn any_text_comes_to_a_plan_or_an_error(text in "(FROM|COPY|RUN|ENV|ARG|ADD|[ \n$\\{}:=<\"'/.a-c\\[\\]-]){0,60}") {
        let parsed = dockerfile_parser::parse(format!("FROM debian:12\n{text}").as_bytes());
        let options = Options::new(Platform::new("linux", "amd64", None));
        if let Err(error) = lower::plan(&parsed.dockerfile, &options, &Shelf::new()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
