//! A proxy on the loopback: Debian's tinyproxy, as a child with a configuration of its own.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};

use crate::loopback::listening;

/// Passes on to whatever is asked for. It ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Proxy {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// If Debian's package `tinyproxy-bin` is not installed, or it does not come up.
    pub fn start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (process, port) = listening("tinyproxy", |port| {
            let log = directory.path().join("log");
            let configuration = directory.path().join("config");
            let text = format!(
                "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nLogFile \"{}\"\nLogLevel Connect\n",
                log.display()
            );
            fs::write(&configuration, text)?;
            Command::new("tinyproxy")
                .args(["-d", "-c"])
                .arg(&configuration)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        })?;
        Ok(Self {
            process,
            port,
            directory,
        })
    }

    /// What stands in `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Whom it was asked to connect with so far, as `HOST:PORT`.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn asked(&self) -> io::Result<Vec<String>> {
        let log = fs::read_to_string(self.directory.path().join("log"))?;
        // `… Request (file descriptor 3): CONNECT host:443 HTTP/1.1`
        let asked = log.lines().filter_map(|line| {
            let (_, request) = line.split_once("): CONNECT ")?;
            request.split(' ').next().map(str::to_owned)
        });
        Ok(asked.collect())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
