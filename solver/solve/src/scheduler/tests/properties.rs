//! Random graphs, built three times with a change in between, in random order, compared with the interpreter.

use std::collections::BTreeSet;

use llb::{Graph, Input, Metadata, Op, VertexId};
use proptest::prelude::*;

use super::super::is_local;
use super::model::{Build, Locals, Report, World, copy, exec, http, image, interpret, local};
use crate::{OnFailure, Options, Outcome};

const PATHS: [&str; 3] = ["/out", "/a", "/image"];

/// A vertex whose inputs are any of the earlier ones.
#[derive(Debug, Clone)]
struct Sketch {
    kind: u8,
    text: u8,
    modulus: u64,
    path: usize,
    inputs: [prop::sample::Index; 3],
    ignore_cache: bool,
    broken: bool,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let inputs = [
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    ];
    // Small moduli make steps that come to the same although they ran on something else.
    let numbers = (
        0..13u8,
        0..3u8,
        prop::sample::select(vec![1, 2, u64::MAX]),
        0..PATHS.len(),
    );
    (
        numbers,
        inputs,
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |((kind, text, modulus, path), inputs, ignore_cache, broken)| Sketch {
                kind,
                text,
                modulus,
                path,
                inputs,
                ignore_cache,
                broken,
            },
        )
}

struct Drawing {
    graph: Graph,
    vertices: Vec<VertexId>,
    broken: BTreeSet<VertexId>,
}

fn draw(sketches: &[Sketch]) -> Drawing {
    let mut drawing = Drawing {
        graph: Graph::default(),
        vertices: Vec::new(),
        broken: BTreeSet::new(),
    };
    for sketch in sketches {
        let input = |n: usize| Input {
            vertex: *sketch.inputs[n].get(&drawing.vertices),
            output: 0,
        };
        let text = sketch.text.to_string();
        let path = PATHS[sketch.path];
        let (op, inputs) = match sketch.kind {
            _ if drawing.vertices.is_empty() => (image("0"), vec![]),
            0 => (image(&text), vec![]),
            1 => (local(&text), vec![]),
            2..5 => (copy(path, "/a"), vec![input(0), input(1)]),
            12 => (http(&text), vec![]),
            5 => (Op::Merge, vec![input(0), input(1)]),
            6..9 => (
                exec(&text, sketch.modulus, &[(1, path), (2, "/out")]),
                vec![input(0), input(1), input(2)],
            ),
            _ => (exec(&text, sketch.modulus, &[]), vec![input(0)]),
        };
        let metadata = Metadata {
            ignore_cache: sketch.ignore_cache,
            ..Metadata::default()
        };
        let vertex = drawing.graph.add(op, inputs, metadata);
        if sketch.broken && !is_local(&drawing.graph, vertex) {
            drawing.broken.insert(vertex);
        }
        drawing.vertices.push(vertex);
    }
    drawing
}

fn locals(contents: &[u64]) -> Locals {
    let directory = |n: usize| {
        let files = PATHS
            .iter()
            .zip(&contents[n..])
            .map(|(path, content)| ((*path).to_owned(), *content));
        // A path without content is a missing file.
        (
            n.to_string(),
            files.filter(|(_, content)| *content > 0).collect(),
        )
    };
    (0..3).map(directory).collect()
}

/// All of `graph` that `targets` need, as far as `stop`.
fn below(graph: &Graph, targets: &[VertexId], stop: &BTreeSet<VertexId>) -> BTreeSet<VertexId> {
    let mut found = BTreeSet::new();
    let mut open = targets.to_vec();
    while let Some(vertex) = open.pop() {
        if found.insert(vertex) && !stop.contains(&vertex) {
            open.extend(graph.vertex(vertex).inputs.iter().map(|input| input.vertex));
        }
    }
    found
}

fn check(build: &Build<'_>, report: &Report) {
    for (vertex, files) in &report.results {
        assert_eq!(
            Some(files),
            interpret(build.graph, *vertex, build.locals).as_ref(),
            "{vertex:?} is wrong"
        );
        assert!(!report.failed.contains(vertex));
    }
    check_extent(build, report);
    check_outcome(build, report);
}

/// What is below a hit and nowhere else does not run. Local directories are looked at for the keys' sake.
fn check_extent(build: &Build<'_>, report: &Report) {
    let needed = below(build.graph, &build.targets, &BTreeSet::new());
    let found_by_definition = report.cached.difference(&report.cut_off).copied().collect();
    let wanted = below(build.graph, &build.targets, &found_by_definition);
    for vertex in &report.ran {
        assert!(needed.contains(vertex));
        assert!(
            wanted.contains(vertex) || is_local(build.graph, *vertex),
            "{vertex:?} ran below a hit"
        );
        assert!(
            !report.cached.contains(vertex),
            "{vertex:?} ran although it was found"
        );
    }
    if let Some(limit) = build.options.parallelism {
        assert!(report.most_at_once <= limit);
    }
}

fn check_outcome(build: &Build<'_>, report: &Report) {
    let keeps_going = build.options.on_failure == OnFailure::KeepGoing;
    let impossible = |vertex: &VertexId| interpret(build.graph, *vertex, build.locals).is_none();
    let lost = |target: &VertexId| {
        below(build.graph, &[*target], &BTreeSet::new())
            .iter()
            .any(|it| report.failed.contains(it) || impossible(it))
    };
    match &report.outcome {
        Outcome::Solved(results) => {
            assert_eq!(results.len(), build.targets.len());
            for vertex in below(build.graph, &build.targets, &BTreeSet::new()) {
                let forced = build.graph.vertex(vertex).metadata.ignore_cache;
                assert!(
                    !forced || report.ran.contains(&vertex) || report.cut_off.contains(&vertex)
                );
            }
        }
        Outcome::Failed(failed) => {
            assert!(report.failed.is_subset(&failed.iter().copied().collect()));
            assert!(
                build.targets.iter().any(lost),
                "nothing that failed matters"
            );
            for target in build
                .targets
                .iter()
                .filter(|target| keeps_going && !lost(target))
            {
                assert!(
                    report.results.contains_key(target),
                    "{target:?} depends on no failure"
                );
            }
        }
        Outcome::Cancelled => panic!("nobody gave up"),
    }
    assert!(!keeps_going || report.asked_to_stop.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_scheduler_comes_to_what_the_interpreter_does(
        sketches in prop::collection::vec(sketch(), 1..14),
        (changed, change) in (any::<prop::sample::Index>(), sketch()),
        targets in prop::collection::vec(any::<prop::sample::Index>(), 1..3),
        contents in [prop::collection::vec(0..3u64, 6), prop::collection::vec(0..3u64, 6)],
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        parallelism in prop::option::of(1..4usize),
        (keeps_going, failures) in any::<(bool, bool)>(),
    ) {
        let mut world = World::default();
        let on_failure = if keeps_going { OnFailure::KeepGoing } else { OnFailure::Stop };
        let mut second = sketches.clone();
        second[changed.index(sketches.len())] = change;
        // The third time nothing has changed.
        let builds = [(&sketches, &contents[0]), (&second, &contents[1]), (&second, &contents[1])];
        for (round, (sketches, contents)) in builds.into_iter().enumerate() {
            let drawing = draw(sketches);
            let locals = locals(contents);
            let build = Build {
                graph: &drawing.graph,
                targets: targets.iter().map(|target| *target.get(&drawing.vertices)).collect(),
                locals: &locals,
                options: Options { parallelism, on_failure },
                broken: if failures { drawing.broken } else { BTreeSet::new() },
            };
            let mut turns = order.iter().cycle();
            let report = world.build(&build, |works| turns.next().map_or(0, |turn| turn.index(works.len())));
            check(&build, &report);
            let forced = build.graph.vertices().any(|(_, vertex)| vertex.metadata.ignore_cache);
            if round == 2 && !forced && matches!(report.outcome, Outcome::Solved(_)) {
                let only_locals = report.ran.iter().all(|vertex| is_local(build.graph, *vertex));
                prop_assert!(only_locals, "{:?} ran again", report.ran);
            }
        }
    }
}
