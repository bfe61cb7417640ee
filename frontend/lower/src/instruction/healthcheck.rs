//! `HEALTHCHECK`: how to ask a container whether it is well (G17).

use dockerfile_parser::{Command, Healthcheck, duration, quote};

use crate::flags::Flags;
use crate::lint::rule;
use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, go};

const FLAGS: &[&str] = &[
    "interval",
    "timeout",
    "start-period",
    "start-interval",
    "retries",
];
const MILLISECOND: i64 = 1_000_000;

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    check: &Healthcheck,
) -> Result<(), PlanError> {
    let before = state.own.healthcheck.replace(step.span);
    rule::multiple_instructions_disallowed(&mut lowering.lint, step, before);
    let check = match check {
        Healthcheck::None => oci::Healthcheck {
            test: vec!["NONE".to_owned()],
            ..oci::Healthcheck::default()
        },
        Healthcheck::Cmd { flags, command } => {
            let flags = Flags::new(flags, step.span, FLAGS, &[])?;
            oci::Healthcheck {
                test: test(command, step)?,
                interval: time(&flags, step, "interval")?,
                timeout: time(&flags, step, "timeout")?,
                start_period: time(&flags, step, "start-period")?,
                start_interval: time(&flags, step, "start-interval")?,
                retries: retries(&flags, step)?,
            }
        }
    };
    state.note(format!("HEALTHCHECK {}", text(&check)));
    state.image.config.healthcheck = Some(check);
    Ok(())
}

/// The image's shell plays no part: whoever asks has its own (G50).
fn test(command: &Command, step: &Step<'_>) -> Result<Vec<String>, PlanError> {
    let (kind, words) = match command {
        Command::Shell(text) => ("CMD-SHELL", vec![text.clone()]),
        Command::Exec(words) => ("CMD", words.clone()),
    };
    if words.iter().all(String::is_empty) {
        return Err(PlanError::at(
            step.span,
            PlanErrorKind::NothingToRun("HEALTHCHECK CMD"),
        ));
    }
    Ok([vec![kind.to_owned()], words].concat())
}

fn time(flags: &Flags<'_>, step: &Step<'_>, name: &str) -> Result<i64, PlanError> {
    let Some(text) = flags.text(name)? else {
        return Ok(0);
    };
    let nanoseconds = duration::parse(text)
        .map_err(|error| PlanError::at(step.span, PlanErrorKind::Duration(error)))?;
    if nanoseconds != 0 && nanoseconds < MILLISECOND {
        return Err(PlanError::at(
            step.span,
            PlanErrorKind::ShortInterval(name.to_owned()),
        ));
    }
    Ok(nanoseconds)
}

fn retries(flags: &Flags<'_>, step: &Step<'_>) -> Result<i64, PlanError> {
    let Some(text) = flags.text("retries")? else {
        return Ok(0);
    };
    match text.parse::<i32>() {
        Ok(number) if number < 0 => Err(PlanError::at(
            step.span,
            PlanErrorKind::NegativeRetries(number),
        )),
        Ok(number) => Ok(number.into()),
        Err(_) => Err(PlanError::at(
            step.span,
            PlanErrorKind::RetriesNumber(text.to_owned()),
        )),
    }
}

/// The check as `%q` prints BuildKit's structure.
fn text(check: &oci::Healthcheck) -> String {
    let time = |it| quote(&go::duration(it));
    format!(
        "&{{{} {} {} {} {} {}}}",
        go::quoted_list(&check.test),
        time(check.interval),
        time(check.timeout),
        time(check.start_period),
        time(check.start_interval),
        go::quoted_letter(check.retries),
    )
}
