//! A machine of our own: a host in namespaces, and an outside that knows nothing of what is behind the host.
//!
//! The host is a process in a network and a mount namespace; its `/run` is empty. The outside is a namespace called
//! `outside` at the other end of the host's only interface, `up0`. In it a server at port 80 tells everybody who he is.
//! A test file that has a lab has a test called `root_only_guest_of_a_lab` that calls [`guest`].

#![expect(clippy::unwrap_used, reason = "test support")]
#![expect(
    clippy::print_stdout,
    reason = "what the guest says is read by the test"
)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::thread::LinkNameSpaceType;

use crate::room::{Room, finish};
use sandbox::network::Networks;
use sandbox::{Network, spawn};

/// Where the server of the outside is, in both families.
pub(crate) const SERVERS: [&str; 2] = ["198.51.100.1", "2001:db8:51::1"];

/// What the host has at first, and what it is like. Everything in `/proc/sys/net` counts but what counts itself.
const HOST: &str = r#"
mount -t tmpfs tmpfs /run
echo 0 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
ip netns add outside
ip link add up0 type veth peer name up1 netns outside
ip -n outside link set lo up
ip -n outside link set up1 up
ip -n outside addr add 203.0.113.1/24 dev up1
ip -n outside addr add 198.51.100.1/32 dev lo
ip -n outside addr add 2001:db8:113::1/64 dev up1 nodad
ip -n outside addr add 2001:db8:51::1/128 dev lo
ip addr add 203.0.113.2/24 dev up0
ip addr add 2001:db8:113::2/64 dev up0 nodad
ip link set up0 addrgenmode none
ip link set up0 up
until ip -o link show up0 | grep -q 'state UP'; do sleep 0.01; done
ip route add default via 203.0.113.1
ip route add default via 2001:db8:113::1
STATELESS=-s
picture() {
    nft $STATELESS list ruleset; ip -o link; ip -o addr; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all
    find /run ! -name lock ! -name users ! -path /run/rbuild ! -path /run/rbuild/network
    find /proc/sys/net -type f ! -name '*_count' ! -name 'nf_log*' -exec grep -H '' '{}' + 2>/dev/null | sort
}
"#;

/// A guest, as a line of a shell: a test that does nothing elsewhere.
const GUEST_COMES: &str =
    "PATH=${GUEST_PATH:-$PATH} \"$0\" --exact root_only_guest_of_a_lab --nocapture";

/// How it is to be.
pub(crate) struct Lab {
    setup: String,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What the lease said of itself, and the process that had it.
    pub(crate) said: String,
    /// How the host differs from what it was before, as lines of `diff`.
    pub(crate) left: String,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab {
            setup: HOST.to_owned(),
        }
    }

    /// More lines of a shell that make the host what it is.
    pub(crate) fn with(mut self, lines: &str) -> Lab {
        self.setup.push_str(lines);
        self.setup.push('\n');
        self
    }

    /// Takes a lease on the host and runs a script in it.
    pub(crate) fn lease(&self, script: &str) -> Seen {
        let mut seen = self.see(GUEST_COMES, script);
        let (_, said) = seen
            .said
            .split_once("--- said:\n")
            .unwrap_or_else(|| panic!("no lease in {seen:?}"));
        seen.said = said
            .split_once("--- end\n")
            .unwrap_or((said, ""))
            .0
            .to_owned();
        seen
    }

    /// Sixteen guests with a script at once, of whom every other is killed sooner or later, and one who comes after them:
    /// says what those said who were not killed.
    pub(crate) fn crowd(&self, script: &str) -> Seen {
        let line = format!(
            "export LAB_SERVER=no
            for number in $(seq 16); do
                {GUEST_COMES} > /tmp/said.$number 2>&1 &
                [ $((number % 2)) = 0 ] || (sleep 0.$((number * 3)); kill -9 $!) &
            done > /dev/null 2>&1
            wait
            {GUEST_COMES} > /tmp/last 2>&1
            for number in $(seq 2 2 16); do sed '1,/--- said:/d; /--- end/,$d' /tmp/said.$number | tail -n +2; done"
        );
        self.see(&line, script)
    }

    /// A guest who is killed once he has a network stack: says how many of those are left.
    pub(crate) fn kill(&self, script: &str) -> Seen {
        let line = format!(
            "stacks() {{ cat /proc/[0-9]*/comm 2> /dev/null | grep -c -e '^pas[st]' -e '^slirp4netns'; }}
            {GUEST_COMES} > /dev/null 2>&1 &
            until [ $(stacks) != 0 ]; do sleep 0.01; done
            kill -9 $!
            for attempt in $(seq 300); do [ $(stacks) = 0 ] && break; sleep 0.1; done
            echo $(stacks) left"
        );
        let apart = r#"export GUEST_PATH; unshare -p -f --mount-proc bash -c "$LAB_LINE" "$0" 2> /dev/null"#;
        self.see(
            &format!(
                "LAB_LINE=$(cat <<'LINE'
{line}
LINE
)
{apart}"
            ),
            script,
        )
    }

    fn see(&self, line: &str, script: &str) -> Seen {
        const MARKER: &str = "--- left:\n";
        let line = format!(
            "{line}; printf -- '{MARKER}'
            for attempt in $(seq 100); do
                picture > /tmp/after; diff /tmp/before /tmp/after > /tmp/left && break; sleep 0.1
            done
            cat /tmp/left"
        );
        let output = self.run(&line, script);
        let text = String::from_utf8_lossy(&output.stdout);
        let (said, left) = text.split_once(MARKER).unwrap_or_else(|| {
            panic!(
                "no picture in {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        Seen {
            said: said.to_owned(),
            left: left.to_owned(),
        }
    }

    fn run(&self, line: &str, script: &str) -> Output {
        let setup = format!(
            "set -e\nmount -t tmpfs tmpfs /tmp\n{}\npicture > /tmp/before\nset +e\n{line}",
            self.setup
        );
        Command::new("unshare")
            .args(["-n", "-m", "bash", "-c", &setup])
            .arg(std::env::current_exe().unwrap())
            .env("LAB_SCRIPT", script)
            .env_remove("TMPDIR")
            .output()
            .unwrap()
    }
}

/// What happens on the host.
pub(crate) fn guest() {
    let Some(script) = std::env::var_os("LAB_SCRIPT") else {
        return;
    };
    if std::env::var_os("LAB_SERVER").is_none() {
        serve();
    }
    let networks = Networks::default();
    let lease = networks.lease().unwrap();
    let room = Room::new();
    let mut spec = room.spec(script.to_str().unwrap());
    spec.network = Network::Namespace(lease.namespace().unwrap());
    spec.resolv_conf = Some(lease.resolv_conf().to_vec());
    let ran = finish(spawn(spec).unwrap());
    let remark = lease
        .remark()
        .map_or_else(String::new, |it| format!("{it}\n"));
    println!(
        "--- said:\n{}\n{remark}{}--- end",
        lease.reach(),
        ran.stdout
    );
}

/// Starts the server, and waits until the host reaches it as far as it can.
fn serve() {
    let outside = File::open("/run/netns/outside").unwrap();
    let (tell, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&outside),
            Some(LinkNameSpaceType::Network),
        )
        .unwrap();
        let listener = TcpListener::bind("[::]:80").unwrap();
        tell.send(()).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _ = writeln!(stream, "{peer}");
        }
    });
    ready.recv().unwrap();
    for (server, family) in SERVERS.iter().zip(["-4", "-6"]) {
        let mut route = Command::new("ip");
        route.args([family, "route", "show", "default"]);
        if route.output().unwrap().stdout.is_empty() {
            continue;
        }
        let server: SocketAddr = SocketAddr::new(server.parse().unwrap(), 80);
        let deadline = Instant::now() + Duration::from_secs(20);
        while ask(server).is_none() {
            assert!(
                Instant::now() < deadline,
                "the host does not reach {server}"
            );
        }
    }
}

fn ask(server: SocketAddr) -> Option<String> {
    let mut answer = String::new();
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(1)).ok()?;
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
