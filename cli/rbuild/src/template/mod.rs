//! Go's templates, as far as `--format` needs them: what people write for docker works here.
//!
//! A template is text with actions in `{{…}}`: fields (`{{.ID}}`), pipelines (`{{.Tags | json}}`),
//! `if`/`else`, `range`, `with`, variables, and the functions of docker's command line. Data is JSON.

mod evaluate;
mod function;
mod parse;

use serde_json::Value;

use parse::Node;

/// A template, read.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// Why a template cannot be read or filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// It breaks the grammar.
    #[error("template: {why} at `{at}`")]
    Syntax {
        /// What is wrong.
        why: &'static str,
        /// The text from there on.
        at: String,
    },
    /// The data has no such field.
    #[error("template: there is no field `{field}`; there are {}", known.join(", "))]
    Field {
        /// The name asked for.
        field: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// There is no such function.
    #[error("template: function `{0}` is not defined")]
    Function(String),
    /// There is no such variable.
    #[error("template: variable `${0}` is not defined")]
    Variable(String),
    /// A function got what it cannot take.
    #[error("template: {function}: {why}")]
    Call {
        /// The function.
        function: String,
        /// What is wrong.
        why: String,
    },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When it breaks the grammar. Unknown fields and functions are found when it is filled.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            nodes: parse::parse(text)?,
        })
    }

    /// Fills the template with `data`.
    pub(crate) fn fill(&self, data: &Value) -> Result<String, TemplateError> {
        evaluate::fill(&self.nodes, data, evaluate::Functions::Usual)
    }

    /// Fills the template with the headings of a table, on which functions that shape a value do nothing.
    pub(crate) fn fill_headings(&self, headings: &Value) -> Result<String, TemplateError> {
        evaluate::fill(&self.nodes, headings, evaluate::Functions::Headings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> String {
        let data = serde_json::json!({
            "ID": "sha256:0123456789ab",
            "Name": "hello World",
            "Tags": ["a", "b", "c"],
            "None": [],
            "Size": 42,
            "Nothing": null,
            "Config": { "Env": ["A=1", "B=2"], "Labels": { "a.b": "x", "c": "<&>" }, "Tty": false },
        });
        match Template::parse(template).and_then(|it| it.fill(&data)) {
            Ok(text) => text,
            Err(error) => format!("ERROR {error}"),
        }
    }

    #[test]
    fn templates_mean_what_they_mean_in_go() {
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("{{.ID}}", "sha256:0123456789ab"),
            ("<{{ .Size }}>", "<42>"),
            ("{{.Config.Tty}}", "false"),
            ("{{.Nothing}}", "<no value>"),
            ("{{.Config.Missing}}", "<no value>"),
            ("{{.Tags}}", "[a b c]"),
            ("{{.Config.Labels}}", "map[a.b:x c:<&>]"),
            (
                "{{json .Config}}",
                r#"{"Env":["A=1","B=2"],"Labels":{"a.b":"x","c":"<&>"},"Tty":false}"#,
            ),
            ("{{.Tags | json}}", r#"["a","b","c"]"#),
            ("{{join .Tags \", \"}}", "a, b, c"),
            ("{{join .Tags `|`}}", "a|b|c"),
            (
                "{{upper .Name}} {{lower .Name}} {{title .Name}}",
                "HELLO WORLD hello world Hello World",
            ),
            ("{{split .Name \" \"}}", "[hello World]"),
            ("{{truncate .ID 10}}", "sha256:012"),
            ("{{pad .Size 1 2}}|", " 42  |"),
            (
                "{{len .Tags}} {{len .Name}} {{len .Config.Labels}}",
                "3 11 2",
            ),
            ("{{index .Tags 1}} {{index .Config.Labels \"a.b\"}}", "b x"),
            ("{{(index .Tags 0)}}{{(.Config).Tty}}", "afalse"),
            ("{{slice .ID 7 12}}", "01234"),
            (
                "{{if .Tags}}yes{{else}}no{{end}}{{if .None}}yes{{else}}no{{end}}",
                "yesno",
            ),
            (
                "{{if eq .Size 42}}=={{end}}{{if ne .Size 42}}!={{end}}",
                "==",
            ),
            (
                "{{if eq .Name \"x\" \"hello World\"}}one of{{end}}",
                "one of",
            ),
            ("{{if lt .Size 43}}<{{end}}{{if ge .Size 43}}>={{end}}", "<"),
            (
                "{{if and .Tags (not .None)}}both{{end}} {{or .None .Name}}",
                "both hello World",
            ),
            ("{{if .None}}a{{else if .Tags}}b{{else}}c{{end}}", "b"),
            ("{{range .Tags}}<{{.}}>{{end}}", "<a><b><c>"),
            ("{{range .None}}x{{else}}empty{{end}}", "empty"),
            (
                "{{range $i, $t := .Tags}}{{if $i}},{{end}}{{$t}}{{end}}",
                "a,b,c",
            ),
            (
                "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
                "a.b=x;c=<&>;",
            ),
            ("{{range .Tags}}{{$.Size}}{{end}}", "424242"),
            (
                "{{range .Tags}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}",
                "ac",
            ),
            (
                "{{range .Tags}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}",
                "a",
            ),
            (
                "{{with .Config}}{{.Tty}}{{end}}{{with .None}}x{{else}}y{{end}}",
                "falsey",
            ),
            ("{{$x := .Size}}{{$x}}{{$x = 7}}{{$x}}", "427"),
            ("a {{- .Size -}} b", "a42b"),
            ("a{{/* nothing */}}b", "ab"),
            ("{{println .Size \"x\"}}", "42 x\n"),
            (
                "{{printf \"%-5s|%3d|%v|%q|%%\" \"ab\" 7 true \"q\"}}",
                "ab   |  7|true|\"q\"|%",
            ),
            ("{{print 1 2 \"a\" \"b\"}}", "1 2ab"),
            ("{{\"quoted \\\"text\\\"\\n\"}}", "quoted \"text\"\n"),
            ("{{.Config.Labels.c}} {{true}} {{-1}}", "<&> true -1"),
        ];
        for (template, filled) in table {
            assert_eq!(fill(template), filled, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        let table = [
            (
                "{{.Bogus}}",
                "ERROR template: there is no field `Bogus`; there are ID, Name, Tags, None, Size, Nothing, Config",
            ),
            (
                "{{.ID",
                "ERROR template: an action is not closed at `{{.ID`",
            ),
            ("{{}}", "ERROR template: an action is empty at `}}`"),
            ("{{if .ID}}x", "ERROR template: `{{end}}` is missing at ``"),
            (
                "x{{end}}y",
                "ERROR template: there is nothing to end at `{{end}}y`",
            ),
            (
                "{{nope .ID}}",
                "ERROR template: function `nope` is not defined",
            ),
            ("{{$x}}", "ERROR template: variable `$x` is not defined"),
            (
                "{{\"open}}",
                "ERROR template: a quoted text is not closed at `\"open}}`",
            ),
            (
                "{{index .Tags 9}}",
                "ERROR template: index: 9 is out of range, there are 3",
            ),
            (
                "{{join .Size \",\"}}",
                "ERROR template: join: wants a list, got 42",
            ),
            (
                "{{upper}}",
                "ERROR template: upper: wants 1 argument, got 0",
            ),
            (
                "{{.ID.Inner}}",
                "ERROR template: Inner: `sha256:0123456789ab` has no fields",
            ),
            (
                "{{range .Size}}{{end}}",
                "ERROR template: range: cannot go through 42",
            ),
            ("{{.ID | }}", "ERROR template: an action is empty at `}}`"),
            ("{{)}}", "ERROR template: this is no value at `)}}`"),
        ];
        for (template, said) in table {
            assert_eq!(fill(template), said, "{template}");
        }
    }

    #[test]
    fn headings_pass_through_functions_unchanged() {
        let headings = serde_json::json!({ "ID": "IMAGE ID", "Tag": "TAG" });
        let template = Template::parse("{{json .ID}} {{.Tag | lower}} {{truncate .ID 3}}").unwrap();
        assert_eq!(
            template.fill_headings(&headings).unwrap(),
            "IMAGE ID TAG IMAGE ID"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics(text in "[ {}.$|:=a-z0-9()\"`\\\\%-]{0,40}") {
            let _ = fill(&text);
        }
    }
}
