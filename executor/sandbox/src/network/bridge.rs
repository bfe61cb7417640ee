//! The bridge that the namespaces of all rbuild processes hang on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::changes::{self, Changes};
use super::routes::{self, Family, Route};
use super::subnets::Subnets;
use super::talk::{Answer, Link, talk};
use super::{elsewhere, firewall, forwarding, new_namespace, translation};
use crate::{program, rootless, sys};

/// Its name.
pub(super) const NAME: &str = "rbuild0";

/// Whether there is one, or could be.
pub(super) fn prospect() -> Answer<()> {
    allowed()?;
    if program::find("nft").is_none() {
        return Err("`nft` is not installed (package `nftables`)".to_owned());
    }
    Uplinks::find(&routes::read()).map(drop)
}

fn allowed() -> Answer<()> {
    if rootless::in_first_namespace() {
        Ok(())
    } else {
        Err("only root can set up a bridge".to_owned())
    }
}

/// The interfaces that lead outside, at least one.
struct Uplinks {
    four: Option<String>,
    six: Option<String>,
}

impl Uplinks {
    fn find(routes: &[Route]) -> Answer<Uplinks> {
        let of = |family| routes::uplink(routes, family).map(str::to_owned);
        let (four, six) = (of(Family::Four), of(Family::Six));
        if four.is_none() && six.is_none() {
            return Err("the host itself has no default route".to_owned());
        }
        Ok(Uplinks { four, six })
    }

    fn of(&self, family: Family) -> Option<&str> {
        match family {
            Family::Four => self.four.as_deref(),
            Family::Six => self.six.as_deref(),
        }
    }

    fn first(&self) -> &str {
        let first = self.four.as_ref().or(self.six.as_ref());
        first.expect("`find` gives none without one")
    }
}

/// The bridge, while this process uses it.
#[derive(Debug)]
pub(super) struct Bridge {
    state: PathBuf,
    link: Link,
    subnets: Subnets,
    /// Where the outside is reached.
    outside: Vec<Family>,
    /// Locked by every process that uses the bridge, shared; whoever gets it for itself is the last.
    users: File,
}

impl Bridge {
    /// Joins those who use the bridge; the first makes it.
    pub(super) fn open(state: &Path) -> Answer<Bridge> {
        allowed()?;
        let because = |what: &'static str| {
            move |it: io::Error| format!("{what} in `{}`: {it}", state.display())
        };
        fs::create_dir_all(state).map_err(because("no directory"))?;
        let lock = locked(&state.join("lock")).map_err(because("no lock"))?;
        let users = file(&state.join("users")).map_err(because("no lock"))?;
        rustix::fs::flock(&users, FlockOperation::LockShared)
            .map_err(|it| because("no lock")(it.into()))?;
        // Not before: a last user who is just leaving takes it away.
        fs::create_dir_all(state.join("addresses")).map_err(because("no directory"))?;
        let routes = routes::read();
        let uplinks = Uplinks::find(&routes)?;
        let (link, subnets, age) = find_or_make(&routes, uplinks.first())?;
        let mut bridge = Bridge {
            state: state.to_owned(),
            link,
            subnets,
            outside: Vec::new(),
            users,
        };
        let started = match (age, reached(state)) {
            (Age::Old, Some(families)) => Ok(families),
            _ => bridge.start(&uplinks),
        };
        match started {
            Ok(families) => bridge.outside = families,
            Err(reason) => {
                // The drop of `bridge` takes away what was made, and takes the lock for that.
                drop(lock);
                drop(bridge);
                return Err(reason);
            }
        }
        Ok(bridge)
    }

    /// Sets up translation and forwarding, and says for what.
    fn start(&self, uplinks: &Uplinks) -> Answer<Vec<Family>> {
        let changes = Changes::new(&self.state);
        let uplink = |family| Some((family, uplinks.of(family)?));
        let uplinks: Vec<_> = [Family::Four, Family::Six]
            .into_iter()
            .filter(|it| self.subnets.has(*it))
            .filter_map(uplink)
            .collect();
        let mut others = Vec::new();
        for (family, uplink) in &uplinks {
            others.push((*family, forwarding::others(&changes, *family, uplink)?));
        }
        // In this order: nothing is forwarded of which the rules do not know yet.
        let listed = translation::start(&self.subnets, &others)?;
        for (family, uplink) in &uplinks {
            forwarding::start(&changes, *family, uplink)?;
        }
        let families: Vec<_> = uplinks.into_iter().map(|it| it.0).collect();
        let families = self.pass_firewalls(&families, &listed, &changes)?;
        let names: Vec<_> = families.iter().map(|it| translation::name(*it)).collect();
        let ready = ready(&self.state);
        fs::write(&ready, names.join(" "))
            .map_err(|it| format!("cannot write `{}`: {it}", ready.display()))?;
        Ok(families)
    }

    /// Those of the families that no firewall of the host keeps inside; at least one.
    fn pass_firewalls(
        &self,
        families: &[Family],
        listed: &str,
        changes: &Changes,
    ) -> Answer<Vec<Family>> {
        let chains = |family| (family, firewall::chains(family, listed));
        let chains: Vec<_> = families.iter().map(|it| chains(*it)).collect();
        if chains.iter().all(|it| it.1.is_empty()) {
            return Ok(families.to_owned());
        }
        let namespace = new_namespace().map_err(|it| format!("no namespace to try: {it}"))?;
        let _held = self.attach(namespace.as_fd(), families)?;
        let (mut passing, mut reason) = (Vec::new(), None);
        for (family, chains) in chains {
            let opened = match chains.is_empty() {
                true => Ok(()),
                false => firewall::open(family, &chains, namespace.as_fd(), changes),
            };
            match opened {
                Ok(()) => passing.push(family),
                Err(why) => drop(reason.get_or_insert(why)),
            }
        }
        match reason {
            Some(reason) if passing.is_empty() => Err(reason),
            Some(reason) => {
                tracing::info!(%reason, "one family stays inside");
                Ok(passing)
            }
            None => Ok(passing),
        }
    }

    /// The bridge's own address, at which the machine is reached.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.subnets.gateway()
    }

    /// Where the outside is reached.
    pub(super) fn outside(&self) -> &[Family] {
        &self.outside
    }

    /// Gives a namespace an interface, addresses and routes; the addresses are its own while the file is held.
    pub(super) fn connect(&self, namespace: BorrowedFd<'_>) -> Answer<File> {
        self.attach(namespace, &self.outside)
    }

    fn attach(&self, namespace: BorrowedFd<'_>, outside: &[Family]) -> Answer<File> {
        let (number, held) = self.pair(namespace)?;
        let gateways = outside.iter().map(|it| self.subnets.gateway_of(*it));
        let gateways: Vec<_> = gateways.flatten().collect();
        let configure = || {
            sys::enter_network(namespace)?;
            settle("eth0", &self.subnets).map_err(io::Error::other)?;
            let done = talk(async |netlink| {
                let link = netlink
                    .find("eth0")
                    .await?
                    .ok_or("the interface vanished")?;
                for address in self.subnets.members(number) {
                    netlink.add_address(link, address).await?;
                }
                netlink.up("eth0").await?;
                for gateway in &gateways {
                    netlink.add_default_route(*gateway).await?;
                }
                Ok(())
            });
            done.map_err(io::Error::other)
        };
        elsewhere(configure).map_err(|it| it.to_string())?;
        Ok(held)
    }

    /// Takes the first free address and makes the interface that is named for it.
    fn pair(&self, namespace: BorrowedFd<'_>) -> Answer<(u16, File)> {
        for index in 2..u16::MAX {
            let path = self.state.join("addresses").join(index.to_string());
            let address = file(&path).map_err(|it| format!("no address lease: {it}"))?;
            if rustix::fs::flock(&address, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            // The name is taken where the kernel has not cleaned up after a former owner yet.
            if talk(async |netlink| {
                netlink
                    .add_pair(&format!("rb{index}"), self.link, namespace)
                    .await
            })? {
                return Ok((index, address));
            }
        }
        Err("all addresses are in use".to_owned())
    }
}

/// Whether a bridge was there before.
enum Age {
    Old,
    New,
}

fn find_or_make(routes: &[Route], uplink: &str) -> Answer<(Link, Subnets, Age)> {
    talk(async |netlink| {
        let mtu = netlink.find(uplink).await?.map_or(1500, |it| it.mtu);
        let old = netlink.find(NAME).await?;
        // A bridge without ports forgets what it can carry; the uplink is what counts.
        let link = Link {
            mtu,
            ..netlink.add_bridge(NAME, mtu).await?
        };
        if old.is_some()
            && let Some(subnets) = Subnets::of(&netlink.addresses(link).await?)
        {
            return Ok((link, subnets, Age::Old));
        }
        let subnets = Subnets::choose(routes)?;
        settle(NAME, &subnets)?;
        for address in subnets.gateways() {
            netlink.add_address(link, address).await?;
        }
        netlink.up(NAME).await?;
        Ok((link, subnets, Age::New))
    })
}

/// Tells an interface of ours, before it is up, that what it gets is all there is to IPv6 on it: no address that it
/// would make up where there is none to be had, and no route that a neighbour advertises.
fn settle(interface: &str, subnets: &Subnets) -> Answer<()> {
    let setting = |name: &str| format!("ipv6/conf/{interface}/{name}");
    if !changes::exists(&setting("disable_ipv6")) {
        return Ok(());
    }
    let disabled = if subnets.has(Family::Six) { "0" } else { "1" };
    changes::set(&setting("accept_ra"), "0")?;
    changes::set(&setting("accept_dad"), "0")?;
    changes::set(&setting("disable_ipv6"), disabled)
}

/// Takes away the bridge of users of whom the last was killed. Costs one look where there is none.
pub(super) fn sweep(state: &Path) -> io::Result<()> {
    // The first thing that users make and the last that they take away.
    if !state.join("addresses").exists() {
        return Ok(());
    }
    close(state, &file(&state.join("users"))?)
}

/// Takes the bridge away, unless somebody else uses it.
fn close(state: &Path, users: &File) -> io::Result<()> {
    let _lock = locked(&state.join("lock"))?;
    if rustix::fs::flock(users, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    fs::remove_file(ready(state)).or_else(|it| {
        if it.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(it)
        }
    })?;
    // Both take the kernel its time, and neither needs the other.
    let removed = std::thread::scope(|scope| {
        scope.spawn(|| {
            Changes::new(state).undo();
            if let Err(error) = translation::stop() {
                tracing::warn!(%error, "rules of the network stay");
            }
        });
        talk(async |netlink| match netlink.find(NAME).await? {
            Some(link) => netlink.remove(link).await,
            None => Ok(()),
        })
    });
    removed.map_err(io::Error::other)?;
    fs::remove_dir_all(state.join("addresses"))
}

/// Says for which families translation and forwarding are set up.
fn ready(state: &Path) -> PathBuf {
    state.join("ready")
}

/// Where the outside is reached through the bridge, if that is set up.
fn reached(state: &Path) -> Option<Vec<Family>> {
    let names = fs::read_to_string(ready(state)).ok()?;
    let is_named = |family: &Family| names.split(' ').any(|it| it == translation::name(*family));
    let families: Vec<_> = [Family::Four, Family::Six]
        .into_iter()
        .filter(is_named)
        .collect();
    (!families.is_empty()).then_some(families)
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Err(error) = close(&self.state, &self.users) {
            tracing::warn!(%error, "the bridge `{NAME}` stays");
        }
    }
}

fn file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn locked(path: &Path) -> io::Result<File> {
    let file = file(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
