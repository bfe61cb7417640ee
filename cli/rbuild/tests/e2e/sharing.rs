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
