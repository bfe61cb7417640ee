//! OpenSSH's server on the loopback, as a child with a configuration of its own.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::loopback::listening;

/// A server that lets root in with the keys it was told of, and runs what they ask for. It ends when this is dropped.
#[derive(Debug)]
pub struct Sshd {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Sshd {
    /// Starts it and waits until it answers. It needs root, who alone may let others in.
    ///
    /// # Panics
    /// If Debian's package `openssh-server` is not installed.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        make_key(&directory.path().join("host"), &["-t", "ed25519"])?;
        fs::write(directory.path().join("authorized"), "")?;
        // Debian makes it when the service starts, which need not run.
        fs::create_dir_all("/run/sshd")?;
        let (process, port) = listening("sshd", |port| spawn(directory.path(), port))?;
        Ok(Self {
            process,
            port,
            directory,
        })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets in who has the private half of a key.
    ///
    /// # Errors
    /// If the key cannot be read.
    pub fn let_in(&self, public: &Path) -> io::Result<()> {
        let keys = self.directory.path().join("authorized");
        let known = fs::read_to_string(&keys)?;
        fs::write(keys, known + &fs::read_to_string(public)?)
    }

    /// The address of a repository.
    pub fn url(&self, repository: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, repository.display())
    }

    /// Takes another key of its own, as somebody in between would have. Who comes next sees it.
    ///
    /// # Errors
    /// If it does not come up again.
    pub fn change_key(&mut self) -> io::Result<()> {
        drop(self.process.kill());
        self.process.wait()?;
        for name in ["host", "host.pub"] {
            fs::remove_file(self.directory.path().join(name))?;
        }
        make_key(&self.directory.path().join("host"), &["-t", "ed25519"])?;
        self.process = spawn(self.directory.path(), self.port)?;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.process.try_wait()? {
                return Err(io::Error::other(format!("`sshd` {status}")));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Its own key, as it stands in `known_hosts`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn known_as(&self) -> io::Result<String> {
        let key = fs::read_to_string(self.directory.path().join("host.pub"))?;
        Ok(format!("[127.0.0.1]:{} {key}", self.port))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Makes a private key without a passphrase, and beside it the public one, `.pub`.
///
/// # Errors
/// If `ssh-keygen` is missing or fails.
pub fn make_key(path: &Path, options: &[&str]) -> io::Result<()> {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-N", "", "-C", "somebody"])
        .args(options);
    let output = keygen.arg("-f").arg(path).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("ssh-keygen {options:?}: {words}")))
}

fn spawn(directory: &Path, port: u16) -> io::Result<Child> {
    let of = |name: &str| directory.join(name).display().to_string();
    let configuration = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
        of("host"),
        of("authorized"),
    );
    fs::write(of("config"), configuration)?;
    let log = fs::File::create(of("log"))?;
    // By its whole path, as it starts itself again for each who comes.
    let program = ["/usr/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from);
    let program = program.into_iter().find(|it| it.is_file());
    Command::new(
        program
            .expect("no sshd here: install the package `openssh-server`, or run `testdata/test`"),
    )
    .args(["-D", "-e", "-f", &of("config")])
    .stdin(Stdio::null())
    .stdout(Stdio::null())
    .stderr(log)
    .spawn()
}
