//! `STOPSIGNAL`: what `stop` sends (G51).

use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind};

const NAMES: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];
/// The highest signal of Linux.
const LAST: u32 = 64;

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    signal: &str,
) -> Result<(), PlanError> {
    let signal = lowering.expand(state, step, signal)?;
    if !is_signal(&signal) {
        let error = PlanError::at(step.span, PlanErrorKind::Signal(signal.clone()));
        let full: Vec<String> = NAMES.iter().map(|it| format!("SIG{it}")).collect();
        return Err(error.suggest(&signal, full.iter().map(String::as_str)));
    }
    state.note(format!("STOPSIGNAL {signal}"));
    state.image.config.stop_signal = signal;
    Ok(())
}

fn is_signal(text: &str) -> bool {
    if text.bytes().all(|it| it.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|it| (1..=LAST).contains(&it));
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let realtime = |prefix: &str, most: u32| {
        let number = name
            .strip_prefix(prefix)
            .and_then(|it| it.parse::<u32>().ok());
        number.is_some_and(|it| (1..=most).contains(&it))
    };
    NAMES.contains(&name) || realtime("RTMIN+", 15) || realtime("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn signals_have_names_and_numbers() {
        for signal in [
            "SIGKILL",
            "9",
            "KILL",
            "sigterm",
            "SIGRTMIN+3",
            "RTMAX-14",
            "64",
        ] {
            assert!(is_signal(signal), "{signal}");
        }
        for signal in [
            "",
            "0",
            "65",
            "SIG",
            "NONE",
            "-1",
            "RTMIN+16",
            "9 ",
            "SIGSIGKILL",
        ] {
            assert!(!is_signal(signal), "{signal}");
        }
    }
}
