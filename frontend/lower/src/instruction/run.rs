//! `RUN`: a process, and what it leaves in the root file system.

use std::sync::Arc;

use dockerfile_parser::{Command, Flag, Heredoc, InstructionKind};
use llb::op::{
    Device, Exec, File, FileAction, FileChange, Mount, MountKind, Network, Security, Terms, Tree,
};
use llb::{Input, Op};

use super::run_mount::Mounts;
use super::terms;
use crate::lowering::Lowering;
use crate::scope::{self, Env};
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, device, flags};

/// Where a heredoc with `#!` is found by its interpreter (G22).
const PIPES: &str = "/dev/pipes/";

pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
) -> Result<(), PlanError> {
    let InstructionKind::Run {
        flags,
        command,
        heredocs,
    } = &step.instruction.kind
    else {
        return Ok(());
    };
    let devices = lent(lowering, step, flags)?;
    let mut taken = Mounts::new(state, flags.len());
    for text in flags::texts(flags, "mount", step.span) {
        taken.add(lowering, state, step, text?)?;
    }
    let (args, summary) = arguments(lowering, state, &mut taken, command, heredocs);
    if args.iter().all(String::is_empty) {
        return Err(PlanError::at(step.span, PlanErrorKind::NothingToRun("RUN")));
    }
    let text = format!("RUN {} # buildkit", history(state, &args));
    lowering.spend(state.env.size() + text.len(), step.span)?;
    let held = Held::of(lowering, step, flags)?;
    let mut exec = Exec {
        devices,
        terms: terms::terms(lowering, step, flags)?,
        ..exec(lowering, state, args, taken.mounts, held)
    };
    if !taken.env.is_empty() {
        Arc::make_mut(&mut exec.env).extend(taken.env);
    }
    let name = state.step_name(&lowering.step_text(state, step, summary.as_deref()));
    let metadata = state.metadata(name, step);
    let vertex = lowering.graph.add(Op::Exec(exec), taken.inputs, metadata);
    state.commit(Input { vertex, output: 0 }, text);
    Ok(())
}

/// The devices that the process is lent, as far as whoever builds allows that.
fn lent(
    lowering: &Lowering<'_>,
    step: &Step<'_>,
    flags: &[Flag],
) -> Result<Vec<Device>, PlanError> {
    let fail = |kind| PlanError::at(step.span, kind);
    let one = |text: Result<&str, PlanError>| {
        let device = device::read(text?).map_err(|error| fail(error.into()))?;
        let refusal = || PlanErrorKind::NotAllowed {
            entitlement: format!("device={}", device.name),
            what: format!("RUN --device={}", device.name),
        };
        let name = lowering.options.allowed.device(&device.name);
        Ok(Device {
            name: name.ok_or_else(|| fail(refusal()))?,
            ..device
        })
    };
    flags::texts(flags, "device", step.span).map(one).collect()
}

/// How the process is held.
#[derive(Debug, Clone, Copy)]
struct Held {
    network: Network,
    security: Security,
}

impl Held {
    fn of(lowering: &Lowering<'_>, step: &Step<'_>, flags: &[Flag]) -> Result<Self, PlanError> {
        let fail = |kind| Err(PlanError::at(step.span, kind));
        let value = |name| flags::texts(flags, name, step.span).next().transpose();
        let network = match value("network")? {
            None | Some("default") => lowering.options.network,
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(other) => return fail(PlanErrorKind::NetworkMode(other.to_owned())),
        };
        let security = match value("security")? {
            None | Some("sandbox") => Security::Sandbox,
            Some("insecure") => Security::Insecure,
            Some(other) => return fail(PlanErrorKind::SecurityMode(other.to_owned())),
        };
        let allowed = &lowering.options.allowed;
        let refusal = |entitlement: &str, what: &str| PlanErrorKind::NotAllowed {
            entitlement: entitlement.to_owned(),
            what: what.to_owned(),
        };
        if network == Network::Host && !allowed.network_host {
            return fail(refusal("network.host", "RUN --network=host"));
        }
        if security == Security::Insecure && !allowed.security_insecure {
            return fail(refusal("security.insecure", "RUN --security=insecure"));
        }
        Ok(Self { network, security })
    }
}

fn exec(
    lowering: &Lowering<'_>,
    state: &State,
    args: Vec<String>,
    mounts: Vec<Mount>,
    held: Held,
) -> Exec {
    let options = lowering.options;
    let hostname = options
        .build_args
        .get("BUILDKIT_SANDBOX_HOSTNAME")
        .unwrap_or(&options.hostname);
    let directory = state.image.config.working_dir.as_str();
    Exec {
        args,
        env: Arc::clone(state.env.lines()),
        unkeyed_env: proxies(lowering, &state.env),
        cwd: crate::path::join("/", directory),
        user: state.image.config.user.clone(),
        mounts,
        network: held.network,
        security: held.security,
        extra_hosts: options.extra_hosts.clone(),
        hostname: hostname.clone(),
        shm_size: options.shm_size,
        devices: Vec::new(),
        ulimits: options.ulimits.clone(),
        cgroup_parent: options.cgroup_parent.clone(),
        resources: Arc::clone(&options.resources),
        terms: Terms::default(),
    }
}

/// The proxies among the build-args, in both spellings that programs look for. One that the
/// Dockerfile declares is in the environment, and so in the key, as any other.
fn proxies(lowering: &Lowering<'_>, env: &Env) -> Vec<String> {
    let given = lowering.options.build_args.iter();
    let mut given = given.filter(|(name, _)| scope::is_proxy(name)).peekable();
    if given.peek().is_none() {
        return Vec::new();
    }
    let mut proxies = Env::default();
    for (name, value) in given {
        for name in [name.to_uppercase(), name.to_lowercase()] {
            if env.get(&name).is_none() {
                proxies.set(&name, value);
            }
        }
    }
    proxies.lines().to_vec()
}

/// What is run, and how a step name sums up a body that is run as a whole.
fn arguments(
    lowering: &mut Lowering<'_>,
    state: &State,
    taken: &mut Mounts,
    command: &Command,
    heredocs: &[Heredoc],
) -> (Vec<String>, Option<String>) {
    let Command::Shell(text) = command else {
        return (super::arguments(state, command), None);
    };
    let wrap = |text: &str| super::shell::wrap(&state.image.config.shell, text);
    match heredocs {
        [] => (wrap(text), None),
        [body] if is_lone(text, body) => {
            let summary = Some(summary(&body.content));
            // Blank lines in front of `#!` would hide it from the kernel.
            let program = body.content.trim_start_matches(['\r', '\n']);
            if !program.starts_with("#!") {
                return (wrap(&body.content), summary);
            }
            let input = taken.input(made_file(lowering, &body.name, program));
            taken.mounts.push(Mount {
                target: PIPES.to_owned(),
                kind: MountKind::Bind {
                    input: Some(input),
                    selector: "/".to_owned(),
                },
                read_only: true,
                output: false,
            });
            (wrap(&format!("{PIPES}{}", body.name)), summary)
        }
        // The shell reads the bodies itself.
        bodies => {
            let bodies = bodies
                .iter()
                .map(|it| format!("\n{}{}", it.content, it.name));
            (wrap(&[text.clone(), bodies.collect()].concat()), None)
        }
    }
}

/// Whether a command is a here-document and nothing else: `<<EOF`, `3<<-"EOF"`.
fn is_lone(text: &str, body: &Heredoc) -> bool {
    let rest = text
        .trim()
        .trim_start_matches(|it: char| it.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else {
        return false;
    };
    let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start();
    let bare: String = rest
        .chars()
        .filter(|it| !matches!(it, '"' | '\'' | '\\'))
        .collect();
    bare == body.name
}

/// A file system with one executable file.
fn made_file(lowering: &mut Lowering<'_>, name: &str, content: &str) -> Input {
    let change = FileChange::MakeFile {
        path: format!("/{name}"),
        data: content.as_bytes().to_vec(),
        mode: 0o755,
        owner: None,
        name: None,
    };
    let op = Op::File(File {
        actions: vec![FileAction {
            base: Tree::Scratch,
            change,
            output: true,
        }],
    });
    let metadata = llb::Metadata {
        name: "[internal] preparing inline document".to_owned(),
        ..llb::Metadata::default()
    };
    Input {
        vertex: lowering.graph.add(op, Vec::new(), metadata),
        output: 0,
    }
}

/// The first line of `text`.
fn summary(text: &str) -> String {
    let text = text.trim();
    match text.split_once('\n') {
        Some((first, _)) => format!("{}...", first.trim_end_matches('\r')),
        None => text.to_owned(),
    }
}

/// `|2 A=1 B=2 /bin/sh -c make`: the `ARG`s in scope, each once, and the command (G41).
fn history(state: &State, args: &[String]) -> String {
    let command = args.join(" ");
    if state.args.is_empty() {
        return command;
    }
    let mut text = format!("|{} ", state.args.len());
    for (name, value) in &state.args {
        let value = state.env.get(name).or(value.as_deref());
        text.extend([name, "=", value.unwrap_or(""), " "]);
    }
    text + &command
}
