//! What builds make, and what they do not make again.

use super::rbuild;

/// Two stages: one that makes something of a file, and one that takes only that.
const TWO_STAGES: &str = "\
FROM busybox AS build
WORKDIR /src
COPY first.txt ./
RUN tr a-z A-Z < first.txt > /first && echo made first
COPY second.txt ./
RUN cat /first second.txt > /both && echo made both

FROM scratch
COPY --from=busybox /bin/busybox /bin/cat
COPY --from=build /both /both
ENTRYPOINT [\"/bin/cat\"]
CMD [\"/both\"]
";

/// The steps a plain log shows as cached and as done, by the instruction in their name.
pub(crate) fn verdicts(log: &str) -> (Vec<String>, Vec<String>) {
    let (mut cached, mut done) = (Vec::new(), Vec::new());
    for line in log.lines() {
        let Some((number, rest)) = line.split_once(' ') else {
            continue;
        };
        let verdicts = if rest == "CACHED" {
            &mut cached
        } else if rest.starts_with("DONE") {
            &mut done
        } else {
            continue;
        };
        let name = log
            .lines()
            .find_map(|it| it.strip_prefix(&format!("{number} [")))
            .unwrap_or_default();
        if let Some((stage, instruction)) = name.split_once("] ")
            && stage != "internal"
            && !instruction.starts_with("FROM")
        {
            verdicts.push(instruction.to_owned());
        }
    }
    (cached, done)
}

/// Whether a step of this build wrote the line; `#7 0.312 line` in a plain log.
fn said(log: &str, line: &str) -> bool {
    log.lines()
        .any(|it| it.splitn(3, ' ').nth(2) == Some(line) && !it.contains('['))
}

#[test]
fn a_build_runs_once_then_is_cached_then_rebuilt_only_below_an_edit_as_root() {
    let rbuild = rbuild();
    rbuild
        .write("Dockerfile", TWO_STAGES)
        .write("first.txt", "first\n")
        .write("second.txt", "second\n");
    let build = || {
        rbuild
            .run(["build", "--progress=plain", "-t", "two", "."])
            .success()
            .stderr
    };
    let shown = || rbuild.run(["run", "--rm", "two"]).success().stdout;

    let first = build();
    assert!(
        said(&first, "made first") && said(&first, "made both"),
        "{first}"
    );
    assert_eq!(shown(), "FIRST\nsecond\n");

    let (cached, done) = verdicts(&build());
    assert_eq!(done, Vec::<String>::new());
    assert_eq!(cached.len(), 7, "{cached:?}");

    rbuild.write("second.txt", "edited\n");
    let edited = build();
    let (cached, _) = verdicts(&edited);
    assert!(cached.iter().any(|it| it.starts_with("RUN tr")), "{edited}");
    assert!(
        !said(&edited, "made first") && said(&edited, "made both"),
        "{edited}"
    );
    assert_eq!(shown(), "FIRST\nedited\n");
}

#[test]
fn a_step_that_comes_out_the_same_ends_the_rebuilding_there_as_root() {
    let rbuild = rbuild();
    let dockerfile = "FROM busybox AS build\nCOPY in ./\nRUN wc -l < in > /lines\n\
                      FROM busybox\nCOPY --from=build /lines /\nRUN echo expensive && cp /lines /copy\n";
    rbuild.write("Dockerfile", dockerfile).write("in", "one\n");
    let build = || {
        rbuild
            .run(["build", "--progress=plain", "-t", "lines", "."])
            .success()
            .stderr
    };
    assert!(said(&build(), "expensive"));
    // Another text of as many lines: the count is made again, and what stands on it is not.
    rbuild.write("in", "two\n");
    let again = build();
    let (cached, done) = verdicts(&again);
    assert!(done.iter().any(|it| it.starts_with("RUN wc")), "{again}");
    assert!(
        cached.iter().any(|it| it.starts_with("RUN echo")),
        "{again}"
    );
}

#[test]
fn stages_nobody_needs_are_not_built_and_independent_ones_run_at_once_as_root() {
    let rbuild = rbuild();
    // Each of the two waits for what only the other can have sent: through a pipe of the machine's they share.
    let dockerfile = "FROM busybox AS unused\nRUN echo unused ran && false\n\
                      FROM busybox AS a\nRUN --mount=type=cache,target=/meet echo a > /meet/a; until [ -e /meet/b ]; do usleep 2000; done; touch /a\n\
                      FROM busybox AS b\nRUN --mount=type=cache,target=/meet echo b > /meet/b; until [ -e /meet/a ]; do usleep 2000; done; touch /b\n\
                      FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    rbuild.write("Dockerfile", dockerfile);
    let log = rbuild
        .run(["build", "--progress=plain", "."])
        .success()
        .stderr;
    assert!(!said(&log, "unused ran"), "{log}");
}
