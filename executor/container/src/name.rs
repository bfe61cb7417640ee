//! Names of containers, given and made up.

const QUALITIES: [&str; 32] = [
    "amber", "brave", "calm", "clever", "crisp", "daring", "eager", "early", "fair", "gentle",
    "glad", "golden", "hardy", "humble", "jolly", "keen", "kind", "lively", "lucid", "merry",
    "modest", "noble", "patient", "proud", "quick", "quiet", "silent", "steady", "sunny", "swift",
    "warm", "wise",
];

const PEOPLE: [&str; 32] = [
    "abel", "babbage", "bell", "boole", "cantor", "carson", "curie", "darwin", "dijkstra", "euler",
    "faraday", "franklin", "galois", "gauss", "germain", "goodall", "hamilton", "hopper",
    "hypatia", "johnson", "kepler", "lamarr", "lovelace", "maxwell", "meitner", "mendel", "newton",
    "noether", "pascal", "shannon", "turing", "wu",
];

/// A name for the container of an id; another one with each try.
pub(crate) fn made_up(id: &str, attempt: usize) -> String {
    let number = id.bytes().fold(attempt, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    let (quality, person) = (QUALITIES[number % 32], PEOPLE[number / 32 % 32]);
    if attempt < 16 {
        format!("{quality}_{person}")
    } else {
        format!("{quality}_{person}{attempt}")
    }
}

/// Whether a name is one: a letter or digit, then at least one more of those or `_`, `.`, `-`.
pub(crate) fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|it| it.is_ascii_alphanumeric())
        && name.len() >= 2
        && name.len() <= 128
        && bytes.all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for name in ["ab", "a_b", "9.x-y", "A0"] {
            assert!(is_valid(name), "{name}");
        }
        for name in ["", "a", "_a", "a/b", "..", "a b", "ä1", &"x".repeat(129)] {
            assert!(!is_valid(name), "{name}");
        }
    }

    #[test]
    fn made_up_names_are_names_and_change_with_every_try() {
        assert!((0..40).all(|attempt| is_valid(&made_up("0123abcd", attempt))));
        assert_ne!(made_up("0123abcd", 0), made_up("0123abcd", 1));
        assert_ne!(made_up("0123abcd", 0), made_up("0123abce", 0));
    }
}
