//! Reaching the outside from a namespace of its own. Needs root, and a host with a default route.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod lab;
mod room;

use std::net::{TcpListener, UdpSocket};

use lab::{Lab, SERVERS};
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
        all.contains("nothing: `nft` is not installed (package `nftables`); neither `pasta` (package `passt`) nor `slirp4netns` is installed\nlo\n"),
        "{all}"
    );
}

/// Not a test of its own.
#[test]
fn root_only_guest_of_a_lab() {
    lab::guest();
}

/// Asks both servers who the asker is.
fn ask_both() -> String {
    SERVERS
        .map(|it| format!("nc -w 5 {it} 80 < /dev/null 2> /dev/null || echo {it}: nobody;"))
        .concat()
}

const TRANSLATED: &str = "the outside, with translated addresses\n";

#[test]
fn root_only_both_families_reach_out_as_the_host_which_is_afterwards_as_before() {
    let script = format!(
        "{} ping -c 1 -W 5 ::1 > /dev/null && echo loopback; ip -o -6 addr show eth0 scope global | grep -o 'fd[^ ]*.*'; \
         cat /proc/sys/net/ipv6/conf/eth0/accept_ra",
        ask_both()
    );
    let seen = Lab::new().lease(&script);
    let expected = format!(
        "{TRANSLATED}203.0.113.2\n2001:db8:113::2\nloopback\n\
         fd72:6275:696c:64::2/64 scope global flags 02 \\       valid_lft forever preferred_lft forever\n0\n"
    );
    assert_eq!(seen.said, expected);
    assert_eq!(seen.left, "");
}

#[test]
fn root_only_where_the_host_has_one_family_its_namespaces_have_that_one() {
    let script = format!(
        "{} ip -o addr show eth0 | wc -l; ip -6 route | wc -l",
        ask_both()
    );
    let ways = [
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
        "ip -6 route del default",
    ];
    for way in ways {
        let seen = Lab::new().with(way).lease(&script);
        let expected = format!("{TRANSLATED}203.0.113.2\n2001:db8:51::1: nobody\n1\n0\n");
        assert_eq!(
            seen.said.replace(
                "nc: can't connect to remote host (2001:db8:51::1): Network is unreachable\n",
                ""
            ),
            expected,
            "{way}"
        );
        assert_eq!(seen.left, "", "{way}");
    }
    let seen = Lab::new().with("ip route del default").lease(&script);
    assert!(
        seen.said
            .contains("198.51.100.1: nobody\n2001:db8:113::2\n"),
        "{seen:?}"
    );
    assert_eq!(seen.left, "");
}

#[test]
fn root_only_nobody_else_is_forwarded_for() {
    // A stranger who knows the way to a network behind the host, and an interface of the host to it.
    let stranger = "ip link add behind type veth peer name beyond; ip link set behind addrgenmode none; ip link set beyond addrgenmode none; ip link set beyond up; ip addr add 198.18.0.1/24 dev behind; ip addr add 2001:db8:18::1/64 dev behind nodad; \
                    ip link set behind up; ip -n outside route add 198.18.0.0/24 via 203.0.113.2; \
                    ip -n outside route add 2001:db8:18::/64 via 2001:db8:113::2; \
                    nft 'table inet watch { chain out { type filter hook postrouting priority 0; ip daddr 198.18.0.9 counter; ip6 daddr 2001:db8:18::9 counter; }; }'; \
                    (while sleep 0.2; do for it in 198.18.0.9 2001:db8:18::9; do \
                        ip netns exec outside busybox ping -c 1 -W 1 $it; done; done) > /dev/null 2>&1 & trap 'kill %1' EXIT";
    // The namespace is there as long as the stranger needs.
    let seen = Lab::new()
        .with(stranger)
        .with("STATELESS=")
        .lease("sleep 3");
    assert_eq!(seen.said, TRANSLATED);
    assert_eq!(seen.left, "", "what was forwarded was counted");
}

#[test]
fn root_only_neighbours_do_not_reach_each_other_by_way_of_the_host() {
    let networks = Networks::default();
    let (first, second) = (networks.lease().unwrap(), networks.lease().unwrap());
    let room = Room::new();
    let script = "ip -o addr show eth0 scope global | sed 's/.*inet6* \\([^/]*\\).*/\\1/'; ip route show default | sed 's/.*via \\([^ ]*\\).*/gateway \\1/'";
    let seen = run(&room, &second, script).stdout;
    let (addresses, gateway) = seen.split_once("gateway ").unwrap();
    for address in addresses.lines().filter(|it| it.contains('.')) {
        // Not even where one of them could change its routes.
        let mut spec = room.spec(&format!(
            "ip route add {address} via {gateway}; ping -c 1 -W 1 {address} > /dev/null && echo there || echo nobody",
            gateway = gateway.trim()
        ));
        spec.network = Network::Namespace(first.namespace().unwrap());
        spec.privileges = Privileges::Insecure;
        assert_eq!(finish(spawn(spec).unwrap()).stdout, "nobody\n", "{address}");
    }
}

/// What a lease is when a firewall of the host forwards nothing, and there is no network in user space.
fn behind(firewall: &str) -> lab::Seen {
    let only = "mkdir /tmp/only; for it in nft iptables-legacy ip6tables-legacy ip busybox; do ln -s $(command -v $it) /tmp/only; done";
    let seen = Lab::new()
        .with(&format!("{firewall}\n{only}\nGUEST_PATH=/tmp/only"))
        .lease(&ask_both());
    assert_eq!(seen.left, "", "{firewall}");
    seen
}

const BOTH: &str = "203.0.113.2\n2001:db8:113::2\n";

#[test]
fn root_only_a_firewall_in_the_shared_chain_is_passed_while_somebody_is_there() {
    let firewalls = [
        "for it in ip ip6; do nft \"table $it filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }\"; done",
        "for it in iptables-nft ip6tables-nft; do $it -P FORWARD DROP; $it -N DOCKER-USER; $it -A FORWARD -j DOCKER-USER; \
         $it -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; $it -A FORWARD -j REJECT; done",
        "for it in iptables-legacy ip6tables-legacy; do $it -P FORWARD DROP; done",
    ];
    for firewall in firewalls {
        assert_eq!(
            behind(firewall).said,
            format!("{TRANSLATED}{BOTH}"),
            "{firewall}"
        );
    }
}

#[test]
fn root_only_rules_among_those_of_others_read_as_theirs() {
    let seen = Lab::new()
        .with("iptables-nft -P FORWARD DROP")
        .with("(for attempt in $(seq 1000); do iptables-nft -S FORWARD > /tmp/seen; grep -q rbuild0 /tmp/seen && break; sleep 0.01; done) > /dev/null &")
        .with("trap 'cat /tmp/seen' EXIT")
        .lease("sleep 1");
    assert_eq!(seen.said, TRANSLATED);
    assert_eq!(
        seen.left,
        "-P FORWARD DROP\n\
         -A FORWARD -o rbuild0 -m comment --comment rbuild -j ACCEPT\n\
         -A FORWARD -i rbuild0 -m comment --comment rbuild -j ACCEPT\n"
    );
}

#[test]
fn root_only_a_firewall_of_somebodys_own_is_left_alone_and_named() {
    let drops = |family: &str| {
        format!(
            "nft 'table {family} mine {{ chain fence {{ type filter hook forward priority 10; policy drop; iifname up0 accept; }}; }}'"
        )
    };
    let nothing = |chain: &str| {
        format!(
            "nothing: the host's firewall drops what comes from `rbuild0` (in `{chain} mine fence`); neither `pasta` (package `passt`) nor `slirp4netns` is installed\n\
             198.51.100.1: nobody\n2001:db8:51::1: nobody\n"
        )
    };
    assert_eq!(behind(&drops("inet")).said, nothing("inet"));
    // One family is better than none.
    assert_eq!(
        behind(&drops("ip6")).said,
        format!("{TRANSLATED}203.0.113.2\n2001:db8:51::1: nobody\n")
    );
    // A firewall that knows of the bridge lets it through.
    let opened = "nft 'table inet mine { chain fence { type filter hook forward priority 10; policy drop; iifname rbuild0 accept; oifname rbuild0 accept; }; }'";
    assert_eq!(behind(opened).said, format!("{TRANSLATED}{BOTH}"));
}

/// A host with this `/etc/resolv.conf`, where `options` tell a real server on `lo` or outside what it knows.
fn with_names(resolv_conf: &str, place: &str, options: &str) -> Lab {
    let file = match resolv_conf {
        "" => String::new(),
        text => format!("printf '{text}' > /tmp/etc/resolv.conf"),
    };
    let server = "dnsmasq --no-daemon --no-resolv --no-hosts --bind-interfaces --local-service --user=root --port=53";
    Lab::new()
        .with("cp -a /etc /tmp/etc; rm -f /tmp/etc/resolv.conf; mount --bind /tmp/etc /etc")
        .with(&file)
        .with(
            "ip -n outside addr add fe80::1/64 dev up1 nodad; ip addr add fe80::2/64 dev up0 nodad",
        )
        .with(&format!(
            "{place} {server} {options} > /tmp/dns 2>&1 & trap 'kill $!' EXIT"
        ))
        .with("until grep -q 'started' /tmp/dns; do sleep 0.01; done")
}

const ASK: &str =
    "cat /etc/resolv.conf; nslookup -type=a a.test 2> /dev/null | sed -n 's/^Address: //p'";

#[test]
fn root_only_servers_on_the_host_answer_in_its_namespaces() {
    let inside =
        format!("{TRANSLATED}search x\noptions ndots:2\nnameserver 127.0.0.11\n192.0.2.77\n");
    let hosts = [
        (
            "nameserver 127.0.0.1\\nsearch x\\noptions ndots:2\\n",
            "",
            "--listen-address=127.0.0.1",
        ),
        (
            "search x\\nnameserver ::1\\noptions ndots:2\\n",
            "",
            "--listen-address=::1",
        ),
        (
            "search x\\nnameserver 127.0.0.53\\noptions ndots:2\\n",
            "",
            "--listen-address=127.0.0.53",
        ),
        (
            "search x\\nnameserver fe80::1%%up0\\noptions ndots:2\\n",
            "ip netns exec outside",
            "--listen-address=fe80::1",
        ),
    ];
    for (file, place, options) in hosts {
        let options = format!("{options} --address=/a.test/192.0.2.77");
        let seen = with_names(file, place, &options).lease(ASK);
        assert_eq!(seen.said, inside, "{file}");
        assert_eq!(seen.left, "", "{file}");
    }
}

#[test]
fn root_only_servers_behind_systemd_are_asked_by_namespaces_themselves() {
    let outside = "--listen-address=203.0.113.1 --address=/a.test/192.0.2.77";
    let seen = with_names("nameserver 127.0.0.53\\n", "ip netns exec outside", outside)
        .with("mkdir -p /run/systemd/resolve; echo nameserver 203.0.113.1 > /run/systemd/resolve/resolv.conf")
        .lease(ASK);
    assert_eq!(
        seen.said,
        format!("{TRANSLATED}nameserver 203.0.113.1\n192.0.2.77\n")
    );
}

#[test]
fn root_only_a_host_without_servers_has_public_ones_asked_and_says_so() {
    let seen = with_names("", "", "").lease("cat /etc/resolv.conf");
    assert_eq!(
        seen.said,
        format!(
            "{TRANSLATED}`/etc/resolv.conf` names no server: 8.8.8.8 and 8.8.4.4 are asked for names\n\
             nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
        )
    );
}

/// A host on which there can be no bridge, with these programs.
fn with_programs(programs: &str) -> Lab {
    let only = format!(
        "mkdir /tmp/only; for it in {programs} ip; do ln -s $(command -v $it) /tmp/only; done"
    );
    Lab::new()
        .with("ip addr add fe80::2/64 dev up0 nodad")
        .with(&only)
        .with("GUEST_PATH=/tmp/only")
}

#[test]
fn root_only_a_network_in_user_space_stands_in_for_the_bridge() {
    // An asker whose input ends at once may never get his answer through a pasta of 2023: this one's does not end.
    let ask = ask_both()
        .replace("nc -w 5", "timeout 60 nc -w 5")
        .replace("< /dev/null", "0<> /silence");
    let script = format!("ls /sys/class/net; mkfifo /silence; {ask}");
    let slirp = with_programs("slirp4netns").lease(&script);
    let because = "`nft` is not installed (package `nftables`)\neth0\nlo\n";
    assert_eq!(
        slirp.said,
        format!("the outside, through slirp4netns: {because}203.0.113.2\n2001:db8:51::1: nobody\n")
    );
    assert_eq!(slirp.left, "");
    let pasta = with_programs("pasta sh").lease(&script);
    assert_eq!(
        pasta.said,
        format!("the outside, through pasta: {because}{BOTH}")
    );
    assert_eq!(pasta.left, "");
}

#[test]
fn root_only_a_network_stack_ends_with_a_killed_owner() {
    for programs in ["slirp4netns", "pasta sh"] {
        let seen = with_programs(programs).kill("sleep 100");
        assert_eq!(seen.said, "0 left\n", "{programs}");
        assert_eq!(seen.left, "", "{programs}");
    }
}

#[test]
fn root_only_a_crowd_of_which_half_is_killed_leaves_nothing() {
    let gateway = |family: &str| {
        format!("$(ip {family} route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')")
    };
    let script = format!(
        "ping -c 1 -W 30 {} > /dev/null && ping -c 1 -W 30 {} > /dev/null && echo both",
        gateway("-4"),
        gateway("-6")
    );
    for firewall in [
        "",
        "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP",
    ] {
        let seen = Lab::new().with(firewall).crowd(&script);
        assert_eq!(seen.said, "both\n".repeat(8), "{firewall}");
        assert_eq!(seen.left, "", "{firewall}");
    }
}
