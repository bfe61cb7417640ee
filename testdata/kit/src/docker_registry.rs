//! The reference registry, Debian's `docker-registry`, on loopback with a storage of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::certificates::Certificate;

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
const STORAGE: &str = "storage";

impl Server {
    /// Starts a registry and waits until it listens.
    ///
    /// # Panics
    /// If Debian's package `docker-registry` is not installed, or the registry does not come up.
    pub fn start(access: Access) -> Self {
        Self::launch(&free_address(), |directory| {
            if access == Access::Everybody {
                return String::new();
            }
            let passwords = directory.join("htpasswd");
            fs::write(&passwords, HTPASSWD).expect("the passwords can be written");
            format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                passwords.display()
            )
        })
    }

    /// Starts one that speaks TLS at an address of this machine, and wants to see certificates of
    /// clients if `clients` says whose.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn start_with_tls(host: &str, own: &Certificate, clients: Option<&Path>) -> Self {
        let port = free_address();
        let port = port.rsplit(':').next().unwrap_or_default();
        let clients = clients.map(|it| format!("    clientcas:\n      - {}\n", it.display()));
        Self::launch(&format!("{host}:{port}"), |_| {
            format!(
                "  tls:\n    certificate: {}\n    key: {}\n{}",
                own.certificate.display(),
                own.key.display(),
                clients.unwrap_or_default()
            )
        })
    }

    /// Starts one that believes tokens for the service `test` that are signed with a certificate, and
    /// sends to `realm` for them.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn start_with_tokens(realm: &str, signer: &Path) -> Self {
        Self::launch(&free_address(), |_| {
            format!(
                "auth:\n  token:\n    realm: {realm}\n    service: test\n    issuer: test\n    rootcertbundle: {}\n",
                signer.display()
            )
        })
    }

    /// Starts one with something in its configuration behind its address.
    fn launch(address: &str, more: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let storage = directory.path().join(STORAGE);
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: false\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{}",
            storage.display(),
            more(directory.path())
        );
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
            address: address.to_owned(),
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

    /// The files of the blobs that it has, manifests among them.
    pub fn blobs(&self) -> Vec<PathBuf> {
        let mut blobs = Vec::new();
        for two in entries(&self.storage("blobs/sha256")) {
            for blob in entries(&two) {
                let data = blob.join("data");
                blobs.extend(data.is_file().then_some(data));
            }
        }
        blobs
    }

    /// The tags of a repository.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let tags = entries(&self.storage(&format!("repositories/{repository}/_manifests/tags")));
        let names = tags.iter().filter_map(|it| it.file_name()?.to_str());
        names.map(str::to_owned).collect()
    }

    /// How many uploads to a repository have begun and not come to their end.
    pub fn uploads(&self, repository: &str) -> usize {
        entries(&self.storage(&format!("repositories/{repository}/_uploads"))).len()
    }

    /// Where its storage has something.
    fn storage(&self, path: &str) -> PathBuf {
        let root = self.directory.path().join(STORAGE);
        root.join("docker/registry/v2").join(path)
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

/// What is in a directory, sorted; nothing where there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|it| it.path()).collect();
    paths.sort();
    paths
}

/// An address of loopback on which nobody listens now.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a listener has an address")
        .to_string()
}
