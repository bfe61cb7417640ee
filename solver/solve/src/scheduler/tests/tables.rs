//! Changed this: these steps ran again.
//!
//! A graph is a line a vertex, the last one the target:
//! ```text
//! NAME = image TEXT
//! NAME = local /PATH:CONTENT …
//! NAME = http ADDRESS /PATH:CONTENT …        without content: nobody answers
//! NAME = run ROOT TEXT [NAME:/PATH …]        writes something to /out
//! NAME = same ROOT TEXT [NAME:/PATH …]       always writes the same to /out
//! NAME = copy ROOT NAME:/PATH
//! NAME = merge NAME NAME
//! ```
//! `!` before a line: ignores the cache. `?` before a line: fails when it runs.

use std::collections::{BTreeMap, BTreeSet};

use llb::{Graph, Input, Metadata, Op, VertexId};

use super::model::{Build, Files, Locals, Report, World, copy, exec, http, image, local};
use crate::{Event, OnFailure, Options, Outcome, Scheduler, Work};

#[derive(Default)]
struct Drawing {
    graph: Graph,
    vertices: BTreeMap<String, VertexId>,
    target: Option<VertexId>,
    locals: Locals,
    broken: BTreeSet<VertexId>,
}

impl Drawing {
    fn of(text: &str) -> Self {
        let mut drawing = Self::default();
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .for_each(|line| drawing.line(line));
        drawing
    }

    fn line(&mut self, line: &str) {
        let (name, definition) = line
            .trim_start_matches(['!', '?'])
            .trim()
            .split_once(" = ")
            .unwrap();
        let words: Vec<&str> = definition.split_whitespace().collect();
        let (parts, plain): (Vec<&str>, Vec<&str>) =
            words[1..].iter().partition(|word| word.contains(':'));
        let (op, inputs) = if words[0] == "local" {
            self.locals.insert(name.to_owned(), files(&parts));
            (local(name), vec![])
        } else if words[0] == "http" {
            if !parts.is_empty() {
                self.locals.insert(plain[0].to_owned(), files(&parts));
            }
            (http(plain[0]), vec![])
        } else {
            self.op(words[0], &plain, &parts)
        };
        let metadata = Metadata {
            name: name.to_owned(),
            ignore_cache: line.starts_with('!'),
            ..Metadata::default()
        };
        let vertex = self.graph.add(op, inputs, metadata);
        if line.starts_with('?') {
            self.broken.insert(vertex);
        }
        self.vertices.insert(name.to_owned(), vertex);
        self.target = Some(vertex);
    }

    fn op(&self, verb: &str, plain: &[&str], parts: &[&str]) -> (Op, Vec<Input>) {
        let parts: Vec<(&str, &str)> = parts
            .iter()
            .map(|part| part.split_once(':').unwrap())
            .collect();
        let mounts: Vec<(usize, &str)> = parts
            .iter()
            .enumerate()
            .map(|(n, (_, path))| (n + 1, *path))
            .collect();
        let root_and_parts = plain
            .iter()
            .take(1)
            .copied()
            .chain(parts.iter().map(|(of, _)| *of));
        let inputs = self.inputs(root_and_parts);
        match verb {
            "image" => (image(plain[0]), vec![]),
            "run" => (exec(plain[1], u64::MAX, &mounts), inputs()),
            "same" => (exec(plain[1], 1, &mounts), inputs()),
            "copy" => (copy(parts[0].1, parts[0].1), inputs()),
            "merge" => (Op::Merge, self.inputs(plain.iter().copied())()),
            other => panic!("the notation has no {other}"),
        }
    }

    fn inputs<'a>(
        &'a self,
        names: impl Iterator<Item = &'a str> + 'a,
    ) -> impl FnOnce() -> Vec<Input> + 'a {
        || {
            names
                .map(|name| Input {
                    vertex: self.vertices[name],
                    output: 0,
                })
                .collect()
        }
    }

    fn build(&self, world: &mut World, options: Options) -> Report {
        let build = Build {
            graph: &self.graph,
            targets: vec![self.target.unwrap()],
            locals: &self.locals,
            options,
            broken: self.broken.clone(),
        };
        // Runs take longest.
        world.build(&build, |works| {
            works
                .iter()
                .position(|it| !matches!(it, Work::Execute { .. }))
                .unwrap_or(0)
        })
    }

    /// What happened to each vertex that something happened to.
    fn draw(&self, report: &Report) -> String {
        let what = |id| match id {
            id if report.failed.contains(&id) => Some("failed"),
            id if report.ran.contains(&id) => Some("ran"),
            id if report.cut_off.contains(&id) => Some("cut off"),
            id if report.cached.contains(&id) => Some("cached"),
            _ => None,
        };
        let words: Vec<String> = self
            .graph
            .vertices()
            .filter_map(|(id, vertex)| Some(format!("{} {}", vertex.metadata.name, what(id)?)))
            .collect();
        words.join(", ")
    }
}

fn files(words: &[&str]) -> Files {
    let files = words.iter().map(|word| word.split_once(':').unwrap());
    files
        .map(|(path, content)| (path.to_owned(), content.parse().unwrap()))
        .collect()
}

/// Builds once and says what happened.
fn check(text: &str, options: Options, expected: &str) -> (Drawing, Report) {
    let drawing = Drawing::of(text);
    let report = drawing.build(&mut World::default(), options);
    assert_eq!(drawing.draw(&report), expected);
    (drawing, report)
}

/// Builds `first`, then `second` with what is left from it, and says what happened the second time.
fn rebuild(first: &str, second: &str) -> String {
    let mut world = World::default();
    Drawing::of(first).build(&mut world, Options::default());
    let second = Drawing::of(second);
    let report = second.build(&mut world, Options::default());
    assert!(
        matches!(report.outcome, Outcome::Solved(_)),
        "{:?}",
        report.outcome
    );
    second.draw(&report)
}

const PROJECT: &str = "
    base = image debian
    context = local /main.c:1 /README:1
    tools = run base apt-get
    source = copy tools context:/main.c
    binary = run source cc
    final = copy base binary:/out
";

#[test]
fn a_first_build_runs_everything() {
    let all = "base ran, context ran, tools ran, source ran, binary ran, final ran";
    check(PROJECT, Options::default(), all);
}

#[test]
fn an_unchanged_build_asks_once_for_the_target() {
    assert_eq!(rebuild(PROJECT, PROJECT), "context ran, final cached");
}

#[test]
fn a_changed_file_that_nothing_copies_changes_nothing() {
    assert_eq!(
        rebuild(PROJECT, &PROJECT.replace("/README:1", "/README:2")),
        "context ran, final cached"
    );
}

#[test]
fn a_changed_file_runs_what_is_below_the_copy_again() {
    let edited = PROJECT.replace("/main.c:1", "/main.c:2");
    let expected = "base cached, context ran, tools cached, source ran, binary ran, final ran";
    assert_eq!(rebuild(PROJECT, &edited), expected);
}

#[test]
fn a_changed_command_runs_it_and_what_follows() {
    let edited = PROJECT.replace("run source cc", "run source gcc");
    assert_eq!(
        rebuild(PROJECT, &edited),
        "base cached, context ran, source cached, binary ran, final ran"
    );
}

#[test]
fn a_step_that_comes_to_the_same_stops_the_cascade() {
    let project = PROJECT.replace("run base apt-get", "same base apt-get");
    let edited = project.replace("apt-get", "apt");
    let expected =
        "base cached, context ran, tools ran, source cut off, binary cut off, final cut off";
    assert_eq!(rebuild(&project, &edited), expected);
}

#[test]
fn what_was_cut_off_once_is_found_at_once_the_next_time() {
    let project = PROJECT.replace("run base apt-get", "same base apt-get");
    let edited = Drawing::of(&project.replace("apt-get", "apt"));
    let mut world = World::default();
    Drawing::of(&project).build(&mut world, Options::default());
    edited.build(&mut world, Options::default());
    let report = edited.build(&mut world, Options::default());
    assert_eq!(edited.draw(&report), "context ran, final cached");
}

const FETCHED: &str = "
    base = image debian
    page = http example.com/a /page:1
    copied = copy base page:/page
    target = run copied make
";

#[test]
fn what_is_fetched_is_asked_for_before_anything_and_brought_in_where_it_is_needed() {
    let all = "base ran, page ran, copied ran, target ran";
    let (drawing, report) = check(FETCHED, Options::default(), all);
    assert_eq!(report.resolved, [drawing.vertices["page"]].into());
    assert_eq!(rebuild(FETCHED, FETCHED), "target cached");
}

#[test]
fn another_answer_is_another_source_and_another_address_is_not() {
    assert_eq!(
        rebuild(FETCHED, &FETCHED.replace("/page:1", "/page:2")),
        "base cached, page ran, copied ran, target ran"
    );
    assert_eq!(
        rebuild(
            FETCHED,
            &FETCHED.replace("example.com/a", "mirror.example.com/a")
        ),
        "target cached"
    );
}

#[test]
fn two_addresses_of_the_same_are_brought_in_once() {
    let project = "
        one = http a /page:1
        two = http b /page:1
        target = merge one two
    ";
    let expected = "one ran, two cut off, target ran";
    check(project, Options::default(), expected);
}

#[test]
fn what_nobody_answers_for_fails_all_that_needs_it() {
    let project = FETCHED.replace("/page:1", "");
    let (drawing, report) = check(&project, Options::default(), "page failed");
    assert_eq!(
        report.outcome,
        Outcome::Failed(vec![drawing.vertices["page"]])
    );
}

#[test]
fn giving_up_stops_asking() {
    let project = Drawing::of(FETCHED);
    let mut scheduler = Scheduler::new(
        &project.graph,
        vec![project.target.unwrap()],
        Options::default(),
    );
    let page = project.vertices["page"];
    assert_eq!(scheduler.start(), [Work::Resolve { vertex: page }]);
    assert_eq!(
        scheduler.handle(Event::Cancelled),
        [Work::Cancel { vertex: page }]
    );
    assert_eq!(scheduler.outcome(), None, "it is still being asked for");
    assert_eq!(scheduler.handle(Event::Stopped { vertex: page }), []);
    assert_eq!(scheduler.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn a_mount_counts_only_where_it_is_selected() {
    let project = "
        base = image debian
        context = local /a:1 /b:1
        files = copy base context:/b
        tool = run base make files:/image
    ";
    let expected = "base cached, context ran, files ran, tool cut off";
    assert_eq!(rebuild(project, &project.replace("/b:1", "/b:2")), expected);
}

#[test]
fn a_new_base_with_other_content_runs_everything_again() {
    let edited = PROJECT.replace("image debian", "image fedora");
    let all = "base ran, context ran, tools ran, source ran, binary ran, final ran";
    assert_eq!(rebuild(PROJECT, &edited), all);
}

#[test]
fn what_ignores_the_cache_runs_and_what_follows_is_found_by_content() {
    let forced = PROJECT.replace("tools =", "! tools =");
    let expected =
        "base cached, context ran, tools ran, source cut off, binary cut off, final cut off";
    assert_eq!(rebuild(PROJECT, &forced), expected);
    // It recorded what it made.
    assert_eq!(rebuild(&forced, PROJECT), "context ran, final cached");
}

#[test]
fn a_stage_that_nothing_needs_never_starts() {
    let project = "
        base = image debian
        other = run base unneeded
        target = run base needed
    ";
    check(project, Options::default(), "base ran, target ran");
}

#[test]
fn steps_that_come_to_the_same_run_once() {
    let project = "
        base = image debian
        x = same base x
        y = same base y
        a = run x make
        b = run y make
        target = merge a b
    ";
    check(
        project,
        Options::default(),
        "base ran, x ran, y ran, a ran, b cut off, target ran",
    );
}

#[test]
fn everything_that_is_ready_runs_at_once_up_to_the_limit() {
    let project = "
        base = image debian
        a = run base a
        b = run base b
        c = run base c
        d = run base d
        target = run a join b:/out c:/out d:/out
    ";
    for (parallelism, most) in [(None, 4), (Some(3), 3), (Some(1), 1), (Some(0), 1)] {
        let mut world = World::default();
        let project = Drawing::of(project);
        let options = Options {
            parallelism,
            ..Options::default()
        };
        let report = project.build(&mut world, options);
        assert_eq!(report.most_at_once, most, "limit {parallelism:?}");
    }
}

#[test]
fn a_failure_stops_what_runs_beside_it() {
    let project = "
        base = image debian
        ? bad = run base false
        beside = run base sleep
        after = run bad never
        target = merge after beside
    ";
    let (drawing, report) = check(
        project,
        Options::default(),
        "base ran, bad failed, beside ran",
    );
    assert_eq!(
        report.outcome,
        Outcome::Failed(vec![drawing.vertices["bad"]])
    );
    assert_eq!(
        report.asked_to_stop,
        BTreeSet::from([drawing.vertices["beside"]])
    );
}

#[test]
fn a_failure_that_may_be_outlived_cancels_only_what_depends_on_it() {
    let project = "
        base = image debian
        ? bad = run base false
        beside = run base sleep
        later = run beside more
        target = merge bad later
    ";
    let options = Options {
        on_failure: OnFailure::KeepGoing,
        ..Options::default()
    };
    let (drawing, report) = check(
        project,
        options,
        "base ran, bad failed, beside ran, later ran",
    );
    assert_eq!(
        report.outcome,
        Outcome::Failed(vec![drawing.vertices["bad"]])
    );
}

#[test]
fn a_missing_file_fails_the_copy_that_wants_it() {
    let project = "
        base = image debian
        context = local /there:1
        bad = copy base context:/missing
        target = run bad never
    ";
    let (drawing, report) = check(project, Options::default(), "context ran");
    assert_eq!(
        report.outcome,
        Outcome::Failed(vec![drawing.vertices["bad"]])
    );
}

#[test]
fn giving_up_stops_what_runs_and_starts_nothing_more() {
    let project = Drawing::of(
        "
        base = image debian
        context = local /a:1
        target = copy base context:/a
    ",
    );
    let mut scheduler = Scheduler::new(
        &project.graph,
        vec![project.target.unwrap()],
        Options::default(),
    );
    let context = project.vertices["context"];
    let work = scheduler.start();
    assert!(
        matches!(&work[..], [Work::Execute { vertex, .. }] if *vertex == context),
        "{work:?}"
    );
    assert_eq!(
        scheduler.handle(Event::Cancelled),
        [Work::Cancel { vertex: context }]
    );
    assert_eq!(scheduler.handle(Event::Cancelled), []);
    assert_eq!(scheduler.outcome(), None, "the context is still under way");
    assert_eq!(scheduler.handle(Event::Stopped { vertex: context }), []);
    assert_eq!(scheduler.outcome(), Some(Outcome::Cancelled));
}
