//! The system call filter of a sandboxed process.
//!
//! `table` says what is allowed; here it becomes a program for the kernel. Loading a filter costs
//! the kernel its length times the number of system calls, since it precomputes the answer for each
//! number; so neighbouring numbers with the same answer are one range, and the ranges are searched
//! by halves.

mod table;

use std::sync::OnceLock;

use libc::sock_filter;

use table::{
    ALLOWED, DENIED_CLONE_FLAGS, DENIED_FAMILIES, NEWEST, NONE, PERSONALITIES, RULED, Rule,
};

/// `AUDIT_ARCH_*`: which calling convention a system call came in by.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [(u32, Column); 2] =
    [(0xc000_003e, Column::X86_64), (0x4000_0003, Column::X86)];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [(u32, Column); 1] = [(0xc000_00b7, Column::Arm64)];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Offsets in `struct seccomp_data`; the lower half of an argument, on little-endian machines.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "every architecture uses only its own columns")
)]
enum Column {
    X86_64,
    X86,
    Arm64,
}

/// What is done about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Always(u32),
    Ask(Rule),
}

/// The filter, for the kernel.
pub(crate) fn program() -> &'static [sock_filter] {
    static PROGRAM: OnceLock<Vec<sock_filter>> = OnceLock::new();
    PROGRAM.get_or_init(assemble)
}

fn assemble() -> Vec<sock_filter> {
    let mut code = Backwards::default();
    let missing = code.push(answer(MISSING));
    // A calling convention that nobody uses here. (x32 calls come in as x86-64 with a high number,
    // and are past the newest: nothing on these systems is built for it.)
    let mut next = missing;
    for (architecture, column) in ARCHITECTURES.into_iter().rev() {
        let other = next;
        let deny = code.push(answer(DENY));
        let allow = code.push(answer(ALLOW));
        let shared = Shared {
            allow,
            deny,
            missing: code.push(answer(MISSING)),
        };
        let found = code.search(&ranges(column), &shared);
        code.go(found);
        let start = code.push(load(NUMBER));
        next = code.branch(libc::BPF_JEQ, architecture, start, other);
    }
    code.go(next);
    code.push(load(ARCHITECTURE));
    code.forwards()
}

/// Where each range of numbers starts, and its answer; the first starts at 0, the last has no end.
fn ranges(column: Column) -> Vec<(u32, Answer)> {
    let number = |row: (u32, u32, u32)| match column {
        Column::X86_64 => row.0,
        Column::X86 => row.1,
        Column::Arm64 => row.2,
    };
    let mut answers = vec![Answer::Always(DENY); NEWEST as usize + 1];
    for &(_, a, b, c) in ALLOWED {
        if let Some(answer) = answers.get_mut(number((a, b, c)) as usize) {
            *answer = Answer::Always(ALLOW);
        }
    }
    for &(rule, a, b, c) in RULED {
        debug_assert_ne!(number((a, b, c)), NONE);
        answers[number((a, b, c)) as usize] = match rule {
            Rule::Missing => Answer::Always(MISSING),
            rule => Answer::Ask(rule),
        };
    }
    let mut ranges: Vec<(u32, Answer)> = Vec::new();
    for (number, answer) in (0..).zip(answers.into_iter().chain([Answer::Always(MISSING)])) {
        if ranges.last().is_none_or(|last| last.1 != answer) {
            ranges.push((number, answer));
        }
    }
    ranges
}

/// A program written from its end, so that where a jump leads is known when it is written.
#[derive(Default)]
struct Backwards(Vec<sock_filter>);

/// An instruction, counted from the end.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

/// The answers that the whole search of one architecture leads to.
struct Shared {
    allow: Label,
    deny: Label,
    missing: Label,
}

impl Backwards {
    fn push(&mut self, instruction: sock_filter) -> Label {
        self.0.push(instruction);
        Label(self.0.len() - 1)
    }

    fn forwards(mut self) -> Vec<sock_filter> {
        self.0.reverse();
        self.0
    }

    /// How many instructions stand between the one written next and `to`.
    fn over(&self, to: Label) -> usize {
        self.0.len() - 1 - to.0
    }

    /// Makes `to` what is executed before anything that is written already.
    fn go(&mut self, to: Label) {
        if self.over(to) > 0 {
            let over = u32::try_from(self.over(to)).expect("a filter has few instructions");
            self.push(statement(libc::BPF_JMP | libc::BPF_JA, over));
        }
    }

    /// A label for `to` that a comparison can reach: those jump over 255 instructions at most. One
    /// more is left for a second label of the same comparison.
    fn near(&mut self, to: Label) -> Label {
        if self.over(to) < 254 {
            return to;
        }
        self.go(to);
        Label(self.0.len() - 1)
    }

    /// Compares; goes on at `yes` or `no`.
    fn branch(&mut self, comparison: u32, with: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.near(yes), self.near(no));
        let over = |to| u8::try_from(self.over(to)).expect("the label is near");
        let (jt, jf) = (over(yes), over(no));
        self.push(sock_filter {
            jt,
            jf,
            ..statement(libc::BPF_JMP | comparison | libc::BPF_K, with)
        })
    }

    /// Looks for the range of the loaded number by halves.
    fn search(&mut self, ranges: &[(u32, Answer)], shared: &Shared) -> Label {
        match ranges {
            [(_, Answer::Always(ALLOW))] => shared.allow,
            [(_, Answer::Always(DENY))] => shared.deny,
            [(_, Answer::Always(_))] => shared.missing,
            [(_, Answer::Ask(rule))] => self.ask(*rule, shared),
            ranges => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let pivot = high[0].0;
                let high = self.search(high, shared);
                let low = self.search(low, shared);
                self.branch(libc::BPF_JGE, pivot, high, low)
            }
        }
    }

    /// Looks at the first argument.
    fn ask(&mut self, rule: Rule, shared: &Shared) -> Label {
        let (comparison, values, matching, other) = match rule {
            Rule::Socket => (
                libc::BPF_JEQ,
                DENIED_FAMILIES.as_slice(),
                shared.deny,
                shared.allow,
            ),
            Rule::Personality => (
                libc::BPF_JEQ,
                PERSONALITIES.as_slice(),
                shared.allow,
                shared.deny,
            ),
            Rule::Clone => (
                libc::BPF_JSET,
                [DENIED_CLONE_FLAGS].as_slice(),
                shared.deny,
                shared.allow,
            ),
            Rule::Missing => return shared.missing,
        };
        let mut next = other;
        for value in values {
            next = self.branch(comparison, *value, matching, next);
        }
        self.go(next);
        self.push(load(FIRST_ARGUMENT))
    }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn answer(value: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).expect("codes have 16 bits"),
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a filter as the kernel does.
    fn run(program: &[sock_filter], architecture: u32, number: u32, argument: u32) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let it = program[at];
            at += 1;
            let code = u32::from(it.code);
            let taken = match code & 0xf7 {
                0x20 => {
                    accumulator = match it.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        FIRST_ARGUMENT => argument,
                        other => panic!("loads from {other}"),
                    };
                    continue;
                }
                0x06 => return it.k,
                0x05 => {
                    at += it.k as usize;
                    continue;
                }
                0x15 => accumulator == it.k,
                0x35 => accumulator >= it.k,
                0x45 => accumulator & it.k != 0,
                other => panic!("unknown code {other:x}"),
            };
            at += usize::from(if taken { it.jt } else { it.jf });
        }
    }

    /// What the table says, read line by line.
    fn expected(column: Column, number: u32, argument: u32) -> u32 {
        let pick = |a, b, c| match column {
            Column::X86_64 => a,
            Column::X86 => b,
            Column::Arm64 => c,
        };
        if let Some(rule) = RULED.iter().find(|it| pick(it.1, it.2, it.3) == number) {
            return match rule.0 {
                Rule::Socket if argument == 38 || argument == 40 => DENY,
                Rule::Clone if argument & 0x7e02_0000 != 0 => DENY,
                Rule::Personality if !PERSONALITIES.contains(&argument) => DENY,
                Rule::Missing => MISSING,
                _ => ALLOW,
            };
        }
        match ALLOWED.iter().any(|it| pick(it.1, it.2, it.3) == number) {
            true => ALLOW,
            false if number > NEWEST => MISSING,
            false => DENY,
        }
    }

    #[test]
    fn every_number_gets_the_answer_of_the_table() {
        let program = program();
        for (architecture, column) in ARCHITECTURES {
            for number in (0..1024).chain([0x4000_0000, 0x4000_0029, u32::MAX - 1]) {
                for argument in [0, 2, 38, 40, 0x2_0000, 0x7e02_0000, 0x1000_0000, u32::MAX] {
                    let got = run(program, architecture, number, argument);
                    assert_eq!(
                        got,
                        expected(column, number, argument),
                        "{column:?} {number} {argument:x}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_call_gets_the_answer_of_the_table(number in any::<u32>(), argument in any::<u32>()) {
            let program = program();
            for (architecture, column) in ARCHITECTURES {
                prop_assert_eq!(run(program, architecture, number, argument), expected(column, number, argument));
            }
        }
    }

    #[test]
    fn a_foreign_calling_convention_gets_nothing() {
        assert_eq!(run(program(), 0x1234, 0, 0), MISSING);
    }

    #[test]
    fn the_filter_is_short() {
        assert!(program().len() < 250, "{} instructions", program().len());
    }

    #[test]
    fn the_table_names_every_call_once() {
        for column in [Column::X86_64, Column::X86, Column::Arm64] {
            let ranges = ranges(column);
            assert_eq!(ranges[0].0, 0);
            assert!(ranges.is_sorted_by_key(|it| it.0));
        }
        let mut names: Vec<_> = ALLOWED.iter().map(|it| it.0).collect();
        names.sort_unstable();
        assert_eq!(names.len(), 366);
        names.dedup();
        assert_eq!(names.len(), 366);
    }

    #[test]
    fn what_must_be_denied_is_denied() {
        // mount, umount2, unshare, setns, keyctl, bpf, userfaultfd, io_uring_setup, open_by_handle_at, perf_event_open, vmsplice.
        for number in [165, 166, 272, 308, 250, 321, 323, 425, 304, 298, 278] {
            assert_eq!(expected(Column::X86_64, number, 0), DENY, "{number}");
        }
    }
}
