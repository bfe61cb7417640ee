//! `RUN --retry`, `--timeout` and `--cache-ttl`: how a process is tried, and how long its result is good.
//!
//! They are rbuild's own, so a file that uses them says that it is none for every builder:
//! `# syntax=docker/dockerfile:1-labs`.

use std::time::Duration;

use dockerfile_parser::{Flag, duration};
use llb::op::Terms;

use crate::error::RunTimeError;
use crate::lowering::Lowering;
use crate::state::Step;
use crate::{PlanError, PlanErrorKind, flags};

/// The flags that no other frontend has.
const NAMES: &[&str] = &["retry", "timeout", "cache-ttl"];

const MOST_RETRIES: u32 = 100;

pub(super) fn terms(
    lowering: &Lowering<'_>,
    step: &Step<'_>,
    flags: &[Flag],
) -> Result<Terms, PlanError> {
    let mut terms = Terms::default();
    for flag in flags.iter().filter(|it| NAMES.contains(&it.name)) {
        let refuse = |kind| Err(PlanError::at(step.span, kind));
        if !lowering.labs {
            return refuse(PlanErrorKind::OwnFlag(flag.name.to_owned()));
        }
        let value = flags::value(flag, step.span)?;
        match flag.name {
            "retry" => match value.parse() {
                Ok(number) if number <= MOST_RETRIES => terms.retry = number,
                _ => return refuse(PlanErrorKind::Retries(value.to_owned())),
            },
            "timeout" => terms.timeout = Some(time(flag, value, step)?),
            _ => terms.time_to_live = Some(time(flag, value, step)?),
        }
    }
    Ok(terms)
}

fn time(flag: &Flag, text: &str, step: &Step<'_>) -> Result<Duration, PlanError> {
    let refuse = |source| {
        let flag = flag.name.to_owned();
        PlanError::at(step.span, PlanErrorKind::RunTime { flag, source })
    };
    // Go's durations end with hours; a time to live is most often days.
    let (text, factor) = match text.strip_suffix('d') {
        Some(days) => (format!("{days}h"), 24),
        None => (text.to_owned(), 1),
    };
    let nanoseconds = duration::parse(&text).map_err(|error| refuse(error.into()))?;
    let nanoseconds = u64::try_from(nanoseconds)
        .ok()
        .and_then(|it| it.checked_mul(factor))
        .filter(|it| *it > 0)
        .ok_or_else(|| refuse(RunTimeError::TooShort(text)))?;
    Ok(Duration::from_nanos(nanoseconds))
}
