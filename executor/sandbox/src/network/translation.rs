//! Address translation and forwarding between the bridge and the interface that leads outside.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::bridge::NAME;
use super::talk::Answer;

/// The interface of the default route with the lowest metric.
pub(super) fn uplink() -> Answer<String> {
    let table = fs::read_to_string("/proc/net/route")
        .map_err(|it| format!("cannot read the routes: {it}"))?;
    default_interface(&table).ok_or_else(|| "the host itself has no default route".to_owned())
}

fn default_interface(table: &str) -> Option<String> {
    let defaults = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [interface, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else {
            return None;
        };
        Some((metric.parse::<u32>().ok()?, interface))
    });
    defaults.min().map(|it| it.1.to_owned())
}

/// All IPv4 routes of the host: address and mask.
pub(super) fn routes() -> Vec<(u32, u32)> {
    // The kernel prints the bytes as they lie in memory.
    let number = |it: &str| {
        u32::from_str_radix(it, 16)
            .ok()
            .map(|it| u32::from_be_bytes(it.to_ne_bytes()))
    };
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let route = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        Some((number(fields.get(1)?)?, number(fields.get(7)?)?))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// Switches on what the namespaces need to get out. What it changes on the uplink it notes in `state`.
pub(super) fn start(state: &Path, uplink: &str, network: (u8, u8)) -> Answer<()> {
    set_forwarding(NAME, "1")?;
    let before = forwarding(uplink)?;
    if before != "1" {
        let note = state.join("uplink");
        fs::write(&note, uplink)
            .map_err(|it| format!("cannot write `{}`: {it}", note.display()))?;
        set_forwarding(uplink, "1")?;
    }
    let only_ours = state.join("uplink").exists();
    nft(&rules(uplink, network, only_ours))
}

/// Takes back what [`start`] did.
pub(super) fn stop(state: &Path) {
    let note = state.join("uplink");
    let uplink = fs::read_to_string(&note).ok();
    let stopped = uplink.map_or(Ok(()), |uplink| set_forwarding(&uplink, "0"));
    let removed = nft("table ip rbuild {}\ndelete table ip rbuild\n");
    for result in [stopped, removed] {
        if let Err(error) = result {
            tracing::warn!(%error, "something of the network stays");
        }
    }
    let _ = fs::remove_file(note);
}

/// The rules as `nft` reads them; the first two lines make it a replacement.
///
/// Where forwarding was off on the uplink before (`only_ours`), whatever else comes in there is
/// dropped instead of forwarded, as it was before.
fn rules(uplink: &str, (a, b): (u8, u8), only_ours: bool) -> String {
    let network = Ipv4Addr::new(a, b, 0, 0);
    let others = if only_ours {
        format!("iifname \"{uplink}\" drop")
    } else {
        String::new()
    };
    format!(
        r#"table ip rbuild {{}}
delete table ip rbuild
table ip rbuild {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {network}/16 oifname != "{NAME}" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{NAME}" accept
        oifname "{NAME}" ct state established,related accept
        oifname "{NAME}" drop
        {others}
    }}
}}
"#
    )
}

fn nft(rules: &str) -> Answer<()> {
    let command = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = command.map_err(|it| match it.kind() {
        std::io::ErrorKind::NotFound => "`nft` is not installed".to_owned(),
        _ => format!("cannot run `nft`: {it}"),
    })?;
    if let Some(mut stdin) = process.stdin.take() {
        // If it does not read, its exit status tells why.
        let _ = stdin.write_all(rules.as_bytes());
    }
    let output = process
        .wait_with_output()
        .map_err(|it| format!("cannot wait for `nft`: {it}"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`nft` refused: {}",
        message.lines().next().unwrap_or("no reason given")
    ))
}

fn switch(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf")
        .join(interface)
        .join("forwarding")
}

fn forwarding(interface: &str) -> Answer<String> {
    let value = fs::read_to_string(switch(interface));
    value
        .map(|it| it.trim().to_owned())
        .map_err(|it| format!("cannot read the forwarding of `{interface}`: {it}"))
}

fn set_forwarding(interface: &str, value: &str) -> Answer<()> {
    let done = fs::write(switch(interface), value);
    done.map_err(|it| format!("cannot switch the forwarding of `{interface}` to {value}: {it}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_counts() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     wlan0 00000000 010200C0 0003 0 0 600 00000000 0 0 0\n\
                     eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0\n\
                     eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        assert_eq!(default_interface(table).as_deref(), Some("eth0"));
        assert_eq!(default_interface("Iface Destination\n"), None);
    }

    #[test]
    fn what_was_not_forwarded_before_is_dropped() {
        assert!(rules("eth0", (10, 210), true).contains("iifname \"eth0\" drop"));
        assert!(!rules("eth0", (10, 210), false).contains("eth0"));
    }
}
