//! Which part of an input counts for a step.

use llb::Op;
use llb::op::{Copy, FileChange, ModeChange, Mount, MountKind, OwnerNames, Tree};
use serde::{Deserialize, Serialize};

/// A part of a tree whose content can be checksummed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Selector {
    /// All of it, to build on: also in how many layers it comes. So a result that is found has as many
    /// layers as one that is made, and two steps that change nothing are two layers still (G103).
    Base,
    /// All of it.
    Tree,
    /// What is at an absolute path, with its own metadata: a bind mount.
    Path(String),
    /// `/etc/passwd` and `/etc/group`, each of which may be missing: where names are looked up.
    Names,
    /// What a copy takes.
    Copy(CopySelector),
}

/// What a copy takes from a tree. Of a single file, its directory does not count; of a directory,
/// its name and its own metadata do not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
            .filter_map(|mount| mounted(mount, position))
            .collect(),
        Op::File(file) => file
            .actions
            .iter()
            .flat_map(|action| {
                let base = (action.base == Tree::Input(position)).then_some(Selector::Base);
                base.into_iter().chain(copied(&action.change, position))
            })
            .collect(),
        Op::Merge | Op::Diff => return Dependency::Definition,
    };
    selectors.sort_unstable();
    selectors.dedup();
    // They sort before the parts, which they include.
    if matches!(selectors.first(), Some(Selector::Base | Selector::Tree)) {
        selectors.truncate(1);
    }
    Dependency::Content(selectors)
}

/// `op` as it is keyed when the inputs for which `by_content` holds are known by content: without the
/// paths that only said where in them to look.
pub(crate) fn without_paths(op: &Op, by_content: impl Fn(usize) -> bool) -> Op {
    let mut op = op.keyed().into_owned();
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

fn mounted(mount: &Mount, position: usize) -> Option<Selector> {
    let (MountKind::Bind { input, selector }
    | MountKind::Cache {
        input, selector, ..
    }) = &mount.kind
    else {
        return None;
    };
    if *input != Some(position) {
        return None;
    }
    Some(match selector.as_str() {
        _ if mount.output => Selector::Base,
        "" | "/" => Selector::Tree,
        _ => Selector::Path(selector.clone()),
    })
}

fn copied(change: &FileChange, position: usize) -> Vec<Selector> {
    let (owner, copy) = match change {
        FileChange::Copy(copy) => (&copy.owner, Some(copy)),
        FileChange::MakeFile { owner, .. } | FileChange::MakeDirectory { owner, .. } => {
            (owner, None)
        }
        FileChange::Remove { .. } => return Vec::new(),
    };
    let named = owner
        .as_ref()
        .is_some_and(|owner| owner.names == OwnerNames::Input(position));
    let copy = copy.filter(|copy| copy.from == Tree::Input(position));
    let copy = copy.map(|copy| Selector::Copy(copy_selector(copy)));
    named
        .then_some(Selector::Names)
        .into_iter()
        .chain(copy)
        .collect()
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

#[cfg(test)]
mod tests {
    use llb::op::{File, FileAction, Owner, UserName};

    use super::*;

    fn copy(source: &str) -> Copy {
        Copy {
            from: Tree::Input(1),
            source: source.to_owned(),
            destination: "/x/".to_owned(),
            owner: None,
            mode: None,
            wildcard: false,
            unpack: false,
            exclude: Vec::new(),
            parents: false,
        }
    }

    fn file(copies: Vec<Copy>) -> Op {
        let base = |n: usize| {
            if n == 0 {
                Tree::Input(0)
            } else {
                Tree::Action(n - 1)
            }
        };
        let action = |(n, copy)| FileAction {
            base: base(n),
            change: FileChange::Copy(copy),
            output: false,
        };
        Op::File(File {
            actions: copies.into_iter().enumerate().map(action).collect(),
        })
    }

    fn parts(op: &Op, position: usize) -> Vec<Selector> {
        match dependency(op, position) {
            Dependency::Content(selectors) => selectors,
            Dependency::Definition => panic!("a file op depends on content"),
        }
    }

    #[test]
    fn a_copy_needs_what_it_copies_and_all_of_what_it_changes() {
        let op = file(vec![copy("/b"), copy("/a"), copy("/b")]);
        assert_eq!(parts(&op, 0), [Selector::Base]);
        let paths: Vec<String> = parts(&op, 1)
            .into_iter()
            .map(|selector| match selector {
                Selector::Copy(copy) => copy.path,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(paths, ["/a", "/b"]);
    }

    #[test]
    fn all_of_a_tree_includes_its_parts() {
        let mut onto_itself = copy("/a");
        onto_itself.from = Tree::Input(0);
        assert_eq!(parts(&file(vec![onto_itself]), 0), [Selector::Base]);
    }

    #[test]
    fn metadata_that_the_copy_sets_does_not_count() {
        let attributes = |copy: &Copy| copy_selector(copy).attributes;
        let root = Owner {
            user: UserName::Id(0),
            group: None,
            names: OwnerNames::Changed,
        };
        let with = |mode, owner| Copy {
            mode,
            owner,
            ..copy("/a")
        };
        assert_eq!(
            attributes(&copy("/a")),
            Attributes {
                mode: true,
                owner: true
            }
        );
        assert_eq!(
            attributes(&with(Some(ModeChange::Octal(0o644)), Some(root))),
            Attributes {
                mode: false,
                owner: false
            }
        );
        let symbolic = with(Some(ModeChange::Symbolic("u+x".to_owned())), None);
        assert_eq!(
            attributes(&symbolic),
            Attributes {
                mode: true,
                owner: true
            }
        );
    }

    #[test]
    fn names_that_are_looked_up_in_an_input_count() {
        let owner = Owner {
            user: UserName::Name("web".to_owned()),
            group: None,
            names: OwnerNames::Input(2),
        };
        let op = file(vec![Copy {
            owner: Some(owner),
            ..copy("/a")
        }]);
        assert_eq!(parts(&op, 2), [Selector::Names]);
    }
}
