//! Switching on that the host forwards between the bridge and the interface that leads outside, and nothing else.

use std::fs;

use super::bridge::NAME;
use super::changes::{self, Changes};
use super::routes::Family;
use super::talk::Answer;

/// What of the host's other packets would be forwarded now and was not before. The rules drop it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Others {
    /// Nothing: it forwards as before.
    AsBefore,
    /// What comes in through this interface.
    From(String),
    /// What comes in anywhere.
    All,
}

/// What [`start`] is going to mean for them.
pub(super) fn others(changes: &Changes, family: Family, uplink: &str) -> Answer<Others> {
    let is_ours = |setting: &str| Ok(changes::get(setting)? != "1" || changes.has(setting));
    let from = |ours| match ours {
        true => Others::From(uplink.to_owned()),
        false => Others::AsBefore,
    };
    match family {
        Family::Four => is_ours(&four(uplink)).map(from),
        Family::Six if !is_ours(ALL_SIX)? => Ok(Others::AsBefore),
        Family::Six if changes::exists(&six(NAME)) => is_ours(&six(uplink)).map(from),
        Family::Six => Ok(Others::All),
    }
}

/// Switches it on for what comes in through `uplink` and through the bridge.
pub(super) fn start(changes: &Changes, family: Family, uplink: &str) -> Answer<()> {
    const ALL_FOUR: &str = "ipv4/ip_forward";
    match family {
        Family::Four => {
            changes::set(&four(NAME), "1")?;
            // Who switches it on for all interfaces in the meantime means this one, too.
            let unless_changed = (ALL_FOUR, &*changes::get(ALL_FOUR)?);
            changes.set_while(&four(uplink), "1", unless_changed)
        }
        Family::Six if changes::get(ALL_SIX)? == "1" && !changes.has(ALL_SIX) => Ok(()),
        // From Linux 6.17 on an interface can forward while the others do not.
        Family::Six if changes::exists(&six(NAME)) => {
            changes::set(&six(NAME), "1")?;
            changes.set(&six(uplink), "1")
        }
        Family::Six => all_six(changes),
    }
}

const ALL_SIX: &str = "ipv6/conf/all/forwarding";

fn four(interface: &str) -> String {
    format!("ipv4/conf/{interface}/forwarding")
}

fn six(interface: &str) -> String {
    format!("ipv6/conf/{interface}/force_forwarding")
}

/// Before, it is all interfaces or none. The switch makes each of them a router's, which does not
/// listen to other routers any more: an interface that has its addresses and routes from them is told
/// to go on listening first.
fn all_six(changes: &Changes) -> Answer<()> {
    const DEFAULT: &str = "ipv6/conf/default/forwarding";
    if !changes.has(ALL_SIX) {
        for interface in interfaces()? {
            let forwarding = format!("ipv6/conf/{interface}/forwarding");
            let listening = format!("ipv6/conf/{interface}/accept_ra");
            match changes::get(&forwarding)?.as_str() {
                "0" if changes::get(&listening)? == "1" => changes.set(&listening, "2")?,
                "0" => {}
                _ => changes.keep(&forwarding, (ALL_SIX, "0"))?,
            }
        }
    }
    let default = changes::get(DEFAULT)?;
    changes.set(ALL_SIX, "1")?;
    // Interfaces that come later are none of ours.
    changes::set(DEFAULT, &default)
}

/// All interfaces of the host but our own, and `default`, which those that come later are like.
fn interfaces() -> Answer<Vec<String>> {
    const SETTINGS: &str = "/proc/sys/net/ipv6/conf";
    let entries = fs::read_dir(SETTINGS).map_err(|it| format!("cannot read `{SETTINGS}`: {it}"))?;
    let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
    Ok(names.filter(|it| it != "all" && it != NAME).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{elsewhere, new_namespace, talk::talk};
    use super::*;
    use crate::sys;

    fn settings() -> String {
        let named = [
            "all/forwarding",
            "default/forwarding",
            "up0/forwarding",
            "up0/accept_ra",
            "up1/forwarding",
            "up1/accept_ra",
        ];
        let value = |it: &str| changes::get(&format!("ipv6/conf/{it}")).unwrap();
        named.map(|it| format!("{it}={}", value(it))).join(" ")
    }

    #[test]
    fn root_only_an_older_kernel_is_a_router_for_a_while_and_goes_on_listening_to_others() {
        let state = tempfile::tempdir().unwrap();
        let namespace = new_namespace().unwrap();
        let seen = elsewhere(|| {
            sys::enter_network(std::os::fd::AsFd::as_fd(&namespace))?;
            talk(async |netlink| {
                netlink.add_bridge("up0", 1500).await?;
                netlink.add_bridge("up1", 1500).await.map(drop)
            })
            .unwrap();
            changes::set(ALL_SIX, "0").unwrap();
            changes::set("ipv6/conf/up0/accept_ra", "1").unwrap();
            changes::set("ipv6/conf/up1/accept_ra", "1").unwrap();
            changes::set("ipv6/conf/up1/forwarding", "1").unwrap();
            let before = settings();
            let changes = Changes::new(state.path());
            assert_eq!(all_six(&changes), Ok(()));
            let during = settings();
            // As after a kill.
            assert_eq!(all_six(&changes), Ok(()));
            assert_eq!(settings(), during);
            changes.undo();
            Ok([before, during, settings()])
        });
        let [before, during, after] = seen.unwrap();
        assert_eq!(
            during,
            "all/forwarding=1 default/forwarding=0 up0/forwarding=1 up0/accept_ra=2 up1/forwarding=1 up1/accept_ra=1"
        );
        assert_eq!(after, before);
    }

    #[test]
    fn root_only_forwarding_that_somebody_else_switches_on_meanwhile_stays() {
        let state = tempfile::tempdir().unwrap();
        let namespace = new_namespace().unwrap();
        let seen = elsewhere(|| {
            sys::enter_network(std::os::fd::AsFd::as_fd(&namespace))?;
            for name in ["up0", NAME] {
                talk(async |netlink| netlink.add_bridge(name, 1500).await).unwrap();
            }
            // As the first namespace has it, which is not ours.
            changes::set("ipv4/ip_forward", "0").unwrap();
            let changes = Changes::new(state.path());
            let others = others(&changes, Family::Four, "up0").unwrap();
            start(&changes, Family::Four, "up0").unwrap();
            changes::set("ipv4/ip_forward", "1").unwrap();
            changes.undo();
            Ok((others, changes::get("ipv4/conf/up0/forwarding").unwrap()))
        });
        let expected = (Others::From("up0".to_owned()), "1".to_owned());
        assert_eq!(seen.unwrap(), expected);
    }
}
