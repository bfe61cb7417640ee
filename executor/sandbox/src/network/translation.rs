//! The rules of address translation between the bridge and the interfaces that lead outside.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

use super::bridge::NAME;
use super::changes;
use super::forwarding::Others;
use super::routes::Family;
use super::subnets::Subnets;
use super::talk::Answer;

/// Makes the rules for each of these families, or makes them anew, and lists all chains that there are then.
pub(super) fn start(subnets: &Subnets, families: &[(Family, Others)]) -> Answer<String> {
    let rules: Vec<_> = families
        .iter()
        .filter_map(|(family, others)| {
            let network = subnets.written(*family)?;
            Some(rules(*family, &network, others))
        })
        .collect();
    nft(&(rules.concat() + "list chains\n"))
}

/// Takes away what [`start`] made.
pub(super) fn stop() -> Answer<()> {
    let mut rules = without(Family::Four);
    if changes::exists("ipv6") {
        rules += &without(Family::Six);
    }
    nft(&rules).map(drop)
}

/// How `nft` calls a family.
pub(super) fn name(family: Family) -> &'static str {
    match family {
        Family::Four => "ip",
        Family::Six => "ip6",
    }
}

/// Removing a table that is not there is an error, making one that is there is none.
fn without(family: Family) -> String {
    let table = format!("table {} rbuild", name(family));
    format!("{table} {{}}\ndelete {table}\n")
}

/// A table as `nft` reads it, in the place of what it was before.
///
/// Two namespaces reach each other neither over the bridge, whose ports are isolated, nor by way of
/// the host.
fn rules(family: Family, network: &str, others: &Others) -> String {
    let others = match others {
        Others::AsBefore => String::new(),
        Others::From(uplink) => format!("iifname \"{uplink}\" drop"),
        Others::All => "drop".to_owned(),
    };
    let (without, name) = (without(family), name(family));
    format!(
        r#"{without}table {name} rbuild {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        {name} saddr {network} oifname != "{NAME}" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{NAME}" oifname != "{NAME}" accept
        oifname "{NAME}" ct state established,related accept
        oifname "{NAME}" drop
        {others}
    }}
}}
"#
    )
}

/// Has `nft` do something, and gives what it says.
pub(super) fn nft(commands: &str) -> Answer<String> {
    let command = Command::new("nft")
        .args(["-a", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = command.map_err(|it| match it.kind() {
        ErrorKind::NotFound => "`nft` is not installed (package `nftables`)".to_owned(),
        _ => format!("cannot run `nft`: {it}"),
    })?;
    if let Some(mut stdin) = process.stdin.take() {
        // If it does not read, its exit status tells why.
        let _ = stdin.write_all(commands.as_bytes());
    }
    let output = process
        .wait_with_output()
        .map_err(|it| format!("cannot wait for `nft`: {it}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`nft` refused: {}",
        message.lines().next().unwrap_or("no reason given")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_forwarded_before_is_dropped() {
        let dropped = |others: &Others| {
            let rules = rules(Family::Six, "fd72::/64", others);
            let rest = rules.split_once("oifname \"rbuild0\" drop\n").unwrap().1;
            rest.lines().next().unwrap().trim().to_owned()
        };
        assert_eq!(dropped(&Others::AsBefore), "");
        assert_eq!(
            dropped(&Others::From("eth0".to_owned())),
            "iifname \"eth0\" drop"
        );
        assert_eq!(dropped(&Others::All), "drop");
    }
}
