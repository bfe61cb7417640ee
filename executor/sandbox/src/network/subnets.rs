//! The networks of the bridge: whose addresses its namespaces get.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::routes::{self, Family, Route};
use super::talk::Answer;

/// Networks to choose from, by their first two bytes: the first that the host has no route to.
const FOUR: [(u8, u8); 8] = [
    (10, 210),
    (10, 211),
    (10, 212),
    (10, 213),
    (172, 30),
    (172, 31),
    (192, 168),
    (10, 250),
];

/// The unique local network (RFC 4193) whose bytes after the `fd` spell `rbuil` and whose subnets count
/// from `d`: known at a glance, and nowhere but behind the translation of one machine, so that no other
/// machine can have it too.
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x6275, 0x696c, 0x64, 0, 0, 0, 0);

/// How many of them are tried: a machine in a machine sees those of the outer one.
const SIX_COUNT: u128 = 8;

/// An address of the bridge or of a namespace, and how much of it is the network's.
pub(super) type Address = (IpAddr, u8);

/// The networks that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnets {
    four: Ipv4Addr,
    six: Option<Ipv6Addr>,
}

impl Subnets {
    /// The first that no route of the host leads into; the second only where something of its kind leads outside.
    pub(super) fn choose(routes: &[Route]) -> Answer<Subnets> {
        let four = FOUR
            .into_iter()
            .map(|(a, b)| Ipv4Addr::new(a, b, 0, 0))
            .find(|it| !routes::is_taken(routes, (*it).into(), FOUR_PREFIX))
            .ok_or("no private network is free for the bridge")?;
        let six = (0..SIX_COUNT)
            .map(|it| Ipv6Addr::from_bits(SIX.to_bits() + (it << SIX_PREFIX)))
            .find(|it| !routes::is_taken(routes, (*it).into(), SIX_PREFIX));
        let leads_out = routes::uplink(routes, Family::Six).is_some();
        Ok(Subnets {
            four,
            six: six.filter(|_| leads_out),
        })
    }

    /// Those of a bridge that has these addresses; none where it has no address yet.
    pub(super) fn of(addresses: &[IpAddr]) -> Option<Subnets> {
        let four = addresses.iter().find_map(|it| match it {
            IpAddr::V4(it) => Some(Ipv4Addr::from_bits(it.to_bits() & 0xffff_0000)),
            IpAddr::V6(_) => None,
        });
        let six = addresses.iter().find_map(|it| match it {
            IpAddr::V6(it) if it.segments()[..3] == SIX.segments()[..3] => Some(network(*it)),
            _ => None,
        });
        Some(Subnets { four: four?, six })
    }

    /// The bridge's own address, at which the machine is reached.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.four.to_bits() | GATEWAY)
    }

    /// The bridge's own address of a family, if it has one.
    pub(super) fn gateway_of(&self, family: Family) -> Option<IpAddr> {
        let six = |it: Ipv6Addr| Ipv6Addr::from_bits(it.to_bits() | u128::from(GATEWAY));
        match family {
            Family::Four => Some(self.gateway().into()),
            Family::Six => self.six.map(|it| six(it).into()),
        }
    }

    /// The bridge's own addresses.
    pub(super) fn gateways(&self) -> Vec<Address> {
        self.numbered(GATEWAY)
    }

    /// The addresses of a namespace that has a number of its own, from 2.
    pub(super) fn members(&self, number: u16) -> Vec<Address> {
        self.numbered(number.into())
    }

    /// The network of a family as rules write it.
    pub(super) fn written(&self, family: Family) -> Option<String> {
        match family {
            Family::Four => Some(format!("{}/{FOUR_PREFIX}", self.four)),
            Family::Six => self.six.map(|it| format!("{it}/{SIX_PREFIX}")),
        }
    }

    /// Whether namespaces have addresses of a family.
    pub(super) fn has(&self, family: Family) -> bool {
        self.written(family).is_some()
    }

    /// The IPv6 address comes first: a bridge that has the other one has both.
    fn numbered(&self, number: u32) -> Vec<Address> {
        let six = self.six.map(|it| {
            let address = Ipv6Addr::from_bits(it.to_bits() | u128::from(number));
            (address.into(), SIX_PREFIX)
        });
        let four = Ipv4Addr::from_bits(self.four.to_bits() | number);
        six.into_iter()
            .chain([(four.into(), FOUR_PREFIX)])
            .collect()
    }
}

const FOUR_PREFIX: u8 = 16;
const SIX_PREFIX: u8 = 64;
const GATEWAY: u32 = 1;

fn network(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> SIX_PREFIX << SIX_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::super::routes::route;
    use super::*;

    fn check(taken: &[Route], expected: &str) {
        let written = |it: &Subnets| {
            let six = it.written(Family::Six).unwrap_or_default();
            format!("{} {six}", it.written(Family::Four).unwrap_or_default())
        };
        assert_eq!(
            Subnets::choose(taken).map(|it| written(&it)),
            Ok(expected.to_owned())
        );
    }

    #[test]
    fn a_network_that_the_host_routes_to_is_left_alone() {
        check(&[], "10.210.0.0/16 ");
        check(&[route("0.0.0.0", 0)], "10.210.0.0/16 ");
        check(&[route("10.210.3.0", 24)], "10.211.0.0/16 ");
        check(&[route("10.0.0.0", 8)], "172.30.0.0/16 ");
        let out = route("::", 0);
        check(
            std::slice::from_ref(&out),
            "10.210.0.0/16 fd72:6275:696c:64::/64",
        );
        check(
            &[out.clone(), route("fd72:6275:696c:64::", 64)],
            "10.210.0.0/16 fd72:6275:696c:65::/64",
        );
        check(&[out, route("fd00::", 8)], "10.210.0.0/16 ");
    }

    #[test]
    fn who_joins_a_bridge_reads_its_networks_from_its_addresses() {
        for routes in [vec![], vec![route("::", 0), route("10.0.0.0", 8)]] {
            let made = Subnets::choose(&routes).unwrap();
            let addresses: Vec<_> = made.gateways().iter().map(|it| it.0).collect();
            assert_eq!(Subnets::of(&addresses), Some(made));
        }
        assert_eq!(Subnets::of(&["fe80::1".parse().unwrap()]), None);
    }

    #[test]
    fn namespaces_have_the_addresses_of_their_number() {
        let subnets = Subnets::choose(&[route("::", 0)]).unwrap();
        let members: Vec<_> = subnets
            .members(0x1234)
            .iter()
            .map(|it| it.0.to_string())
            .collect();
        assert_eq!(members, ["fd72:6275:696c:64::1234", "10.210.18.52"]);
        assert_eq!(subnets.gateway().to_string(), "10.210.0.1");
    }
}
