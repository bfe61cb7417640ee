//! Firewalls of the host that drop what the bridge forwards.
//!
//! A packet has to be let through by every chain that it passes; that ours accepts it is of no help where another's drops
//! it. What others' rules mean together nobody can say by reading them, so a packet is sent and watched: a connection is
//! begun, as a step would, and ends on the last metre inside the host.
//!
//! Where it does not get through, and there is the chain `FORWARD` of iptables, which Docker, ufw, libvirt and podman
//! share, each with its own rules at the top, rbuild does as they do while it is there: what comes from its bridge and
//! goes there is accepted, since its own rules are about that. In nobody else's chain anything is changed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::bridge::NAME;
use super::changes::Changes;
use super::elsewhere;
use super::routes::Family;
use super::talk::Answer;
use super::translation::{name, nft};
use crate::{program, sys};

/// A chain of somebody else that forwarded packets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    family: String,
    table: String,
    name: String,
    drops: bool,
}

/// Those of them that are for a family.
pub(super) fn chains(family: Family, listed: &str) -> Vec<Chain> {
    let mut chains = parse(listed);
    chains.retain(|it| it.family == "inet" || it.family == name(family));
    if is_legacy_in_use(family) {
        chains.push(Chain {
            family: format!("{} (iptables-legacy)", name(family)),
            table: "filter".to_owned(),
            name: "FORWARD".to_owned(),
            drops: true,
        });
    }
    chains
}

/// Sees to it that `chains` let through what comes from a namespace on the bridge.
pub(super) fn open(
    family: Family,
    chains: &[Chain],
    namespace: BorrowedFd<'_>,
    changes: &Changes,
) -> Answer<()> {
    if lets_through(family, namespace)? {
        return Ok(());
    }
    let shared = chains.iter().filter_map(|it| it.shared(family));
    for place in shared {
        changes.insert(place)?;
        if lets_through(family, namespace)? {
            return Ok(());
        }
    }
    let (dropping, others): (Vec<_>, Vec<_>) = chains.iter().partition(|it| it.drops);
    let suspects = if dropping.is_empty() {
        others
    } else {
        dropping
    };
    let names: Vec<_> = suspects.iter().map(|it| format!("`{it}`")).collect();
    Err(format!(
        "the host's firewall drops what comes from `{NAME}` (in {})",
        names.join(" or ")
    ))
}

impl Chain {
    /// Where rules of ours may be put into it.
    fn shared(&self, family: Family) -> Option<Place> {
        if (self.table.as_str(), self.name.as_str()) != ("filter", "FORWARD") {
            return None;
        }
        match self.family == name(family) {
            true => Some(Place::Tables(family)),
            false if self.family == "inet" => None,
            false => Some(Place::Legacy(family)),
        }
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// The base chains of others on the way of forwarded packets, from what `nft list chains` says.
fn parse(listed: &str) -> Vec<Chain> {
    let (mut table, mut chain) = (None, None);
    let mut found = Vec::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["table", family, name, "{", ..] => table = Some((family, name)),
            ["chain", name, "{", ..] => chain = Some(name),
            ["type", _, "hook", "forward", ..] => {
                if let (Some((family, table)), Some(name)) = (table, chain)
                    && matches!(family, "ip" | "ip6" | "inet")
                    && table != "rbuild"
                {
                    found.push(Chain {
                        family: family.to_owned(),
                        table: table.to_owned(),
                        name: name.to_owned(),
                        drops: line.contains("policy drop"),
                    });
                }
            }
            _ => {}
        }
    }
    found
}

/// The old iptables are a part of the kernel of their own, of which `nft` knows nothing.
fn is_legacy_in_use(family: Family) -> bool {
    let names = format!("/proc/thread-self/net/{}_tables_names", name(family));
    fs::read_to_string(names).is_ok_and(|it| it.lines().any(|it| it == "filter"))
}

/// Where rules of ours are put among those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the chain `FORWARD` of iptables, as nftables have it.
    Tables(Family),
    /// In that of the old iptables.
    Legacy(Family),
}

/// What tells ours from others'.
const COMMENT: &str = "rbuild";

impl Place {
    /// Puts two rules at the top.
    pub(super) fn insert(self) -> Answer<()> {
        match self {
            Place::Tables(family) => {
                let chain = format!("{} filter FORWARD", name(family));
                let rule = |of: &str| {
                    format!("insert rule {chain} {of} \"{NAME}\" accept comment \"{COMMENT}\"\n")
                };
                nft(&(rule("iifname") + &rule("oifname"))).map(drop)
            }
            Place::Legacy(family) => {
                legacy(family, "-I", "-i")?;
                legacy(family, "-I", "-o")
            }
        }
    }

    /// Takes them away again, as far as they are there.
    pub(super) fn remove(self) -> Answer<()> {
        match self {
            Place::Tables(family) => {
                let chain = format!("{} filter FORWARD", name(family));
                let ours = format!("comment \"{COMMENT}\" # handle ");
                // Who has taken the chain away has taken the rules, too.
                let listed = nft(&format!("list chain {chain}\n")).unwrap_or_default();
                let handles = listed.lines().filter_map(|it| it.split_once(&ours));
                let deletion = |(_, handle)| format!("delete rule {chain} handle {handle}\n");
                let deletions: String = handles.map(deletion).collect();
                if deletions.is_empty() {
                    return Ok(());
                }
                nft(&deletions).map(drop)
            }
            Place::Legacy(family) => {
                for direction in ["-i", "-o"] {
                    while legacy(family, "-C", direction).is_ok() {
                        legacy(family, "-D", direction)?;
                    }
                }
                Ok(())
            }
        }
    }

    pub(super) fn written(self) -> String {
        match self {
            Place::Tables(family) => format!("nft {}", name(family)),
            Place::Legacy(family) => format!("legacy {}", name(family)),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Place> {
        let places = [Family::Four, Family::Six]
            .into_iter()
            .flat_map(|it| [Place::Tables(it), Place::Legacy(it)]);
        places.into_iter().find(|it| it.written() == text)
    }
}

fn legacy(family: Family, action: &str, direction: &str) -> Answer<()> {
    let program = format!("{}tables-legacy", name(family));
    if program::find(&program).is_none() {
        return Err(format!("`{program}` is not installed (package `iptables`)"));
    }
    let output = Command::new(&program)
        .args(["-w", action, "FORWARD", direction, NAME])
        .args(["-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"])
        .stdin(Stdio::null())
        .output()
        .map_err(|it| format!("cannot run `{program}`: {it}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let line = complaint.lines().next().unwrap_or("no reason given");
            Err(format!("`{program}` refused: {line}"))
        }
    }
}

/// Somebody whom everybody can reach. Nothing gets there.
fn destination(family: Family) -> SocketAddr {
    let address = match family {
        Family::Four => [8, 8, 8, 8].into(),
        Family::Six => [0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888].into(),
    };
    SocketAddr::new(address, 443)
}

/// How long a packet may take from a namespace to the host. It takes none, but a machine may have other things to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a packet from a namespace that comes to the host would leave it.
fn lets_through(family: Family, namespace: BorrowedFd<'_>) -> Answer<bool> {
    let (name, destination) = (name(family), destination(family));
    let table = format!("{name} rbuild");
    let packet = format!(
        "{name} daddr {} tcp dport {} counter",
        destination.ip(),
        destination.port()
    );
    // Before everybody else's chains, and after them.
    nft(&format!(
        "add chain {table} came {{ type filter hook prerouting priority -500; }}\n\
         add rule {table} came iifname \"{NAME}\" {packet}\n\
         add chain {table} went {{ type filter hook postrouting priority 500; }}\n\
         add rule {table} went {packet} drop\n"
    ))?;
    let through = watch(&table, || knock(namespace, destination));
    let over: String = ["came", "went"]
        .iter()
        .map(|it| format!("flush chain {table} {it}\ndelete chain {table} {it}\n"))
        .collect();
    nft(&over)?;
    through
}

/// Sends until something came, and says whether it went on.
fn watch(table: &str, send: impl Fn() -> io::Result<()>) -> Answer<bool> {
    let count =
        |chain: &str| Ok::<_, String>(counted(&nft(&format!("list chain {table} {chain}\n"))?));
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        send().map_err(|it| format!("no connection can be tried: {it}"))?;
        if count("came")? > 0 {
            return Ok(count("went")? > 0);
        }
    }
    Err(format!(
        "what is sent over `{NAME}` does not even reach the host"
    ))
}

/// Begins a connection and forgets about it.
fn knock(namespace: BorrowedFd<'_>, destination: SocketAddr) -> io::Result<()> {
    const MOMENT: Duration = Duration::from_millis(5);
    elsewhere(|| {
        sys::enter_network(namespace)?;
        let _ = std::net::TcpStream::connect_timeout(&destination, MOMENT);
        Ok(())
    })
}

fn counted(listed: &str) -> u64 {
    let (_, rest) = listed.split_once("counter packets ").unwrap_or_default();
    let number = rest.split_whitespace().next();
    number.and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_others_are_those_that_forwarded_packets_pass() {
        let listed = "\
table ip filter { # handle 1
\tchain FORWARD { # handle 1
\t\ttype filter hook forward priority filter; policy drop;
\t}
\tchain DOCKER-USER { # handle 2
\t}
}
table inet firewalld { # handle 3
\tchain filter_FORWARD { # handle 4
\t\ttype filter hook forward priority filter + 10; policy accept;
\t}
\tchain filter_INPUT { # handle 5
\t\ttype filter hook input priority filter + 10; policy drop;
\t}
}
table ip rbuild { # handle 6
\tchain forward { # handle 7
\t\ttype filter hook forward priority filter; policy accept;
\t}
}
table bridge b {
\tchain c {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
";
        let found: Vec<_> = parse(listed)
            .iter()
            .map(|it| format!("{it} {}", it.drops))
            .collect();
        assert_eq!(
            found,
            [
                "ip filter FORWARD true",
                "inet firewalld filter_FORWARD false"
            ]
        );
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        for place in [Place::Tables(Family::Four), Place::Legacy(Family::Six)] {
            assert_eq!(Place::parse(&place.written()), Some(place));
        }
    }

    #[test]
    fn packets_are_counted_as_nft_says() {
        assert_eq!(counted("x counter packets 12 bytes 720 drop"), 12);
        assert_eq!(counted(""), 0);
    }
}
