//! Permissions as `chmod` reads them.

use llb::op::ModeChange;

use super::FileError;

/// A change of permissions, ready to be applied to any file.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

/// One change for some of the classes: `go-w`.
#[derive(Debug, Clone)]
pub(crate) struct Clause {
    /// The bits of the classes that are meant, set-id and sticky bits among them.
    classes: u32,
    operator: char,
    permissions: Vec<char>,
}

impl Mode {
    pub(crate) fn new(change: &ModeChange) -> Result<Self, FileError> {
        match change {
            ModeChange::Octal(mode) if *mode <= 0o7777 => Ok(Self::Octal(*mode)),
            ModeChange::Octal(mode) => Err(FileError::Mode(format!("{mode:o}"))),
            ModeChange::Symbolic(text) => {
                let clauses = text.split(',').map(clauses).collect::<Option<Vec<_>>>();
                let clauses = clauses.ok_or_else(|| FileError::Mode(text.clone()))?;
                Ok(Self::Symbolic(clauses.concat()))
            }
        }
    }

    /// The permissions of a file that had `mode`.
    pub(crate) fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(new) => *new,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(mode & 0o7777, |mode, clause| clause.apply(mode, directory)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let bits = self
            .permissions
            .iter()
            .fold(0, |bits, letter| bits | self.bits(*letter, mode, directory));
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.cleared(directory)) | bits,
        }
    }

    /// What `=` takes away: of a directory, set-id bits stay unless they are named.
    fn cleared(&self, directory: bool) -> u32 {
        if directory {
            self.classes & 0o777
        } else {
            self.classes
        }
    }

    fn bits(&self, letter: char, mode: u32, directory: bool) -> u32 {
        let everywhere = match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            'X' if directory || mode & 0o111 != 0 => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            'u' => ((mode >> 6) & 7) * 0o111,
            'g' => ((mode >> 3) & 7) * 0o111,
            'o' => (mode & 7) * 0o111,
            _ => 0,
        };
        everywhere & self.classes
    }
}

/// `ug+rw-x`: one set of classes, several changes.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let start = text.find(['+', '-', '='])?;
    let mut classes = 0;
    for class in text[..start].chars() {
        classes |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let classes = if start == 0 { 0o7777 } else { classes };
    // The sticky bit goes with any class.
    let classes = classes | 0o1000;
    let mut clauses: Vec<Clause> = Vec::new();
    for letter in text[start..].chars() {
        match (letter, clauses.last_mut()) {
            ('+' | '-' | '=', _) => clauses.push(Clause {
                classes,
                operator: letter,
                permissions: Vec::new(),
            }),
            ('r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o', Some(clause)) => {
                clause.permissions.push(letter);
            }
            _ => return None,
        }
    }
    Some(clauses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: &str, before: u32, directory: bool, after: u32) {
        let mode = Mode::new(&ModeChange::Symbolic(change.to_owned())).unwrap();
        let got = mode.apply(before, directory);
        assert_eq!(
            got, after,
            "{change} on {before:o}: {got:o} and not {after:o}"
        );
    }

    #[test]
    fn symbolic_changes_are_those_of_chmod() {
        check("u=rwX,go=rX", 0o600, false, 0o644);
        check("u=rwX,go=rX", 0o700, false, 0o755);
        check("u=rwX,go=rX", 0o600, true, 0o755);
        check("+x", 0o644, false, 0o755);
        check("go-w", 0o666, false, 0o644);
        check("a=r", 0o777, false, 0o444);
        check("u+s,g+s", 0o755, false, 0o6755);
        check("+t", 0o777, true, 0o1777);
        check("g=u", 0o750, false, 0o770);
        check("ug+w-x", 0o555, false, 0o664 | 0o001);
        check("=", 0o777, false, 0);
        check("u=rwx", 0o2755, true, 0o2755);
    }

    #[test]
    fn other_texts_are_errors() {
        for text in ["", "u", "z+x", "u+q", "u=r,", "64a"] {
            assert!(
                Mode::new(&ModeChange::Symbolic(text.to_owned())).is_err(),
                "{text}"
            );
        }
        assert!(Mode::new(&ModeChange::Octal(0o10000)).is_err());
    }
}
