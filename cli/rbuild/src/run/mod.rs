//! `run`: a command in a new container, in the foreground.

mod environment;
mod volume;

use std::path::PathBuf;
use std::sync::Arc;

use container::{Network, Request, RunError};
use llb::op::Ulimit;
use oci::Reference;
use sandbox::{Limits, Resource, Rlimit, SpawnError};
use snapshot::Snapshots;
use store::{ImageRecord, ResolveError, Store};

use crate::args::{self, PullWhen, RunArgs};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::progress::terminal::say;
use crate::{image, limits, pairs, registries, rootless};
use volume::Volume;

/// Runs the container to its end, and ends as it does.
pub(crate) fn run(store: Store, args: &RunArgs) -> Result<Exit, Fault> {
    let snapshots = registries::snapshots(store)?;
    let request = request(&snapshots, args).map_err(|fault| fault.exit(Exit::Usage))?;
    let notice = |text: &str| say(&format!("warning: {text}\n"));
    match container::run(&snapshots, request, &notice) {
        Ok(0) => Ok(Exit::Success),
        Ok(code) => Ok(Exit::Status(code)),
        Err(error) => Err(in_words(error)),
    }
}

/// What `args` mean.
fn request(snapshots: &Snapshots, args: &RunArgs) -> Result<Request, Fault> {
    let (word, command) = args
        .words
        .split_first()
        .ok_or_else(|| Fault::usage("`run` needs an image"))?;
    let volumes = volumes(&args.volume)?;
    let variable = |name: &str| std::env::var(name).ok();
    let env = environment::environment(&args.env_file, &args.env, variable)?;
    let extra_hosts = pairs::hosts(&args.add_host)?;
    let workdir = args.workdir.clone();
    if let Some(path) = workdir.as_ref().filter(|path| !path.starts_with('/')) {
        let message =
            format!("the working directory '{path}' is invalid, it needs to be an absolute path");
        return Err(Fault::usage(message));
    }
    let image = find(snapshots, word, args)?;
    Ok(Request {
        image: word.clone(),
        image_id: image.id,
        config: image::config(snapshots.store(), &image)?,
        top: image.top,
        args: command.to_vec(),
        entrypoint: args.entrypoint.clone().map(|program| vec![program]),
        env,
        workdir,
        user: args.user.clone(),
        hostname: args.hostname.clone(),
        volumes,
        name: args.name.clone(),
        network: network(args.network),
        extra_hosts,
        shm_size: args.shm_size,
        limits: limits(args)?,
        read_only: args.read_only,
        tty: args.tty,
        interactive: args.interactive,
        remove: args.rm,
    })
}

/// What the container may use up.
fn limits(args: &RunArgs) -> Result<Limits, Fault> {
    /// What docker has `--cpus` counted in.
    const PERIOD: u32 = 100_000;
    let resources = limits::resources(&[], &args.limits)?;
    let rlimits = limits::ulimits(&args.limits.ulimit)?;
    let rlimit = |(name, limit): (&String, &Ulimit)| {
        Some(Rlimit {
            resource: Resource::named(name)?,
            soft: limit.soft,
            hard: limit.hard,
        })
    };
    let usual = Limits::default();
    let quota = match args.cpus {
        Some(cpus) if !(cpus > 0.0 && cpus < 1e6) => {
            return Err(Fault::usage(format!(
                "`--cpus {cpus}` is no number of processors"
            )));
        }
        Some(cpus) => Some((cpus * f64::from(PERIOD)).round() as i64),
        None => resources.cpu_quota,
    };
    Ok(Limits {
        pids: match args.pids_limit {
            None | Some(0) => usual.pids,
            Some(limit) => u64::try_from(limit).ok(),
        },
        memory: resources.memory,
        memory_and_swap: resources.memory_swap,
        cpu_shares: resources.cpu_shares,
        cpu_quota: quota,
        cpu_period: args.cpus.map(|_| PERIOD.into()).or(resources.cpu_period),
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        parent: args.limits.cgroup_parent.as_ref().map(PathBuf::from),
        rlimits: rlimits.iter().filter_map(rlimit).collect(),
    })
}

/// The image, brought in where it has to be.
fn find(snapshots: &Snapshots, word: &str, args: &RunArgs) -> Result<ImageRecord, Fault> {
    let store = snapshots.store();
    let name = word.parse::<Reference>();
    let platform = image::chosen_platform(args.platform.as_deref())?;
    if let (Some(platform), Ok(name)) = (platform, &name)
        && args.pull != PullWhen::Always
    {
        let known = store.platforms(name)?;
        if let Some((_, id)) = known.iter().find(|(it, _)| *it == platform)
            && let Some(image) = store.image(id)?
        {
            return Ok(image);
        }
    }
    match (args.pull, store.resolve(word), name) {
        (PullWhen::Missing | PullWhen::Never, Ok(image), _) => Ok(image),
        (PullWhen::Always, _, Ok(name)) => pull(snapshots, word, &name, args),
        (PullWhen::Missing, Err(ResolveError::Unknown(_)), Ok(name)) => {
            say(&missing(&name));
            say("\n");
            pull(snapshots, word, &name, args)
        }
        (_, Err(ResolveError::Unknown(_)), Ok(name)) => {
            Err(Fault::from(anyhow::anyhow!(missing(&name)))
                .hint("bring it in with `rbuild pull`, `rbuild load` or `rbuild import`"))
        }
        (_, found, _) => Ok(found?),
    }
}

fn missing(name: &Reference) -> String {
    format!("Unable to find image '{}' locally", name.familiar())
}

fn pull(
    snapshots: &Snapshots,
    word: &str,
    name: &Reference,
    args: &RunArgs,
) -> Result<ImageRecord, Fault> {
    let wanted = image::Wanted {
        client: &registries::client()?,
        reference: name,
        platform: image::platform(args.platform.as_deref())?,
        audience: match args.quiet {
            true => image::Audience::Nobody,
            false => image::Audience::Talk,
        },
    };
    let unknown = || ResolveError::Unknown(word.to_owned());
    // Signals are left to the container. One that comes before it ends the program, and the next one
    // sweeps up what had come in by then.
    let pulled = image::bring(snapshots, &wanted, Arc::default())?.ok_or_else(unknown)?;
    let image = snapshots.store().image(&pulled.id)?;
    Ok(image.ok_or_else(unknown)?)
}

fn volumes(texts: &[String]) -> Result<Vec<container::Volume>, Fault> {
    let here = std::env::current_dir()?;
    let volumes = texts
        .iter()
        .map(|text| Volume::parse(text, &here))
        .collect::<Result<Vec<_>, _>>()?;
    for volume in &volumes {
        volume.provide()?;
    }
    let mount = |volume: Volume| container::Volume {
        source: volume.source,
        target: PathBuf::from(volume.target),
        read_only: volume.read_only,
    };
    Ok(volumes.into_iter().map(mount).collect())
}

fn network(network: args::Network) -> Network {
    match network {
        args::Network::Default => Network::Default,
        args::Network::None => Network::None,
        args::Network::Host => Network::Host,
    }
}

fn in_words(error: RunError) -> Fault {
    let exit = match error.exit_code() {
        126 => Exit::NotExecutable,
        127 => Exit::NotFound,
        _ => Exit::Usage,
    };
    let hint = match &error {
        RunError::NoTerminal => {
            Some("leave -t away where no terminal is, or -i where nobody types".to_owned())
        }
        RunError::Spawn(SpawnError::NotExecutable { source, .. })
            if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) =>
        {
            Some("the image may be for another processor: `apt-get install qemu-user-static binfmt-support` registers emulators".to_owned())
        }
        RunError::NoCommand => Some("name a command behind the image".to_owned()),
        RunError::Record(container::RecordError::Conflict { .. }) => {
            Some("`rbuild rm NAME` forgets a container that is over".to_owned())
        }
        RunError::Spawn(SpawnError::Unmapped { .. }) => rootless::lacking(),
        RunError::Spawn(error) => error.help().map(str::to_owned),
        RunError::Network(error) => Some(error.help().to_owned()),
        _ => None,
    };
    let fault = Fault::from(error).exit(exit);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}
