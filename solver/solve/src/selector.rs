//! Which part of an input counts for a step.

use llb::Op;
use llb::op::{Copy, FileChange, ModeChange, MountKind, Tree};
use serde::Serialize;

/// A part of a tree whose content can be checksummed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Selector {
    /// All of it.
    Tree,
    /// What is at an absolute path, with its own metadata: a bind mount.
    Path(String),
    /// What a copy takes.
    Copy(CopySelector),
}

/// What a copy takes from a tree. Of a single file, its directory does not count; of a directory,
/// its name and its own metadata do not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct CopySelector {
    /// Absolute path, possibly with wildcards.
    pub path: String,
    /// Whether `path` may hold wildcards; one that matches nothing is then fine.
    pub wildcard: bool,
    /// Patterns of what is left out, relative to the source.
    pub exclude: Vec<String>,
    /// Whether the path is kept, and so counts.
    pub parents: bool,
    /// What of the files' metadata counts.
    pub attributes: Attributes,
}

/// What of the files' metadata counts for a copy that may set it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Attributes {
    /// The permissions, unless the copy sets them.
    pub mode: bool,
    /// Who owns them, unless the copy sets that.
    pub owner: bool,
}

/// How a step depends on one of its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependency {
    /// By the content of these parts, sorted, each once. An input that nothing reads has none.
    Content(Vec<Selector>),
    /// By what it is made of. The visible tree is not all that counts: a merge also applies what the
    /// layers of its inputs remove.
    Definition,
}

/// How `op` depends on the input at `position`.
pub fn dependency(op: &Op, position: usize) -> Dependency {
    let mut selectors = match op {
        Op::Source(_) => Vec::new(),
        Op::Exec(exec) => exec
            .mounts
            .iter()
            .filter_map(|mount| mounted(&mount.kind, &mount.target, position))
            .collect(),
        Op::File(file) => file
            .actions
            .iter()
            .flat_map(|action| {
                let base = (action.base == Tree::Input(position)).then_some(Selector::Tree);
                base.into_iter().chain(copied(&action.change, position))
            })
            .collect(),
        Op::Merge | Op::Diff => return Dependency::Definition,
    };
    selectors.sort_unstable();
    selectors.dedup();
    if selectors.first() == Some(&Selector::Tree) {
        selectors.truncate(1);
    }
    Dependency::Content(selectors)
}

/// `op` as it is keyed when the inputs for which `by_content` holds are known by content: without the
/// paths that only said where in them to look.
pub(crate) fn without_paths(op: &Op, by_content: impl Fn(usize) -> bool) -> Op {
    let mut op = op.keyed();
    match &mut op {
        Op::Exec(exec) => {
            for mount in &mut exec.mounts {
                if let MountKind::Bind {
                    input: Some(input),
                    selector,
                } = &mut mount.kind
                    && by_content(*input)
                {
                    selector.clear();
                }
            }
        }
        Op::File(file) => {
            for action in &mut file.actions {
                if let FileChange::Copy(copy) = &mut action.change
                    && let Tree::Input(input) = copy.from
                    && by_content(input)
                    && !copy.parents
                {
                    keep_base_name(&mut copy.source);
                }
            }
        }
        Op::Source(_) | Op::Merge | Op::Diff => {}
    }
    op
}

fn keep_base_name(path: &mut String) {
    let start = path
        .trim_end_matches('/')
        .rfind('/')
        .map_or(0, |slash| slash + 1);
    path.drain(..start);
}

fn mounted(kind: &MountKind, target: &str, position: usize) -> Option<Selector> {
    let (MountKind::Bind { input, selector }
    | MountKind::Cache {
        input, selector, ..
    }) = kind
    else {
        return None;
    };
    if *input != Some(position) {
        return None;
    }
    let whole = target == "/" || matches!(selector.as_str(), "" | "/");
    Some(if whole {
        Selector::Tree
    } else {
        Selector::Path(selector.clone())
    })
}

fn copied(change: &FileChange, position: usize) -> Option<Selector> {
    let FileChange::Copy(copy) = change else {
        return None;
    };
    (copy.from == Tree::Input(position)).then(|| Selector::Copy(copy_selector(copy)))
}

fn copy_selector(copy: &Copy) -> CopySelector {
    CopySelector {
        path: copy.source.clone(),
        wildcard: copy.wildcard,
        exclude: copy.exclude.clone(),
        parents: copy.parents,
        attributes: Attributes {
            // A symbolic change keeps some of the bits it finds (`u+x`, `go=rX`).
            mode: !matches!(copy.mode, Some(ModeChange::Octal(_))),
            owner: copy.owner.is_none(),
        },
    }
}
