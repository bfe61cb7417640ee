//! The keys under which the cache knows a step, and what they were made from.

use llb::{Key, KeyHasher, Op};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Selector;
use crate::explain::Facts;
use crate::selector::without_paths;

/// An op on known inputs: what a cache key is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    op: Op,
    inputs: Vec<InputKey>,
    key: Key,
}

/// How an input of a [`Step`] is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKey {
    /// By the step that makes it.
    Definition {
        /// That step's key.
        key: Key,
        /// Which of its outputs.
        output: usize,
    },
    /// By the checksums of the parts that count.
    Content(Vec<(Selector, Key)>),
}

impl Step {
    /// `op` on `inputs`, which stand in the order of the vertex's inputs.
    pub fn new(op: &Op, inputs: Vec<InputKey>) -> Self {
        let op = without_paths(op, |position| {
            matches!(inputs.get(position), Some(InputKey::Content(_)))
        });
        let mut hasher = KeyHasher::new("step");
        hasher.key(&op.digest()).number(inputs.len() as u64);
        for input in &inputs {
            match input {
                InputKey::Definition { key, output } => {
                    hasher.text("definition").key(key).number(*output as u64)
                }
                InputKey::Content(parts) => {
                    hasher.text("content").number(parts.len() as u64);
                    // The path of a part does not count, only what is there.
                    parts
                        .iter()
                        .fold(&mut hasher, |hasher, (_, checksum)| hasher.key(checksum))
                }
            };
        }
        let key = hasher.finish();
        Self { op, inputs, key }
    }

    /// The identity of the step.
    pub fn key(&self) -> Key {
        self.key
    }

    /// How each input is known.
    pub fn inputs(&self) -> &[InputKey] {
        &self.inputs
    }

    /// What the key was made from, so that two keys can be compared field by field:
    /// `{"op": …, "inputs": [{"definition": {"key": …, "output": 0}} | {"content": [[selector, checksum], …]}]}`.
    pub fn preimage(&self) -> Value {
        json!({ "op": self.op, "inputs": self.inputs })
    }

    /// [`Step::preimage`] with a third field `facts`, what an explanation says besides.
    pub fn preimage_with(&self, facts: &Facts) -> Value {
        json!({ "op": self.op, "inputs": self.inputs, "facts": facts })
    }
}

#[cfg(test)]
mod tests {
    use llb::op::{Copy, File, FileAction, FileChange, Tree};

    use super::*;

    fn copy(source: &str, parents: bool) -> Op {
        let change = FileChange::Copy(Copy {
            from: Tree::Input(0),
            source: source.to_owned(),
            destination: "/x/".to_owned(),
            owner: None,
            mode: None,
            wildcard: false,
            unpack: false,
            exclude: Vec::new(),
            parents,
        });
        Op::File(File {
            actions: vec![FileAction {
                base: Tree::Scratch,
                change,
                output: true,
            }],
        })
    }

    fn checksum(text: &str) -> Key {
        KeyHasher::new("test").text(text).finish()
    }

    fn by_content(text: &str, selector: &str) -> Vec<InputKey> {
        vec![InputKey::Content(vec![(
            Selector::Path(selector.to_owned()),
            checksum(text),
        )])]
    }

    fn key(source: &str, content: &str) -> Key {
        Step::new(&copy(source, false), by_content(content, source)).key()
    }

    #[test]
    fn a_file_that_moves_is_the_same_file() {
        assert_eq!(key("/a/main.c", "1"), key("/b/c/main.c", "1"));
        assert_ne!(key("/a/main.c", "1"), key("/a/other.c", "1"));
        assert_ne!(key("/a/main.c", "1"), key("/a/main.c", "2"));
        assert_eq!(key("/a/dir/", "1"), key("/b/dir/", "1"));
    }

    #[test]
    fn a_path_that_is_kept_or_that_says_what_to_take_counts() {
        let parents = |source| Step::new(&copy(source, true), by_content("1", source)).key();
        assert_ne!(parents("/a/main.c"), parents("/b/main.c"));
        let defined = |source| {
            let input = InputKey::Definition {
                key: checksum("1"),
                output: 0,
            };
            Step::new(&copy(source, false), vec![input]).key()
        };
        assert_ne!(defined("/a/main.c"), defined("/b/main.c"));
    }

    #[test]
    fn definition_and_content_never_meet() {
        let of = |input| Step::new(&copy("/a", false), vec![input]).key();
        let definition = |output| {
            of(InputKey::Definition {
                key: checksum("1"),
                output,
            })
        };
        assert_ne!(definition(0), definition(1));
        assert_ne!(
            definition(0),
            of(InputKey::Content(vec![(Selector::Tree, checksum("1"))]))
        );
        assert_ne!(
            of(InputKey::Content(vec![])),
            of(InputKey::Content(vec![(Selector::Tree, checksum("1"))]))
        );
    }

    #[test]
    fn a_preimage_shows_every_field() {
        let step = Step::new(&copy("/a/main.c", false), by_content("1", "/a/main.c"));
        let preimage = step.preimage();
        let change = &preimage["op"]["File"]["actions"][0]["change"]["Copy"];
        assert_eq!(change["source"], "main.c");
        assert_eq!(change["destination"], "/x/");
        assert_eq!(preimage["inputs"][0]["content"][0][0]["Path"], "/a/main.c");
        assert_eq!(
            preimage["inputs"][0]["content"][0][1],
            checksum("1").to_string()
        );
    }
}
