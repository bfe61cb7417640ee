//! What the person who builds lends to the build.

use std::fs;
use std::path::PathBuf;

use ops::AgentFrom;

use crate::context::local_name;
use crate::{ContextFrom, NamedFrom, Request, SecretFrom};

/// The name of the context among the local directories.
pub(crate) const CONTEXT: &str = "context";

impl ops::Session for Request {
    fn local(&self, name: &str) -> Option<PathBuf> {
        if name == CONTEXT {
            return match &self.context {
                ContextFrom::Directory(path) => Some(path.clone()),
                ContextFrom::Empty | ContextFrom::Stdin | ContextFrom::Remote(_) => None,
            };
        }
        let (_, directory) = self
            .contexts
            .iter()
            .find(|(key, _)| local_name(key) == name)?;
        match directory {
            NamedFrom::Directory(path) => Some(path.clone()),
            _ => None,
        }
    }

    fn secret(&self, id: &str) -> Option<Vec<u8>> {
        match self.secrets.get(id)? {
            SecretFrom::File(path) => fs::read(path).ok(),
            SecretFrom::Value(value) => Some(value.clone()),
        }
    }

    fn ssh(&self, id: &str) -> Option<AgentFrom> {
        self.ssh.get(id).cloned()
    }
}
