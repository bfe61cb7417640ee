//! Why steps ran: each row changes one thing, builds again, and holds the sentences against it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use engine::{NoCache, Request};

use crate::room::Room;

const DOCKERFILE: &str = "FROM busybox AS build\nWORKDIR /src\nRUN echo tools > /tools\nARG GIT_SHA=1f\nCOPY src .\n\
    RUN cat a.txt > /out\nFROM busybox\nCOPY --chmod=755 run.sh /\nCOPY --from=build /out /app\n";

fn room() -> Room {
    let room = Room::with_base(DOCKERFILE);
    room.write("src/a.txt", "one");
    room.write("src/b.txt", "one");
    room.write("run.sh", "#!/bin/sh");
    room.write("unrelated", "one");
    room
}

fn edit(room: &Room, old: &str, new: &str) {
    let path = room.context().join("Dockerfile");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{old}");
    room.write("Dockerfile", text.replacen(old, new, 1));
}

fn chmod(room: &Room, path: &str, mode: u32) {
    let path = room.context().join(path);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Builds, changes, builds again: which steps ran the second time, and why.
fn reasons(change: impl FnOnce(&Room, &mut Request)) -> Vec<String> {
    let room = room();
    room.build().unwrap();
    let mut request = room.request();
    change(&room, &mut request);
    room.build_as(&request).unwrap();
    let explained = room.engine.explain(None).unwrap().unwrap();
    explained
        .iter()
        .map(|it| format!("{}: {}", it.step, it.sentence()))
        .collect()
}

#[test]
fn as_root_what_changes_nothing_that_counts_runs_nothing() {
    let none: [String; 0] = [];
    assert_eq!(reasons(|_, _| {}), none);
    assert_eq!(reasons(|room, _| room.write("unrelated", "two")), none);
    assert_eq!(reasons(|room, _| room.write("src/a.txt", "one")), none);
    assert_eq!(
        reasons(|room, _| edit(room, "WORKDIR", "# why\nWORKDIR")),
        none
    );
    // The mode of what --chmod sets is in no key.
    assert_eq!(reasons(|room, _| chmod(room, "run.sh", 0o700)), none);
    // Where it stood does not count, only what it was called.
    let moved = |room: &Room, _: &mut Request| {
        fs::create_dir(room.context().join("lib")).unwrap();
        fs::rename(room.context().join("src"), room.context().join("lib/src")).unwrap();
        edit(room, "COPY src .", "COPY lib/src .");
    };
    assert_eq!(reasons(moved), none);
}

#[test]
fn as_root_each_step_that_runs_names_the_first_thing_that_differs() {
    let copied = "`[build 4/5] COPY src .` came out different";
    assert_eq!(
        reasons(|room, _| room.write("src/a.txt", "two")),
        [
            "[build 4/5] COPY src .: src/a.txt changed".to_owned(),
            format!("[build 5/5] RUN cat a.txt > /out: {copied}"),
            "[stage-1 3/3] COPY --from=build /out /app: out changed, of `[build 5/5] RUN cat a.txt > /out`".to_owned(),
        ]
    );
    assert_eq!(
        reasons(|room, _| chmod(room, "src/b.txt", 0o755)),
        [
            "[build 4/5] COPY src .: mode of src/b.txt 0644 -> 0755".to_owned(),
            format!("[build 5/5] RUN cat a.txt > /out: {copied}"),
        ],
        "what came out the same ends it"
    );
    let arg = |_: &Room, request: &mut Request| {
        request
            .build_args
            .insert("GIT_SHA".to_owned(), "2e".to_owned());
    };
    assert_eq!(
        reasons(arg),
        ["[build 5/5] RUN cat a.txt > /out: ARG GIT_SHA 1f -> 2e, declared at Dockerfile:4"],
        "an ARG counts for what comes after it, and an equal tree ends it"
    );
    assert_eq!(
        reasons(|room, _| edit(room, "echo tools >", "echo tools | cat >")),
        [
            "[build 3/5] RUN echo tools | cat > /tools: the command changed: `echo tools > /tools` -> `echo tools | cat > /tools`"
        ],
        "an equal tree ends it"
    );
    assert_eq!(
        reasons(|room, _| edit(room, "COPY src .", "COPY --chmod=600 src .")),
        [
            "[build 4/5] COPY --chmod=600 src .: --chmod nothing -> 600".to_owned(),
            "[build 5/5] RUN cat a.txt > /out: `[build 4/5] COPY --chmod=600 src .` came out different".to_owned(),
        ]
    );
    let no_cache = |_: &Room, request: &mut Request| {
        request.no_cache = NoCache::Stages(vec!["build".to_owned()]);
    };
    assert!(
        reasons(no_cache)
            .iter()
            .all(|it| it.ends_with("the cache was not to be used"))
    );
}

#[test]
fn as_root_a_file_of_a_mount_is_named() {
    let of = |dockerfile: &str, change: fn(&Room)| {
        let room = Room::with_base(dockerfile);
        room.write("src/a.txt", "one");
        room.write("src/b.txt", "one");
        room.build().unwrap();
        change(&room);
        room.build().unwrap();
        let explained = room.engine.explain(None).unwrap().unwrap();
        let sentences = explained.iter().map(engine::Explanation::sentence);
        sentences.collect::<Vec<_>>()
    };
    let context = "FROM busybox\nRUN --mount=source=src,target=/src cat /src/*.txt > /all\n";
    assert_eq!(
        of(context, |room| room.write("src/a.txt", "two")),
        ["src/a.txt changed"]
    );
    assert_eq!(
        of(context, |room| chmod(room, "src/b.txt", 0o755)),
        ["mode of src/b.txt 0644 -> 0755"]
    );
    let more = |room: &Room| {
        room.write("src/c.txt", "new");
        room.write("src/d/e.txt", "new");
    };
    assert_eq!(of(context, more), ["src/c.txt is new (and 1 more)"]);
    let stage = "FROM busybox AS one\nCOPY src /src\nFROM busybox\nRUN --mount=from=one,target=/one cat /one/src/*.txt > /all\n";
    assert_eq!(
        of(stage, |room| room.write("src/a.txt", "two")),
        [
            "src/a.txt changed",
            "src/a.txt changed, of `[one 2/2] COPY src /src`"
        ]
    );
}

#[test]
fn as_root_a_step_that_failed_says_why_it_ran() {
    let room = Room::with_base("FROM busybox\nCOPY number /\nRUN test $(cat /number) = 1\n");
    let explained = || {
        let explained = room.engine.explain(None).unwrap().unwrap();
        let said = explained
            .iter()
            .map(|it| (it.sentence(), it.failed.clone()));
        said.collect::<Vec<_>>()
    };
    room.write("number", "1");
    room.build().unwrap();
    room.write("number", "2");
    room.build().unwrap_err();
    let failed = "process \"/bin/sh -c test $(cat /number) = 1\" did not complete successfully: exit code: 1";
    let changed = "`[2/3] COPY number /` came out different";
    assert_eq!(
        explained(),
        [
            ("number changed".to_owned(), None),
            (changed.to_owned(), Some(failed.to_owned())),
        ]
    );
    room.build().unwrap_err();
    assert_eq!(
        explained(),
        [(
            "it failed before, and nothing differs since".to_owned(),
            Some(failed.to_owned())
        )]
    );
}

#[test]
fn as_root_a_build_with_explanations_says_them_as_steps_run() {
    let room = room();
    let request = Request {
        explain: true,
        ..room.request()
    };
    room.build_as(&request).unwrap();
    assert!(
        room.log()
            .contains("ran because: no earlier run of it is on record\n"),
        "{}",
        room.log()
    );
    room.write("src/a.txt", "two");
    room.build_as(&request).unwrap();
    assert!(
        room.log().contains("ran because: src/a.txt changed\n"),
        "{}",
        room.log()
    );
}

#[test]
fn as_root_a_result_that_outlived_its_time_is_made_again_and_an_equal_one_ends_it() {
    let room = Room::with_base(
        "# syntax=docker/dockerfile:1-labs\nFROM busybox\nRUN --cache-ttl=1h echo a > /a\nRUN cat /a > /b\n",
    );
    room.build().unwrap();
    room.build().unwrap();
    assert!(
        room.steps().iter().all(|it| it.ends_with("CACHED")),
        "{:?}",
        room.steps()
    );
    room.write(
        "Dockerfile",
        "# syntax=docker/dockerfile:1-labs\nFROM busybox\nRUN --cache-ttl=1ms echo a > /a\nRUN cat /a > /b\n",
    );
    std::thread::sleep(Duration::from_millis(2));
    room.build().unwrap();
    assert_eq!(
        room.steps(),
        [
            "[1/3] FROM docker.io/library/busybox:latest: CACHED",
            "[2/3] RUN --cache-ttl=1ms echo a > /a: DONE",
            "[3/3] RUN cat /a > /b: CACHED",
        ]
    );
}

#[test]
fn as_root_a_step_is_tried_again_on_a_clean_layer_and_ended_in_time() {
    let room = Room::with_base(
        "# syntax=docker/dockerfile:1-labs\nFROM busybox\n\
         RUN --mount=type=cache,target=/c --retry=2 test ! -e /left || exit 9; touch /left; echo x >> /c/n; test $(wc -l < /c/n) = 3\n",
    );
    room.build().unwrap();
    assert!(
        room.log().contains("; try 2 of 3\n") && room.log().contains("; try 3 of 3\n"),
        "{}",
        room.log()
    );
    let room = Room::with_base(
        "# syntax=docker/dockerfile:1-labs\nFROM busybox\nRUN --timeout=50ms sleep 60\n",
    );
    let error = room.build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "process \"/bin/sh -c sleep 60\" did not end within 50ms"
    );
    let room = Room::with_base("FROM busybox\nRUN --timeout=50ms sleep 60\n");
    let error = room.build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "RUN --timeout is rbuild's own: ask for it with `# syntax=docker/dockerfile:1-labs` on the first line"
    );
}
