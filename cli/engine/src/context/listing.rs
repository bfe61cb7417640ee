//! What a context holds, and what its ignore file leaves out.

use std::path::{Path, PathBuf};

use dockerfile_parser::ignore::{Patterns, Visit};
use rustix::fs::FileType;
use snapshot::Root;
use snapshot::source::Lookup as _;

use super::Context;
use crate::definition::Ignore;
use crate::{Engine, ReadError};

/// What a context holds, and what its ignore file leaves out: each largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The ignore file's name, if there is one.
    pub ignore_file: Option<String>,
    /// What steps can copy.
    pub kept: Vec<Listed>,
    /// What is left out.
    pub excluded: Vec<Excluded>,
}

/// A file that steps can copy. Directories are not listed for themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Within the context.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// The rule that took it back in.
    pub rule: Option<Rule>,
}

/// A file that is left out, or a directory of which nothing is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// Within the context.
    pub path: PathBuf,
    /// How many files that are.
    pub files: u64,
    /// Bytes of all of them.
    pub size: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The rule that leaves it out.
    pub rule: Rule,
}

/// A line of the ignore file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which line, from one.
    pub line: usize,
    /// What it says, cleaned.
    pub text: String,
}

/// Looks at every file of the context. What nobody may look into is an error.
pub(crate) fn list(
    engine: &Engine,
    context: &Context,
    ignore: &Ignore,
) -> Result<Listing, ReadError> {
    let mut listing = Listing {
        ignore_file: (!ignore.name.is_empty()).then(|| ignore.name.clone()),
        ..Listing::default()
    };
    if context.snapshot() == Some(None) {
        return Ok(listing);
    }
    let patterns = &ignore.patterns;
    let failed = |source| ReadError::UnreadableContext {
        path: PathBuf::from("."),
        source,
    };
    let root = context.root(engine).map_err(failed)?;
    let walk = Walk { root, patterns };
    walk.directory(Path::new(""), &patterns.root(), &mut listing)?;
    let size = |it: &Listed| (std::cmp::Reverse(it.size), it.path.clone());
    listing.kept.sort_by_cached_key(size);
    let size = |it: &Excluded| (std::cmp::Reverse(it.size), it.path.clone());
    listing.excluded.sort_by_cached_key(size);
    Ok(listing)
}

struct Walk<'a> {
    root: Root,
    patterns: &'a Patterns,
}

impl Walk<'_> {
    fn directory(
        &self,
        directory: &Path,
        state: &Visit,
        listing: &mut Listing,
    ) -> Result<(), ReadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| ReadError::UnreadableContext { path, source }
        };
        for name in self.root.names(directory).map_err(failed(directory))? {
            let path = directory.join(name);
            let stat = match self.root.stat_link(&path) {
                Ok(stat) => stat,
                // Files go while they are looked at.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&path)(error)),
            };
            let state = self
                .patterns
                .visit(path.as_os_str().as_encoded_bytes(), state);
            let is_excluded = self.patterns.excludes(&state);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if is_excluded => self.left_out(&path, &state, listing)?,
                FileType::Directory => self.directory(&path, &state, listing)?,
                kind => {
                    let has_bytes = matches!(kind, FileType::RegularFile | FileType::Symlink);
                    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                    let size = if has_bytes { bytes } else { 0 };
                    self.file(path, size, &state, listing);
                }
            }
        }
        Ok(())
    }

    /// A directory that is left out: one line, unless something in it was taken back in.
    fn left_out(&self, path: &Path, state: &Visit, listing: &mut Listing) -> Result<(), ReadError> {
        let mut below = Listing::default();
        self.directory(path, state, &mut below)?;
        match (below.kept.is_empty(), self.rule(state)) {
            (true, Some(rule)) => listing.excluded.push(Excluded {
                path: path.to_owned(),
                files: below.excluded.iter().map(|it| it.files).sum(),
                size: below.excluded.iter().map(|it| it.size).sum(),
                is_directory: true,
                rule,
            }),
            _ => {
                listing.kept.append(&mut below.kept);
                listing.excluded.append(&mut below.excluded);
            }
        }
        Ok(())
    }

    fn file(&self, path: PathBuf, size: u64, state: &Visit, listing: &mut Listing) {
        match (self.patterns.excludes(state), self.rule(state)) {
            (true, Some(rule)) => listing.excluded.push(Excluded {
                path,
                files: 1,
                size,
                is_directory: false,
                rule,
            }),
            (_, rule) => listing.kept.push(Listed { path, size, rule }),
        }
    }

    /// The line that decides.
    fn rule(&self, state: &Visit) -> Option<Rule> {
        let rule = self.patterns.rule_of(state)?;
        let mark = if rule.reincludes() { "!" } else { "" };
        Some(Rule {
            line: rule.line(),
            text: format!("{mark}{}", rule.pattern()),
        })
    }
}
