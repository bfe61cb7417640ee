//! Text that is safe to draw: no escape sequence, no control character, a known width.

use unicode_width::UnicodeWidthChar;

/// How many columns `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// `text` in at most `limit` columns; what was cut ends with `…`.
pub(crate) fn fit(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut taken = 0;
    for character in text.chars() {
        let wide = columns(character);
        if taken + wide + 1 > limit {
            break;
        }
        fitted.push(character);
        taken += wide;
    }
    if limit > 0 {
        fitted.push('…');
    }
    fitted
}

fn columns(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// What a terminal would show of one line of output: colours and cursor movements gone, a carriage
/// return begins the line anew, tabs are blanks, bytes that are not UTF-8 are replaced.
///
/// Whatever a step prints, it cannot move the cursor, set the title or answer for the keyboard.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut characters = text.chars();
    let mut line = String::with_capacity(text.len());
    let mut returned = false;
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\u{9b}' => skip_until_final(&mut characters),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut characters),
            '\r' => returned = true,
            '\u{8}' => {
                line.pop();
            }
            '\t' | '\n' | ' '.. => {
                // Only now: a return at the very end leaves the line as it is.
                if std::mem::take(&mut returned) {
                    line.clear();
                }
                push(&mut line, character);
            }
            _ => {}
        }
    }
    line
}

/// The words of an error without the number that Rust puts behind the system's: ` (os error 2)`.
pub(crate) fn without_numbers(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    let mut rest = words;
    while let Some((before, behind)) = rest.split_once(" (os error ") {
        let number = behind
            .split_once(')')
            .filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
        text.push_str(before);
        rest = match number {
            Some((_, behind)) => behind,
            None => {
                text.push_str(" (os error ");
                behind
            }
        };
    }
    text + rest
}

fn push(line: &mut String, character: char) {
    match character {
        '\t' => {
            let stop = 8 - width(line) % 8;
            line.extend(std::iter::repeat_n(' ', stop));
        }
        '\n' => line.push(' '),
        // Marks that change the direction of what follows, and with it what a reader sees.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
        other if other.is_control() => {}
        other => line.push(other),
    }
}

/// Behind an ESC: leaves `characters` behind the whole sequence.
fn skip_escape(characters: &mut std::str::Chars<'_>) {
    match characters.next() {
        Some('[') => skip_until_final(characters),
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(characters),
        Some(' '..='/') => {
            characters.next();
        }
        _ => {}
    }
}

fn skip_until_final(characters: &mut std::str::Chars<'_>) {
    characters.find(|it| ('@'..='~').contains(it));
}

/// Strings end with BEL, ST or ESC `\`.
fn skip_string(characters: &mut std::str::Chars<'_>) {
    while let Some(character) = characters.next() {
        match character {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                characters.next();
                return;
            }
            _ => {}
        }
    }
}

/// The longest line that is kept whole; a process that never ends its line must not fill the memory.
const MAX_LINE: usize = 64 * 1024;

/// Bytes that come in pieces, cut into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    /// Adds bytes; gives the lines that ended with them, cleaned.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut finished = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            let ended = self.unfinished.pop_if(|byte| *byte == b'\n').is_some();
            if ended || self.unfinished.len() > MAX_LINE {
                finished.push(clean(&std::mem::take(&mut self.unfinished)));
            }
        }
        finished
    }

    /// The line that has not ended, cleaned; `None` where there is none.
    pub(crate) fn unfinished(&self) -> Option<String> {
        (!self.unfinished.is_empty()).then(|| clean(&self.unfinished))
    }

    /// Ends the line that has not.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let line = self.unfinished();
        self.unfinished.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left() {
        let table: &[(&str, &str)] = &[
            ("plain", "plain"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}Pq#0;2\u{1b}\\after", "after"),
            ("\u{1b}(Bascii", "ascii"),
            ("\u{1b}[2J\u{1b}[Hhome", "home"),
            ("a\u{9b}31mb", "ab"),
            ("a\u{7}\u{0}b", "ab"),
            ("10%\r20%\r100%", "100%"),
            ("100%\r", "100%"),
            ("ab\u{8}c", "ac"),
            ("a\tb", "a       b"),
            ("12345678\tb", "12345678        b"),
            ("evil\u{202e}txt", "eviltxt"),
            ("cut \u{1b}[3", "cut "),
            ("cut \u{1b}", "cut "),
        ];
        for (raw, shown) in table {
            assert_eq!(clean(raw.as_bytes()), *shown, "{raw:?}");
        }
        assert_eq!(clean(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn error_numbers_are_no_words() {
        let table = [
            (
                "open x: No such file or directory (os error 2)",
                "open x: No such file or directory",
            ),
            ("a (os error 2): b (os error 13)", "a: b"),
            ("a (os error x) (os error 2", "a (os error x) (os error 2"),
        ];
        for (words, shown) in table {
            assert_eq!(without_numbers(words), shown);
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(width("日本"), 4);
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("abcdef", 3), "ab…");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), ["one"]);
        assert_eq!(lines.unfinished().as_deref(), Some("tw"));
        assert_eq!(lines.push("o \u{1b}[3".as_bytes()), Vec::<String>::new());
        assert_eq!(lines.push(b"1mred\n\nrest"), ["two red", ""]);
        assert_eq!(lines.finish().as_deref(), Some("rest"));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        let mut seen = 0;
        for _ in 0..100 {
            seen += lines.push(&[b'x'; 4096]).len();
        }
        assert!(seen > 0);
        assert!(lines.unfinished.len() <= MAX_LINE);
    }
}
