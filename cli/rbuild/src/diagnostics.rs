//! What is for those who look for a bug: the log and the words of a panic.

use std::panic::PanicHookInfo;

use tracing::Level;

use crate::progress::terminal::say;

/// Switches the log on, if `RBUILD_LOG` asks for it: `error`, `warn`, `info`, `debug` or `trace`.
/// Says nothing by default, and costs nothing.
pub(crate) fn start_log() {
    let level = std::env::var("RBUILD_LOG")
        .ok()
        .and_then(|level| level.parse::<Level>().ok());
    if let Some(level) = level {
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(std::io::stderr)
            .init();
    }
}

/// From now on a panic is one line and a hint; with `RUST_BACKTRACE` also what Rust says of it.
pub(crate) fn word_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            usual(panic);
        }
        say(&words(panic));
    }));
}

fn words(panic: &PanicHookInfo<'_>) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic
        .location()
        .map(|place| format!(" ({}:{})", place.file(), place.line()))
        .unwrap_or_default();
    format!(
        "internal error: {message}{place}\nhint: this is a bug in rbuild; RUST_BACKTRACE=1 shows where it came from\n"
    )
}
