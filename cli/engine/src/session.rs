//! What the person who builds lends to the build.

use std::fs;
use std::path::PathBuf;

use crate::{ContextFrom, Request, SecretFrom};

/// The name of the context among the local directories.
pub(crate) const CONTEXT: &str = "context";

impl ops::Session for Request {
    fn local(&self, name: &str) -> Option<PathBuf> {
        match &self.context {
            ContextFrom::Directory(path) if name == CONTEXT => Some(path.clone()),
            ContextFrom::Directory(_) | ContextFrom::Empty => None,
        }
    }

    fn secret(&self, id: &str) -> Option<Vec<u8>> {
        match self.secrets.get(id)? {
            SecretFrom::File(path) => fs::read(path).ok(),
            SecretFrom::Value(value) => Some(value.clone()),
        }
    }

    fn ssh(&self, id: &str) -> Option<PathBuf> {
        self.ssh.get(id).cloned()
    }
}
