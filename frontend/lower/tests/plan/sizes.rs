//! Large files: all of these would take minutes, or all of the memory, if anything were worse than linear.

use lower::{Plan, PlanError};

use crate::images::Shelf;
use crate::options;

fn plan(text: &str) -> Result<Plan, PlanError> {
    let parsed = dockerfile_parser::parse(text.as_bytes());
    lower::plan(&parsed.dockerfile, &options(""), &Shelf::new())
}

fn planned(text: &str) -> Plan {
    plan(text).expect("it is well-formed")
}

/// `FROM scratch` and lines of which each is made of its number.
fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    let lines: String = (0..count).map(|number| line(number) + "\n").collect();
    format!("FROM scratch\n{lines}")
}

#[test]
fn a_thousand_stages_need_no_deep_stack() {
    let stages =
        (1..1000).map(|it| format!("FROM s{} AS s{it}\nCOPY --from=s{} /a /b\n", it - 1, it - 1));
    let text = format!(
        "FROM scratch AS s0\nCOPY a /\n{}",
        stages.collect::<String>()
    );
    assert_eq!(planned(&text).layers.len(), 1000);
}

/// It would take minutes if anything were worse than linear; `testdata/bench plan` says what it does take.
#[test]
fn a_hundred_thousand_instructions_come_to_a_plan() {
    let instruction = |number: usize| match number % 5 {
        0 => format!("ENV KEY{}=value-{number}\n", number % 100),
        1 => format!("COPY file{number} ./${{KEY10}}/\n"),
        2 => format!("WORKDIR /srv/{number}\n"),
        _ => format!("RUN echo {number}\n"),
    };
    let text: String = (0..100_000).map(instruction).collect();
    // One of each but the ENVs; the image has its own.
    assert_eq!(
        planned(&format!("FROM debian:12\n{text}")).layers.len(),
        80_000
    );
}

#[test]
fn a_warning_for_every_line_is_no_more_work_than_that() {
    let line = |number: usize| format!("# check=skip=WorkdirRelativePath\nENV N=$TYPO{number}\n");
    let text: String = (0..20_000).map(line).collect();
    assert_eq!(
        planned(&format!("FROM debian:12\n{text}")).warnings.len(),
        20_000
    );
}

#[test]
fn what_every_line_adds_to_is_not_copied_for_it() {
    let count = 20_000;
    let env = planned(&lines(count, |it| format!("ENV K{it}=v")));
    // The image has a PATH as well.
    assert_eq!(env.config.config.env.len(), count + 1);
    let label = planned(&lines(count, |it| format!("LABEL l{it}=v")));
    assert_eq!(label.config.config.labels.len(), count);
    let arg = planned(&lines(count, |it| {
        format!("ARG A{it}=$A{}", it.saturating_sub(1))
    }));
    assert_eq!(arg.config.history.len(), count);
    let same = planned(&lines(count, |_| "ARG A=1\nRUN x".to_owned()));
    assert_eq!(same.layers.len(), count);
    let stages = planned(&lines(count, |it| {
        format!("FROM scratch AS s{it}\nCOPY --from={it} / /")
    }));
    assert_eq!(stages.layers.len(), 1);
}

#[test]
fn the_rules_of_an_ignore_file_are_not_read_again_for_every_line() {
    let text = lines(5_000, |it| format!("COPY a{it} /"));
    let parsed = dockerfile_parser::parse(text.as_bytes());
    let mut options = options("");
    options.ignore = (0..5_000).map(|it| format!("b{it}")).collect();
    let plan = lower::plan(&parsed.dockerfile, &options, &Shelf::new());
    assert_eq!(plan.expect("it is well-formed").layers.len(), 5_000);
}

#[test]
fn what_repeats_all_that_stands_above_it_comes_to_an_end() {
    let repeated = "variables and history come to more than 256 MiB: each RUN repeats the variables \
                    in scope, and each FROM of a stage its history; set fewer variables before RUNs";
    let long = "x".repeat(4_000);
    let table = [
        (
            lines(20_000, |it| format!("ENV K{it}={long}\nRUN x")),
            repeated,
        ),
        (
            lines(20_000, |it| format!("ARG K{it}={long}\nRUN x")),
            repeated,
        ),
        (
            lines(20_000, |it| {
                format!("FROM {} AS s{it}\nENV K{it}={long}", before(it))
            }),
            repeated,
        ),
        (
            lines(20_000, |it| format!("WORKDIR w{it}")),
            "WORKDIR comes to a path of 4100 bytes: the kernel takes at most 4095",
        ),
    ];
    for (text, expected) in table {
        let error = plan(&text).expect_err(expected);
        assert_eq!(error.to_string(), expected);
        assert!(error.lines.is_some_and(|it| it.first_line > 2));
    }
}

/// The stage before stage `number`.
fn before(number: usize) -> String {
    match number.checked_sub(1) {
        Some(before) => format!("s{before}"),
        None => "scratch".to_owned(),
    }
}
