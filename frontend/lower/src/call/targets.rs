//! What can be built from a file.

use dockerfile_parser::Dockerfile;
use llb::SourceRange;

use super::description;
use crate::PlanError;
use crate::error::lines;
use crate::stage::Declarations;

/// A stage, as `--target` can name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, in lower case; `None` for a stage without one.
    pub name: Option<String>,
    /// Whether it is built where no target is named.
    pub is_default: bool,
    /// What the comment above it says.
    pub description: Option<String>,
    /// What it is built from, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Where its `FROM` stands.
    pub lines: SourceRange,
}

/// The stages of `dockerfile`, in order.
///
/// # Errors
/// If there is none, or something stands before the first.
pub fn targets(dockerfile: &Dockerfile) -> Result<Vec<Target>, PlanError> {
    let declared = Declarations::of(dockerfile)?;
    let last = declared.stages.len() - 1;
    let target = |(index, stage): (usize, &crate::stage::Declared<'_>)| {
        let lower = stage.name.map(str::to_lowercase);
        let described = |name: &str| description(stage.from, name);
        Target {
            is_default: index == last,
            description: stage
                .name
                .and_then(described)
                .or_else(|| lower.as_deref().and_then(described)),
            base: stage.image.to_owned(),
            platform: stage.platform.map(str::to_owned),
            lines: lines(stage.from.span),
            name: lower,
        }
    };
    Ok(declared.stages.iter().enumerate().map(target).collect())
}
