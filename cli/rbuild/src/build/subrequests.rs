//! The questions themselves (`--call=subrequests.describe`), and the graph of a build as an answer
//! (`--call=convertllb`).

use std::fmt::Write as _;

use llb::{Graph, Op, Vertex};
use serde_json::{Map, Value, json};

/// A question that can be asked with `--call`.
struct Subrequest {
    name: &'static str,
    description: &'static str,
    /// What it is asked about.
    options: &'static [(&'static str, &'static str)],
}

const VERSION: &str = "1.0.0";
const TARGET: &[(&str, &str)] = &[("target", "Target build stage")];

/// In BuildKit's words and order.
const SUBREQUESTS: [Subrequest; 5] = [
    Subrequest {
        name: "outline",
        description: "List all parameters current build target supports",
        options: TARGET,
    },
    Subrequest {
        name: "targets",
        description: "List all targets current build supports",
        options: &[],
    },
    Subrequest {
        name: "lint",
        description: "Lint source files",
        options: &[],
    },
    Subrequest {
        name: "convertllb",
        description: "Convert Dockerfile to LLB",
        options: TARGET,
    },
    Subrequest {
        name: "subrequests.describe",
        description: "List available subrequest types",
        options: &[],
    },
];

/// The questions as a table.
pub(super) fn description_text() -> String {
    let width = |cell: fn(&Subrequest) -> usize| SUBREQUESTS.iter().map(cell).max().unwrap_or(0);
    let name = width(|it| it.name.len());
    let mut text = format!("{:name$} VERSION DESCRIPTION\n", "NAME");
    for it in &SUBREQUESTS {
        let _ = writeln!(text, "{:name$} {VERSION:7} {}", it.name, it.description);
    }
    text
}

/// The questions as BuildKit writes them.
pub(super) fn description() -> Value {
    let named =
        |(name, description): (&str, &str)| json!({"Name": name, "Description": description});
    let results = ["result.json", "result.txt"].map(|name| named((name, "")));
    let request = |it: &Subrequest| {
        json!({
            "Name": format!("frontend.{}", it.name),
            "Version": VERSION,
            "Type": "rpc",
            "Description": it.description,
            "Opts": match it.options {
                [] => Value::Null,
                options => options.iter().copied().map(named).collect(),
            },
            "Inputs": null,
            "Metadata": results,
            "Refs": null,
        })
    };
    SUBREQUESTS.iter().map(request).collect()
}

/// The graph as BuildKit's answer has it: ops and metadata by digest. The ops are rbuild's, which are
/// no other's to solve.
pub(super) fn llb(graph: &Graph, file: &str, text: &[u8]) -> Value {
    let mut ops = Map::new();
    let mut metadata = Map::new();
    let mut locations = Map::new();
    for (_, vertex) in graph.vertices() {
        let digest = name(vertex);
        ops.insert(digest.clone(), op(graph, vertex));
        let mut said = json!({"description": {"llb.customname": vertex.metadata.name}});
        if vertex.metadata.ignore_cache {
            said["ignore_cache"] = true.into();
        }
        metadata.insert(digest.clone(), said);
        if let Some(lines) = vertex.metadata.source {
            let range =
                json!({"start": {"line": lines.first_line}, "end": {"line": lines.last_line}});
            let location = json!({"locations": [{"ranges": [range]}]});
            locations.insert(digest, location);
        }
    }
    let data = crate::progress::rawjson::base64(text);
    json!({
        "def": ops,
        "metadata": metadata,
        "source": {
            "locations": locations,
            "infos": [{"filename": file, "language": "Dockerfile", "data": data}],
        },
    })
}

fn op(graph: &Graph, vertex: &Vertex) -> Value {
    let input =
        |it: &llb::Input| json!({"digest": name(graph.vertex(it.vertex)), "index": it.output});
    let inputs: Vec<Value> = vertex.inputs.iter().map(input).collect();
    let kind = match vertex.op {
        Op::Source(_) => "source",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Merge => "merge",
        Op::Diff => "diff",
    };
    let op = llb::told(&vertex.op);
    json!({"inputs": inputs, "kind": kind, "op": op})
}

fn name(vertex: &Vertex) -> String {
    format!("blake3:{}", vertex.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_questions_are_described_and_can_be_asked() {
        let text = description_text();
        assert!(
            text.starts_with(
                "NAME                 VERSION DESCRIPTION\noutline              1.0.0   List"
            ),
            "{text}"
        );
        let described = description();
        let names = described.as_array().unwrap().iter();
        for name in names.map(|it| it["Name"].as_str().unwrap()) {
            let question = name.strip_prefix("frontend.").unwrap();
            assert!(super::super::Asked::parse(question).is_ok(), "{question}");
        }
        assert_eq!(described[0]["Opts"][0]["Name"], "target");
        assert_eq!(described[1]["Opts"], Value::Null);
    }
}
