//! An amount of bytes, as people write and read it.

use std::fmt;
use std::str::FromStr;

/// An amount of bytes. It prints as docker prints sizes: base 1000, three significant digits, `1.2MB`.
///
/// It is read with a unit of base 1000 (`kB`, `MB` …, the `B` may be missing) or of base 1024 (`KiB`,
/// `MiB` …), in whatever case; without a unit it is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Bytes(pub u64);

/// A text that is no amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// It has another form.
    #[error("`{0}` is no size; write 200MB or 1.5GiB")]
    Malformed(String),
    /// Nobody has that many.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = 0;
        // What rounds up to 1000 goes one unit up, where docker prints `1e+03kB`.
        while rounded(value) >= 1000.0 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        write!(f, "{}{}", rounded(value), UNITS[unit])
    }
}

/// To three significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let shift = 10f64.powi(2 - value.log10().floor() as i32);
    (value * shift).round() / shift
}

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || BytesError::Malformed(text.to_owned());
        let lower = text.trim().to_lowercase();
        let end = lower.find(|it: char| !(it.is_ascii_digit() || it == '.'));
        let (number, unit) = lower.split_at(end.unwrap_or(lower.len()));
        let unit = unit.trim();
        let (letters, base) = match unit.strip_suffix("ib") {
            Some(letters) => (letters, 1024.0),
            None => (unit.strip_suffix('b').unwrap_or(unit), 1000.0),
        };
        let power = match letters {
            "" if base == 1000.0 => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return Err(malformed()),
        };
        let number: f64 = number.parse().map_err(|_| malformed())?;
        let bytes = number * f64::powi(base, power);
        if bytes >= u64::MAX as f64 {
            return Err(BytesError::TooLarge(text.to_owned()));
        }
        Ok(Self(bytes.round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_with_three_digits() {
        let table = [
            (0, "0B"),
            (7, "7B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (12_345, "12.3kB"),
            (123_456, "123kB"),
            (999_499, "999kB"),
            (999_500, "1MB"),
            (1_200_000_000, "1.2GB"),
            (u64::MAX, "18.4EB"),
        ];
        for (bytes, words) in table {
            assert_eq!(Bytes(bytes).to_string(), words, "{bytes}");
        }
    }

    #[test]
    fn sizes_are_read_in_both_bases() {
        let table = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("200MB", 200_000_000),
            ("200m", 200_000_000),
            ("1.5 GB", 1_500_000_000),
            ("64MiB", 64 << 20),
            ("1kib", 1024),
            ("7b", 7),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "m",
            "-1",
            "1x",
            "1mm",
            "1.2.3k",
            "ib",
            "5ib",
            "99999999t",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
