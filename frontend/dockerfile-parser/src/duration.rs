//! Durations as Go writes them, `1h30m`: what the flags of `HEALTHCHECK` take.

/// Why a text is no duration, in the words of Go's library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is not numbers and units, or too large.
    #[error("time: invalid duration {} (it is such as 30s or 1m30s)", crate::quote(.0))]
    Invalid(String),
    /// A number has no unit behind it.
    #[error("time: missing unit in duration {} (as in 30s or 1m30s)", crate::quote(.0))]
    MissingUnit(String),
    /// A unit that is none of `ns us ms s m h`.
    #[error("time: unknown unit {} in duration {} (units are h, m, s, ms, us and ns)", crate::quote(.unit), crate::quote(.text))]
    UnknownUnit {
        /// What stands where the unit should.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// Nanoseconds of a text such as `1m30s`, `1.5h`, `-300ms` or `0`.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut rest = unsigned;
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = take_while(&mut rest, |ch| ch.is_ascii_digit() || ch == '.');
        let nanoseconds_per = |unit: &str| unit_of(unit).ok_or_else(|| unit_error(unit, text));
        if !is_number(number) {
            return Err(invalid());
        }
        let unit = take_while(&mut rest, |ch| !ch.is_ascii_digit() && ch != '.');
        total += scaled(number, nanoseconds_per(unit)?).ok_or_else(invalid)?;
    }
    let signed = if text.starts_with('-') { -total } else { total };
    i64::try_from(signed).map_err(|_| invalid())
}

fn take_while<'a>(rest: &mut &'a str, belongs: impl Fn(char) -> bool) -> &'a str {
    let end = rest.find(|ch| !belongs(ch)).unwrap_or(rest.len());
    let (taken, left) = rest.split_at(end);
    *rest = left;
    taken
}

fn is_number(text: &str) -> bool {
    text.contains(|ch: char| ch.is_ascii_digit()) && text.matches('.').count() <= 1
}

fn unit_of(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn unit_error(unit: &str, text: &str) -> DurationError {
    if unit.is_empty() {
        return DurationError::MissingUnit(text.to_owned());
    }
    DurationError::UnknownUnit {
        unit: unit.to_owned(),
        text: text.to_owned(),
    }
}

/// `number` times `unit`; `None` where that is more than a duration holds.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Fifteen digits say more than any unit has nanoseconds.
    let fraction = &fraction[..fraction.len().min(15)];
    let divisor = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let part: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let nanoseconds = whole
        .checked_mul(unit)?
        .checked_add(part * unit / divisor)?;
    (nanoseconds <= i128::from(i64::MAX) + 1).then_some(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", 0),
            ("+0", 0),
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-300ms", -300_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("7ns", 7),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_in_gos_words() {
        for (text, expected) in [
            (
                "",
                r#"time: invalid duration "" (it is such as 30s or 1m30s)"#,
            ),
            (
                "-",
                r#"time: invalid duration "-" (it is such as 30s or 1m30s)"#,
            ),
            (
                "soon",
                r#"time: invalid duration "soon" (it is such as 30s or 1m30s)"#,
            ),
            (
                "5",
                r#"time: missing unit in duration "5" (as in 30s or 1m30s)"#,
            ),
            (
                "1m5",
                r#"time: missing unit in duration "1m5" (as in 30s or 1m30s)"#,
            ),
            (
                "5 s",
                r#"time: unknown unit " s" in duration "5 s" (units are h, m, s, ms, us and ns)"#,
            ),
            (
                "5d",
                r#"time: unknown unit "d" in duration "5d" (units are h, m, s, ms, us and ns)"#,
            ),
            (
                "1.2.3s",
                r#"time: invalid duration "1.2.3s" (it is such as 30s or 1m30s)"#,
            ),
            (
                ".s",
                r#"time: invalid duration ".s" (it is such as 30s or 1m30s)"#,
            ),
            (
                "9999999999h",
                r#"time: invalid duration "9999999999h" (it is such as 30s or 1m30s)"#,
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
