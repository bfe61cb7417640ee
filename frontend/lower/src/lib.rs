//! Turns a Dockerfile's tree into the graph that builds it.
//!
//! [`plan`] picks the stages that the target needs, asks [`Images`] for the configs of their base
//! images, expands variables, adds a vertex for every instruction that changes files, and writes
//! the image config with its history. What is odd but no error comes out as [`Warning`]s.
//!
//! Vocabulary: a *stage* is a `FROM` and what follows it; the *scope* of a stage is what its
//! variables are worth at one instruction; a *layer* is what one vertex adds to the root file system.
//!
//! This crate is pure: no I/O, no clock, no environment. All of the world that it sees is its arguments.

mod call;
mod contexts;
mod error;
mod frontend;
mod images;
mod options;
mod plan;

mod lowering;
mod stage;
mod state;

mod device;
mod flags;
mod history;
mod instruction;
mod lint;
mod mount;
mod scope;

mod go;
mod mode;
mod owner;
mod path;

pub mod remote;

pub use call::{Checked, Given, Lent, Outline, Target, check, outline, targets};
pub use contexts::{ContextNameError, Contexts, Layout, NamedContext, known_as};
pub use device::DeviceError;
pub use error::{PlanError, PlanErrorKind};
pub use frontend::check_frontend;
pub use images::{BaseImage, Images, ResolveError};
pub use lint::{CheckError, RULES, Rule, is_secret_name};
pub use mount::MountError;
pub use options::{Allowed, Devices, NoCache, Options, SOURCE_DATE_EPOCH};
pub use plan::{Layer, LocalUse, Plan, Warning, findings};
pub use remote::RemoteError;

use dockerfile_parser::Dockerfile;

/// The graph, the config and all else that a build of `dockerfile` needs.
///
/// # Errors
/// The first instruction that cannot be lowered, with the lines on which it stands. Of the stages
/// that the target does not need only the `FROM` is looked at, as with BuildKit.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &Options,
    images: &dyn Images,
) -> Result<Plan, PlanError> {
    check_frontend(dockerfile, options)?;
    let mut lowering = lowering::Lowering::new(dockerfile, options, images)?;
    let target = lowering.run()?;
    lowering.finish(target)
}
