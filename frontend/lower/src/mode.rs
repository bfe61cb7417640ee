//! `--chmod`: octal or as `chmod` reads it (G69).

use llb::op::ModeChange;

use crate::PlanErrorKind;

/// What `text` makes of permissions.
pub(crate) fn parse(text: &str) -> Result<ModeChange, PlanErrorKind> {
    let fail = || PlanErrorKind::Chmod(text.to_owned());
    if text.starts_with(|it: char| it.is_ascii_digit()) {
        return match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(ModeChange::Octal(mode)),
            _ => Err(fail()),
        };
    }
    match apply_symbolic(text, 0) {
        Some(_) => Ok(ModeChange::Symbolic(text.to_owned())),
        None => Err(fail()),
    }
}

/// The permissions of a regular file after `change`.
pub(crate) fn apply(change: &ModeChange, mode: u32) -> u32 {
    match change {
        ModeChange::Octal(mode) => *mode,
        ModeChange::Symbolic(text) => apply_symbolic(text, mode).unwrap_or(mode),
    }
}

/// `text` (`u=rwX,go-w`) applied to a regular file's `mode`; `None` if it is no such text.
fn apply_symbolic(text: &str, mode: u32) -> Option<u32> {
    text.split(',').try_fold(mode, |mode, clause| {
        let operators = clause.find(['+', '-', '='])?;
        let (who, mut rest) = clause.split_at(operators);
        let classes = classes(who)?;
        let mut mode = mode;
        while !rest.is_empty() {
            let operator = rest.chars().next()?;
            let end = rest[1..]
                .find(['+', '-', '='])
                .map_or(rest.len(), |it| it + 1);
            mode = apply_action(mode, classes, operator, &rest[1..end])?;
            rest = &rest[end..];
        }
        Some(mode)
    })
}

/// Which of user, group and others `who` names; all where it names none.
fn classes(who: &str) -> Option<[bool; 3]> {
    if who.is_empty() {
        return Some([true; 3]);
    }
    who.chars().try_fold([false; 3], |mut classes, letter| {
        match letter {
            'u' => classes[0] = true,
            'g' => classes[1] = true,
            'o' => classes[2] = true,
            'a' => classes = [true; 3],
            _ => return None,
        }
        Some(classes)
    })
}

fn apply_action(mode: u32, classes: [bool; 3], operator: char, permissions: &str) -> Option<u32> {
    let shifts = [6, 3, 0];
    let (mut bits, mut special) = (0, 0);
    if let ("u" | "g" | "o", 1) = (permissions, permissions.len()) {
        let shift = match permissions {
            "u" => 6,
            "g" => 3,
            _ => 0,
        };
        bits = mode >> shift & 0o7;
    } else {
        for letter in permissions.chars() {
            match letter {
                'r' => bits |= 0o4,
                'w' => bits |= 0o2,
                'x' => bits |= 0o1,
                // Of a file, only what somebody may run already.
                'X' if mode & 0o111 != 0 => bits |= 0o1,
                'X' => {}
                's' => special |= u32::from(classes[0]) << 11 | u32::from(classes[1]) << 10,
                't' => special |= 0o1000,
                _ => return None,
            }
        }
    }
    let spread = |bits: u32| {
        (0..3)
            .filter(|&it| classes[it])
            .map(|it| bits << shifts[it])
            .sum::<u32>()
    };
    let change = spread(bits) | special;
    Some(match operator {
        '+' => mode | change,
        '-' => mode & !change,
        _ => mode & !spread(0o7) | change,
    })
}

#[cfg(test)]
mod tests {
    use super::{apply, parse};

    #[test]
    fn modes_are_octal_or_symbolic() {
        let table = [
            ("755", 0o755),
            ("0", 0),
            ("4755", 0o4755),
            ("u=rwX,go=rX", 0o644),
            ("+x", 0o755),
            ("u+x,go-r", 0o700),
            ("a=", 0),
            ("g=u", 0o664),
            ("u+s", 0o4644),
            ("o+t", 0o1644),
            ("u=rw+x", 0o744),
        ];
        for (text, expected) in table {
            assert_eq!(apply(&parse(text).unwrap(), 0o644), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "64a",
            "8",
            "10000",
            "u",
            "z+x",
            "u+q",
            "",
            "77777777777777",
            "u=rw,",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
