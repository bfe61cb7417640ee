//! A server that speaks S3: OpenStack Swift, Debian's `python3-swift`, on loopback with a storage of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::docker_registry::free_address;

/// Swift in one process; checks signatures, and takes uploads in parts.
const PROGRAM: &str = include_str!("swift.py");

/// Who may speak to it.
pub const ACCESS_KEY_ID: &str = "somebody:else";
/// The secret of [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "secret";
/// The region that it says it is in.
pub const REGION: &str = "us-east-1";
/// The bucket that it has.
pub const BUCKET: &str = "caches";

/// A running server. It ends when this is dropped.
pub struct Server {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Server {
    /// Starts a server and waits until it has its bucket.
    ///
    /// # Panics
    /// If Debian's package `python3-swift` is not installed, or the server does not come up.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let address = free_address();
        let (_, port) = address.split_once(':').expect("an address has a port");
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", PROGRAM, port])
            .arg(directory.path().join("storage"))
            .arg(BUCKET)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs Debian's package python3-swift");
        let said = child.stdout.take().expect("it was asked for");
        let mut line = String::new();
        let read = BufReader::new(said).read_line(&mut line);
        let server = Self {
            child,
            address,
            _directory: directory,
        };
        assert!(
            read.is_ok() && line == "ready\n",
            "swift does not come up; is Debian's package python3-swift installed?"
        );
        server
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
