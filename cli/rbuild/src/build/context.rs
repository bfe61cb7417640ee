//! `build --list-context`: what the context holds and what is left out of it, largest first.

use std::fmt::Write as _;

use engine::{Engine, Excluded, Listed, Listing, Rule};
use serde_json::{Value, json};

use super::in_words;
use super::request::Meant;
use crate::args::ListFormat;
use crate::fault::Fault;
use crate::human;
use crate::output::print;
use crate::progress::clean;
use crate::table::align;

/// Prints what the context of a build holds.
pub(super) fn list(engine: &Engine, meant: &Meant, format: ListFormat) -> Result<(), Fault> {
    let listing = engine
        .list_context(&meant.request, &|_| {})
        .map_err(|error| in_words(error, None))?;
    let text = match format {
        ListFormat::Table => table(&listing),
        ListFormat::Json => format!("{:#}\n", value(&listing)),
    };
    Ok(print(&text)?)
}

/// Numbers and bytes of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Total {
    files: u64,
    bytes: u64,
}

impl Total {
    fn kept(listing: &Listing) -> Self {
        Self {
            files: listing.kept.len() as u64,
            bytes: listing.kept.iter().map(|it| it.size).sum(),
        }
    }

    fn excluded(listing: &Listing) -> Self {
        Self {
            files: listing.excluded.iter().map(|it| it.files).sum(),
            bytes: listing.excluded.iter().map(|it| it.size).sum(),
        }
    }

    fn words(self) -> String {
        let files = match self.files {
            1 => "1 file".to_owned(),
            many => format!("{many} files"),
        };
        format!("{files}, {}", human::size(self.bytes))
    }
}

fn table(listing: &Listing) -> String {
    let file = listing.ignore_file.as_deref().unwrap_or_default();
    let mut text = String::new();
    if !listing.kept.is_empty() {
        let mut lines = vec!["SIZE\tKEPT\tBY".to_owned()];
        lines.extend(listing.kept.iter().map(|it| kept(it, file)));
        text.push_str(&without_trailing_blanks(&align(&lines)));
        text.push('\n');
    }
    if !listing.excluded.is_empty() {
        let mut lines = vec!["SIZE\tEXCLUDED\tFILES\tBY".to_owned()];
        lines.extend(listing.excluded.iter().map(|it| excluded(it, file)));
        text.push_str(&align(&lines));
        text.push('\n');
    }
    let _ = writeln!(text, "kept: {}", Total::kept(listing).words());
    let _ = writeln!(text, "excluded: {}", Total::excluded(listing).words());
    text
}

fn kept(it: &Listed, file: &str) -> String {
    let by = it.rule.as_ref().map(|rule| by(rule, file));
    format!(
        "{}\t{}\t{}",
        human::size(it.size),
        cell(&it.path.to_string_lossy()),
        by.unwrap_or_default()
    )
}

fn excluded(it: &Excluded, file: &str) -> String {
    let slash = if it.is_directory { "/" } else { "" };
    format!(
        "{}\t{}{slash}\t{}\t{}",
        human::size(it.size),
        cell(&it.path.to_string_lossy()),
        it.files,
        by(&it.rule, file)
    )
}

fn by(rule: &Rule, file: &str) -> String {
    format!("{}:{} {}", cell(file), rule.line, cell(&rule.text))
}

/// A name in one cell of one line.
fn cell(name: &str) -> String {
    clean(name.replace(['\t', '\n', '\r'], "?").as_bytes())
}

fn without_trailing_blanks(text: &str) -> String {
    text.lines()
        .map(|it| format!("{}\n", it.trim_end()))
        .collect()
}

fn value(listing: &Listing) -> Value {
    let rule = |rule: &Rule| json!({ "line": rule.line, "pattern": rule.text });
    let kept = |it: &Listed| {
        let mut value = json!({ "path": it.path.to_string_lossy(), "size": it.size });
        if let Some(taken_back) = &it.rule {
            value["rule"] = rule(taken_back);
        }
        value
    };
    let excluded = |it: &Excluded| {
        json!({
            "path": it.path.to_string_lossy(),
            "directory": it.is_directory,
            "files": it.files,
            "size": it.size,
            "rule": rule(&it.rule),
        })
    };
    let total = |it: Total| json!({ "files": it.files, "size": it.bytes });
    json!({
        "ignoreFile": listing.ignore_file,
        "kept": listing.kept.iter().map(kept).collect::<Vec<_>>(),
        "excluded": listing.excluded.iter().map(excluded).collect::<Vec<_>>(),
        "total": {
            "kept": total(Total::kept(listing)),
            "excluded": total(Total::excluded(listing)),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let rule = |line, text: &str| Rule {
            line,
            text: text.to_owned(),
        };
        Listing {
            ignore_file: Some(".dockerignore".to_owned()),
            kept: vec![
                Listed {
                    path: "data.bin".into(),
                    size: 2_000_000,
                    rule: None,
                },
                Listed {
                    path: "docs/\u{1b}[31m\tx".into(),
                    size: 7,
                    rule: Some(rule(3, "!docs/*")),
                },
            ],
            excluded: vec![Excluded {
                path: "node_modules".into(),
                files: 12,
                size: 345_000,
                is_directory: true,
                rule: rule(1, "node_modules"),
            }],
        }
    }

    #[test]
    fn a_listing_is_two_tables_and_their_sums() {
        let expected = "\
SIZE      KEPT       BY
2MB       data.bin
7B        docs/?x    .dockerignore:3 !docs/*

SIZE      EXCLUDED        FILES     BY
345kB     node_modules/   12        .dockerignore:1 node_modules

kept: 2 files, 2MB
excluded: 12 files, 345kB
";
        assert_eq!(table(&listing()), expected);
        let nothing = "kept: 0 files, 0B\nexcluded: 0 files, 0B\n";
        assert_eq!(table(&Listing::default()), nothing);
    }

    #[test]
    fn a_listing_for_programs_has_all_of_it() {
        let value = value(&listing());
        assert_eq!(value["kept"][0].get("rule"), None);
        assert_eq!(value["kept"][1]["rule"]["pattern"], "!docs/*");
        assert_eq!(value["excluded"][0]["files"], 12);
        assert_eq!(value["total"]["kept"]["size"], 2_000_007);
        assert_eq!(value["total"]["excluded"]["files"], 12);
    }
}
