//! Several rbuild processes, one store.

use std::collections::BTreeSet;

use kit::rbuild::finish;

use super::rbuild;

#[test]
fn builds_at_once_run_each_step_once_as_root() {
    let rbuild = rbuild();
    let mut dockerfile = String::from("FROM busybox\n");
    for step in 0..4 {
        // What no second run of the step could come to again.
        dockerfile +=
            &format!("RUN head -c 16 /dev/urandom | od -An -tx1 > /random{step}; usleep 50000\n");
    }
    rbuild.write("Dockerfile", dockerfile + "CMD cat /random*\n");
    let started: Vec<_> = (0..4)
        .map(|at| {
            rbuild
                .command(["build", "-q", "-t", &format!("at-once-{at}"), "."])
                .spawn()
                .unwrap()
        })
        .collect();
    for child in started {
        finish(child).unwrap().success();
    }
    let contents: BTreeSet<String> = (0..4)
        .map(|at| {
            rbuild
                .run(["run", "--rm", &format!("at-once-{at}")])
                .success()
                .stdout
        })
        .collect();
    assert_eq!(
        contents.len(),
        1,
        "the builds saw different results of the same step: {contents:?}"
    );
}

#[test]
fn a_failure_in_one_build_is_no_failure_of_another_that_waited_as_root() {
    let rbuild = rbuild();
    // Only one of two can make the directory; the mount is the same machine-wide directory for both.
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/once usleep 200000; mkdir /once/was-here && false\n";
    rbuild.write("Dockerfile", dockerfile);
    let started: Vec<_> = (0..2)
        .map(|_| {
            rbuild
                .command(["build", "--progress=plain", "."])
                .spawn()
                .unwrap()
        })
        .collect();
    for child in started {
        // Each fails by its own run of the step, or by the step's exit code; none hangs, none succeeds.
        finish(child).unwrap().failure(1);
    }
}

/// Four Dockerfiles that share their first steps; each step makes what no second run of it could.
fn storm_dockerfiles(rbuild: &kit::rbuild::Rbuild) {
    for which in 0..4 {
        let mut dockerfile = String::from("FROM busybox\n");
        for step in 0..3 {
            dockerfile += &format!(
                "RUN head -c 16 /dev/urandom | od -An -tx1 > /shared{step}; usleep 20000\n"
            );
        }
        dockerfile += &format!(
            "RUN --mount=type=cache,id=storm{which},target=/c echo {which} > /c/f; head -c 16 /dev/urandom | od -An -tx1 > /own\n\
             CMD cat /shared* /own\n"
        );
        rbuild.write(&format!("Dockerfile.{which}"), dockerfile);
    }
}

/// Starts 32 processes at once: every other one is a build, the others go round `others`. Returns what
/// each came to.
fn storm(rbuild: &kit::rbuild::Rbuild, others: &[&[&str]]) -> Vec<kit::rbuild::Output> {
    let started: Vec<_> = (0..32)
        .map(|at| {
            let (which, tag) = (format!("Dockerfile.{}", at / 2 % 4), format!("storm-{at}"));
            let build = [
                "build",
                "-q",
                "--network=none",
                "-f",
                &which,
                "-t",
                &tag,
                ".",
            ];
            let arguments = if at % 2 == 0 {
                &build[..]
            } else {
                others[at / 2 % others.len()]
            };
            rbuild.command(arguments).spawn().unwrap()
        })
        .collect();
    started
        .into_iter()
        .map(|child| finish(child).unwrap())
        .collect()
}

#[test]
fn thirty_two_builds_and_readers_at_once_run_each_step_once_as_root() {
    let rbuild = rbuild();
    storm_dockerfiles(&rbuild);
    // Something to prune that no build of the storm is about.
    rbuild.write("Dockerfile", "FROM busybox\nRUN echo aside > /aside\n");
    rbuild.run(["build", "-q", "."]).success();
    let outputs = storm(
        &rbuild,
        &[
            &["cache", "prune", "-f", "--filter", "description~=aside"],
            &["cache", "du", "--verbose"],
            &["store", "verify"],
            &["system", "df"],
            &["cache", "ls"],
            &["explain"],
            &["image", "ls"],
            &["build", "--dry-run", "-f", "Dockerfile.0", "."],
        ],
    );
    let mut contents: std::collections::BTreeMap<usize, BTreeSet<String>> = Default::default();
    for (at, output) in outputs.into_iter().enumerate() {
        let stdout = output.success().stdout;
        if at % 2 == 0 {
            contents.entry(at / 2 % 4).or_default().insert(stdout);
        }
    }
    assert!(
        contents.values().all(|ids| ids.len() == 1),
        "a step ran twice: {contents:?}"
    );
    let shown = |tag: &str| {
        rbuild
            .run(["run", "--rm", "--network=none", tag])
            .success()
            .stdout
    };
    let shared = |text: String| text.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(shared(shown("storm-0")), shared(shown("storm-2")));
    rbuild.run(["store", "verify"]).success();
}

#[test]
fn thirty_two_builds_and_removers_at_once_end_well_as_root() {
    let rbuild = rbuild();
    storm_dockerfiles(&rbuild);
    let outputs = storm(
        &rbuild,
        &[
            &["builder", "prune", "-af"],
            &["cache", "prune", "-f"],
            &["cache", "prune", "-f", "--filter", "type=exec.cachemount"],
            &["store", "verify"],
            &["cache", "prune", "--dry-run"],
            &["cache", "du"],
            &["image", "prune", "-f"],
            &["system", "df"],
        ],
    );
    for output in outputs {
        output.success();
    }
    for at in (0..32).step_by(2) {
        let shown = rbuild
            .run(["run", "--rm", "--network=none", &format!("storm-{at}")])
            .success();
        assert_eq!(shown.stdout.lines().count(), 4, "{}", shown.stdout);
    }
    rbuild.run(["store", "verify"]).success();
}

#[test]
fn a_build_that_waits_for_another_says_so_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN sleep 1; echo made > /made\n",
    );
    let started: Vec<_> = (0..2)
        .map(|_| {
            let arguments = ["build", "--progress=plain", "--network=none", "."];
            rbuild.command(arguments).spawn().unwrap()
        })
        .collect();
    let outputs = started
        .into_iter()
        .map(|child| finish(child).unwrap().success());
    let told = outputs.filter(|it| {
        it.stderr
            .contains("waiting for another rbuild that runs this step\n")
    });
    assert_eq!(told.count(), 1);
}
