//! Certificates made with `openssl`, by an authority that nobody knows.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rbuild::run;

/// Whoever signs certificates. Its files go when it is dropped.
#[derive(Debug)]
pub struct Authority {
    directory: tempfile::TempDir,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate's file, PEM.
    pub certificate: PathBuf,
    /// The key's file, PEM.
    pub key: PathBuf,
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// If `openssl` is not installed.
    #[expect(clippy::new_without_default, reason = "it does a good deal")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Self { directory };
        authority.openssl(&format!(
            "req -x509 {KEY} -keyout ca.key -out ca.crt -subj /CN=authority -days 2"
        ));
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A certificate for an address or a name, `IP:127.0.0.1`, good for some days; for less than none
    /// it is over.
    ///
    /// # Panics
    /// If `openssl` refuses.
    pub fn issue(&self, file: &str, name: &str, days: i32) -> Certificate {
        self.openssl(&format!(
            "req -new {KEY} -keyout {file}.key -out {file}.csr -subj /CN={file} -addext subjectAltName={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {file}.csr -CA ca.crt -CAkey ca.key -days {days} -copy_extensions copy -out {file}.cert"
        ));
        Certificate {
            certificate: self.path(&format!("{file}.cert")),
            key: self.path(&format!("{file}.key")),
        }
    }

    /// A directory with its own certificate alone, as `/etc/docker/certs.d/HOST` would be.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn directory(&self) -> PathBuf {
        let directory = self.path("known");
        std::fs::create_dir_all(&directory).expect("the directory is ours");
        std::fs::copy(self.certificate(), directory.join("ca.crt")).expect("the directory is ours");
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, line: &str) {
        let mut command = Command::new("openssl");
        command
            .args(line.split(' '))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        run(&mut command).success();
    }
}

/// A token in the form of docker's registries, signed by the key of a certificate of RSA or P-256.
///
/// # Panics
/// If `openssl` is not installed.
pub fn signed_token(signer: &Certificate, claims: &str) -> String {
    use base64::Engine as _;
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let read = |path: &Path| std::fs::read_to_string(path).expect("the certificate is ours");
    let text = read(&signer.certificate);
    let der: String = text.lines().filter(|it| !it.starts_with('-')).collect();
    let header = format!(r#"{{"typ":"JWT","alg":"ES256","x5c":["{der}"]}}"#);
    let signed = format!("{}.{}", url.encode(header), url.encode(claims));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("signed");
    std::fs::write(&file, &signed).expect("the directory is ours");
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .args([&signer.key, &file])
        .output()
        .expect("this test needs Debian's package openssl");
    assert!(output.status.success(), "{output:?}");
    format!("{signed}.{}", url.encode(joined(&output.stdout)))
}

/// The two numbers of a signature, 32 bytes each, out of the DER that holds them.
fn joined(der: &[u8]) -> Vec<u8> {
    // A sequence of two integers, both short enough for lengths of one byte.
    let mut rest = &der[2..];
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number = &number[number.len().saturating_sub(32)..];
        numbers.extend(std::iter::repeat_n(0, 32 - number.len()));
        numbers.extend(number);
        rest = after;
    }
    numbers
}
