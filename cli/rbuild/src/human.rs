//! Durations and sizes as docker words them.

use std::time::Duration;

/// How long ago or for how long: `Less than a second`, `About a minute`, `3 weeks`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, everything else is cut; so does docker.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// A size with three significant digits, as lists show it: `0B`, `1.2kB`, `123MB`.
pub(crate) fn size(bytes: u64) -> String {
    oci::Bytes(bytes).to_string()
}

/// A size with two decimals, as transfers show it: `512B`, `3.40MB`.
pub(crate) fn transferred(bytes: u64) -> String {
    let (value, unit) = scale(bytes, |value| (value * 100.0).round() / 100.0);
    match unit {
        0 => format!("{bytes}B"),
        _ => format!("{value:.2}{}", UNITS[unit]),
    }
}

/// The value below 1000 and its unit. What rounds up to 1000 goes one unit up, where docker prints `1e+03kB`.
fn scale(bytes: u64, round: impl Fn(f64) -> f64) -> (f64, usize) {
    let mut value = bytes as f64;
    let mut unit = 0;
    while round(value) >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    (round(value), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (2 * MINUTE, "2 minutes"),
            (59 * MINUTE + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * MINUTE, "About an hour"),
            (HOUR + 30 * MINUTE, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (364 * DAY, "12 months"),
            (729 * DAY, "24 months"),
            (2 * 365 * DAY, "2 years"),
            (10 * 365 * DAY, "10 years"),
        ];
        for (seconds, words) in table {
            assert_eq!(duration(Duration::from_secs(seconds)), words, "{seconds}");
        }
    }

    #[test]
    fn transfers_have_two_decimals() {
        let table = [
            (0, "0B"),
            (512, "512B"),
            (12_830, "12.83kB"),
            (3_400_000, "3.40MB"),
            (999_999, "1.00MB"),
            (29_150_000, "29.15MB"),
        ];
        for (bytes, words) in table {
            assert_eq!(transferred(bytes), words, "{bytes}");
        }
    }
}
