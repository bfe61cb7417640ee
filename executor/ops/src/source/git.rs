//! Repositories, through the git program.
//!
//! A repository is not trusted, and neither is who wrote its address: git runs with a configuration
//! of ours alone, speaks four protocols, runs no hook, asks nobody anything, and takes nothing that
//! could be read as an option for an address or a reference.
//!
//! What was fetched stays in the store, as a bare repository for each address.

mod address;
mod program;
mod words;
mod worktree;

use std::io;
use std::path::{Path, PathBuf};

use llb::KeyHasher;
use llb::op::GitSource;
use snapshot::SnapshotError;
use store::StoreError;

use super::claim;
use crate::{Context, Ops, Ref};

use address::{Address, is_commit};
use program::Git;

/// Below this name of the mirror are the commits that are there with all that they need.
const KEPT: &str = "refs/rbuild";

/// Why the files of a repository cannot be had. Addresses are shown without credentials.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("cannot run `git`, with which repositories are fetched")]
    NoProgram(#[source] io::Error),
    /// An address that no repository has, or that is refused.
    #[error("`{remote}` is no address of a repository: {why}")]
    Address {
        /// The address.
        remote: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name that no branch, tag or commit can have.
    #[error("invalid git reference {reference:?}")]
    Reference {
        /// The name.
        reference: String,
    },
    /// There is no such branch or tag.
    #[error("repository {remote} does not contain ref {reference}")]
    NoReference {
        /// The repository.
        remote: String,
        /// The name.
        reference: String,
    },
    /// The reference means another commit than it should.
    #[error("expected checksum to match {expected}, got {commit}")]
    Checksum {
        /// What the commit's id should begin with.
        expected: String,
        /// The commit.
        commit: String,
    },
    /// The directory is not in the repository, or is none.
    #[error("{subdir:?} is no directory of the repository {remote}")]
    Subdir {
        /// The directory.
        subdir: String,
        /// The repository.
        remote: String,
    },
    /// Git says no.
    #[error("failed to {what} {remote}: {words}")]
    Failed {
        /// The verb.
        what: &'static str,
        /// The repository.
        remote: String,
        /// Why, from what git said.
        words: String,
    },
    /// A file or a directory cannot be used.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// The verb.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The snapshot of the files could not be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not wanted any more.
    #[error("canceled")]
    Cancelled,
}

impl GitError {
    /// For `map_err`: a file operation that failed.
    fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// The commit that the reference means now. A commit's own id need not be asked for.
pub(super) fn resolve(
    ops: &Ops,
    source: &GitSource,
    context: &Context<'_>,
) -> Result<GitSource, GitError> {
    if source.pin.is_some() {
        return Ok(source.clone());
    }
    let address = Address::parse(&source.remote)?;
    address::check_reference(&source.reference)?;
    let found = if is_commit(&source.reference) {
        Found {
            commit: source.reference.clone(),
            tag: None,
        }
    } else {
        look_up(
            &Git::new(ops, &address, context)?,
            &address,
            &source.reference,
        )?
    };
    if let Some(expected) = &source.checksum {
        let matches = |id: &String| !expected.is_empty() && id.starts_with(expected.as_str());
        if !matches(&found.commit) && !found.tag.as_ref().is_some_and(matches) {
            return Err(GitError::Checksum {
                expected: expected.clone(),
                commit: found.commit,
            });
        }
    }
    Ok(GitSource {
        pin: Some(found.commit),
        ..source.clone()
    })
}

/// What a reference means.
struct Found {
    commit: String,
    /// The id of the tag's own object, if it has one.
    tag: Option<String>,
}

/// Asks the repository. As git itself has it, a tag comes before a branch of the same name.
fn look_up(git: &Git<'_>, address: &Address, reference: &str) -> Result<Found, GitError> {
    let names: Vec<String> = match reference {
        "" => vec!["HEAD".to_owned()],
        full if full.starts_with("refs/") => vec![full.to_owned()],
        short => ["refs/", "refs/tags/", "refs/heads/"]
            .map(|prefix| format!("{prefix}{short}"))
            .into(),
    };
    let mut arguments = vec!["ls-remote", "--", address.url()];
    let patterns: Vec<String> = names
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}^{{}}")])
        .collect();
    arguments.extend(patterns.iter().map(String::as_str));
    let said = git.run("ask", &arguments)?;
    let said = String::from_utf8_lossy(&said);
    let advertised = |name: &str| {
        let mut lines = said.lines().filter_map(|line| line.split_once('\t'));
        let (id, _) = lines.find(|(id, of)| *of == name && is_commit(id))?;
        Some(id.to_owned())
    };
    for name in &names {
        let (own, peeled) = (advertised(name), advertised(&format!("{name}^{{}}")));
        match (own, peeled) {
            (tag, Some(commit)) => return Ok(Found { commit, tag }),
            (Some(commit), None) => return Ok(Found { commit, tag: None }),
            (None, None) => {}
        }
    }
    Err(GitError::NoReference {
        remote: address.shown().to_owned(),
        reference: if reference.is_empty() {
            "HEAD".to_owned()
        } else {
            reference.to_owned()
        },
    })
}

/// The files of the commit as a snapshot of their own.
pub(super) fn bring(ops: &Ops, source: &GitSource, context: &Context<'_>) -> Result<Ref, GitError> {
    let pinned = resolve(ops, source, context)?;
    let commit = pinned.pin.as_deref().expect("a resolved source has a pin");
    if !is_commit(commit) {
        return Err(GitError::Reference {
            reference: commit.to_owned(),
        });
    }
    let address = Address::parse(&source.remote)?;
    address::check_reference(&source.reference)?;
    let git = Git::new(ops, &address, context)?;
    let key = KeyHasher::new("git")
        .text(address.url())
        .number(commit.len() as u64)
        .finish();
    let _lock = claim(ops, &key, context.cancel)?.ok_or(GitError::Cancelled)?;
    ops.store.note_source(&key, address.shown())?;
    let mirror = ops.store.source_directory(&key)?.join("mirror");
    let fetch = Fetch {
        git: &git,
        address: &address,
        source,
        commit,
        mirror: &mirror,
    };
    fetch.run()?;
    let active = ops.snapshots.prepare(None)?;
    worktree::fill(&fetch, &active.upper())?;
    Ok(Ref::Snapshot(Some(active.commit()?)))
}

/// One commit on its way into the mirror.
struct Fetch<'a> {
    git: &'a Git<'a>,
    address: &'a Address,
    source: &'a GitSource,
    commit: &'a str,
    mirror: &'a Path,
}

impl Fetch<'_> {
    /// Makes sure that the mirror has the commit with all that it needs.
    fn run(&self) -> Result<(), GitError> {
        if self.mirror.join(KEPT).join(self.commit).is_file() {
            return Ok(());
        }
        let is_new = !self.mirror.join("HEAD").is_file();
        if is_new {
            self.begin()?;
        }
        match self.fetch() {
            // A mirror may have been left half done, or damaged: it is only a hint.
            Err(GitError::Failed { .. }) if !is_new => {
                self.begin()?;
                self.fetch()
            }
            fetched => fetched,
        }
    }

    fn begin(&self) -> Result<(), GitError> {
        if self.mirror.exists() {
            std::fs::remove_dir_all(self.mirror).map_err(GitError::file("remove", self.mirror))?;
        }
        self.init(&["--bare"], self.mirror)
    }

    /// An empty repository, for ids as long as the commit's.
    fn init(&self, options: &[&str], at: &Path) -> Result<(), GitError> {
        let format = match self.commit.len() {
            64 => "--object-format=sha256",
            _ => "--object-format=sha1",
        };
        let at = at.to_string_lossy();
        let mut arguments = vec!["init", "--quiet", "--template=", format];
        arguments.extend(options);
        arguments.extend(["--", &at]);
        self.git.run("prepare a copy of", &arguments).map(drop)
    }

    /// By its id, which not every server allows; else the reference's newest; else everything.
    fn fetch(&self) -> Result<(), GitError> {
        let by_id = format!("+{}:{KEPT}/{}", self.commit, self.commit);
        let refused = match self.get(&["--depth=1"], &[&by_id]) {
            Ok(()) => return Ok(()),
            Err(error) if self.source.fetch_by_commit || self.git.is_cancelled() => {
                return Err(error);
            }
            Err(error) => error,
        };
        let name = match self.source.reference.as_str() {
            "" => "HEAD",
            name => name,
        };
        if !is_commit(name)
            && self
                .get(&["--depth=1"], &[&format!("+{name}:{KEPT}/tip")])
                .is_ok()
        {
            let tip = format!("{KEPT}/tip^{{commit}}");
            let tip = self.in_mirror(&["rev-parse", "--verify", &tip])?;
            if String::from_utf8_lossy(&tip).trim() == self.commit {
                return self.keep();
            }
        }
        let everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        if self.get(&[], &everything).is_err() {
            return Err(refused);
        }
        let commit = format!("{}^{{commit}}", self.commit);
        match self.in_mirror(&["cat-file", "-e", &commit]) {
            Ok(_) => self.keep(),
            Err(_) => Err(refused),
        }
    }

    fn get(&self, options: &[&str], what: &[&str]) -> Result<(), GitError> {
        let mut arguments = vec!["fetch", "--no-tags", "--force", "--no-write-fetch-head"];
        arguments.push("--no-recurse-submodules");
        arguments.extend(options);
        arguments.extend(["--", self.address.url()]);
        arguments.extend(what);
        self.in_mirror(&arguments).map(drop)
    }

    fn keep(&self) -> Result<(), GitError> {
        let name = format!("{KEPT}/{}", self.commit);
        self.in_mirror(&["update-ref", &name, self.commit])
            .map(drop)
    }

    fn in_mirror(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        let mirror = format!("--git-dir={}", self.mirror.display());
        let mut all = vec![mirror.as_str()];
        all.extend(arguments);
        self.git.run("fetch", &all)
    }
}
