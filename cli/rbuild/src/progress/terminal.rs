//! A picture redrawn in place at the bottom of a terminal.

use std::io::{self, IsTerminal as _, Write};

use super::colour::Colours;
use super::text::width;
use super::tty::{Line, Room};

/// The screen's part that pictures are drawn on. Remembers the last picture to draw over it.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    widths: Vec<usize>,
}

impl Canvas {
    /// The bytes that replace the last picture by this one. The cursor ends up in the first column
    /// below it and is visible again, so that whatever ends the program leaves a usable terminal.
    pub(crate) fn replace(&mut self, lines: &[Line], columns: usize, colours: &Colours) -> String {
        let mut bytes = String::from("\u{1b}[?25l\r");
        let up = self.rows(columns);
        if up > 0 {
            bytes.push_str(&format!("\u{1b}[{up}A"));
        }
        for line in lines {
            bytes.push_str(&colours.paint(line.tone, &line.text));
            bytes.push_str("\u{1b}[K\n");
        }
        bytes.push_str("\u{1b}[J\u{1b}[?25h");
        self.widths = lines.iter().map(|line| width(&line.text)).collect();
        bytes
    }

    /// How many rows the last picture takes now. A terminal that was made narrower has wrapped it.
    fn rows(&self, columns: usize) -> usize {
        self.widths
            .iter()
            .map(|width| width.div_ceil(columns.max(1)).max(1))
            .sum()
    }
}

/// The room on the terminal behind standard error; asked for at every picture, so that a resize is
/// seen by the next one.
pub(crate) fn room(log_lines: usize) -> Room {
    let (columns, rows) = match terminal_size::terminal_size_of(io::stderr()) {
        Some((terminal_size::Width(columns), terminal_size::Height(rows)))
            if columns > 0 && rows > 0 =>
        {
            (columns.into(), rows.into())
        }
        _ => (80, 24),
    };
    Room {
        columns,
        rows,
        log_lines,
    }
}

/// Whether pictures can be drawn on standard error.
pub(crate) fn can_draw() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes to standard error. Where nobody listens any more the build goes on in silence.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::colour::Tone;

    fn line(text: &str) -> Line {
        Line {
            tone: Tone::Plain,
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let mut canvas = Canvas::default();
        let first = canvas.replace(&[line("one"), line("two")], 80, &Colours::NONE);
        assert_eq!(
            first,
            "\u{1b}[?25l\rone\u{1b}[K\ntwo\u{1b}[K\n\u{1b}[J\u{1b}[?25h"
        );
        let second = canvas.replace(&[line("three")], 80, &Colours::NONE);
        assert_eq!(
            second,
            "\u{1b}[?25l\r\u{1b}[2Athree\u{1b}[K\n\u{1b}[J\u{1b}[?25h"
        );
        let third = canvas.replace(&[], 80, &Colours::NONE);
        assert!(third.contains("\u{1b}[1A"), "{third:?}");
    }

    #[test]
    fn lines_that_a_narrower_terminal_wrapped_are_counted() {
        let mut canvas = Canvas::default();
        canvas.replace(
            &[line(&"x".repeat(79)), line(""), line("short")],
            80,
            &Colours::NONE,
        );
        let redrawn = canvas.replace(&[], 40, &Colours::NONE);
        assert!(redrawn.contains("\u{1b}[4A"), "{redrawn:?}");
    }

    /// As much of a terminal as pictures use.
    struct Screen {
        columns: usize,
        rows: Vec<Vec<char>>,
        height: usize,
        row: usize,
        column: usize,
    }

    impl Screen {
        fn new(columns: usize, height: usize) -> Self {
            Self {
                columns,
                rows: vec![Vec::new()],
                height,
                row: 0,
                column: 0,
            }
        }

        fn write(&mut self, bytes: &str) {
            let mut characters = bytes.chars();
            while let Some(character) = characters.next() {
                match character {
                    '\u{1b}' => self.escape(characters.by_ref()),
                    '\r' => self.column = 0,
                    '\n' => self.down(),
                    other => self.put(other),
                }
            }
        }

        fn escape(&mut self, characters: &mut std::str::Chars<'_>) {
            assert_eq!(characters.next(), Some('['));
            let mut parameters = String::new();
            let last = loop {
                match characters.next().unwrap() {
                    letter @ ('@'..='~') => break letter,
                    other => parameters.push(other),
                }
            };
            match last {
                'A' => {
                    let top = self.rows.len().saturating_sub(self.height);
                    self.row = self
                        .row
                        .saturating_sub(parameters.parse().unwrap())
                        .max(top);
                }
                'K' => self.rows[self.row].truncate(self.column),
                'J' => {
                    self.rows.truncate(self.row + 1);
                    self.rows[self.row].truncate(self.column);
                }
                'm' | 'h' | 'l' => {}
                other => panic!("`{other}` is no movement that pictures use"),
            }
        }

        fn put(&mut self, character: char) {
            if self.column == self.columns {
                self.down();
            }
            let row = &mut self.rows[self.row];
            row.resize(row.len().max(self.column + 1), ' ');
            row[self.column] = character;
            self.column += 1;
        }

        fn down(&mut self) {
            self.row += 1;
            self.column = 0;
            if self.row == self.rows.len() {
                self.rows.push(Vec::new());
            }
        }

        /// As terminals that reflow: every row that is too long now takes several.
        fn narrow(&mut self, columns: usize) {
            let cursor = self.rows.len() - self.row;
            let wrap = |row: Vec<char>| -> Vec<Vec<char>> {
                if row.is_empty() {
                    vec![row]
                } else {
                    row.chunks(columns).map(<[char]>::to_vec).collect()
                }
            };
            self.rows = std::mem::take(&mut self.rows)
                .into_iter()
                .flat_map(wrap)
                .collect();
            self.row = self.rows.len() - cursor;
            self.columns = columns;
        }

        fn text(&self) -> Vec<String> {
            self.rows.iter().map(|row| row.iter().collect()).collect()
        }
    }

    proptest::proptest! {
        #[test]
        fn the_screen_shows_the_last_picture_and_what_was_there_before(
            pictures in proptest::collection::vec(proptest::collection::vec("[a-z ]{0,39}", 0..9), 1..8),
            narrow in 10usize..40,
        ) {
            let mut screen = Screen::new(40, 10);
            let mut canvas = Canvas::default();
            screen.write("$ rbuild .\r\n");
            let (last, before) = pictures.split_last().unwrap();
            let lines = |picture: &Vec<String>, columns: usize| -> Vec<Line> {
                picture.iter().map(|text| line(&text.chars().take(columns - 1).collect::<String>())).collect()
            };
            for picture in before {
                screen.write(&canvas.replace(&lines(picture, 40), 40, &Colours::USUAL));
            }
            screen.narrow(narrow);
            let lines = lines(last, narrow);
            screen.write(&canvas.replace(&lines, narrow, &Colours::USUAL));
            let shown: Vec<String> = screen.text();
            let mut expected: Vec<String> = vec!["$ rbuild .".to_owned()];
            expected.extend(lines.into_iter().map(|line| line.text));
            expected.push(String::new());
            // Rows above the screen cannot be drawn over: only what fits is compared.
            if before.last().is_none_or(|it| it.iter().map(|text| text.len().div_ceil(narrow).max(1)).sum::<usize>() < 10) {
                proptest::prop_assert_eq!(shown, expected);
            }
        }
    }
}
