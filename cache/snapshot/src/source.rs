//! Which paths of a tree a copy's source argument means.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use crate::Root;
use crate::pattern::{self, Glob, PatternError, Stars};
use crate::tree::{Kind, Merged};
use crate::walk::read_names;

/// As many symlinks as the kernel follows in one look-up.
const MOST_LINKS: usize = 40;

/// A tree in which paths can be looked up, one component at a time. Paths are relative to its root and
/// hold no symlink but possibly the last component.
pub trait Lookup {
    /// What is at `path`; `None` where nothing is.
    fn look(&self, path: &Path) -> io::Result<Option<Seen>>;

    /// The names in the directory at `path`, in no order.
    fn names(&self, path: &Path) -> io::Result<Vec<OsString>>;
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A directory.
    Directory,
    /// A symlink with this text.
    Symlink(PathBuf),
    /// Anything else.
    Other,
}

/// One thing that a source argument means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is, relative to the root and without symlinks.
    pub real: PathBuf,
    /// What it is called, relative to the root: the argument, with wildcards filled in.
    pub named: PathBuf,
    /// How many leading components of `named` are not kept when parents are.
    pub pivot: usize,
    /// Whether it is a directory.
    pub directory: bool,
}

/// A source argument.
#[derive(Debug, Clone, Copy)]
pub struct Argument<'a> {
    /// Path from the root, possibly with wildcards; `..` stops at the root.
    pub path: &'a str,
    /// Whether `path` may hold wildcards; one that matches nothing is then fine.
    pub wildcard: bool,
    /// Whether the path's directories are kept (`--parents`): then `/./` marks where the kept part
    /// begins, and `**` is a wildcard too.
    pub parents: bool,
}

/// Why a source argument means nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is there. In BuildKit's words, which people search for.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// Links that lead to links without end.
    #[error("\"{0}\": too many levels of symbolic links")]
    TooManyLinks(String),
    /// The argument is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The tree could not be looked at.
    #[error("cannot look up `{path}`")]
    Lookup {
        /// The argument.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// All that `argument` means in `tree`, in the order of the names.
pub fn sources(tree: &dyn Lookup, argument: &Argument<'_>) -> Result<Vec<Source>, SourceError> {
    let (clean, pivot) = split_pivot(argument);
    let failed = |source| SourceError::Lookup {
        path: argument.path.to_owned(),
        source,
    };
    let not_found = || SourceError::NotFound(format!("/{clean}"));
    let mut sources = Vec::new();
    if argument.wildcard && pattern::has_wildcard(&clean) {
        for named in expand(tree, &clean, argument)? {
            // A match that leads nowhere is a link that dangles: it has no content to copy.
            let real = resolve(tree, &named).map_err(|error| error.into_source(argument.path))?;
            let real =
                real.ok_or_else(|| SourceError::NotFound(format!("/{}", named.display())))?;
            let directory = tree.look(&real).map_err(failed)? == Some(Seen::Directory);
            sources.push(Source {
                real,
                named,
                pivot,
                directory,
            });
        }
        return Ok(sources);
    }
    let named = PathBuf::from(&clean);
    let real = resolve(tree, &named).map_err(|error| error.into_source(argument.path))?;
    let real = real.ok_or_else(not_found)?;
    let directory = match tree.look(&real).map_err(failed)? {
        Some(seen) => seen == Seen::Directory,
        None => return Err(not_found()),
    };
    sources.push(Source {
        real,
        named,
        pivot,
        directory,
    });
    Ok(sources)
}

/// Where `path` leads when every symlink in it is followed, as if the tree's root were `/`; `None`
/// where it leads nowhere.
pub fn resolve(tree: &dyn Lookup, path: &Path) -> Result<Option<PathBuf>, ResolveError> {
    match follow(tree, path)? {
        Followed::To(real) => Ok(Some(real)),
        Followed::Missing(_) => Ok(None),
    }
}

/// Follows `path` as far as it leads.
pub(crate) fn follow(tree: &dyn Lookup, path: &Path) -> Result<Followed, ResolveError> {
    let mut real = PathBuf::new();
    let mut rest: Vec<OsString> = reversed(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        real.push(&name);
        match tree.look(&real)? {
            Some(Seen::Symlink(target)) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(ResolveError::TooManyLinks);
                }
                real.pop();
                if target.is_absolute() {
                    real.clear();
                }
                rest.extend(reversed(&target));
            }
            Some(Seen::Directory) => {}
            Some(Seen::Other) if rest.is_empty() => {}
            Some(Seen::Other) | None => {
                for name in rest.into_iter().rev() {
                    if name == ".." {
                        real.pop();
                    } else {
                        real.push(name);
                    }
                }
                return Ok(Followed::Missing(real));
            }
        }
    }
    Ok(Followed::To(real))
}

/// How far a path leads.
pub(crate) enum Followed {
    /// To something that is there.
    To(PathBuf),
    /// To something that is not there: the path with every link followed up to where it ends, and
    /// the rest as it is written.
    Missing(PathBuf),
}

/// Why a path could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Links that lead to links without end.
    #[error("too many levels of symbolic links")]
    TooManyLinks,
    /// The tree could not be looked at.
    #[error("cannot look up a path")]
    Lookup(#[from] io::Error),
}

impl ResolveError {
    fn into_source(self, path: &str) -> SourceError {
        let path = path.to_owned();
        match self {
            Self::TooManyLinks => SourceError::TooManyLinks(path),
            Self::Lookup(source) => SourceError::Lookup { path, source },
        }
    }
}

fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path
        .components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        });
    parts.collect()
}

/// The clean path of an argument, and how many of its components stand before `/./`.
fn split_pivot(argument: &Argument<'_>) -> (String, usize) {
    let clean = pattern::clean(argument.path);
    if !argument.parents {
        return (clean, 0);
    }
    let path = argument.path.strip_prefix("./").unwrap_or(argument.path);
    let pivot = match path.split_once("/./") {
        Some((before, _)) => pattern::clean(before)
            .split('/')
            .filter(|it| !it.is_empty())
            .count(),
        None => 0,
    };
    (clean, pivot)
}

/// The paths that a pattern matches. The directories before the first wildcard are followed when
/// they are links; below, links are names like others. What is below a match does not match again.
fn expand(
    tree: &dyn Lookup,
    pattern: &str,
    argument: &Argument<'_>,
) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |source| SourceError::Lookup {
        path: argument.path.to_owned(),
        source,
    };
    let parts: Vec<&str> = pattern.split('/').collect();
    let literal = parts
        .iter()
        .take_while(|part| !pattern::has_wildcard(part))
        .count();
    let start = PathBuf::from(parts[..literal].join("/"));
    let Some(real) = resolve(tree, &start).map_err(|error| error.into_source(argument.path))?
    else {
        return Ok(Vec::new());
    };
    let stars = if argument.parents {
        Stars::CrossSlashes
    } else {
        Stars::StopAtSlashes
    };
    let mut open = vec![(real, start, 0)];
    let mut matched = Vec::new();
    let whole = Glob::new(&parts[literal..].join("/"), stars)?;
    let crosses = argument.parents && pattern.contains("**");
    let steps: Vec<Glob> = parts[literal..]
        .iter()
        .map(|part| Glob::new(part, stars))
        .collect::<Result<_, _>>()?;
    while let Some((real, named, depth)) = open.pop() {
        if tree.look(&real).map_err(failed)? != Some(Seen::Directory) {
            continue;
        }
        for name in tree.names(&real).map_err(failed)? {
            let below = named.join(&name);
            if crosses {
                let rest = relative(&below, literal);
                if whole.matches(rest.as_os_str().as_bytes()) {
                    matched.push(below);
                } else {
                    open.push((real.join(&name), below, depth + 1));
                }
            } else if steps[depth].matches(name.as_bytes()) {
                if depth + 1 == steps.len() {
                    matched.push(below);
                } else {
                    open.push((real.join(&name), below, depth + 1));
                }
            }
        }
    }
    matched.sort();
    Ok(matched)
}

fn relative(path: &Path, skipped: usize) -> PathBuf {
    path.components().skip(skipped).collect()
}

impl Lookup for Merged {
    fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        // Scratch has no entry for its root, which is there all the same.
        if path.as_os_str().is_empty() {
            return Ok(Some(Seen::Directory));
        }
        Ok(self
            .get(path.as_os_str().as_bytes())
            .map(|entry| match &entry.kind {
                Kind::Directory { .. } => Seen::Directory,
                Kind::Symlink(target) => Seen::Symlink(PathBuf::from(OsStr::from_bytes(target))),
                _ => Seen::Other,
            }))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let path = path.as_os_str().as_bytes();
        let start = if path.is_empty() { 0 } else { path.len() + 1 };
        let below = self.subtree(path).filter(|entry| entry.path.len() > start);
        let names = below
            .map(|entry| &entry.path[start..])
            .filter(|rest| !rest.contains(&b'/'));
        Ok(names
            .map(|name| OsStr::from_bytes(name).to_owned())
            .collect())
    }
}

impl Lookup for Root {
    fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        let fd = match self.resolve_link(path) {
            Ok(fd) => fd,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(
            match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
                FileType::Directory => Seen::Directory,
                FileType::Symlink => {
                    let text = rustix::fs::readlinkat(&fd, "", Vec::new())?;
                    Seen::Symlink(PathBuf::from(OsString::from_vec(text.into_bytes())))
                }
                _ => Seen::Other,
            },
        ))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let dir = self.open_dir(path)?;
        let names = read_names(dir.as_fd())?;
        Ok(names
            .into_iter()
            .map(|name| OsString::from_vec(name.into_bytes()))
            .collect())
    }
}

pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Makes a tree from words: `dir/`, `file`, `link=target`.
    fn tree(words: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for word in words.split_whitespace() {
            if let Some((path, target)) = word.split_once('=') {
                symlink(target, dir.path().join(path)).unwrap();
            } else if let Some(path) = word.strip_suffix('/') {
                std::fs::create_dir_all(dir.path().join(path)).unwrap();
            } else {
                std::fs::write(dir.path().join(word), word).unwrap();
            }
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    fn check(words: &str, path: &str, expected: &str) {
        let (_dir, root) = tree(words);
        let argument = Argument {
            path,
            wildcard: true,
            parents: path.contains("/./") || path.contains("**"),
        };
        let shown = match sources(&root, &argument) {
            Err(error) => error.to_string(),
            Ok(found) => {
                let each = found.iter().map(|it| {
                    let slash = if it.directory { "/" } else { "" };
                    format!(
                        "{}={}{slash}@{}",
                        it.named.display(),
                        it.real.display(),
                        it.pivot
                    )
                });
                each.collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(shown, expected, "{words} {path}");
    }

    #[test]
    fn arguments_mean_what_docker_says() {
        check("a/ a/b", "/a/b", "a/b=a/b@0");
        check("a/ a/b", "../../a", "a=a/@0");
        check("a/ a/b l=a", "l/b", "l/b=a/b@0");
        check("a/ a/b l=/a", "/l", "l=a/@0");
        check("a l=../../../a", "l", "l=a@0");
        check("a b", "/c", "\"/c\": not found");
        check("a", "/a/b", "\"/a/b\": not found");
        check("l=l", "l", "\"l\": too many levels of symbolic links");
        check("a", "", "=/@0");
    }

    #[test]
    fn wildcards_match_component_by_component() {
        check("a.c b.c d/ d/e.c", "*.c", "a.c=a.c@0 b.c=b.c@0");
        check("a.c b.c d/ d/e.c", "*/*.c", "d/e.c=d/e.c@0");
        check("d/ d/e d/f/", "d/*", "d/e=d/e@0 d/f=d/f/@0");
        check("d/ d/e l=d", "l/*", "l/e=d/e@0");
        check("d/ d/e l=d", "*/e", "d/e=d/e@0");
        check("a", "*.none", "");
        check(
            "a/ a/b/ a/b/x.c a/y.c",
            "**/*.c",
            "a/b/x.c=a/b/x.c@0 a/y.c=a/y.c@0",
        );
        check("a/ a/b/ a/b/x", "/a/./b/x", "a/b/x=a/b/x@1");
    }
}
