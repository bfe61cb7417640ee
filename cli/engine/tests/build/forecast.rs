//! What a build would do: said before, and then compared with what it does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use engine::{NoCache, Request, Verdict};

use crate::room::Room;

const DOCKERFILE: &str = "FROM busybox AS build\nRUN echo tools > /tools\nCOPY in /in\nRUN wc -l < /in > /lines\n\
    FROM busybox\nCOPY --from=build /lines /\nRUN cp /lines /copy\n";

fn room() -> Room {
    let room = Room::with_base(DOCKERFILE);
    room.write("in", "one\n");
    room
}

/// Each step with its verdict, without what is cached.
fn foreseen(room: &Room, request: &Request) -> Vec<(String, Verdict)> {
    let forecast = room.engine.forecast(request, &|_| {}).unwrap();
    let steps = forecast.steps.into_iter();
    steps
        .filter(|step| step.verdict != Verdict::Cached)
        .map(|step| (step.step, step.verdict))
        .collect()
}

fn named(steps: &[(&str, Verdict)]) -> Vec<(String, Verdict)> {
    let owned = |(name, verdict): &(&str, Verdict)| ((*name).to_owned(), *verdict);
    steps.iter().map(owned).collect()
}

#[test]
fn as_root_what_never_ran_will_and_what_ran_is_found() {
    let room = room();
    let request = room.request();
    assert_eq!(
        foreseen(&room, &request),
        named(&[
            ("[build 2/4] RUN echo tools > /tools", Verdict::Run),
            ("[build 3/4] COPY in /in", Verdict::Run),
            ("[build 4/4] RUN wc -l < /in > /lines", Verdict::Run),
            ("[stage-1 2/3] COPY --from=build /lines /", Verdict::Run),
            ("[stage-1 3/3] RUN cp /lines /copy", Verdict::Run),
        ])
    );
    let forecast = room.engine.forecast(&request, &|_| {}).unwrap();
    assert!(forecast.steps.iter().all(|step| step.time.is_none()));
    room.build().unwrap();
    assert_eq!(foreseen(&room, &request), []);
}

#[test]
fn as_root_what_stands_on_a_step_that_runs_only_may_and_the_build_agrees() {
    let room = room();
    room.build().unwrap();
    room.write("in", "two\n");
    let request = room.request();
    assert_eq!(
        foreseen(&room, &request),
        named(&[
            ("[build 3/4] COPY in /in", Verdict::Run),
            ("[build 4/4] RUN wc -l < /in > /lines", Verdict::May),
            ("[stage-1 2/3] COPY --from=build /lines /", Verdict::May),
            ("[stage-1 3/3] RUN cp /lines /copy", Verdict::May),
        ])
    );
    let forecast = room.engine.forecast(&request, &|_| {}).unwrap();
    assert!(
        forecast
            .steps
            .iter()
            .all(|step| step.verdict == Verdict::Cached || step.time.is_some()),
        "all of them ran before"
    );
    assert!(forecast.least <= forecast.most);
    let why = forecast.steps.iter().find_map(|step| step.why.as_ref());
    assert_eq!(why.unwrap().sentence(), "in changed");
    room.build().unwrap();
    assert!(
        room.steps()
            .contains(&"[stage-1 3/3] RUN cp /lines /copy: CACHED".to_owned())
    );
}

#[test]
fn as_root_another_command_on_a_step_that_runs_is_sure_to_run() {
    let room = room();
    room.build().unwrap();
    room.write("in", "two\n");
    room.write("Dockerfile", DOCKERFILE.replace("wc -l", "wc -c"));
    let steps = foreseen(&room, &room.request());
    let wc = (
        "[build 4/4] RUN wc -c < /in > /lines".to_owned(),
        Verdict::Run,
    );
    assert!(steps.contains(&wc), "{steps:?}");
}

#[test]
fn as_root_a_step_that_also_sees_other_files_is_sure_to_run() {
    let room = Room::with_base(
        "FROM busybox\nCOPY in /in\nRUN --mount=source=seen,target=/seen cat /in /seen > /out\n",
    );
    room.write("in", "one");
    room.write("seen", "one");
    room.build().unwrap();
    room.write("in", "two");
    let request = room.request();
    assert_eq!(foreseen(&room, &request)[1].1, Verdict::May);
    room.write("seen", "two");
    assert_eq!(foreseen(&room, &request)[1].1, Verdict::Run);
}

#[test]
fn as_root_a_file_that_would_be_copied_is_named() {
    let why = |copy: &str, change: fn(&Room)| {
        let room = Room::with_base(&format!("FROM busybox\n{copy}\n"));
        for file in ["src/a.txt", "src/deep/b.txt"] {
            room.write(file, "one");
        }
        room.build().unwrap();
        change(&room);
        let forecast = room.engine.forecast(&room.request(), &|_| {}).unwrap();
        forecast.steps[1].why.as_ref().unwrap().sentence()
    };
    let edit = |room: &Room| room.write("src/deep/b.txt", "two");
    assert_eq!(why("COPY src /to", edit), "src/deep/b.txt changed");
    assert_eq!(why("COPY . /to/", edit), "src/deep/b.txt changed");
    assert_eq!(why("COPY src/deep/b.txt /", edit), "src/deep/b.txt changed");
    // Which of those that a pattern matches is only seen once they are copied.
    assert_eq!(why("COPY sr* /to/", edit), "sr* changed");
    let more = |room: &Room| room.write("src/c.txt", "new");
    assert_eq!(why("COPY src /to", more), "src/c.txt is new");
    let less = |room: &Room| fs::remove_file(room.context().join("src/a.txt")).unwrap();
    assert_eq!(why("COPY src /to", less), "src/a.txt is gone");
}

#[test]
fn as_root_without_the_cache_every_step_is_sure_to_run() {
    let room = room();
    room.build().unwrap();
    let request = Request {
        no_cache: NoCache::All,
        ..room.request()
    };
    let steps = foreseen(&room, &request);
    assert_eq!(steps.len(), 5);
    assert!(steps.iter().all(|(_, it)| *it == Verdict::Run), "{steps:?}");
}

#[test]
fn as_root_what_a_build_would_refuse_is_refused() {
    let room = Room::with_base("FROM busybox\nRUN true\nCOPY missing /\n");
    let error = room.engine.forecast(&room.request(), &|_| {}).unwrap_err();
    // What is on the disk alone shows whether it is there, once the step before it has run or not.
    assert_eq!(error.step().unwrap().name, "[3/3] COPY missing /");
}

/// Every file and directory of the store with what changes when it does, but the database's own log.
fn state(store: &Path) -> BTreeMap<PathBuf, (i64, i64, u64)> {
    let mut state = BTreeMap::new();
    let mut open = vec![store.to_owned()];
    while let Some(path) = open.pop() {
        // What steps worked with is removed when there is time for it.
        if path.parent() == Some(&store.join("tmp")) {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).unwrap();
        let is_log = path.to_string_lossy().ends_with("-shm");
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        }
        if !is_log {
            let mark = (metadata.mtime(), metadata.mtime_nsec(), metadata.size());
            state.insert(path, mark);
        }
    }
    state
}

#[test]
fn as_root_a_forecast_writes_nothing() {
    let room = room();
    room.build().unwrap();
    room.write("in", "two\n");
    let before = state(&room.home().join("store"));
    room.engine.forecast(&room.request(), &|_| {}).unwrap();
    assert_eq!(state(&room.home().join("store")), before);
    assert_eq!(room.engine.store().builds(9).unwrap().len(), 1);
}
