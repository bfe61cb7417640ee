//! What a Dockerfile comes to.

use std::collections::BTreeMap;

use dockerfile_parser::{Parse, Problem, Severity};
use llb::{Graph, Input, SourceRange};
use oci::{ImageConfig, Platform};

use crate::error::lines;
use crate::lint::RULES;

/// What a Dockerfile comes to: a graph to solve, and the image that its result makes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every vertex that the target needs, and no other.
    pub graph: Graph,
    /// The root file system of the image; `None` is scratch, an image without layers.
    pub root: Option<Input>,
    /// The image's config, complete but for time and layers: the base's `diff_ids` and history
    /// (with its times) are in it already; the entries behind them lack `created`, and
    /// `config.created` is `None`.
    pub config: ImageConfig,
    /// The layers on top of the base's `config.rootfs.diff_ids`, lowest first. Each belongs to one
    /// history entry that is not `empty_layer`. The chain of `root` is the base's layers, then these.
    pub layers: Vec<Layer>,
    /// Where the entries of the config's history stand in the file, as many as they are; `None` for
    /// those of the base image.
    pub origins: Vec<Option<SourceRange>>,
    /// What is odd, in the order of the file.
    pub warnings: Vec<Warning>,
    /// The `--build-arg`s that something declared or that mean something to the build.
    pub used_build_args: BTreeMap<String, String>,
    /// The platform of the target's stage.
    pub platform: Platform,
    /// The target's name as the Dockerfile has it; `None` for a stage without name.
    pub target: Option<String>,
    /// The directories of the session that the graph takes something from; empty for a Dockerfile
    /// that needs no context.
    pub locals: Vec<LocalUse>,
    /// `SOURCE_DATE_EPOCH` from the build-args or the file's global ARGs, in seconds: the latest
    /// time that the image may show.
    pub source_date_epoch: Option<i64>,
}

/// A layer that the build makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// The root file system with this layer on top. The layer itself is what the vertex adds to it.
    pub output: Input,
    /// Its entry in the config's history.
    pub history: usize,
}

/// What is needed of a directory that the session lends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUse {
    /// The session's name for it, `context`.
    pub name: String,
    /// Which paths of it, absolute within it, possibly with wildcards; `/` for all. Sorted, each once.
    pub paths: Vec<String>,
}

/// Something odd that is no error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warning {
    /// The lint rule's name, `StageNameCasing`; empty for warnings that are no rule's.
    pub rule: &'static str,
    /// What is the matter.
    pub message: String,
    /// Which lines of the Dockerfile it concerns.
    pub lines: Option<SourceRange>,
}

/// What the parser noticed that is odd and no error, for [`crate::Options::findings`].
pub fn findings(parse: &Parse) -> Vec<Warning> {
    let finding = |problem: &Problem| match problem.severity {
        Severity::Error => None,
        Severity::Warning { rule } => Some(Warning {
            rule,
            message: problem.message.clone(),
            lines: Some(lines(problem.span)),
        }),
    };
    parse.problems.iter().filter_map(finding).collect()
}

impl Warning {
    /// Where docker explains the rule; empty for warnings that are no rule of BuildKit's.
    pub fn url(&self) -> String {
        if !RULES
            .iter()
            .any(|it| it.name == self.rule && it.is_buildkits)
        {
            return String::new();
        }
        let mut name = String::new();
        let mut last_was_lower = false;
        let letters: Vec<char> = self.rule.chars().collect();
        for (index, letter) in letters.iter().enumerate() {
            let next_is_lower = letters.get(index + 1).is_some_and(char::is_ascii_lowercase);
            if letter.is_ascii_uppercase() && index > 0 && (last_was_lower || next_is_lower) {
                name.push('-');
            }
            last_was_lower = letter.is_ascii_lowercase();
            name.push(letter.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{name}/")
    }
}

#[cfg(test)]
mod tests {
    use super::Warning;

    #[test]
    fn a_rule_has_a_page() {
        let url = |rule| {
            Warning {
                rule,
                message: String::new(),
                lines: None,
            }
            .url()
        };
        assert_eq!(
            url("StageNameCasing"),
            "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
        );
        assert_eq!(
            url("JSONArgsRecommended"),
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
        );
        assert_eq!(url(""), "");
        assert_eq!(url("SeveralSourcesToOneFile"), "");
    }
}
