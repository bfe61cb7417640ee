//! How long a command takes and how much memory it needs.

use std::process::{Command, Stdio};
use std::time::Duration;

use kit::rbuild::run;

/// What a command came to.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) code: Option<i32>,
    pub(super) stderr: String,
    pub(super) time: Duration,
    /// Bytes, of the largest process.
    pub(super) memory: u64,
}

/// Runs what stands behind it and says, in the last line, seconds and KiB.
const SCRIPT: &str = "\
import resource, subprocess, sys, time
since = time.monotonic()
code = subprocess.call(sys.argv[1:])
took = time.monotonic() - since
print(took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
";

/// Runs a command to its end.
pub(super) fn measure(command: &Command) -> Measured {
    let mut outer = Command::new("python3");
    outer
        .args(["-c", SCRIPT])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    let output = run(&mut outer);
    let last = output.stdout.lines().last().unwrap_or_default();
    let mut numbers = last.split(' ').map(|it| it.parse::<f64>().unwrap_or(0.0));
    let mut number = || numbers.next().unwrap_or(0.0);
    Measured {
        code: output.status.code(),
        stderr: output.stderr,
        time: Duration::from_secs_f64(number()),
        memory: number() as u64 * 1024,
    }
}
