//! Reaching the outside from a namespace of its own. Needs root, and a host with a default route.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod room;

use std::net::{TcpListener, UdpSocket};

use room::{Ran, Room, finish};
use sandbox::network::{Lease, Networks, Reach};
use sandbox::{Network, Privileges, spawn};

fn run(room: &Room, lease: &Lease, script: &str) -> Ran {
    let mut spec = room.spec(script);
    spec.network = Network::Namespace(lease.namespace().unwrap());
    spec.resolv_conf = Some(lease.resolv_conf().to_vec());
    finish(spawn(spec).unwrap())
}

/// The address by which the host reaches the outside; asking sends nothing.
fn host_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[test]
fn root_only_a_lease_reaches_out_and_its_neighbours_cannot_reach_it() {
    let networks = Networks::default();
    let (first, second) = (networks.lease().unwrap(), networks.lease().unwrap());
    assert_eq!(first.reach(), &Reach::Translated);
    let room = Room::new();

    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let (host, port) = (host_address(), listener.local_addr().unwrap().port());
    let host_side = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let ran = run(
        &room,
        &first,
        &format!("nc {host} {port} < /dev/null && ip -4 addr show eth0 | grep -o '10[.0-9]*/16'"),
    );
    let address = ran
        .stdout
        .trim()
        .strip_suffix("/16")
        .expect("it connects to the host");
    host_side.join().unwrap();

    let ping = format!("ping -c 1 -W 1 {address} > /dev/null && echo there || echo nobody");
    assert_eq!(run(&room, &first, &ping).stdout, "there\n");
    assert_eq!(run(&room, &second, &ping).stdout, "nobody\n");
}

#[test]
fn root_only_a_lease_that_is_given_back_is_used_again() {
    let networks = Networks::default();
    let room = Room::new();
    let address = |lease: &Lease| run(&room, lease, "ip -4 addr show eth0 | grep inet").stdout;
    let first = networks.lease().unwrap();
    let was = address(&first);
    drop(first);
    assert_eq!(address(&networks.lease().unwrap()), was);
}

#[test]
fn root_only_a_lease_for_once_is_not_used_again() {
    let networks = Networks::default();
    let room = Room::new();
    let once = networks.lease_once().unwrap();
    let mut spec = room.spec("ip link add marked type bridge");
    spec.network = Network::Namespace(once.namespace().unwrap());
    spec.privileges = Privileges::Insecure;
    assert_eq!(finish(spawn(spec).unwrap()).stderr, "");
    assert!(
        run(&room, &once, "ls /sys/class/net")
            .stdout
            .contains("marked")
    );
    drop(once);
    let next = networks.lease().unwrap();
    assert!(
        !run(&room, &next, "ls /sys/class/net")
            .stdout
            .contains("marked")
    );
}

#[test]
fn root_only_without_a_lease_there_is_only_loopback() {
    let ran = Room::new()
        .run("ls /sys/class/net; ip route; ping -c 1 -w 1 127.0.0.1 >/dev/null && echo loopback");
    assert_eq!(ran.stdout, "lo\nloopback\n", "{}", ran.stderr);
}

#[test]
fn root_only_the_hosts_network_is_there_when_asked_for() {
    let room = Room::new();
    let mut spec = room.spec("readlink /proc/self/ns/net");
    spec.network = Network::Host;
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(
        finish(spawn(spec).unwrap()).stdout.trim(),
        host.to_str().unwrap()
    );
}

/// Not a test of its own: a process without `nft`, run by the next test.
#[test]
fn root_only_owner_without_nft() {
    if std::env::var_os("SANDBOX_TEST_WITHOUT_NFT").is_none() {
        return;
    }
    let networks = Networks::default();
    let lease = networks.lease().unwrap();
    let ran = run(
        &Room::new(),
        &lease,
        "ls /sys/class/net; cat /etc/resolv.conf",
    );
    println!("{}\n{}", lease.reach(), ran.stdout);
}

#[test]
fn root_only_where_there_is_no_translation_the_lease_says_what_is_instead() {
    let path = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let said = || {
        // In a network namespace of its own, so that the bridge of other tests is not seen.
        let script = "ip link set lo up; ip link add uplink type bridge; ip addr add 192.0.2.7/24 dev uplink; \
                      ip link set uplink up; ip route add default via 192.0.2.1; \
                      mount -t tmpfs tmpfs /run; PATH=$1 exec $2 --exact root_only_owner_without_nft --nocapture";
        let output = std::process::Command::new("unshare")
            .args(["-n", "-m", "sh", "-c", script, "sh"])
            .arg(path.path())
            .arg(std::env::current_exe().unwrap())
            .env("SANDBOX_TEST_WITHOUT_NFT", "1")
            .env("TMPDIR", state.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    let all = said();
    assert!(
        all.contains("nothing: `nft` is not installed; `slirp4netns` is not installed\nlo\n"),
        "{all}"
    );
    let slirp =
        ["/usr/bin", "/usr/local/bin"].map(|it| std::path::Path::new(it).join("slirp4netns"));
    if let Some(slirp) = slirp.iter().find(|it| it.exists()) {
        std::os::unix::fs::symlink(slirp, path.path().join("slirp4netns")).unwrap();
        let all = said();
        assert!(all.contains("the outside, through slirp4netns: `nft` is not installed\neth0\nlo\nnameserver 10.0.2.3\n"), "{all}");
    }
}
