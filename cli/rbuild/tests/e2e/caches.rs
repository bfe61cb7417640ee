//! Cache mounts: kept between builds, and shared between processes as the instruction says.

use kit::rbuild::{Output, Rbuild, finish};

use super::rbuild;

/// Builds Dockerfiles in as many processes at once, all of them to a good end.
fn at_once(rbuild: &Rbuild, dockerfiles: &[&str]) -> Vec<Output> {
    let started: Vec<_> = dockerfiles
        .iter()
        .enumerate()
        .map(|(at, dockerfile)| {
            let name = format!("Dockerfile.{at}");
            rbuild.write(&name, dockerfile);
            let arguments = [
                "build",
                "--progress=plain",
                "--network=none",
                "-f",
                &name,
                ".",
            ];
            rbuild.command(arguments).spawn().unwrap()
        })
        .collect();
    let outputs = started.into_iter().map(|child| finish(child).unwrap());
    outputs.map(Output::success).collect()
}

/// A RUN that waits until two of them run, with what else it mounts and does.
fn met(who: &str, mount: &str, what: &str) -> String {
    format!(
        "FROM busybox\nRUN --mount=type=cache,id=meeting,target=/meeting {mount} \
         touch /meeting/{who}; until [ $(ls /meeting | wc -l) = 2 ]; do usleep 10000; done; {what}\n"
    )
}

#[test]
fn a_shared_cache_is_the_same_for_all_at_once_as_root() {
    let rbuild = rbuild();
    let mount = "--mount=type=cache,id=c,target=/c,sharing=shared";
    let see = |mine: &str, theirs: &str| {
        let what =
            format!("echo {mine} > /c/{mine}; until [ -e /c/{theirs} ]; do usleep 10000; done");
        met(mine, mount, &what)
    };
    at_once(&rbuild, &[&see("one", "two"), &see("two", "one")]);
    let listed = rbuild.run(["cache", "ls", "-q"]).success();
    assert_eq!(listed.stdout, "c\nmeeting\n");
}

#[test]
fn a_private_cache_is_another_one_for_who_comes_second_as_root() {
    let rbuild = rbuild();
    let mount = "--mount=type=cache,id=c,target=/c,sharing=private";
    // Both make the same directory, and neither sees the other's.
    let make = |who: &str| met(who, mount, "mkdir /c/only-one && sleep 0.1");
    at_once(&rbuild, &[&make("one"), &make("two")]);
    // What the second had is forgotten; the first one's is there for the next.
    rbuild.write(
        "Dockerfile",
        format!("FROM busybox\nRUN {mount} rmdir /c/only-one\n"),
    );
    rbuild.run(["build", "--network=none", "."]).success();
}

#[test]
fn a_locked_cache_is_used_by_one_after_the_other_and_the_wait_is_told_as_root() {
    let rbuild = rbuild();
    let alone = |who: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,id=c,target=/c,sharing=locked \
             mkdir /c/busy && sleep 0.7 && rmdir /c/busy && echo {who} >> /c/log\n"
        )
    };
    let outputs = at_once(&rbuild, &[&alone("one"), &alone("two")]);
    let told = "waiting for another step that uses cache mount c\n";
    let waited = outputs.iter().filter(|it| it.stderr.contains(told)).count();
    assert_eq!(waited, 1, "{outputs:?}");
    rbuild.run(["cache", "cp", "c:log", "out"]).success();
    let log = std::fs::read_to_string(rbuild.work().join("out/log")).unwrap();
    assert_eq!(log.lines().count(), 2);
}

#[test]
fn caches_that_two_steps_lock_in_different_orders_are_no_knot_as_root() {
    let rbuild = rbuild();
    let lock = |first: &str, second: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,id={first},target=/{first},sharing=locked \
             --mount=type=cache,id={second},target=/{second},sharing=locked \
             --mount=type=cache,id={first},target=/again,sharing=locked sleep 0.2; touch /again/{second}; ls /{first}/{second}\n"
        )
    };
    let (one, two) = (lock("a", "b"), lock("b", "a"));
    at_once(
        &rbuild,
        &[
            &one,
            &two,
            &one.replace("0.2", "0.1"),
            &two.replace("0.2", "0.1"),
        ],
    );
}

#[test]
fn a_cache_outlives_builds_without_the_cache_and_goes_when_it_is_told_to_as_root() {
    let rbuild = rbuild();
    rbuild.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=c,target=/c,mode=750,uid=7,gid=8 \
         echo x >> /c/runs; wc -l < /c/runs; ls -ldn /c | tr -s ' ' | cut -d' ' -f1,3,4\n",
    );
    let build = || {
        let arguments = [
            "build",
            "--progress=plain",
            "--network=none",
            "--no-cache",
            ".",
        ];
        rbuild.run(arguments).success().stderr
    };
    let first = build();
    assert!(first.contains("drwxr-x--- 7 8"), "{first}");
    let second = build();
    assert!(second.contains(" 2\n"), "{second}");
    let used = rbuild
        .run(["cache", "du", "c", "--format", "{{.Type}} {{.UsageCount}}"])
        .success();
    assert_eq!(used.stdout, "exec.cachemount 1\n");
    rbuild.run(["cache", "du", "d"]).failure(1);
    let inspected = rbuild.run(["cache", "inspect", "c"]).success().stdout;
    assert!(inspected.contains("\"InUse\": false"), "{inspected}");
    rbuild.run(["cache", "rm", "c"]).success();
    assert!(build().contains(" 1\n"), "it begins anew");
}

#[test]
fn a_cache_begins_as_a_copy_of_what_it_is_from_as_root() {
    let rbuild = rbuild();
    let dockerfile = |seed: &str, extra: &str| {
        format!(
            "FROM busybox AS seed\nRUN mkdir -p /s/d; echo {seed} > /s/d/f; ln -s f /s/d/link; chmod 600 /s/d/f\n\
             FROM busybox\nRUN --mount=type=cache,id=c,from=seed,source=/s,target=/c \
             echo x >> /c/runs; echo seen $(cat /c/d/link) $(wc -l < /c/runs) $(stat -c %a /c/d/f) {extra}\n"
        )
    };
    let build = |dockerfile: String| {
        rbuild.write("Dockerfile", dockerfile);
        let arguments = ["build", "--progress=plain", "--network=none", "."];
        rbuild.run(arguments).success().stderr
    };
    let first = build(dockerfile("one", ""));
    assert!(first.contains("seen one 1 600"), "{first}");
    let second = build(dockerfile("one", "again"));
    assert!(second.contains("seen one 2 600 again"), "{second}");
    // Another beginning is another cache.
    let third = build(dockerfile("two", ""));
    assert!(third.contains("seen two 1 600"), "{third}");
    rbuild.run(["store", "verify"]).success();
}
