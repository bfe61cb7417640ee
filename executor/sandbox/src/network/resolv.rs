//! Which name servers are right in a namespace of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use rustix::net::netdevice::name_to_index;

use super::routes::Family;

const HOST: &str = "/etc/resolv.conf";

/// Where systemd keeps the servers that it asks itself.
const SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";

/// As docker: somebody who answers everybody.
const PUBLIC: [(Family, &str); 4] = [
    (Family::Four, "8.8.8.8"),
    (Family::Four, "8.8.4.4"),
    (Family::Six, "2001:4860:4860::8888"),
    (Family::Six, "2001:4860:4860::8844"),
];

/// Where rbuild answers in a namespace for servers that only the host reaches. The address is docker's for that.
pub(super) const RELAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// How names are found in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// `/etc/resolv.conf`.
    pub(super) file: String,
    /// The servers for which somebody has to answer at [`RELAY`].
    pub(super) relayed: Vec<SocketAddr>,
    /// What somebody who looks at the host's own file would not expect.
    pub(super) remark: Option<String>,
}

/// The host's own `/etc/resolv.conf`, right for those who share its network; empty where there is none.
pub fn host_resolv_conf() -> Vec<u8> {
    fs::read(HOST).unwrap_or_default()
}

/// For a namespace that reaches what the host reaches by these families, except the host itself.
pub(super) fn inside(outside: &[Family]) -> Names {
    let systemd = || fs::read_to_string(SYSTEMD).ok();
    choose(&host(), systemd, outside)
}

/// For a namespace with this server.
pub(super) fn with_server(server: &str) -> Names {
    Names {
        file: replaced(&host(), &[server]),
        relayed: Vec::new(),
        remark: None,
    }
}

/// For a namespace that reaches nobody.
pub(super) fn nobody() -> Names {
    Names {
        file: replaced(&host(), &[]),
        relayed: Vec::new(),
        remark: None,
    }
}

fn host() -> String {
    String::from_utf8_lossy(&host_resolv_conf()).into_owned()
}

/// The host's file where all its servers are reached from inside; where systemd answers for them, its list of them.
/// Servers that only the host reaches, because they are on it or on a link of it, are relayed to, and with them all
/// others, so that they are asked in the host's order. Where there is no server, public ones are asked.
fn choose(host: &str, systemd: impl FnOnce() -> Option<String>, outside: &[Family]) -> Names {
    let is_reached = |text: &str| {
        let mut all = servers(text).peekable();
        all.peek().is_some() && all.all(|it| is_reached(it, outside))
    };
    let of_systemd = servers(host)
        .eq(["127.0.0.53"])
        .then(systemd)
        .flatten()
        .filter(|it| is_reached(it));
    if let Some(file) = of_systemd.or_else(|| is_reached(host).then(|| host.to_owned())) {
        return Names {
            file,
            relayed: Vec::new(),
            remark: None,
        };
    }
    let relayed: Vec<_> = servers(host).filter_map(socket_address).collect();
    if !relayed.is_empty() {
        return Names {
            file: replaced(host, &[&RELAY.to_string()]),
            relayed,
            remark: None,
        };
    }
    let public = PUBLIC.iter().filter(|it| outside.contains(&it.0));
    let public: Vec<_> = public.map(|it| it.1).take(2).collect();
    let asked = public.join(" and ");
    Names {
        file: replaced(host, &public),
        relayed,
        remark: (!public.is_empty())
            .then(|| format!("`{HOST}` names no server: {asked} are asked for names")),
    }
}

/// A file with other servers, and everything else as it is.
fn replaced(text: &str, servers: &[&str]) -> String {
    let kept = text.lines().filter(|it| server(it).is_none());
    let lines = kept.map(|it| format!("{it}\n"));
    let servers = servers.iter().map(|it| format!("nameserver {it}\n"));
    lines.chain(servers).collect()
}

fn servers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(server)
}

fn server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver"))
        .then(|| words.next())
        .flatten()
}

fn is_reached(server: &str, outside: &[Family]) -> bool {
    let family = |it: &IpAddr| match it {
        IpAddr::V4(_) => Family::Four,
        IpAddr::V6(_) => Family::Six,
    };
    // With a zone, as in `fe80::1%eth0`, it is no address, and only means something on the host.
    let parsed = server.parse::<IpAddr>();
    parsed.is_ok_and(|it| {
        let is_on_link = matches!(it, IpAddr::V6(it) if it.is_unicast_link_local());
        let is_here = it.is_loopback() || it.is_unspecified();
        !is_here && !is_on_link && outside.contains(&family(&it))
    })
}

fn socket_address(server: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    match server.split_once('%') {
        None => Some(SocketAddr::new(server.parse().ok()?, PORT)),
        Some((address, zone)) => {
            let zone = zone.parse().ok().or_else(|| index(zone))?;
            Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, zone).into())
        }
    }
}

/// The number of an interface of the host.
fn index(interface: &str) -> Option<u32> {
    let any = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    );
    name_to_index(any.ok()?, interface).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Family; 2] = [Family::Four, Family::Six];

    /// The file, and after an arrow who is relayed to.
    fn check(host: &str, systemd: Option<&str>, outside: &[Family], expected: &str) {
        let names = choose(host, || systemd.map(str::to_owned), outside);
        let relayed: Vec<_> = names.relayed.iter().map(ToString::to_string).collect();
        let mut found = names.file;
        if !relayed.is_empty() {
            found += &format!("-> {}", relayed.join(" "));
        }
        assert_eq!(found, expected, "{host}");
    }

    #[test]
    fn reachable_servers_and_all_options_stay() {
        let text =
            "# by hand\nsearch a b\nnameserver 10.1.1.1\nnameserver 2001:db8::1\noptions ndots:2\n";
        check(text, None, &BOTH, text);
        // Link-local addresses of IPv4 are routed, and clouds have their servers there.
        let cloud = "nameserver 169.254.169.253\n";
        check(cloud, None, &[Family::Four], cloud);
    }

    #[test]
    fn servers_that_only_the_host_reaches_are_relayed_to_with_all_others_in_order() {
        check(
            "search a\nnameserver 127.0.0.1\nnameserver ::1\nnameserver 1.1.1.1\noptions edns0\n",
            None,
            &BOTH,
            "search a\noptions edns0\nnameserver 127.0.0.11\n-> 127.0.0.1:53 [::1]:53 1.1.1.1:53",
        );
        check(
            "nameserver fe80::1%lo\nnameserver fe80::2%7\nnameserver 0.0.0.0\n",
            None,
            &BOTH,
            "nameserver 127.0.0.11\n-> [fe80::1%1]:53 [fe80::2%7]:53 0.0.0.0:53",
        );
        check(
            "nameserver 2001:db8::1\n",
            None,
            &[Family::Four],
            "nameserver 127.0.0.11\n-> [2001:db8::1]:53",
        );
    }

    #[test]
    fn where_there_is_none_public_ones_are_asked_and_it_is_said() {
        let remark = |host: &str| choose(host, || None, &BOTH).remark;
        check(
            "search x\n",
            None,
            &BOTH,
            "search x\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n",
        );
        check(
            "",
            None,
            &[Family::Six],
            "nameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n",
        );
        assert_eq!(
            remark("").as_deref(),
            Some("`/etc/resolv.conf` names no server: 8.8.8.8 and 8.8.4.4 are asked for names")
        );
        assert_eq!(remark("nameserver 127.0.0.1\n"), None);
    }

    #[test]
    fn systemd_is_asked_for_the_servers_behind_it_where_they_can_be_reached() {
        let stub = "nameserver 127.0.0.53\nsearch x\n";
        let relayed = "search x\nnameserver 127.0.0.11\n-> 127.0.0.53:53";
        let list = "nameserver 9.9.9.9\nsearch x\n";
        check(stub, Some(list), &BOTH, list);
        check(stub, None, &BOTH, relayed);
        check(stub, Some("# none\n"), &BOTH, relayed);
        check(stub, Some("nameserver fe80::1%2\n"), &BOTH, relayed);
    }
}
