//! Errors, as the kit's programs print them.

/// An error with all its causes in one line, so that it fits in a list or a table.
pub fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    lines.join(" | ")
}
