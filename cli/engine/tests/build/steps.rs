//! Builds that run something, on a busybox base.

use std::sync::{Arc, Mutex};
use std::thread;

use engine::progress::Progress;
use engine::{BuildError, Cancel, Engine, NoCache};

use crate::room::Room;

fn assert_steps(room: &Room, expected: &[&str]) {
    assert_eq!(room.steps(), expected);
}

#[test]
fn as_root_a_project_is_built_then_cached_then_rebuilt_below_an_edit() {
    let room = Room::with_base(
        "FROM busybox AS build\nWORKDIR /src\nRUN echo tools > /tools\nCOPY main.c .\nRUN cat main.c /tools > out\n\
         FROM busybox\nCOPY --from=build /src/out /app\nCMD [\"cat\", \"/app\"]\n",
    );
    room.write("main.c", "int main;\n");
    let first = room.build().unwrap().image.unwrap();
    room.check_order();
    assert!(
        room.steps()
            .iter()
            .all(|line| !line.ends_with("CACHED") || line.contains("FROM")),
        "{:?}",
        room.steps()
    );
    assert!(room.files(&first).contains(&"app".to_owned()));

    let second = room.build().unwrap();
    assert_eq!(
        second.image,
        Some(first),
        "a cached build is the same image"
    );
    assert!(
        room.steps().iter().all(|line| line.ends_with("CACHED")),
        "{:?}",
        room.steps()
    );
    room.check_order();

    room.write("main.c", "int main; // edited\n");
    let third = room.build().unwrap().image.unwrap();
    assert_ne!(third, first);
    assert_steps(
        &room,
        &[
            "[build 1/5] FROM docker.io/library/busybox:latest: CACHED",
            "[build 2/5] WORKDIR /src: CACHED",
            "[build 3/5] RUN echo tools > /tools: CACHED",
            "[build 4/5] COPY main.c .: DONE",
            "[build 5/5] RUN cat main.c /tools > out: DONE",
            "[stage-1 2/2] COPY --from=build /src/out /app: DONE",
        ],
    );
    let config = room.config(&third);
    assert_eq!(config.rootfs.diff_ids.len(), 2);
    let layers = config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .count();
    assert_eq!(layers, config.rootfs.diff_ids.len());
    assert!(config.history.iter().all(|entry| entry.created.is_some()));
}

#[test]
fn as_root_a_step_that_comes_to_the_same_stops_the_cascade() {
    let room = Room::with_base("FROM busybox\nRUN echo 1 > /x # one\nRUN cp /x /y\n");
    room.build().unwrap();
    room.write(
        "Dockerfile",
        "FROM busybox\nRUN echo 1 > /x # two\nRUN cp /x /y\n",
    );
    room.build().unwrap();
    assert_steps(
        &room,
        &[
            "[1/3] FROM docker.io/library/busybox:latest: CACHED",
            "[2/3] RUN echo 1 > /x # two: DONE",
            "[3/3] RUN cp /x /y: CACHED",
        ],
    );
}

#[test]
fn as_root_a_failing_step_is_shown_with_its_last_lines() {
    let room = Room::with_base(
        "FROM busybox\nRUN echo kept > /kept\nRUN for i in $(seq 12); do echo line $i; done; exit 7\n",
    );
    let error = room.build().unwrap_err();
    room.check_order();
    assert!(
        error
            .to_string()
            .ends_with("did not complete successfully: exit code: 7"),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("process \"/bin/sh -c for i in"),
        "{error}"
    );
    let step = error.step().unwrap();
    let lines: Vec<&str> = step.log.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines.len(), 10);
    assert_eq!((lines[0], lines[9]), ("line 3", "line 12"));
    assert_eq!(error.place().unwrap().lines.first_line, 3);
    assert!(room.log().starts_with("line 1\n"));

    // What ran before it is in the cache.
    room.write(
        "Dockerfile",
        "FROM busybox\nRUN echo kept > /kept\nRUN true\n",
    );
    room.build().unwrap();
    assert!(
        room.steps()
            .contains(&"[2/3] RUN echo kept > /kept: CACHED".to_owned()),
        "{:?}",
        room.steps()
    );
}

#[test]
fn as_root_without_the_cache_everything_runs_again() {
    let room = Room::with_base("FROM busybox\nRUN echo x > /x\n");
    room.build().unwrap();
    let mut request = room.request();
    request.no_cache = NoCache::All;
    room.build_as(&request).unwrap();
    assert!(
        room.steps()
            .contains(&"[2/2] RUN echo x > /x: DONE".to_owned()),
        "{:?}",
        room.steps()
    );
}

/// Each of the stages waits until all of them are there, so they must run at the same time.
#[test]
fn as_root_eight_stages_run_at_once() {
    let mut dockerfile = String::new();
    for n in 0..8 {
        dockerfile.push_str(&format!(
            "FROM busybox AS s{n}\nRUN --mount=type=cache,id=meeting,target=/m \
             touch /m/{n}; for i in $(seq 600); do [ $(ls /m | wc -l) = 8 ] && exit 0; sleep 0.1; done; exit 1\n"
        ));
    }
    dockerfile.push_str("FROM busybox\nRUN");
    for n in 0..8 {
        dockerfile.push_str(&format!(" --mount=from=s{n},source=/etc,target=/p{n}"));
    }
    dockerfile.push_str(" cat /p0/passwd /p7/passwd\n");
    Room::with_base(&dockerfile).build().unwrap();
}

#[test]
fn as_root_two_builds_at_once_run_each_step_once() {
    let room = Room::with_base(
        "FROM busybox\nRUN --mount=type=cache,target=/c echo ran >> /c/log; sleep 0.2; cp /c/log /log\n",
    );
    let other = room.second_engine();
    let request = room.request();
    let build = |engine: &Engine| engine::build(engine, &request, &|_| {}).unwrap().image;
    let images = thread::scope(|scope| {
        [&room.engine, &other]
            .map(|engine| scope.spawn(|| build(engine)))
            .map(|thread| thread.join().unwrap())
    });
    assert_eq!(images[0], images[1]);
    room.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/c cat /c/log\n",
    );
    room.build().unwrap();
    assert_eq!(room.log(), "ran\n");
}

#[test]
fn as_root_giving_up_ends_what_runs() {
    let room = Room::with_base("FROM busybox\nRUN echo begun; sleep 1000\n");
    let mut request = room.request();
    request.cancel = Cancel::default();
    let cancel = request.cancel.clone();
    let story = Arc::new(Mutex::new(Vec::new()));
    let result = engine::build(&room.engine, &request, &|progress| match progress {
        Progress::Log(_) => cancel.cancel(),
        Progress::Vertex(vertex) if vertex.completed.is_some() => {
            story.lock().unwrap().push((vertex.name, vertex.error));
        }
        _ => {}
    });
    assert!(matches!(result, Err(BuildError::Cancelled)), "{result:?}");
    let (name, error) = story.lock().unwrap().pop().unwrap();
    assert_eq!(name, "[2/2] RUN echo begun; sleep 1000");
    assert_eq!(error, Some(engine::progress::VertexError::Canceled));
}

#[test]
fn as_root_an_image_that_only_says_something_else_is_as_old_as_its_base() {
    let room = Room::with_base("FROM busybox\nCMD [\"ls\"]\n");
    let id = room.build().unwrap().image.unwrap();
    let base = room
        .engine
        .store()
        .image_named(&"busybox".parse().unwrap())
        .unwrap()
        .unwrap();
    let config = room.config(&id);
    assert_eq!(config.rootfs.diff_ids, base.diff_ids);
    assert_eq!((config.created, config.history.len()), (base.created, 2));
    assert_eq!(config.history[1].created, base.created);
    assert_eq!(
        room.engine.store().image(&id).unwrap().unwrap().top,
        base.top
    );
}

#[test]
fn as_root_a_process_finds_the_surroundings_that_are_asked_for() {
    let room = Room::with_base(
        "FROM busybox\n\
         ENV GREETING=hello\n\
         USER user\n\
         RUN --mount=type=secret,id=key --mount=type=secret,id=word,env=WORD --mount=type=tmpfs,target=/scratch \
         --mount=from=busybox,source=/etc,target=/theirs \
         id -un; echo $GREETING $HOME $WORD; cat /run/secrets/key 2>&1; touch /theirs/x 2>&1; \
         touch /scratch/x && ls /scratch; hostname; grep -c . /etc/hosts; ls /sys/class/net\n",
    );
    let mut request = room.request();
    request.secrets.insert(
        "word".to_owned(),
        engine::SecretFrom::Value(b"sesame".to_vec()),
    );
    room.build_as(&request).unwrap();
    let expected = "user\nhello /home sesame\n\
        cat: can't open '/run/secrets/key': No such file or directory\n\
        touch: /theirs/x: Read-only file system\n\
        x\nbuildkitsandbox\n2\nlo\n";
    let mut lines: Vec<String> = room.log().lines().map(str::to_owned).collect();
    let mut expected: Vec<&str> = expected.lines().collect();
    // Output and errors come through two pipes, so only their own orders are certain.
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn as_root_a_step_that_cannot_start_says_why() {
    let why = |dockerfile: &str| {
        let error = Room::with_base(dockerfile).build().unwrap_err();
        let step = error.step().unwrap();
        let mut text = step.to_string();
        let mut cause = std::error::Error::source(step);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    };
    assert_eq!(
        why("FROM busybox\nRUN [\"nothing\"]\n"),
        "process \"nothing\" did not start: exec: `nothing`: executable file not found in $PATH"
    );
    assert_eq!(
        why("FROM busybox\nUSER stranger\nRUN true\n"),
        "unable to find user stranger: no matching entries in passwd file"
    );
    assert_eq!(
        why("FROM busybox\nRUN --mount=type=secret,id=key,required true\n"),
        "secret key: not found"
    );
}

#[test]
fn as_root_a_panic_ends_the_build_and_what_runs() {
    let room = Room::with_base(
        "FROM busybox AS one\nRUN sleep 1000\nFROM busybox\nRUN --mount=from=one,target=/one true\n",
    );
    let request = room.request();
    let build = std::panic::AssertUnwindSafe(|| {
        engine::build(&room.engine, &request, &|progress| match progress {
            Progress::Vertex(vertex)
                if vertex.name.contains("sleep") && vertex.started.is_some() =>
            {
                panic!("as the test wants it")
            }
            _ => {}
        })
    });
    assert!(std::panic::catch_unwind(build).is_err());

    room.write("Dockerfile", "FROM busybox\nRUN echo begun; sleep 1000\n");
    let build = std::panic::AssertUnwindSafe(|| {
        engine::build(&room.engine, &request, &|progress| {
            assert!(
                !matches!(progress, Progress::Log(_)),
                "as the test wants it"
            );
        })
    });
    assert!(std::panic::catch_unwind(build).is_err());
}

#[test]
fn as_root_steps_that_change_nothing_are_layers_still() {
    let room = Room::with_base("FROM busybox\nRUN true\nRUN true\n");
    let id = room.build().unwrap().image.unwrap();
    assert_steps(
        &room,
        &[
            "[1/3] FROM docker.io/library/busybox:latest: CACHED",
            "[2/3] RUN true: DONE",
            "[3/3] RUN true: DONE",
        ],
    );
    let config = room.config(&id);
    assert_eq!(config.rootfs.diff_ids.len(), 3);
    assert!(config.history.iter().all(|entry| !entry.empty_layer));
}

#[test]
fn as_root_a_result_that_is_pruned_between_its_look_up_and_its_use_is_made_again() {
    let room = Room::with_base("FROM busybox\nRUN echo one > /1\nRUN cp /1 /2\n");
    let built = engine::build(&room.second_engine(), &room.request(), &|_| {});
    let store = room.second_engine().store().clone();
    store.remove_image(&built.unwrap().image.unwrap()).unwrap();
    room.write(
        "Dockerfile",
        "FROM busybox\nRUN echo one > /1\nRUN cp /1 /3\n",
    );
    let pruned = Mutex::new(0);
    let built = engine::build(&room.engine, &room.request(), &|progress| {
        if let Progress::Vertex(vertex) = progress
            && vertex.cached
            && vertex.name.contains("echo one")
        {
            // All but what images hold.
            let everything = store
                .plan_prune(&|_| true, &store::Budget::default())
                .unwrap();
            *pruned.lock().unwrap() += store.prune(everything).unwrap().len();
        }
    });
    let image = built.unwrap().image.unwrap();
    assert!(*pruned.lock().unwrap() > 0, "the test pruned nothing");
    assert!(room.files(&image).contains(&"3".to_owned()));
}
