//! What a build tells while it runs. The shapes are BuildKit's status updates: vertices, statuses, logs, warnings.

use std::time::SystemTime;

use llb::Key;

/// One thing that happened. Whoever draws keeps the state; events of one vertex come in order.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A vertex is there, started or ended. Sent again whenever one of its fields changes.
    Vertex(VertexStatus),
    /// A vertex moves something of known or unknown size.
    Transfer(TransferStatus),
    /// The process of a vertex wrote something.
    Log(Log),
    /// Something the author of the Dockerfile should know.
    Warning(Warning),
}

/// The state of a vertex.
#[derive(Debug, Clone)]
pub struct VertexStatus {
    /// Which one: of the graph, or made up for the engine's own work (`[internal] load .dockerignore`).
    pub digest: Key,
    /// What it takes.
    pub inputs: Vec<Key>,
    /// `[build 2/5] RUN make`
    pub name: String,
    /// When it started; `None` while it waits.
    pub started: Option<SystemTime>,
    /// When it ended.
    pub completed: Option<SystemTime>,
    /// Whether its result was known already.
    pub cached: bool,
    /// Why it failed; `canceled` if something else did.
    pub error: Option<VertexError>,
}

/// Why a vertex ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VertexError {
    /// It failed itself.
    Failed(String),
    /// It was given up because of another, or because the person asked.
    Canceled,
}

/// How far a vertex is with one of the things it moves.
#[derive(Debug, Clone)]
pub struct TransferStatus {
    /// Whose.
    pub vertex: Key,
    /// `transferring context:`, `sha256:9824…`
    pub name: String,
    /// Bytes moved so far.
    pub current: u64,
    /// Bytes in all; 0 while unknown.
    pub total: u64,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub completed: Option<SystemTime>,
}

/// Bytes that a process wrote.
#[derive(Debug, Clone)]
pub struct Log {
    /// Whose.
    pub vertex: Key,
    /// Where it wrote them.
    pub stream: Stream,
    /// As written: not necessarily whole lines or UTF-8.
    pub data: Vec<u8>,
    /// When.
    pub timestamp: SystemTime,
}

/// Where a process writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// Something the author of the Dockerfile should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule's name, `StageNameCasing`; empty for warnings that are no rule's.
    pub rule: String,
    /// What is the matter.
    pub message: String,
    /// Where it is explained.
    pub url: String,
    /// The file and the lines it concerns.
    pub place: Option<(String, llb::SourceRange)>,
}
