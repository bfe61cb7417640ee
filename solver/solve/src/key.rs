//! The keys under which the cache knows a step, and what they were made from.

use llb::{Key, KeyHasher, Op};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Selector;
use crate::selector::without_paths;

/// An op on known inputs: what a cache key is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    op: Op,
    inputs: Vec<InputKey>,
    key: Key,
}

/// How an input of a [`Step`] is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
}
