//! Text in quotes, as Go prints it: BuildKit's messages are full of it.

use std::fmt::Write;

/// `text` in double quotes, with Go's `%q` escapes: `"a\tb"`.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for ch in text.chars() {
        push_quoted(&mut quoted, ch);
    }
    quoted.push('"');
    quoted
}

fn push_quoted(quoted: &mut String, ch: char) {
    match ch {
        '"' | '\\' => quoted.extend(['\\', ch]),
        '\u{7}' => quoted.push_str("\\a"),
        '\u{8}' => quoted.push_str("\\b"),
        '\u{c}' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\u{b}' => quoted.push_str("\\v"),
        ' ' => quoted.push(' '),
        ch if ch < ' ' || ch == '\u{7f}' => push_hex(quoted, format_args!("\\x{:02x}", ch as u32)),
        ch if ch.is_control() || ch.is_whitespace() => {
            push_hex(quoted, format_args!("\\u{:04x}", ch as u32));
        }
        ch => quoted.push(ch),
    }
}

fn push_hex(quoted: &mut String, escape: std::fmt::Arguments<'_>) {
    quoted
        .write_fmt(escape)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quoting_escapes_as_go_does() {
        assert_eq!(quote("plain"), r#""plain""#);
        assert_eq!(quote("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(
            quote("\t\n\r\u{1}\u{7f}é\u{a0}"),
            r#""\t\n\r\x01\x7fé\u00a0""#
        );
    }
}
