//! One process, held (API only for the moment).
pub mod network;
mod running;
mod spawn;
mod spec;
pub use running::{Exit, Handle, Running, Status, Usage, WaitError};
pub use spawn::{SpawnError, spawn};
pub use spec::{
    Limits, Mount, MountSource, Network, Privileges, Spec, Stdio, Stream, Terminal, User,
};
