//! What a `RUN` mounts, as inputs and mounts of its vertex.

use std::borrow::Cow;

use dockerfile_parser::words;
use llb::Input;
use llb::op::{Mount, MountKind, Sharing};

use super::from::root_of;
use crate::lowering::Lowering;
use crate::mount::{self, Kind, MountError};
use crate::state::{State, Step};
use crate::{PlanError, PlanErrorKind, path};

const CACHE_MODE: u32 = 0o755;
const SECRET_MODE: u32 = 0o400;
const SSH_MODE: u32 = 0o600;
/// The agent of a mount that names none.
const DEFAULT_AGENT: &str = "default";

/// The mounts of a `RUN` so far.
pub(super) struct Mounts {
    /// The inputs that they refer to.
    pub(super) inputs: Vec<Input>,
    /// The root file system first.
    pub(super) mounts: Vec<Mount>,
    /// Variables that they bring.
    pub(super) env: Vec<String>,
    agents: usize,
}

impl Mounts {
    /// The root file system of `state`, whose changes are kept; there is room for as many others as
    /// `others` says.
    pub(super) fn new(state: &State, others: usize) -> Self {
        let root = Mount {
            target: "/".to_owned(),
            kind: MountKind::Bind {
                input: state.root.map(|_| 0),
                selector: "/".to_owned(),
            },
            read_only: false,
            output: true,
        };
        let mut mounts = Vec::with_capacity(1 + others);
        mounts.push(root);
        Self {
            inputs: state.root.into_iter().collect(),
            mounts,
            env: Vec::new(),
            agents: 0,
        }
    }

    /// The number of `input` among the inputs.
    pub(super) fn input(&mut self, input: Input) -> usize {
        match self.inputs.iter().position(|it| *it == input) {
            Some(known) => known,
            None => {
                self.inputs.push(input);
                self.inputs.len() - 1
            }
        }
    }

    /// Adds what one `--mount` says.
    pub(super) fn add(
        &mut self,
        lowering: &mut Lowering<'_>,
        state: &State,
        step: &Step<'_>,
        text: &str,
    ) -> Result<(), PlanError> {
        let fail = |error| PlanError::at(step.span, PlanErrorKind::Mount(error));
        let mut fields = mount::fields(text).map_err(fail)?;
        for field in &mut fields {
            let Some(value) = &field.value else { continue };
            if words::is_plain(value, step.escape) {
                continue;
            }
            field.value = Some(Cow::Owned(match &*field.key {
                "from" => lowering.expand_from(state, step, value)?,
                _ => lowering.expand(state, step, value)?,
            }));
        }
        let mount = mount::read(&fields).map_err(fail)?;
        let target = match mount.kind {
            Kind::Secret => secret_target(state, &mount),
            Kind::Ssh => self.ssh_target(state, &mount),
            _ => path::join(&state.image.config.working_dir, &mount.target),
        };
        if target == "/" {
            return Err(fail(MountError::Target(target)));
        }
        let kind = match mount.kind {
            Kind::Bind | Kind::Cache => self.directory(lowering, state, step, &mount)?,
            Kind::Tmpfs => MountKind::Tmpfs { size: mount.size },
            Kind::Secret => {
                lowering
                    .met
                    .secret(secret_id(&mount), mount.required, step.span);
                secret(&mount)
            }
            Kind::Ssh => {
                let id = mount.id.as_deref().unwrap_or(DEFAULT_AGENT);
                lowering.met.agent(id, mount.required, step.span);
                ssh(&mount)
            }
        };
        self.mounts.push(Mount {
            target,
            kind,
            read_only: mount.read_only,
            output: false,
        });
        Ok(())
    }

    fn directory(
        &mut self,
        lowering: &mut Lowering<'_>,
        state: &State,
        step: &Step<'_>,
        mount: &mount::Mount,
    ) -> Result<MountKind, PlanError> {
        let selector = path::join("/", mount.source.as_deref().unwrap_or("/"));
        let later = |from: &str| PlanErrorKind::MountFromLater {
            from: from.to_owned(),
            target: mount.target.clone(),
        };
        let source = match (mount.from.as_deref(), mount.kind) {
            (Some(name), _) => root_of(lowering, name, state, step, || later(name))?,
            (None, Kind::Cache) => None,
            (None, _) => Some(lowering.context(&selector)),
        };
        let input = source.map(|it| self.input(it));
        if mount.kind == Kind::Bind {
            return Ok(MountKind::Bind { input, selector });
        }
        // The default name is the target as written, cleaned, so that stages share it (G92).
        let target = || path::join("/", &mount.target);
        let id = mount.id.clone().unwrap_or_else(target);
        lowering.met.cache(&id, step.span);
        Ok(MountKind::Cache {
            id: cache_id(lowering, id),
            sharing: mount.sharing.unwrap_or(Sharing::Shared),
            input,
            selector,
            owner: owner(mount, CACHE_MODE),
        })
    }

    fn ssh_target(&mut self, state: &State, mount: &mount::Mount) -> String {
        let target = match mount.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{}", self.agents),
            target => path::join(&state.image.config.working_dir, target),
        };
        if self.agents == 0 && state.env.get("SSH_AUTH_SOCK").is_none() {
            self.env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        self.agents += 1;
        target
    }
}

fn cache_id(lowering: &Lowering<'_>, id: String) -> String {
    match lowering.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{id}"),
        _ => id,
    }
}

fn secret_id(mount: &mount::Mount) -> &str {
    let named = mount.id.as_deref().or(mount.source.as_deref());
    named.unwrap_or_else(|| path::base(&mount.target))
}

/// Where a secret is found; nowhere, and so an empty path, where it is given in a variable only.
fn secret_target(state: &State, mount: &mount::Mount) -> String {
    match (mount.target.as_str(), &mount.env) {
        ("", Some(_)) => String::new(),
        ("", None) => format!("/run/secrets/{}", path::base(secret_id(mount))),
        (target, _) => path::join(&state.image.config.working_dir, target),
    }
}

fn secret(mount: &mount::Mount) -> MountKind {
    MountKind::Secret {
        id: secret_id(mount).to_owned(),
        required: mount.required,
        owner: owner(mount, SECRET_MODE),
        env: mount.env.clone(),
    }
}

fn ssh(mount: &mount::Mount) -> MountKind {
    MountKind::Ssh {
        id: mount.id.clone().unwrap_or_else(|| DEFAULT_AGENT.to_owned()),
        required: mount.required,
        owner: owner(mount, SSH_MODE),
    }
}

fn owner(mount: &mount::Mount, mode: u32) -> (u32, u32, u32) {
    (
        mount.mode.unwrap_or(mode),
        mount.uid.unwrap_or(0),
        mount.gid.unwrap_or(0),
    )
}
