//! Which name servers are right in a namespace of its own.

use std::fs;
use std::net::IpAddr;

const HOST: &str = "/etc/resolv.conf";

/// Where systemd keeps the servers that it asks itself.
const SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";

/// As docker: somebody who answers everybody.
const PUBLIC: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// The host's own `/etc/resolv.conf`, right for those who share its network; empty where there is none.
pub fn host_resolv_conf() -> Vec<u8> {
    fs::read(HOST).unwrap_or_default()
}

/// The `/etc/resolv.conf` for a namespace that reaches what the host reaches, except the host itself.
pub(super) fn inside() -> Vec<u8> {
    let host = fs::read_to_string(HOST).unwrap_or_default();
    let systemd = || fs::read_to_string(SYSTEMD).ok();
    without_loopback(&host, systemd).into_bytes()
}

/// Leaves out the servers on the loopback interface, which is another one inside. Where systemd is
/// the only server, its own list is taken; where none remains, public ones.
fn without_loopback(host: &str, systemd: impl FnOnce() -> Option<String>) -> String {
    let only_systemd = servers(host).eq(["127.0.0.53"]);
    let source = only_systemd
        .then(systemd)
        .flatten()
        .unwrap_or_else(|| host.to_owned());
    let mut lines: Vec<_> = source
        .lines()
        .filter(|line| !server(line).is_some_and(is_loopback))
        .collect();
    let none_left = servers(&source).all(is_loopback);
    let public = PUBLIC.map(|it| format!("nameserver {it}"));
    if none_left {
        lines.extend(public.iter().map(String::as_str));
    }
    lines.iter().flat_map(|it| [it, "\n"]).collect()
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

fn is_loopback(server: &str) -> bool {
    // A scope may follow: `::1%lo`.
    let address = server.split('%').next().unwrap_or(server);
    address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, systemd: Option<&str>, expected: &str) {
        assert_eq!(
            without_loopback(host, || systemd.map(str::to_owned)),
            expected
        );
    }

    #[test]
    fn reachable_servers_and_all_options_stay() {
        check(
            "search a b\nnameserver 10.1.1.1\noptions ndots:2\n",
            None,
            "search a b\nnameserver 10.1.1.1\noptions ndots:2\n",
        );
    }

    #[test]
    fn servers_on_the_loopback_interface_go() {
        check(
            "nameserver 127.0.0.1\nnameserver ::1\nnameserver 1.1.1.1\n",
            None,
            "nameserver 1.1.1.1\n",
        );
    }

    #[test]
    fn where_none_remains_public_ones_come() {
        check(
            "nameserver 127.0.0.1\n",
            None,
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
        );
        check("", None, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn systemd_is_asked_for_the_servers_behind_it() {
        check(
            "nameserver 127.0.0.53\nsearch x\n",
            Some("nameserver 9.9.9.9\nsearch x\n"),
            "nameserver 9.9.9.9\nsearch x\n",
        );
    }
}
