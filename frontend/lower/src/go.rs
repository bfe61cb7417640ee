//! How Go prints what ends up in an image's history.
//!
//! History texts hold what Go's `fmt` makes of BuildKit's structures, and images are compared by
//! their digests, so these are Go's rules to the letter.

use dockerfile_parser::quote;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// A duration in nanoseconds as `time.Duration` prints it: `1m30s`, `500ms`, `0s`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < SECOND {
        let (scale, unit) = match total {
            0..MICROSECOND => (1, "ns"),
            MICROSECOND..MILLISECOND => (MICROSECOND, "µs"),
            _ => (MILLISECOND, "ms"),
        };
        return format!("{sign}{}{unit}", decimal(total, scale));
    }
    let (hours, minutes) = (total / HOUR, total / MINUTE % 60);
    let seconds = decimal(total % MINUTE, SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `total / scale` without zeros at its end.
fn decimal(total: u64, scale: u64) -> String {
    let width = scale.ilog10() as usize;
    let fraction = format!("{:0width$}", total % scale);
    match fraction.trim_end_matches('0') {
        "" => format!("{}", total / scale),
        fraction => format!("{}.{fraction}", total / scale),
    }
}

/// A list of texts as `%q` prints it: `["a" "b"]`.
pub(crate) fn quoted_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|it| quote(it)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A list of texts as `%v` prints it: `[a b]`.
pub(crate) fn list(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

/// A number as `%q` prints it: the letter that it is, in single quotes.
pub(crate) fn quoted_letter(number: i64) -> String {
    let letter = u32::try_from(number)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or(char::REPLACEMENT_CHARACTER);
    match letter {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        _ => format!("'{}'", quote(&letter.to_string()).trim_matches('"')),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, quoted_letter};

    #[test]
    fn durations_are_printed_as_go_does() {
        let table = [
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (5_400_000_000_000, "1h30m0s"),
            (300_000_000_000, "5m0s"),
            (100_000_000, "100ms"),
            (1_500, "1.5µs"),
            (-1_000_000_000, "-1s"),
            (0, "0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ];
        for (nanoseconds, printed) in table {
            assert_eq!(duration(nanoseconds), printed);
        }
    }

    #[test]
    fn a_number_is_quoted_as_a_letter() {
        let quoted = [0, 3, 10, 65, 39, 34, -1].map(quoted_letter);
        assert_eq!(
            quoted,
            [
                r"'\x00'",
                r"'\x03'",
                r"'\n'",
                "'A'",
                r"'\''",
                "'\"'",
                "'\u{fffd}'"
            ]
        );
    }
}
