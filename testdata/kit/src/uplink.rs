//! A network with a way out that leads nowhere, for namespaces in which rbuild sets up its bridge.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::volume::quietly;

/// The links of such a network.
const LINKS: [&str; 3] = ["lo", "up0", "up1"];

/// Gives the network namespace of this process, which is new, an uplink; steps get their bridge and their links then.
pub fn connect() -> Result<()> {
    for line in [
        "link set lo up",
        "link add up0 type veth peer name up1",
        "address add 192.0.2.2/24 dev up0",
        "link set up0 up",
        "link set up1 up",
        "route add default via 192.0.2.1",
    ] {
        quietly(Command::new("ip").args(line.split(' ')))?;
    }
    Ok(())
}

/// The links beside those, once they have had `patience` to go.
pub fn links_settle(patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    loop {
        let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let names = table.lines().skip(2).filter_map(|it| it.split(':').next());
        let left: Vec<String> = names
            .map(str::trim)
            .filter(|it| !LINKS.contains(it))
            .map(str::to_owned)
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
