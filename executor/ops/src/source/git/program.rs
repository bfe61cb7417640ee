//! The git program, held on a short leash.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal};
use solve::progress::Stream;
use store::TmpDir;

use super::GitError;
use super::address::Address;
use super::words::{self, Proof};
use crate::agent::{Agent, AgentFrom};
use crate::{Context, Ops};

/// The most that git may answer: the names of a large repository.
const MOST_OUTPUT: u64 = 64 << 20;
/// How many of its last lines may say what went wrong.
const LAST_LINES: usize = 24;

/// Stands above the configuration of the repository, whatever that says.
const CONFIGURATION: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.logAllRefUpdates", "false"),
    ("core.askPass", ""),
    ("credential.helper", ""),
    ("init.templateDir", ""),
    ("init.defaultBranch", "main"),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("protocol.git.allow", "always"),
    // A server that says nothing for a minute is given up.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
    ("safe.directory", "*"),
];

/// What of the person's environment git gets to see.
const PASSED_ON: &[&str] = &[
    "PATH",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// Whom else to believe, which git goes by under other names.
const AUTHORITIES: [(&str, &str); 2] = [
    ("SSL_CERT_FILE", "GIT_SSL_CAINFO"),
    ("SSL_CERT_DIR", "GIT_SSL_CAPATH"),
];

/// The git program, for one repository.
pub(super) struct Git<'a> {
    context: &'a Context<'a>,
    remote: String,
    proof: Proof,
    environment: Vec<(OsString, OsString)>,
    /// Answers where the session lends keys. Goes before the directory that it is in.
    _agent: Option<Agent>,
    /// Work of one source, and git's home.
    tmp: TmpDir,
}

/// Which protocols git may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocols {
    Remote,
    /// Also with a directory of ours.
    AndLocal,
}

impl<'a> Git<'a> {
    pub(super) fn new(
        ops: &Ops,
        address: &Address,
        context: &'a Context<'a>,
    ) -> Result<Self, GitError> {
        let tmp = ops.store.tmp_dir()?;
        let known_hosts = ops.store.root().join("sources/known_hosts");
        let mut environment = environment(address, context, tmp.path(), &known_hosts);
        let agent = match context.session.ssh("default") {
            Some(from) if address.is_ssh() => {
                let (socket, agent) = agent(from, &tmp)?;
                environment.push(("SSH_AUTH_SOCK".into(), socket.into()));
                agent
            }
            _ => None,
        };
        Ok(Self {
            context,
            remote: address.shown().to_owned(),
            proof: proof(address, context),
            environment,
            _agent: agent,
            tmp,
        })
    }

    /// A directory for work under way.
    pub(super) fn tmp(&self) -> &Path {
        self.tmp.path()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.context.cancel.is_cancelled()
    }

    /// Runs git and gives what it writes; `what` is the verb for the error.
    pub(super) fn run(&self, what: &'static str, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        self.run_with(what, arguments, Protocols::Remote)
    }

    /// Likewise, and git may take from a directory of this machine, which must be ours.
    pub(super) fn run_locally(
        &self,
        what: &'static str,
        arguments: &[&str],
    ) -> Result<Vec<u8>, GitError> {
        self.run_with(what, arguments, Protocols::AndLocal)
    }

    fn run_with(
        &self,
        what: &'static str,
        arguments: &[&str],
        protocols: Protocols,
    ) -> Result<Vec<u8>, GitError> {
        if self.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        let allowed = match protocols {
            Protocols::Remote => "http:https:ssh:git",
            Protocols::AndLocal => "file",
        };
        let mut command = Command::new("git");
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .env("GIT_ALLOW_PROTOCOL", allowed)
            .current_dir(self.tmp())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        sandbox::end_with_thread(&mut command);
        tracing::debug!(?arguments, "git");
        let mut child = command.spawn().map_err(GitError::NoProgram)?;
        let (output, words) = self.attend(&mut child)?;
        let status = child.wait().map_err(GitError::NoProgram)?;
        if self.is_cancelled() {
            return Err(GitError::Cancelled);
        }
        match (status.success(), output) {
            (true, Some(output)) => Ok(output),
            (true, None) => Err(self.failed(what, "it says more than anyone can read".to_owned())),
            (false, _) if words.is_empty() => Err(self.failed(what, status.to_string())),
            (false, _) => Err(self.failed(what, words::sentence(&words, self.proof))),
        }
    }

    fn failed(&self, what: &'static str, words: String) -> GitError {
        GitError::Failed {
            what,
            remote: self.remote.clone(),
            words,
        }
    }

    /// Reads what git writes until it ends; kills it, and all that it started, when it is not
    /// wanted any more or writes too much. `None` for too much.
    fn attend(&self, child: &mut Child) -> Result<(Option<Vec<u8>>, Vec<String>), GitError> {
        let group = Pid::from_child(child);
        let kill = move || {
            // Gone already, perhaps.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        };
        let _kill = self.context.cancel.on_cancel(kill);
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut output = Vec::new();
                let read = stdout.take(MOST_OUTPUT + 1).read_to_end(&mut output);
                if output.len() as u64 > MOST_OUTPUT {
                    kill();
                }
                // Whoever listens is in this scope.
                let _ = sender.send(read.map(|_| output));
            });
            let words = self.pass_on(stderr);
            let output = receiver.recv().unwrap_or_else(|_| Ok(Vec::new()));
            let output = output.map_err(GitError::file("read from", Path::new("git")))?;
            let fits = output.len() as u64 <= MOST_OUTPUT;
            Ok((fits.then_some(output), words))
        })
    }

    /// Shows what git says to people, and keeps the last of it.
    fn pass_on(&self, mut stderr: impl Read) -> Vec<String> {
        let mut last = VecDeque::new();
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = match stderr.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            (self.context.log)(Stream::Stderr, &buffer[..length]);
            for byte in &buffer[..length] {
                match byte {
                    b'\n' | b'\r' => end_line(&mut last, &mut line),
                    byte if line.len() < 1024 => line.push(*byte),
                    _ => {}
                }
            }
        }
        end_line(&mut last, &mut line);
        last.into()
    }
}

fn end_line(last: &mut VecDeque<String>, line: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(&std::mem::take(line))
        .trim()
        .to_owned();
    if text.is_empty() {
        return;
    }
    if last.len() == LAST_LINES {
        last.pop_front();
    }
    last.push_back(text);
}

fn environment(
    address: &Address,
    context: &Context<'_>,
    home: &Path,
    known_hosts: &Path,
) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = PASSED_ON
        .iter()
        .filter_map(|name| Some((OsString::from(name), env::var_os(name)?)))
        .collect();
    for (name, theirs) in AUTHORITIES {
        if let (Some(value), None) = (env::var_os(name), env::var_os(theirs)) {
            environment.push((theirs.into(), value));
        }
    }
    let mut set = |name: &str, value: &str| environment.push((name.into(), value.into()));
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS_REQUIRE", "never"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_PROTOCOL_FROM_USER", "0"),
        ("GIT_SSH_VARIANT", "ssh"),
        ("LC_ALL", "C"),
    ] {
        set(name, value);
    }
    set("HOME", &home.to_string_lossy());
    set("GIT_SSH_COMMAND", &ssh(known_hosts));
    // In the environment and not among the arguments, which everyone on this machine can read.
    let credentials = address.credentials(context);
    let all = CONFIGURATION.iter().map(|(key, value)| (*key, *value));
    let all = all.chain(credentials.iter().map(|(key, value)| (&**key, &**value)));
    let mut count = 0;
    for (key, value) in all {
        set(&format!("GIT_CONFIG_KEY_{count}"), key);
        set(&format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    set("GIT_CONFIG_COUNT", &count.to_string());
    environment
}

/// Whether the server is shown who asks.
fn proof(address: &Address, context: &Context<'_>) -> Proof {
    let is_shown = match address.is_ssh() {
        true => context.session.ssh("default").is_some(),
        false => address.credentials(context).is_some(),
    };
    match is_shown {
        true => Proof::Shown,
        false if address.has_withheld(context) => Proof::Withheld,
        false => Proof::Missing,
    }
}

/// The socket at which ssh finds the keys that the session lends, and who answers there if it is us.
fn agent(from: AgentFrom, tmp: &TmpDir) -> Result<(PathBuf, Option<Agent>), GitError> {
    let keys = match from {
        AgentFrom::Socket(socket) | AgentFrom::Raw(socket) => return Ok((socket, None)),
        AgentFrom::Keys(keys) => AgentFrom::Keys(keys),
    };
    let directory = tmp.path().join("ssh");
    let owner = (rustix::process::geteuid(), rustix::process::getegid());
    let owner = (0o600, owner.0.as_raw(), owner.1.as_raw());
    let served = std::fs::create_dir(&directory)
        .and_then(|()| Agent::serve(keys, &directory, owner))
        .map_err(GitError::file("serve keys in", &directory))?;
    Ok((served.short(), Some(served)))
}

/// Ssh that asks nothing, uses what the session lends and nothing else of the person's, and
/// remembers the hosts it has seen.
fn ssh(known_hosts: &Path) -> String {
    let theirs = env::var_os("HOME").map(|home| Path::new(&home).join(".ssh/known_hosts"));
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let mut files = quoted(known_hosts);
    if let Some(theirs) = theirs.filter(|it| it.is_file()) {
        files = format!("{files} {}", quoted(&theirs));
    }
    format!(
        "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o StrictHostKeyChecking=accept-new \
         -o 'UserKnownHostsFile={files}' -o ForwardAgent=no"
    )
}
