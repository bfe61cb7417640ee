//! Talking to the kernel about interfaces, addresses and routes of the calling thread's namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::subnets::Address;

/// What went wrong, with the question that was asked.
pub(super) type Answer<T> = Result<T, String>;

/// A connection to the kernel.
pub(super) struct Netlink(Handle);

/// Talks in the calling thread's namespace until the conversation is over.
pub(super) fn talk<T>(conversation: impl AsyncFnOnce(&Netlink) -> Answer<T>) -> Answer<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|it| format!("no connection to the kernel: {it}"))?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|it| format!("no connection to the kernel: {it}"))?;
        tokio::spawn(connection);
        conversation(&Netlink(handle)).await
    })
}

/// An interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mtu: u32,
}

impl Netlink {
    /// The interface of a name, if there is one.
    pub(super) async fn find(&self, name: &str) -> Answer<Option<Link>> {
        let mut found = self.0.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(Some(link)) => {
                let mtu = link.attributes.iter().find_map(|it| match it {
                    LinkAttribute::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
                Ok(Some(Link {
                    index: link.header.index,
                    mtu: mtu.unwrap_or(1500),
                }))
            }
            Ok(None) => Ok(None),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(format!("asking for `{name}`: {error}")),
        }
    }

    pub(super) async fn up(&self, name: &str) -> Answer<()> {
        let done = self
            .0
            .link()
            .set(LinkUnspec::new_with_name(name).up().build())
            .execute()
            .await;
        done.map_err(|it| format!("bringing up `{name}`: {it}"))
    }

    /// Makes a bridge; fine if it is there already.
    pub(super) async fn add_bridge(&self, name: &str, mtu: u32) -> Answer<Link> {
        match self
            .0
            .link()
            .add(LinkBridge::new(name).mtu(mtu).build())
            .execute()
            .await
        {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                return Err(format!("making bridge `{name}`: {error}"));
            }
            _ => {}
        }
        self.find(name)
            .await?
            .ok_or_else(|| format!("bridge `{name}` vanished"))
    }

    /// Makes a pair of interfaces: one here, a port of `bridge` that reaches only the bridge itself,
    /// one called `eth0` in another namespace. `false` where the name is taken.
    pub(super) async fn add_pair(
        &self,
        name: &str,
        bridge: Link,
        namespace: BorrowedFd<'_>,
    ) -> Answer<bool> {
        let peer = LinkUnspec::new_with_name("eth0")
            .mtu(bridge.mtu)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let pair = LinkVeth::new(name, "eth0")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .mtu(bridge.mtu)
            .controller(bridge.index)
            .up()
            .build();
        match self.0.link().add(pair).execute().await {
            Err(error) if errno(&error) == Some(libc::EEXIST) => return Ok(false),
            other => other.map_err(|it| format!("making interface `{name}`: {it}"))?,
        }
        let port = self
            .find(name)
            .await?
            .ok_or_else(|| format!("interface `{name}` vanished"))?;
        let isolated = LinkBridgePort::new(port.index).isolated(true).build();
        let done = self.0.link().set_port(isolated).execute().await;
        done.map_err(|it| format!("isolating interface `{name}`: {it}"))?;
        Ok(true)
    }

    /// Gives an interface an address that nobody is asked about first.
    pub(super) async fn add_address(&self, link: Link, address: Address) -> Answer<()> {
        let (address, prefix) = address;
        let mut request = self.0.address().add(link.index, address, prefix);
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match request.execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                Err(format!("giving address {address}: {error}"))
            }
            _ => Ok(()),
        }
    }

    /// The addresses of an interface.
    pub(super) async fn addresses(&self, link: Link) -> Answer<Vec<IpAddr>> {
        let found = self
            .0
            .address()
            .get()
            .set_link_index_filter(link.index)
            .execute();
        let messages: Vec<_> = found
            .try_collect()
            .await
            .map_err(|it| format!("asking for addresses: {it}"))?;
        let attributes = messages.into_iter().flat_map(|it| it.attributes);
        Ok(attributes
            .filter_map(|it| match it {
                AddressAttribute::Address(address) => Some(address),
                _ => None,
            })
            .collect())
    }

    pub(super) async fn add_default_route(&self, gateway: IpAddr) -> Answer<()> {
        let route = match gateway {
            IpAddr::V4(it) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(it).build(),
            IpAddr::V6(it) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(it).build(),
        };
        let done = self.0.route().add(route).execute().await;
        done.map_err(|it| format!("adding the route through {gateway}: {it}"))
    }

    pub(super) async fn remove(&self, link: Link) -> Answer<()> {
        let done = self.0.link().del(link.index).execute().await;
        done.map_err(|it| format!("removing an interface: {it}"))
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|it| -it.get()),
        _ => None,
    }
}
