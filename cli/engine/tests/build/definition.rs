//! What comes before anything runs: the Dockerfile, the ignore file, base images; and how they fail.

use std::error::Error;
use std::fs;

use crate::room::Room;
use engine::progress::Progress;
use engine::{BuildError, ContextFrom, DockerfileFrom, Output, Pull, Request};

/// The error with its causes, then the excerpt and the hint.
fn words(error: &BuildError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    if let Some(place) = error.place() {
        text.push_str(&format!("\n{}", place.excerpt()));
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}

#[test]
fn an_image_of_nothing_but_a_config_is_built_and_named() {
    let room = Room::with("FROM scratch\nLABEL purpose=test\nCMD [\"/x\"]\n");
    let mut request = room.request();
    request.tags = vec!["demo".parse().unwrap(), "demo:2".parse().unwrap()];
    request.iidfile = Some(room.home().join("iid"));
    let built = room.build_as(&request).unwrap();
    room.check_order();

    let id = built.image.unwrap();
    let config = room.config(&id);
    assert_eq!(config.config.labels["purpose"], "test");
    assert_eq!(config.config.cmd, Some(vec!["/x".to_owned()]));
    assert_eq!(config.rootfs.diff_ids, []);
    assert!(config.history.iter().all(|entry| entry.empty_layer));
    for name in &request.tags {
        assert_eq!(
            room.engine.store().image_named(name).unwrap().unwrap().id,
            id
        );
    }
    assert_eq!(
        fs::read_to_string(room.home().join("iid")).unwrap(),
        id.to_string()
    );
    let numbers = room.engine.store().builds(1).unwrap();
    assert_eq!(built.number, Some(numbers[0].id));
    assert_eq!(
        room.story(),
        [
            "[internal] load build definition from Dockerfile: DONE",
            "[internal] load .dockerignore: DONE",
            "exporting to image: DONE",
        ]
    );
    assert_eq!(
        room.build_as(&request).unwrap().image,
        Some(id),
        "the same again is the same image"
    );
    assert_eq!(room.engine.store().builds(9).unwrap().len(), 2);
}

#[test]
fn the_dockerfile_may_be_lower_case_or_anywhere() {
    let room = Room::new();
    room.write("dockerfile", "FROM scratch\nLABEL from=lower\n");
    let label = |request: &Request| {
        let id = room.build_as(request).unwrap().image.unwrap();
        room.config(&id).config.labels["from"].clone()
    };
    assert_eq!(label(&room.request()), "lower");
    room.write("Dockerfile", "FROM scratch\nLABEL from=upper\n");
    assert_eq!(label(&room.request()), "upper");

    let elsewhere = room.home().join("build.Dockerfile");
    fs::write(&elsewhere, "FROM scratch\nLABEL from=elsewhere\n").unwrap();
    let mut request = room.request();
    request.dockerfile = DockerfileFrom::File(elsewhere);
    assert_eq!(label(&request), "elsewhere");
    assert_eq!(
        room.story()[0],
        "[internal] load build definition from build.Dockerfile: DONE"
    );
}

#[test]
fn a_missing_dockerfile_or_context_is_named() {
    let room = Room::new();
    let error = room.build().unwrap_err();
    assert_eq!(
        words(&error),
        "failed to read dockerfile: open Dockerfile: No such file or directory (os error 2)\n\
         hint: name the Dockerfile with `-f`, or run in the directory that has it"
    );
    assert!(
        room.story()[0]
            .starts_with("[internal] load build definition from Dockerfile: ERROR failed to read")
    );

    let mut request = room.request();
    request.context = ContextFrom::Directory("/nonexistent/context".into());
    let error = room.build_as(&request).unwrap_err();
    assert_eq!(
        words(&error),
        "unable to prepare context: path \"/nonexistent/context\" not found"
    );
    room.write("file", "");
    request.context = ContextFrom::Directory(room.context().join("file"));
    assert!(words(&room.build_as(&request).unwrap_err()).ends_with("file\" is not a directory"));
}

#[test]
fn what_breaks_the_grammar_is_shown_where_it_is() {
    let room = Room::with("FROM scratch\nCOPPY a b\n");
    let text = words(&room.build().unwrap_err());
    assert!(
        text.starts_with("dockerfile parse error on line 2: unknown instruction: COPPY"),
        "{text}"
    );
    assert!(text.contains("   2 | >>> COPPY a b\n"), "{text}");
    assert_eq!(
        room.engine.store().builds(1).unwrap()[0].build.error,
        Some(text.lines().next().unwrap().to_owned())
    );
}

#[test]
fn a_base_image_that_is_not_here_is_named_with_what_to_do() {
    let room = Room::with("FROM debian:12\n");
    let request = Request {
        pull: Pull::Never,
        ..room.request()
    };
    let text = words(&room.build_as(&request).unwrap_err());
    assert!(
        text.contains("docker.io/library/debian:12: not found in the local store"),
        "{text}"
    );
    assert!(text.contains("   1 | >>> FROM debian:12\n"), "{text}");
    assert!(
        text.contains("`rbuild pull`, `rbuild load` or `rbuild import`"),
        "{text}"
    );
    let errand = "[internal] load metadata for docker.io/library/debian:12: ERROR";
    assert!(
        room.story().iter().any(|line| line.starts_with(errand)),
        "{:?}",
        room.story()
    );
}

#[test]
fn an_ignore_file_that_cannot_be_read_is_named_with_its_line() {
    let room = Room::with("FROM scratch\n");
    room.write(".dockerignore", "# comment\nfine\n[\n");
    let text = words(&room.build().unwrap_err());
    assert_eq!(
        text,
        "failed to parse .dockerignore: line 3: \"[\": syntax error in pattern"
    );
    // The one beside the Dockerfile wins, and the other is not even looked at.
    room.write("Dockerfile.dockerignore", "");
    room.build().unwrap();
}

#[test]
fn warnings_are_told() {
    let room = Room::with("FROM scratch\nMAINTAINER me\n");
    let mut rules = Vec::new();
    let told = std::sync::Mutex::new(&mut rules);
    engine::build(&room.engine, &room.request(), &|progress| {
        if let Progress::Warning(warning) = progress {
            told.lock()
                .unwrap()
                .push((warning.rule, warning.place.unwrap().1.first_line));
        }
    })
    .unwrap();
    assert_eq!(rules, [("MaintainerDeprecated".to_owned(), 2)]);
}

#[test]
fn files_that_are_given_away_need_no_image() {
    let room = Room::with("FROM scratch\nCOPY Dockerfile /it\n");
    let mut request = room.request();
    let destination = room.home().join("out");
    request.outputs = vec![Output::Local(engine::Files {
        destination: Some(destination.clone()),
        ..engine::Files::default()
    })];
    assert_eq!(room.build_as(&request).unwrap().image, None);
    let copied = fs::read_to_string(destination.join("it")).unwrap();
    assert_eq!(copied, "FROM scratch\nCOPY Dockerfile /it\n");
}

#[test]
fn the_graph_is_drawn_without_running_it() {
    let room = Room::with("FROM scratch\nCOPY missing /\n");
    let graph = room.engine.graph(&room.request(), &|_| {}).unwrap();
    let text = llb::dot::dot(&graph);
    assert!(
        text.contains("load build context") && text.contains("COPY missing /"),
        "{text}"
    );
}

#[test]
fn a_missing_source_of_a_copy_fails_its_step() {
    let room = Room::with("FROM scratch\nLABEL a=b\nCOPY missing /x\n");
    let error = room.build().unwrap_err();
    room.check_order();
    let step = error.step().unwrap();
    assert!(step.name.ends_with("COPY missing /x"), "{}", step.name);
    let text = words(&error);
    assert!(
        text.starts_with("failed to compute cache key: failed to calculate checksum of ref "),
        "{text}"
    );
    assert!(
        text.lines()
            .next()
            .unwrap()
            .ends_with(": \"/missing\": not found"),
        "{text}"
    );
    assert!(text.contains("   3 | >>> COPY missing /x\n"), "{text}");
    assert!(
        room.steps()
            .last()
            .unwrap()
            .contains("COPY missing /x: ERROR failed to compute"),
        "{:?}",
        room.steps()
    );
}

#[test]
fn a_copy_from_no_context_finds_nothing() {
    let room = Room::new();
    fs::write(room.home().join("Dockerfile"), "FROM scratch\nCOPY x /x\n").unwrap();
    let mut request = room.request();
    request.dockerfile = DockerfileFrom::File(room.home().join("Dockerfile"));
    request.context = ContextFrom::Empty;
    let text = words(&room.build_as(&request).unwrap_err());
    assert!(
        text.lines()
            .next()
            .unwrap()
            .ends_with("ref scratch: \"/x\": not found"),
        "{text}"
    );
}

#[test]
fn a_build_that_is_given_up_ends_so() {
    let room = Room::with("FROM scratch\nCOPY missing /x\n");
    let request = room.request();
    request.cancel.cancel();
    assert!(
        matches!(room.build_as(&request), Err(BuildError::Cancelled)),
        "{:?}",
        room.story()
    );
    room.check_order();
}
