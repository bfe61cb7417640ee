//! The bridge that the namespaces of all rbuild processes hang on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::talk::{Answer, Link, talk};
use super::{elsewhere, translation};
use crate::{program, rootless, sys};

/// Its name.
pub(super) const NAME: &str = "rbuild0";

const PREFIX: u8 = 16;

/// Networks to choose from, by their first two bytes: the first that the host has no route to.
const NETWORKS: [(u8, u8); 8] = [
    (10, 210),
    (10, 211),
    (10, 212),
    (10, 213),
    (172, 30),
    (172, 31),
    (192, 168),
    (10, 250),
];

/// Whether there is one, or could be.
pub(super) fn prospect() -> Answer<()> {
    allowed()?;
    if program::find("nft").is_none() {
        return Err("`nft` is not installed (package `nftables`)".to_owned());
    }
    translation::uplink().map(drop)
}

fn allowed() -> Answer<()> {
    if rootless::in_first_namespace() {
        Ok(())
    } else {
        Err("only root can set up a bridge".to_owned())
    }
}

/// The bridge, while this process uses it.
#[derive(Debug)]
pub(super) struct Bridge {
    state: PathBuf,
    link: Link,
    network: (u8, u8),
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
        let uplink = translation::uplink()?;
        let (link, network, new) = talk(async |netlink| {
            let mtu = netlink.find(&uplink).await?.map_or(1500, |it| it.mtu);
            let old = netlink.find(NAME).await?;
            // A bridge without ports forgets what it can carry; the uplink is what counts.
            let link = Link {
                mtu,
                ..netlink.add_bridge(NAME, mtu).await?
            };
            if let (Some(_), Some(address)) = (old, netlink.address(link).await?) {
                let [a, b, ..] = address.octets();
                return Ok((link, (a, b), false));
            }
            let network = free_network(&translation::routes())?;
            netlink
                .add_address(link, Ipv4Addr::new(network.0, network.1, 0, 1), PREFIX)
                .await?;
            netlink.up(NAME).await?;
            Ok((link, network, true))
        })?;
        let bridge = Bridge {
            state: state.to_owned(),
            link,
            network,
            users,
        };
        if new || !ready(state).exists() {
            let started = translation::start(state, &uplink, network)
                .and_then(|()| fs::write(ready(state), "").map_err(because("no file")));
            if let Err(reason) = started {
                // The drop of `bridge` takes away what was made, and takes the lock for that.
                drop(lock);
                drop(bridge);
                return Err(reason);
            }
        }
        Ok(bridge)
    }

    /// The bridge's own address, at which the machine is reached.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.network.0, self.network.1, 0, 1)
    }

    /// Gives a namespace an interface, an address and a route; the address is its own while the file is held.
    pub(super) fn connect(&self, namespace: BorrowedFd<'_>) -> Answer<File> {
        let (index, address) = self.pair(namespace)?;
        let [high, low] = index.to_be_bytes();
        let own = Ipv4Addr::new(self.network.0, self.network.1, high, low);
        let gateway = self.gateway();
        let configure = || {
            sys::enter_network(namespace)?;
            let done = talk(async |netlink| {
                let link = netlink
                    .find("eth0")
                    .await?
                    .ok_or("the interface vanished")?;
                netlink.add_address(link, own, PREFIX).await?;
                netlink.up("eth0").await?;
                netlink.add_default_route(gateway).await
            });
            done.map_err(io::Error::other)
        };
        elsewhere(configure).map_err(|it| it.to_string())?;
        Ok(address)
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
        scope.spawn(|| translation::stop(state));
        talk(async |netlink| match netlink.find(NAME).await? {
            Some(link) => netlink.remove(link).await,
            None => Ok(()),
        })
    });
    removed.map_err(io::Error::other)?;
    fs::remove_dir_all(state.join("addresses"))
}

/// Says that translation and forwarding are set up.
fn ready(state: &Path) -> PathBuf {
    state.join("ready")
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Err(error) = close(&self.state, &self.users) {
            tracing::warn!(%error, "the bridge `{NAME}` stays");
        }
    }
}

/// The first network that no route (address, mask) of the host overlaps.
fn free_network(routes: &[(u32, u32)]) -> Answer<(u8, u8)> {
    let overlaps = |(a, b): (u8, u8)| {
        let ours = u32::from(Ipv4Addr::new(a, b, 0, 0));
        routes.iter().any(|(address, mask)| {
            let mask = mask & 0xffff_0000;
            // The default route overlaps everything and means nothing here.
            mask != 0 && ours & mask == address & mask
        })
    };
    NETWORKS
        .into_iter()
        .find(|it| !overlaps(*it))
        .ok_or_else(|| "no private network is free for the bridge".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_the_host_routes_to_is_left_alone() {
        let route = |address: [u8; 4], mask: u32| (u32::from(Ipv4Addr::from(address)), mask);
        assert_eq!(free_network(&[]), Ok((10, 210)));
        assert_eq!(free_network(&[route([0, 0, 0, 0], 0)]), Ok((10, 210)));
        assert_eq!(
            free_network(&[route([10, 210, 3, 0], 0xffff_ff00)]),
            Ok((10, 211))
        );
        assert_eq!(
            free_network(&[route([10, 0, 0, 0], 0xff00_0000)]),
            Ok((172, 30))
        );
    }
}
