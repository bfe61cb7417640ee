//! `key=value,key=value` as docker's options have it.

/// Why a specification cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    /// A `"` without its counterpart.
    #[error("a quote is not closed in `{0}`")]
    Quote(String),
}

/// The fields of a specification, each cut at its first `=`. A field that holds commas stands in
/// `"…"`, as in CSV; keys are in lower case.
pub(crate) fn fields(text: &str) -> Result<Vec<(String, Option<String>)>, SpecError> {
    let mut fields = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                quoted_field(quoted).ok_or_else(|| SpecError::Quote(text.to_owned()))?
            }
            None => {
                let (field, behind) = rest.split_once(',').unwrap_or((rest, ""));
                (field.to_owned(), behind)
            }
        };
        fields.push(match field.split_once('=') {
            Some((key, value)) => (key.trim().to_lowercase(), Some(value.to_owned())),
            None => (field.trim().to_owned(), None),
        });
        rest = behind;
    }
    Ok(fields)
}

/// The field up to the closing quote, and what stands behind the comma behind that.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('"')?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(behind) => {
                field.push('"');
                rest = behind;
            }
            None => return Some((field, behind.strip_prefix(',').unwrap_or(behind))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_csv() {
        let read = |text| -> String {
            match fields(text) {
                Ok(fields) => fields
                    .into_iter()
                    .map(|(key, value)| {
                        format!("[{key}|{}]", value.unwrap_or_else(|| "-".to_owned()))
                    })
                    .collect(),
                Err(error) => error.to_string(),
            }
        };
        let table = [
            ("", ""),
            ("./out", "[./out|-]"),
            ("type=docker,dest=x.tar", "[type|docker][dest|x.tar]"),
            ("TYPE=docker,dest=a=b", "[type|docker][dest|a=b]"),
            (r#"type=local,"dest=a,b""#, "[type|local][dest|a,b]"),
            (
                r#""dest=say ""hi""",type=oci"#,
                r#"[dest|say "hi"][type|oci]"#,
            ),
            (
                r#"type=x,"dest"#,
                r#"a quote is not closed in `type=x,"dest`"#,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_saved_for_the_fuzzer_is_read_or_refused() {
        let saved = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/fuzz/csv");
        let inputs: Vec<_> = std::fs::read_dir(saved)
            .expect("inputs were saved")
            .collect();
        assert!(inputs.len() >= 5);
        for input in inputs {
            let text = std::fs::read(input.expect("an entry of a directory").path());
            let _ = fields(&String::from_utf8_lossy(&text.expect("an input is a file")));
        }
    }
}
