//! `--call`: what a file says about itself, without building it.
//!
//! [`check`] tells what is odd or wrong, [`targets`] what can be built, and [`outline`] what one target
//! takes from whoever builds it. Nothing is run; base images are asked for where a build would.

mod check;
mod outline;
mod targets;

pub use check::{Checked, check};
pub(crate) use outline::Met;
pub use outline::{Given, Lent, Outline, outline};
pub use targets::{Target, targets};

use dockerfile_parser::Instruction;

/// What the comments above `instruction` say of `name`: the rest of the line that begins with it.
fn description(instruction: &Instruction, name: &str) -> Option<String> {
    let of = |comment: &String| {
        let rest = comment.strip_prefix(name)?.strip_prefix(' ')?.trim();
        (!rest.is_empty()).then(|| rest.to_owned())
    };
    instruction.comments.iter().find_map(of)
}
