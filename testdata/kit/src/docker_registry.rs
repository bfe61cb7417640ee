//! The reference registry, Debian's `docker-registry`, on loopback with a storage of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Who may use a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Everybody,
    /// `somebody` with the password `secret`.
    Somebody,
}

/// bcrypt of `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "somebody:$2b$04$2ElgvcZaC2mAVck011YndeytMnUe6bK77iY8ytqRcyI3KBIE.fCRK\n";

/// A running registry. It ends when this is dropped.
pub struct Server {
    child: Child,
    address: String,
    directory: tempfile::TempDir,
}

const LOG: &str = "log";

impl Server {
    /// Starts a registry and waits until it listens.
    ///
    /// # Panics
    /// If Debian's package `docker-registry` is not installed, or the registry does not come up.
    pub fn start(access: Access) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let address = free_address();
        let storage = directory.path().join("storage");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            storage.display()
        );
        if access == Access::Somebody {
            let passwords = directory.path().join("htpasswd");
            fs::write(&passwords, HTPASSWD).expect("the passwords can be written");
            config += &format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                passwords.display()
            );
        }
        let file = directory.path().join("config.yml");
        fs::write(&file, config).expect("the configuration can be written");
        let log = fs::File::create(directory.path().join(LOG)).expect("a log can be written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("this test needs Debian's package docker-registry");
        let server = Self {
            child,
            address,
            directory,
        };
        server.wait_until_it_listens();
        server
    }

    /// `127.0.0.1:PORT`, which stands before the names of its images.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was asked of it so far, `HEAD /v2/app/manifests/v1`, in order. Uploads are shown without
    /// what is behind their `?`.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
        let requests = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once('"')?;
            let (request, _) = rest.split_once(" HTTP/")?;
            let (request, _) = request.split_once('?').unwrap_or((request, ""));
            Some(request.to_owned())
        });
        requests.collect()
    }

    /// How many bytes it has answered with so far.
    pub fn bytes_given(&self) -> u64 {
        let log = fs::read_to_string(self.directory.path().join(LOG)).unwrap_or_default();
        // `… "GET /v2/… HTTP/1.1" 200 1234 "" "rbuild"`
        let given = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once("\"GET ")?;
            let (_, rest) = rest.split_once(" HTTP/1.1\" ")?;
            rest.split(' ').nth(1)?.parse::<u64>().ok()
        });
        given.sum()
    }

    fn wait_until_it_listens(&self) {
        let since = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "docker-registry does not listen on {}",
                self.address
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of loopback on which nobody listens now.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a listener has an address")
        .to_string()
}
