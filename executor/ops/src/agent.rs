//! An ssh agent as a step sees it: it lists keys and signs, and does nothing else.
//!
//! Whoever holds an agent's socket can also add keys, remove them all or lock them. A step gets a
//! socket of ours instead, on which only two requests are answered: by the agent of the person who
//! builds, or by us where there are only keys. To all others the answer is that of an agent that
//! cannot do it.

mod keys;

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

pub use keys::{KeyError, Keys};

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const LIST: u8 = 11;
const SIGN: u8 = 13;
/// A message that is `SSH_AGENT_FAILURE` alone.
const FAILURE: [u8; 1] = [5];
/// What OpenSSH's own agent takes at most.
const LONGEST: u32 = 256 << 10;
/// How many conversations a step can have at once.
const MOST: usize = 32;

/// What answers where a build asks for an ssh agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFrom {
    /// The agent behind a socket; of what it can do, two requests get there.
    Socket(PathBuf),
    /// Whoever listens on a socket, and whatever is said to him.
    Raw(PathBuf),
    /// Nobody: these keys are there, and we are the agent.
    Keys(Keys),
}

/// A socket for one step. Dropped, nobody answers there any more.
#[derive(Debug)]
pub(crate) struct Agent {
    directory: File,
    socket: PathBuf,
    over: Arc<AtomicBool>,
}

impl Agent {
    /// Makes a socket in `directory` that leads to `from`, with mode, owner and group.
    pub(crate) fn serve(
        from: AgentFrom,
        directory: &Path,
        (mode, uid, gid): (u32, u32, u32),
    ) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let agent = Self {
            directory: File::open(directory)?,
            socket: directory.join("agent"),
            over: Arc::clone(&over),
        };
        let listener = UnixListener::bind(agent.short())?;
        std::os::unix::fs::chown(&agent.socket, Some(uid), Some(gid))?;
        fs::set_permissions(&agent.socket, Permissions::from_mode(mode))?;
        thread::Builder::new()
            .name("ssh agent".to_owned())
            .spawn(move || listen(&listener, &from, &over))?;
        Ok(agent)
    }

    /// Where the socket is.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The same by way of a descriptor, since the path of a socket is 108 bytes at most. It leads
    /// there for all who may look at this process.
    pub(crate) fn short(&self) -> PathBuf {
        let (process, descriptor) = (std::process::id(), self.directory.as_raw_fd());
        PathBuf::from(format!("/proc/{process}/fd/{descriptor}/agent"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the one who listens. Where that fails there is nobody to wake.
        let _ = UnixStream::connect(self.short());
    }
}

fn listen(listener: &UnixListener, from: &AgentFrom, over: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    while let Ok((step, _)) = listener.accept() {
        if over.load(Ordering::SeqCst) {
            return;
        }
        if open.load(Ordering::SeqCst) >= MOST {
            continue;
        }
        let Ok(behind) = Behind::reach(from) else {
            continue;
        };
        open.fetch_add(1, Ordering::SeqCst);
        let count = Arc::clone(&open);
        let thread = thread::Builder::new().name("ssh agent".to_owned());
        let talk = move || {
            // It ends as it ends: with the step, which hangs up, or with the agent.
            let _ = behind.converse(step);
            count.fetch_sub(1, Ordering::SeqCst);
        };
        if thread.spawn(talk).is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Who is at the other end of one conversation.
enum Behind {
    Agent(UnixStream),
    Anybody(UnixStream),
    Keys(Keys),
}

impl Behind {
    fn reach(from: &AgentFrom) -> io::Result<Self> {
        Ok(match from {
            AgentFrom::Socket(path) => Self::Agent(UnixStream::connect(path)?),
            AgentFrom::Raw(path) => Self::Anybody(UnixStream::connect(path)?),
            AgentFrom::Keys(keys) => Self::Keys(keys.clone()),
        })
    }

    /// Until one side hangs up.
    fn converse(self, step: UnixStream) -> io::Result<()> {
        match self {
            Self::Agent(mut agent) => answer(step, |request| {
                send(&mut agent, request)?;
                message(&mut agent)
            }),
            Self::Keys(keys) => answer(step, |request| {
                Ok(keys.answer(request).unwrap_or_else(|| FAILURE.to_vec()))
            }),
            Self::Anybody(other) => pass_on(&step, &other),
        }
    }
}

/// Answers requests, one after the other.
fn answer(
    mut step: UnixStream,
    mut by: impl FnMut(&[u8]) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let request = message(&mut step)?;
        match request.first() {
            Some(&(LIST | SIGN)) => send(&mut step, &by(&request)?)?,
            _ => send(&mut step, &FAILURE)?,
        }
    }
}

/// Passes on what both sides say.
fn pass_on(step: &UnixStream, other: &UnixStream) -> io::Result<()> {
    let copy = |mut from: &UnixStream, mut to: &UnixStream| {
        let copied = io::copy(&mut from, &mut to);
        // Gone already, perhaps.
        let _ = to.shutdown(Shutdown::Write);
        copied.map(drop)
    };
    thread::scope(|scope| {
        let back = scope.spawn(|| copy(other, step));
        copy(step, other)?;
        back.join().unwrap_or(Ok(()))
    })
}

fn message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok(body)
}

fn send(to: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes(), body].concat())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Output};

    use super::*;

    /// OpenSSH's agent with one key.
    struct Real {
        directory: tempfile::TempDir,
        process: Child,
    }

    impl Real {
        fn start() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("real");
            // The socket is handed over by its listener's own words: the agent says when it is there.
            let process = Command::new("ssh-agent")
                .args(["-D", "-a"])
                .arg(&socket)
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("openssh-client is installed");
            let mut real = Self { directory, process };
            let mut said = [0; 8];
            let output = real.process.stdout.as_mut().unwrap();
            output.read_exact(&mut said).unwrap();
            let key = real.directory.path().join("key");
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&key)
                .status();
            assert!(made.unwrap().success());
            let key = key.to_str().unwrap().to_owned();
            assert!(run(&socket, "ssh-add", &["-q", &key]).status.success());
            fs::remove_file(&key).unwrap();
            real
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }
    }

    impl Drop for Real {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    fn run(socket: &Path, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .env("SSH_AUTH_SOCK", socket)
            .output()
            .unwrap()
    }

    #[test]
    fn a_step_may_list_and_sign_and_nothing_else() {
        let real = Real::start();
        let ours = real.path("ours");
        fs::create_dir(&ours).unwrap();
        let owner = rustix::process::getuid().as_raw();
        let group = rustix::process::getgid().as_raw();
        let from = AgentFrom::Socket(real.path("real"));
        let agent = Agent::serve(from, &ours, (0o600, owner, group)).unwrap();
        let add = |arguments: &[&str]| run(agent.socket(), "ssh-add", arguments);
        assert!(String::from_utf8_lossy(&add(&["-l"]).stdout).contains("ED25519"));

        fs::write(real.path("text"), "signed").unwrap();
        let (key, text) = (real.path("key.pub"), real.path("text"));
        let (key, text) = (key.to_str().unwrap(), text.to_str().unwrap());
        let arguments = ["-Y", "sign", "-n", "file", "-f", key, text];
        let signed = run(agent.socket(), "ssh-keygen", &arguments);
        assert!(signed.status.success(), "{signed:?}");
        assert!(real.path("text.sig").exists());

        assert!(!add(&["-D"]).status.success(), "keys are not removed");
        assert!(!add(&["-d", key]).status.success(), "nor is one");
        let kept = run(&real.path("real"), "ssh-add", &["-l"]);
        assert!(kept.status.success(), "the agent still has its key");
    }

    #[test]
    fn a_message_that_is_too_long_ends_the_conversation() {
        let (mut step, ours) = UnixStream::pair().unwrap();
        let (agent, _real) = UnixStream::pair().unwrap();
        let talk = thread::spawn(move || Behind::Agent(agent).converse(ours));
        step.write_all(&[0, 0, 0, 1, 19]).unwrap();
        assert_eq!(message(&mut step).unwrap(), FAILURE);
        step.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(talk.join().unwrap().is_err());
    }

    #[test]
    fn nobody_answers_after_the_step() {
        let directory = tempfile::tempdir().unwrap();
        let owner = rustix::process::getuid().as_raw();
        let group = rustix::process::getgid().as_raw();
        let real = directory.path().join("missing");
        let from = AgentFrom::Socket(real);
        let agent = Agent::serve(from, directory.path(), (0o600, owner, group)).unwrap();
        let socket = agent.socket().to_owned();
        let mut refused = UnixStream::connect(&socket).unwrap();
        assert_eq!(
            refused.read(&mut [0; 1]).unwrap(),
            0,
            "there is no agent behind it"
        );
        drop(agent);
    }
}
