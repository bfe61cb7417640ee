//! What `RUN --mount=…` says.

/// What is wrong with a `RUN --mount`. The texts are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// A key that no mount has.
    #[error("unexpected key '{key}' in '{field}'")]
    Key {
        /// The key.
        key: String,
        /// Where it stands.
        field: String,
    },
    /// A key that this type of mount does not have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfType {
        /// The key.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// A key without its value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A value that its key cannot have.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// No such type.
    #[error("unsupported mount type {0:?}")]
    Type(String),
    /// No such way of sharing.
    #[error("unsupported sharing value {0:?}")]
    Sharing(String),
    /// A mode or an owner where there is none.
    #[error("{key} not allowed for {kind:?} type mounts")]
    NoOwner {
        /// `mode`, `uid` or `gid`.
        key: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// The root cannot be mounted over.
    #[error("invalid mount target {0:?}")]
    Target(String),
    /// A mount that must have a target has none.
    #[error("{0} mount requires a target")]
    NoTarget(&'static str),
    /// A secret that nothing names.
    #[error("invalid secret mount. one of source, target required")]
    UnnamedSecret,
    /// A secret that two things name.
    #[error("both source and id can't be set")]
    SourceAndId,
    /// A secret or ssh mount from a stage.
    #[error("{0} mount should not have a from")]
    From(&'static str),
    /// `sharing` of something that is no cache.
    #[error("invalid cache sharing set for {0} mount")]
    SharingOfType(&'static str),
    /// Quotes of the comma-separated list do not match.
    #[error("failed to parse csv mounts: {0}")]
    List(&'static str),
}
