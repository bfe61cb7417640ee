//! Addresses that no server may send us to: those that mean something only here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Which addresses are not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// All are: the person named the server.
    Nothing,
    /// Those of the link, where clouds tell a machine its secrets, and those that are none.
    Links,
    /// Also this machine's own.
    LinksAndLoopback,
}

/// Where a cloud answers in IPv6, which is no address of the link.
const CLOUD: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Guard {
    /// What is kept from a server elsewhere. One on this machine may send to this machine.
    pub(super) fn against(sender: &Url) -> Self {
        match address_of(sender) {
            Some(address) if address.is_loopback() => Self::Links,
            None if sender.host_str() == Some("localhost") => Self::Links,
            _ => Self::LinksAndLoopback,
        }
    }

    /// Whether an address that is written as one may be asked; of names only their address decides.
    pub(super) fn lets(self, url: &Url) -> bool {
        address_of(url).is_none_or(|address| self.lets_address(address))
    }

    /// Whether whoever has this address may be asked.
    pub(super) fn lets_address(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_link = match address {
            IpAddr::V4(it) => it.is_link_local() || it.is_broadcast(),
            IpAddr::V6(it) => it.is_unicast_link_local() || it == CLOUD,
        };
        let is_none = address.is_unspecified() || address.is_multicast();
        match self {
            Self::Nothing => true,
            Self::Links => !is_link && !is_none,
            Self::LinksAndLoopback => !is_link && !is_none && !address.is_loopback(),
        }
    }
}

fn address_of(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
        Host::Domain(name) => name.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_sends_to_no_address_that_only_we_have() {
        let table = [
            ("https://r.example/", "https://cdn.example/x", true),
            ("https://r.example/", "https://10.0.0.7/x", true),
            ("https://r.example/", "http://169.254.169.254/latest", false),
            (
                "https://r.example/",
                "http://[::ffff:169.254.169.254]/",
                false,
            ),
            ("https://r.example/", "http://[fd00:ec2::254]/", false),
            ("https://r.example/", "http://[fe80::1]/", false),
            ("https://r.example/", "http://0.0.0.0/", false),
            ("https://r.example/", "http://127.0.0.1:2375/", false),
            ("https://r.example/", "http://[::1]/", false),
            ("https://r.example/", "http://2130706433/", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/", true),
            ("http://localhost:5000/", "http://127.0.0.1:5001/", true),
            ("http://127.0.0.1:5000/", "http://169.254.169.254/", false),
        ];
        for (from, to, expected) in table {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(Guard::against(&from).lets(&to), expected, "{from} {to}");
        }
    }
}
