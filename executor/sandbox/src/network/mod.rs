//! Network namespaces from which the outside can be reached, without ever being the host's.
//!
//! A *lease* is one namespace for one user, taken from a pool and given back when the [`Lease`] is
//! dropped. The way out is a bridge of its own with address translation; where that cannot be, a
//! network stack in user space, `pasta` or `slirp4netns`; where that cannot be either, nothing, and
//! the lease says why.
//!
//! The bridge, the translation and the switched-on forwarding belong to all rbuild processes of the
//! machine together: the first makes them, the last takes them away. What a killed last one leaves
//! is taken over by the next, or taken away if that has no use for it.

mod bridge;
mod changes;
mod firewall;
mod forwarding;
mod relay;
mod resolv;
mod routes;
mod subnets;
mod talk;
mod translation;
mod userspace;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge::Bridge;
use relay::{Relay, Served};
use resolv::Names;
use userspace::Stack;

pub use resolv::host_resolv_conf;

use crate::{Network, sys};

/// Gives out namespaces. One for a process is enough; several processes share the bridge.
///
/// A new one touches nothing before its first [`lease`](Networks::lease).
#[derive(Debug, Default)]
pub struct Networks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    free: Vec<Namespace>,
    relay: Option<Relay>,
    way: Option<Way>,
}

/// How namespaces of this process reach the outside, found out once.
#[derive(Debug)]
enum Way {
    Bridge(Bridge),
    UserSpace { reason: String, stacks: Vec<Stack> },
    Nothing { reason: String },
}

/// A namespace and what has to live as long as it.
#[derive(Debug)]
struct Namespace {
    fd: OwnedFd,
    reach: Reach,
    names: Names,
    /// Where the machine itself is reached.
    host: Option<Ipv4Addr>,
    #[expect(
        dead_code,
        reason = "holds the address, or the process that is the way out"
    )]
    held: Held,
    /// Somebody answers for servers of the host.
    relayed: Option<Served>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held, never read")]
enum Held {
    Address(File),
    Process(userspace::Process),
    Nothing,
}

/// Where all processes of a machine keep their locks and address leases, whatever their store is:
/// there is one bridge, and who is its last user can be known in one place only.
const STATE: &str = "/run/rbuild/network";

impl Networks {
    /// A namespace that no other user has. Where the outside cannot be reached from one, the lease says so.
    pub fn lease(&self) -> Result<Lease, LeaseError> {
        self.take(Afterwards::Free)
    }

    /// The same for a user who may change it, and after whom nobody gets it.
    pub fn lease_once(&self) -> Result<Lease, LeaseError> {
        self.take(Afterwards::Gone)
    }

    fn take(&self, afterwards: Afterwards) -> Result<Lease, LeaseError> {
        let mut pool = self.shared.pool();
        let namespace = match pool.free.pop() {
            Some(free) => free,
            None => pool.make()?,
        };
        drop(pool);
        Ok(Lease {
            namespace: Some(namespace),
            afterwards,
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever uses the bridge looks after it; where nobody did, a killed one may have left it.
        if self.pool().way.is_none()
            && let Err(error) = bridge::sweep(Path::new(STATE))
        {
            tracing::debug!(%error, "a bridge that nobody uses stays");
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The interfaces go with their namespaces, which sockets keep, and should go before the bridge does.
        self.free.clear();
        self.relay = None;
    }
}

impl Pool {
    fn make(&mut self) -> Result<Namespace, LeaseError> {
        let fd = new_namespace().map_err(|source| LeaseError {
            what: "a new namespace",
            source,
        })?;
        let way = self.way.get_or_insert_with(Way::find);
        let mut namespace = way.lead_out(fd);
        if !namespace.names.relayed.is_empty() {
            match self.relay(&namespace) {
                Ok(served) => namespace.relayed = Some(served),
                Err(error) => {
                    let remark = format!("the host's name servers cannot be asked: {error}");
                    namespace.names.remark = Some(remark);
                }
            }
        }
        Ok(namespace)
    }

    /// Has somebody answer for servers that only the host reaches.
    fn relay(&mut self, namespace: &Namespace) -> io::Result<Served> {
        if self.relay.is_none() {
            self.relay = Some(Relay::start()?);
        }
        let relay = self.relay.as_ref().expect("it was started");
        relay.serve(namespace.fd.as_fd(), &namespace.names.relayed)
    }
}

impl Way {
    fn find() -> Way {
        let reason = match Bridge::open(Path::new(STATE)) {
            Ok(bridge) => return Way::Bridge(bridge),
            Err(reason) => reason,
        };
        match userspace::installed() {
            stacks if stacks.is_empty() => Way::Nothing {
                reason: format!(
                    "{reason}; neither `pasta` (package `passt`) nor `slirp4netns` is installed"
                ),
            },
            stacks => Way::UserSpace { reason, stacks },
        }
    }

    /// Gives a new namespace its way out, or says why it has none.
    fn lead_out(&self, fd: OwnedFd) -> Namespace {
        let reason = match self {
            Way::Bridge(bridge) => match bridge.connect(fd.as_fd()) {
                Ok(address) => {
                    return Namespace {
                        fd,
                        reach: Reach::Translated,
                        names: resolv::inside(bridge.outside()),
                        host: Some(bridge.gateway()),
                        held: Held::Address(address),
                        relayed: None,
                    };
                }
                Err(reason) => reason,
            },
            Way::UserSpace { reason, stacks } => {
                let mut all = reason.clone();
                for stack in stacks {
                    match stack.start(fd.as_fd()) {
                        Ok(process) => return behind(*stack, fd, process, reason),
                        Err(error) => all += &format!("; {error}"),
                    }
                }
                all
            }
            Way::Nothing { reason } => reason.clone(),
        };
        tracing::warn!(%reason, "no network");
        Namespace {
            fd,
            reach: Reach::Nothing { reason },
            names: resolv::nobody(),
            host: None,
            held: Held::Nothing,
            relayed: None,
        }
    }
}

fn behind(stack: Stack, fd: OwnedFd, process: userspace::Process, reason: &str) -> Namespace {
    Namespace {
        fd,
        reach: Reach::UserSpace {
            program: stack.name(),
            reason: reason.to_owned(),
        },
        names: stack.names(),
        host: stack.host(),
        held: Held::Process(process),
        relayed: None,
    }
}

/// The ways out of a namespace, best first: the name of each, and why it cannot be taken where it cannot.
/// Sets nothing up, so that in the end a way may fail all the same.
pub fn ways() -> Vec<(&'static str, Result<(), String>)> {
    let mut ways = vec![("bridge", bridge::prospect())];
    ways.extend(userspace::prospects());
    ways
}

/// A namespace for one user at a time.
#[derive(Debug)]
pub struct Lease {
    namespace: Option<Namespace>,
    afterwards: Afterwards,
    shared: Arc<Shared>,
}

/// What becomes of a namespace after its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Free,
    Gone,
}

impl Lease {
    /// The namespace, for [`Network::Namespace`].
    pub fn namespace(&self) -> io::Result<OwnedFd> {
        self.inner().fd.try_clone()
    }

    /// How far it reaches.
    pub fn reach(&self) -> &Reach {
        &self.inner().reach
    }

    /// The `/etc/resolv.conf` that is right inside.
    pub fn resolv_conf(&self) -> &[u8] {
        self.inner().names.file.as_bytes()
    }

    /// What is not as somebody would expect who knows the host's name servers.
    pub fn remark(&self) -> Option<&str> {
        self.inner().names.remark.as_deref()
    }

    /// The address at which the machine itself is reached from inside, if it is.
    pub fn host(&self) -> Option<Ipv4Addr> {
        self.inner().host
    }

    fn inner(&self) -> &Namespace {
        self.namespace.as_ref().expect("only `drop` takes it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.take()
            && self.afterwards == Afterwards::Free
        {
            self.shared.pool().free.push(namespace);
        }
    }
}

/// The network of a process, held while it runs.
#[derive(Debug)]
pub enum Attachment {
    /// None.
    Nobody,
    /// The host's.
    Host,
    /// One of its own, with a way out.
    Outside(Lease),
}

impl Attachment {
    /// Where the machine itself is reached, if it is.
    pub fn host(&self) -> Option<Ipv4Addr> {
        match self {
            Attachment::Nobody => None,
            Attachment::Host => Some(Ipv4Addr::LOCALHOST),
            Attachment::Outside(lease) => lease.host(),
        }
    }

    /// For [`Spec::network`](crate::Spec::network).
    pub fn network(&self) -> io::Result<Network> {
        Ok(match self {
            Attachment::Nobody => Network::None,
            Attachment::Host => Network::Host,
            Attachment::Outside(lease) => Network::Namespace(lease.namespace()?),
        })
    }
}

/// How far a namespace reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The outside, through the bridge.
    Translated,
    /// The outside, through a network stack in user space, and why not through the bridge.
    UserSpace {
        /// Which.
        program: &'static str,
        /// Why there is no bridge.
        reason: String,
    },
    /// Only itself, and why.
    Nothing {
        /// Why neither way could be set up.
        reason: String,
    },
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::Translated => f.write_str("the outside, with translated addresses"),
            Reach::UserSpace { program, reason } => {
                write!(f, "the outside, through {program}: {reason}")
            }
            Reach::Nothing { reason } => write!(f, "nothing: {reason}"),
        }
    }
}

/// Not even a namespace without a way out could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a network namespace: {what}")]
pub struct LeaseError {
    what: &'static str,
    source: io::Error,
}

impl LeaseError {
    /// What the person can do.
    pub fn help(&self) -> &'static str {
        "who sets up a network needs CAP_NET_ADMIN: in a container start that with `--privileged`, \
         or do without a network of its own (`--network=host`)"
    }
}

/// A namespace with a loopback interface.
fn new_namespace() -> io::Result<OwnedFd> {
    let make = || {
        sys::unshare(libc::CLONE_NEWNET)?;
        let namespace = File::open("/proc/thread-self/ns/net")?;
        talk::talk(async |netlink| netlink.up("lo").await).map_err(io::Error::other)?;
        Ok(OwnedFd::from(namespace))
    };
    elsewhere(make)
}

/// Does something in a thread of its own, whose namespace may change.
fn elsewhere<T: Send>(what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, what)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}
