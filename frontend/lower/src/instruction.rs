//! One file an instruction: what it does to a stage's state and to the graph.

mod add;
pub(crate) mod arg;
mod cmd;
mod copy;
mod entrypoint;
mod env;
mod expose;
pub(crate) mod from;
mod healthcheck;
mod label;
mod maintainer;
pub(crate) mod onbuild;
mod run;
mod run_mount;
mod shell;
mod stopsignal;
mod terms;
mod transfer;
mod user;
mod volume;
mod workdir;

use dockerfile_parser::{Command, Instruction, InstructionKind};

use crate::lowering::Lowering;
use crate::state::{State, Step};
use crate::{PlanError, mount};

/// Lowers one instruction other than `FROM`.
pub(crate) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
) -> Result<(), PlanError> {
    match &step.instruction.kind {
        // A stage begins with its `FROM`; that is no step of its own.
        InstructionKind::From { .. } => Ok(()),
        InstructionKind::Arg(args) => arg::lower(lowering, state, step, args),
        InstructionKind::Env(pairs) => env::lower(lowering, state, step, pairs),
        InstructionKind::Label(pairs) => label::lower(lowering, state, step, pairs),
        InstructionKind::Run { .. } => run::lower(lowering, state, step),
        InstructionKind::Cmd(command) => cmd::lower(lowering, state, step, command),
        InstructionKind::Entrypoint(command) => entrypoint::lower(lowering, state, step, command),
        InstructionKind::Shell(words) => shell::lower(state, words),
        InstructionKind::Copy(transfer) => copy::lower(lowering, state, step, transfer),
        InstructionKind::Add(transfer) => add::lower(lowering, state, step, transfer),
        InstructionKind::Workdir(path) => workdir::lower(lowering, state, step, path),
        InstructionKind::User(user) => user::lower(lowering, state, step, user),
        InstructionKind::Expose(ports) => expose::lower(lowering, state, step, ports),
        InstructionKind::Volume(paths) => volume::lower(lowering, state, step, paths),
        InstructionKind::StopSignal(signal) => stopsignal::lower(lowering, state, step, signal),
        InstructionKind::Healthcheck(check) => healthcheck::lower(lowering, state, step, check),
        InstructionKind::OnBuild { text, trigger } => onbuild::lower(state, step, text, trigger),
        InstructionKind::Maintainer(name) => maintainer::lower(state, name),
    }
}

/// Whether an instruction counts in `[build 2/5]`.
pub(crate) fn is_step(instruction: &Instruction) -> bool {
    use InstructionKind::{Add, Copy, Run, Workdir};
    matches!(instruction.kind, Run { .. } | Copy(_) | Add(_) | Workdir(_))
}

/// The names of stages or images that an instruction mentions without variables or quotes.
pub(crate) fn literal_references(instruction: &Instruction) -> Vec<&str> {
    let names: Vec<&str> = match &instruction.kind {
        InstructionKind::Copy(transfer) => {
            let from = transfer.flags.iter().filter(|it| it.name == "from");
            from.filter_map(|it| it.value.as_deref()).collect()
        }
        InstructionKind::Run { flags, .. } => flags
            .iter()
            .filter(|it| it.name == "mount")
            .filter_map(|it| it.value.as_deref())
            .flat_map(mount::literal_from)
            .collect(),
        _ => Vec::new(),
    };
    names
        .into_iter()
        .filter(|it| !it.contains(['$', '"', '\'', '\\']))
        .collect()
}

/// The arguments that a command comes to: shell form goes through the image's shell (G50).
fn arguments(state: &State, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => shell::wrap(&state.image.config.shell, text),
    }
}
