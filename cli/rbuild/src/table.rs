//! Lists: rows of fields, shown as docker shows them by `--format`.

use serde_json::Value;

use crate::progress::width;
use crate::template::{Template, TemplateError};

/// Blanks between two columns.
const PADDING: usize = 3;
/// Columns are at least this wide, padding included.
const NARROWEST: usize = 10;

/// How a list is shown.
#[derive(Debug)]
pub(crate) struct Format {
    template: Template,
    is_table: bool,
}

impl Format {
    /// Reads what stands behind `--format`: `table`, `table TEMPLATE`, `json`, `TEMPLATE`, or nothing,
    /// which is the table of `columns` (itself a template).
    pub(crate) fn parse(format: Option<&str>, columns: &str) -> Result<Self, TemplateError> {
        let (template, is_table) = match format.unwrap_or("table") {
            "table" => (columns, true),
            "json" => ("{{json .}}", false),
            format => match format.strip_prefix("table ") {
                Some(template) => (template, true),
                None => (format, false),
            },
        };
        // What is written between single quotes in a shell.
        let template = template.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self {
            template: Template::parse(&template)?,
            is_table,
        })
    }

    /// The rows as text. `headings` has the fields of a row, each with its column's heading.
    pub(crate) fn show(&self, headings: &Value, rows: &[Value]) -> Result<String, TemplateError> {
        let mut lines = Vec::with_capacity(rows.len() + 1);
        if self.is_table {
            lines.push(self.template.fill_headings(headings)?);
        }
        for row in rows {
            lines.push(self.template.fill(row)?);
        }
        match self.is_table {
            true => Ok(align(&lines)),
            false => Ok(lines.into_iter().map(|line| line + "\n").collect()),
        }
    }
}

/// Lines whose cells are separated by tabs, made into columns. The last cell of a line is not padded.
pub(crate) fn align(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (column, cell) in row[..row.len() - 1].iter().enumerate() {
            if widths.len() == column {
                widths.push(NARROWEST);
            }
            widths[column] = widths[column].max(width(cell) + PADDING);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.extend(std::iter::repeat_n(
                    ' ',
                    widths[column].saturating_sub(width(cell)),
                ));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &str = "{{.Repository}}\t{{.ID}}\t{{.Size}}";

    fn show(format: Option<&str>) -> String {
        let headings =
            serde_json::json!({ "Repository": "REPOSITORY", "ID": "IMAGE ID", "Size": "SIZE" });
        let rows = [
            serde_json::json!({ "Repository": "debian", "ID": "0123456789ab", "Size": "124MB" }),
            serde_json::json!({ "Repository": "registry.example.org/日本", "ID": "ba9876543210", "Size": "7B" }),
        ];
        Format::parse(format, COLUMNS)
            .and_then(|format| format.show(&headings, &rows))
            .unwrap()
    }

    #[test]
    fn a_table_has_columns_three_blanks_apart() {
        let expected = "\
REPOSITORY                  IMAGE ID       SIZE
debian                      0123456789ab   124MB
registry.example.org/日本   ba9876543210   7B
";
        assert_eq!(show(None), expected);
        assert_eq!(show(Some("table")), expected);
    }

    #[test]
    fn a_column_is_at_least_ten_wide() {
        assert_eq!(
            show(Some(r"table {{.Size}}\t{{.ID}}")),
            "SIZE      IMAGE ID\n124MB     0123456789ab\n7B        ba9876543210\n"
        );
    }

    #[test]
    fn a_template_has_no_headings() {
        assert_eq!(
            show(Some(r"{{.ID}}\t{{upper .Repository}}")),
            "0123456789ab\tDEBIAN\nba9876543210\tREGISTRY.EXAMPLE.ORG/日本\n"
        );
    }

    #[test]
    fn json_is_one_object_a_row() {
        let first = r#"{"Repository":"debian","ID":"0123456789ab","Size":"124MB"}"#;
        assert_eq!(show(Some("json")).lines().next(), Some(first));
    }
}
