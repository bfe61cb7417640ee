//! What the host routes where: which interfaces lead outside, and which networks are taken.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Four,
    Six,
}

/// A route of the host, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    interface: String,
    network: IpAddr,
    prefix: u8,
    metric: u32,
}

/// The routes of the calling thread's namespace.
pub(super) fn read() -> Vec<Route> {
    let table = |name: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
    };
    let (four, six) = (table("route"), table("ipv6_route"));
    let four = four.lines().skip(1).filter_map(parse_four);
    four.chain(six.lines().filter_map(parse_six)).collect()
}

/// The interface of the default route with the lowest metric.
pub(super) fn uplink(routes: &[Route], family: Family) -> Option<&str> {
    let mut defaults: Vec<_> = routes
        .iter()
        .filter(|it| it.prefix == 0 && it.is_of(family))
        .collect();
    defaults.sort_by_key(|it| it.metric);
    defaults.first().map(|it| it.interface.as_str())
}

/// Whether a route leads into a network, or into one that it is a part of. The default route leads
/// everywhere and means nothing here.
pub(super) fn is_taken(routes: &[Route], network: IpAddr, prefix: u8) -> bool {
    routes.iter().any(|it| {
        let common = it.prefix.min(prefix);
        common != 0 && starts_alike(it.network, network, common)
    })
}

impl Route {
    fn is_of(&self, family: Family) -> bool {
        self.network.is_ipv6() == (family == Family::Six)
    }
}

fn starts_alike(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(bits)
        }
        _ => false,
    }
}

fn parse_four(line: &str) -> Option<Route> {
    // The kernel prints the bytes as they lie in memory.
    let number = |it: &str| {
        u32::from_str_radix(it, 16)
            .ok()
            .map(|it| u32::from_be_bytes(it.to_ne_bytes()))
    };
    let fields: Vec<_> = line.split_whitespace().collect();
    let [interface, network, _, _, _, _, metric, mask, ..] = fields[..] else {
        return None;
    };
    Some(Route {
        interface: interface.to_owned(),
        network: Ipv4Addr::from_bits(number(network)?).into(),
        prefix: u8::try_from(number(mask)?.leading_ones()).ok()?,
        metric: metric.parse().ok()?,
    })
}

fn parse_six(line: &str) -> Option<Route> {
    // A route that says "no": every kernel has one for whatever no other route is for.
    const REJECT: u32 = 0x0200;
    let fields: Vec<_> = line.split_whitespace().collect();
    let [network, prefix, _, _, _, metric, _, _, flags, interface] = fields[..] else {
        return None;
    };
    if u32::from_str_radix(flags, 16).ok()? & REJECT != 0 {
        return None;
    }
    Some(Route {
        interface: interface.to_owned(),
        network: Ipv6Addr::from_bits(u128::from_str_radix(network, 16).ok()?).into(),
        prefix: u8::from_str_radix(prefix, 16).ok()?,
        metric: u32::from_str_radix(metric, 16).ok()?,
    })
}

#[cfg(test)]
pub(super) fn route(network: &str, prefix: u8) -> Route {
    Route {
        interface: "eth0".to_owned(),
        network: network.parse().expect("an address"),
        prefix,
        metric: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: &str = "\
wlan0 00000000 010200C0 0003 0 0 600 00000000 0 0 0
eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0
";
    const SIX: &str = "\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     tun0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

    #[test]
    fn the_default_route_with_the_lowest_metric_leads_outside() {
        let all: Vec<_> = FOUR
            .lines()
            .filter_map(parse_four)
            .chain(SIX.lines().filter_map(parse_six))
            .collect();
        assert_eq!(uplink(&all, Family::Four), Some("eth0"));
        assert_eq!(uplink(&all, Family::Six), Some("tun0"));
        assert_eq!(uplink(&all[2..4], Family::Four), None);
        assert_eq!(uplink(&all[2..4], Family::Six), None);
        assert_eq!(all.len(), 5, "a route that says no is none");
        assert_eq!(
            (all[2].network, all[2].prefix),
            ("192.0.2.0".parse().unwrap(), 24)
        );
    }

    #[test]
    fn a_network_is_taken_by_a_route_into_it_or_around_it() {
        let taken = |route: &Route, network: &str, prefix| {
            is_taken(
                std::slice::from_ref(route),
                network.parse().unwrap(),
                prefix,
            )
        };
        assert!(!taken(&route("0.0.0.0", 0), "10.210.0.0", 16));
        assert!(taken(&route("10.210.3.0", 24), "10.210.0.0", 16));
        assert!(taken(&route("10.0.0.0", 8), "10.210.0.0", 16));
        assert!(!taken(&route("10.211.0.0", 16), "10.210.0.0", 16));
        assert!(taken(&route("fd00::", 8), "fd72::", 64));
        assert!(!taken(&route("fd00::", 64), "fd72::", 64));
    }
}
