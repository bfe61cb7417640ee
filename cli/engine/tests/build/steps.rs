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
