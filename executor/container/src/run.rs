//! From a request to an exit code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::{Digest, ImageConfig};
use sandbox::network::{self, Attachment, LeaseError, Networks, Reach};
use sandbox::{Limits, Mount, MountSource, SpawnError, Spec, Stdio, Stream, WaitError};
use snapshot::{AccountError, Accounts, Root, SnapshotError, SnapshotId, Snapshots};
use store::StoreError;

use crate::attach::{self, Interactive};
use crate::environment::{command, environment};
use crate::record::{Claim, Record, RecordError};
use crate::terminal;

const DEFAULT_SHM: u64 = 64 << 20;

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The image as it was asked for.
    pub image: String,
    /// Digest of its config.
    pub image_id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its uppermost layer.
    pub top: Option<SnapshotId>,
    /// What follows the image; takes the place of its `CMD`.
    pub args: Vec<String>,
    /// Takes the place of the image's `ENTRYPOINT`, and of its `CMD` too.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=value`, above those of the image.
    pub env: Vec<String>,
    /// Where to start, instead of the image's `WORKDIR`.
    pub workdir: Option<String>,
    /// Who to be, instead of the image's `USER`.
    pub user: Option<String>,
    /// The host name inside; the beginning of the container's id where `None`.
    pub hostname: Option<String>,
    /// Directories and files of the host.
    pub volumes: Vec<Volume>,
    /// The container's name; one is made up where `None`.
    pub name: Option<String>,
    /// Whom it can reach.
    pub network: Network,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`; 64 MiB where `None`.
    pub shm_size: Option<u64>,
    /// What it may use up.
    pub limits: Limits,
    /// Whether the root file system can only be read.
    pub read_only: bool,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Whether it reads what we read.
    pub interactive: bool,
    /// Whether to forget the container when it is over.
    pub remove: bool,
}

/// A directory or file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is in the container.
    pub target: PathBuf,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// Whom a container can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The outside, from a namespace of its own.
    #[default]
    Default,
    /// Itself.
    None,
    /// Whom the host can.
    Host,
}

/// Why a container did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Neither the image nor the request says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A terminal is to be passed on, and there is none.
    #[error("the input device is not a TTY")]
    NoTerminal,
    /// The container's name or record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Nobody goes by that name in the image.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The directory to start in is not there and cannot be made.
    #[error("cannot make the working directory `{path}`")]
    Workdir {
        /// The directory.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// There is no network namespace.
    #[error(transparent)]
    Network(#[from] LeaseError),
    /// The process did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Its end is not known.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// What it reads or writes could not be passed on.
    #[error("cannot attach to the container")]
    Attach(#[source] io::Error),
    /// Its layer could not be made or mounted.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RunError {
    /// What docker's command line ends with: 127 where the command is not there, 126 where it cannot
    /// run, 125 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Spawn(SpawnError::NotFound { .. }) => 127,
            RunError::Spawn(SpawnError::NotExecutable { .. }) => 126,
            _ => 125,
        }
    }
}

/// Runs a container until it is over; its exit code.
///
/// Reads standard input where the request is interactive, writes standard output and standard
/// error, and passes on the signals that this process gets. Of the person's terminal, what was
/// changed is changed back, however it ends. Where the outside cannot be reached, `notice` hears why.
#[expect(clippy::needless_pass_by_value, reason = "a request is for one run")]
pub fn run(snapshots: &Snapshots, request: Request, notice: &dyn Fn(&str)) -> Result<u8, RunError> {
    let args = command(&request).ok_or(RunError::NoCommand)?;
    if request.tty && request.interactive && !terminal::is_input() {
        return Err(RunError::NoTerminal);
    }
    let store = snapshots.store();
    let _lease = store.lease(request.top.as_slice(), &[request.image_id])?;
    let claim = Claim::new(store, &request, &args)?;
    let networks = Networks::default();
    let attachment = attach_network(&networks, request.network)?;
    tell_reach(&attachment, notice);
    let active = snapshots.prepare(request.top)?;
    let mut spec = spec(&request, &claim.record, args, active.mount_root()?)?;
    spec.hosts = Some(hosts(
        &spec.hostname,
        &request.extra_hosts,
        attachment.host(),
    ));
    spec.resolv_conf = Some(resolv_conf(&attachment));
    spec.network = attachment.network().map_err(RunError::Attach)?;
    let running = sandbox::spawn(spec)?;
    let attached =
        attach::attach(running, Interactive(request.interactive)).map_err(RunError::Attach)?;
    let exit = attached.wait()?;
    // The network is free for others before the files are gone.
    drop(attachment);
    drop(active);
    claim.finish(exit.code())?;
    Ok(exit.code())
}

fn spec(
    request: &Request,
    record: &Record,
    args: Vec<String>,
    rootfs: OwnedFd,
) -> Result<Spec, RunError> {
    let config = &request.config.config;
    let duplicate = rootfs.try_clone().map_err(RunError::Attach)?;
    let root = Root::from_fd(duplicate);
    let user = request.user.as_deref().unwrap_or(&config.user);
    let account = Accounts::read(&root)?.find(user)?;
    let cwd = working_directory(request, &root)?;
    drop(root);
    let hostname = request
        .hostname
        .clone()
        .unwrap_or_else(|| record.short_id().to_owned());
    let stdio = if request.tty {
        Stdio::Terminal(terminal::size())
    } else {
        let stdin = if request.interactive {
            Stream::Pipe
        } else {
            Stream::Null
        };
        Stdio::Streams {
            stdin,
            stdout: Stream::Pipe,
            stderr: Stream::Pipe,
        }
    };
    let mounts = request.volumes.iter().map(|volume| Mount {
        source: MountSource::Host(volume.source.clone()),
        target: volume.target.clone(),
        read_only: volume.read_only,
    });
    Ok(Spec {
        read_only_rootfs: request.read_only,
        env: environment(request, &hostname, &account.home)
            .into_iter()
            .map(Into::into)
            .collect(),
        cwd,
        user: sandbox::User {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups,
        },
        hostname,
        mounts: mounts.collect(),
        stdio,
        limits: request.limits.clone(),
        shm_size: request.shm_size.unwrap_or(DEFAULT_SHM),
        ..Spec::new(rootfs, args)
    })
}

/// The directory to start in, made where it is missing.
fn working_directory(request: &Request, root: &Root) -> Result<PathBuf, RunError> {
    let path = request
        .workdir
        .as_deref()
        .unwrap_or(&request.config.config.working_dir);
    let path = if path.is_empty() { "/" } else { path };
    let failed = |source| RunError::Workdir {
        path: path.to_owned(),
        source,
    };
    if !path.starts_with('/') {
        return Err(failed(io::Error::other("it is not absolute")));
    }
    root.make_dir_all(Path::new(path), 0o755).map_err(failed)?;
    Ok(PathBuf::from(path))
}

/// `host` is where the machine itself is reached.
fn hosts(hostname: &str, extra: &BTreeMap<String, String>, host: Option<Ipv4Addr>) -> Vec<u8> {
    let mut text = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n127.0.1.1\t{hostname}\n"
    );
    for (name, address) in extra {
        let _ = match (address.as_str(), host) {
            ("host-gateway", Some(host)) => writeln!(text, "{host}\t{name}"),
            ("host-gateway", None) => Ok(()),
            (address, _) => writeln!(text, "{address}\t{name}"),
        };
    }
    text.into_bytes()
}

fn attach_network(networks: &Networks, network: Network) -> Result<Attachment, LeaseError> {
    Ok(match network {
        Network::None => Attachment::Nobody,
        Network::Host => Attachment::Host,
        Network::Default => Attachment::Outside(networks.lease()?),
    })
}

fn tell_reach(attachment: &Attachment, notice: &dyn Fn(&str)) {
    let Attachment::Outside(lease) = attachment else {
        return;
    };
    if let Reach::Nothing { reason } = lease.reach() {
        notice(&format!("the container has no network: {reason}"));
    }
    if let Some(remark) = lease.remark() {
        notice(remark);
    }
}

fn resolv_conf(attachment: &Attachment) -> Vec<u8> {
    match attachment {
        Attachment::Nobody | Attachment::Host => network::host_resolv_conf(),
        Attachment::Outside(lease) => lease.resolv_conf().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_command_have_the_codes_of_a_shell_and_others_dockers() {
        let not_found = RunError::Spawn(SpawnError::NotFound {
            program: "x".to_owned(),
        });
        assert_eq!(not_found.exit_code(), 127);
        let source = io::Error::from_raw_os_error(13);
        let denied = RunError::Spawn(SpawnError::NotExecutable {
            program: "x".to_owned(),
            source,
        });
        assert_eq!(denied.exit_code(), 126);
        assert_eq!(RunError::NoCommand.exit_code(), 125);
    }

    #[test]
    fn added_hosts_come_last() {
        let extra = BTreeMap::from([("b".to_owned(), "1.2.3.4".to_owned())]);
        let text = String::from_utf8(hosts("name", &extra, None)).unwrap();
        assert!(text.ends_with("127.0.1.1\tname\n1.2.3.4\tb\n"), "{text}");
    }
}
