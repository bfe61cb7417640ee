//! The graph as Graphviz draws it (`rbuild build --graph=dot`).

use std::fmt::Write as _;

use crate::{Graph, Op};

/// The graph in the dot language: a box a vertex with its name, an arrow for each input.
pub fn dot(graph: &Graph) -> String {
    let mut text =
        String::from("digraph build {\n  rankdir=BT;\n  node [shape=box, fontname=monospace];\n");
    for (id, vertex) in graph.vertices() {
        let kind = match vertex.op {
            Op::Source(_) => "source",
            Op::Exec(_) => "exec",
            Op::File(_) => "file",
            Op::Merge => "merge",
            Op::Diff => "diff",
        };
        let label = format!("{kind} {:?}\n{}", vertex.digest(), vertex.metadata.name);
        let _ = writeln!(text, "  v{} [label={:?}];", id.index(), label);
        for (position, input) in vertex.inputs.iter().enumerate() {
            let label = if input.output == 0 {
                position.to_string()
            } else {
                format!("{position} (output {})", input.output)
            };
            let _ = writeln!(
                text,
                "  v{} -> v{} [label={label:?}];",
                input.vertex.index(),
                id.index()
            );
        }
    }
    text.push_str("}\n");
    text
}
