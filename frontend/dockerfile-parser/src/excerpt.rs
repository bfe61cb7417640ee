//! A place in a file, shown with the lines around it.

use std::fmt::Write;

const RULE: &str = "--------------------\n";

/// Lines `first_line` to `last_line` of `text` marked, some lines around them, the file's name above.
///
/// The form is BuildKit's. Up to four lines stand around a single line, up to two around several.
/// Lines count from one; where `first_line` is not in the text there is nothing to show.
///
/// ```text
/// Dockerfile:2
/// --------------------
///    1 |     FROM alpine
///    2 | >>> COPY missing /x
///    3 |     RUN true
/// --------------------
/// ```
pub fn excerpt(file_name: &str, text: &[u8], first_line: usize, last_line: usize) -> String {
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    if first_line == 0 || first_line > lines.len() {
        return String::new();
    }
    let last_line = last_line.clamp(first_line, lines.len());
    let (top, bottom) = padded(first_line, last_line, lines.len());
    let mut out = format!("{file_name}:{first_line}\n{RULE}");
    for number in top..=bottom {
        let marker = if (first_line..=last_line).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let line = String::from_utf8_lossy(lines[number - 1]);
        let line = line.trim_end_matches('\r');
        writeln!(out, " {number:3} | {marker} {line}").expect("writing to a string cannot fail");
    }
    out + RULE
}

/// The range widened, upwards and downwards in turn, by what BuildKit shows around it.
fn padded(first: usize, last: usize, line_count: usize) -> (usize, usize) {
    let wanted = if first == last { 4 } else { 2 };
    let (mut top, mut bottom, mut padding) = (first, last, 0);
    while padding < wanted {
        if top > 1 {
            top -= 1;
            padding += 1;
        }
        if bottom < line_count {
            bottom += 1;
            padding += 1;
        }
        // A round counts even where both ends are reached, or it would never end.
        padding += 1;
    }
    (top, bottom)
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    const TEXT: &[u8] = b"FROM alpine\n\nCOPY missing /x\r\nRUN true\nRUN a \\\n  b\nCMD c\n";

    #[test]
    fn a_single_line_stands_between_its_neighbours() {
        let expected = "Dockerfile:3\n--------------------\n   1 |     FROM alpine\n   2 |     \n\
            \x20  3 | >>> COPY missing /x\n   4 |     RUN true\n   5 |     RUN a \\\n--------------------\n";
        assert_eq!(excerpt("Dockerfile", TEXT, 3, 3), expected);
    }

    #[test]
    fn several_lines_are_all_marked() {
        let expected = "d:5\n--------------------\n   4 |     RUN true\n   5 | >>> RUN a \\\n   6 | >>>   b\n\
            \x20  7 |     CMD c\n--------------------\n";
        assert_eq!(excerpt("d", TEXT, 5, 6), expected);
    }

    #[test]
    fn a_range_beyond_the_text_is_cut_and_one_outside_shows_nothing() {
        let expected = "d:1\n--------------------\n   1 | >>> FROM a\n--------------------\n";
        assert_eq!(excerpt("d", b"FROM a", 1, 9), expected);
        assert_eq!(excerpt("d", b"FROM a", 2, 2), "");
        assert_eq!(excerpt("d", b"FROM a", 0, 0), "");
    }
}
