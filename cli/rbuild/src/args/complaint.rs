//! What is said of arguments that cannot be read.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::fault::Fault;

/// Clap's words in our form.
pub(super) fn complaint(error: &clap::Error) -> Fault {
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
    {
        let name = flag.split(['=', ' ']).next().unwrap_or(flag);
        if LATER.contains(&name) {
            return Fault::usage(format!("`{name}` is not supported yet"));
        }
    }
    let text = error.render().to_string();
    let mut lines = text.trim_end().lines();
    let message = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .replace('\'', "`");
    let rest: Vec<&str> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut tips = rest.iter().filter_map(|line| line.strip_prefix("tip: "));
    // A dash is never the beginning of a value here.
    let tip = tips
        .find(|tip| !tip.starts_with("to pass"))
        .map(|tip| tip.replace('\'', "`"));
    // Names of missing arguments and possible values stand on lines of their own.
    let details = rest
        .iter()
        .copied()
        .filter(|line| line.starts_with(['<', '[', '-']));
    let message = details.fold(message, |message, detail| format!("{message} {detail}"));
    let usage = rest.iter().find_map(|line| line.strip_prefix("Usage: "));
    let fault = Fault::usage(message);
    match (tip, usage) {
        (Some(tip), _) => fault.hint(tip),
        (None, Some(usage)) => fault.hint(format!("usage: {usage}")),
        (None, None) => fault.hint("`rbuild --help` and `rbuild COMMAND --help` say what there is"),
    }
}

/// Options of docker that mean something, but not to this rbuild yet.
const LATER: &[&str] = &[
    "--tmpfs",
    "--privileged",
    "--init",
    "--policy",
    "--squash",
    "--isolation",
    "--security-opt",
    "--detach",
    "--restart",
    "--mount",
    "--publish",
    "--publish-all",
    "--expose",
    "--cap-add",
    "--cap-drop",
    "--device",
    "--label-file",
    "--tree",
    "--sysctl",
];

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::args::CommandLine;

    fn refused(line: &str) -> String {
        match CommandLine::read(line.split(' ').map(OsString::from).collect()) {
            Ok(read) => panic!("accepted: {read:?}"),
            Err(fault) => format!("{}{}", fault.words(), fault.status().code()),
        }
    }

    #[test]
    fn what_cannot_be_meant_is_answered_in_a_line_or_two() {
        let table = [
            (
                "rbuild build --squash .",
                "error: `--squash` is not supported yet\n125",
            ),
            (
                "rbuild build --taget x .",
                "error: unexpected argument `--taget` found\nhint: a similar argument exists: `--target`\n125",
            ),
            (
                "rbuild run --nosuch busybox",
                "error: unexpected argument `--nosuch` found\nhint: usage: rbuild run [OPTIONS] IMAGE [COMMAND] [ARG…]\n125",
            ),
            (
                "rbuild run --privileged busybox",
                "error: `--privileged` is not supported yet\n125",
            ),
            (
                "rbuild imges",
                "error: unrecognized subcommand `imges`\nhint: some similar subcommands exist: `image`, `images`\n125",
            ),
            (
                "rbuild build --progress=loud .",
                "error: invalid value `loud` for `--progress <MODE>` [possible values: auto, tty, plain, quiet, rawjson, none]\nhint: `rbuild --help` and `rbuild COMMAND --help` say what there is\n125",
            ),
            (
                "rbuild tag x",
                "error: the following required arguments were not provided: <NAME[:TAG]>\nhint: usage: rbuild tag <IMAGE> <NAME[:TAG]>\n125",
            ),
            (
                "rbuild build --shm-size=lots .",
                "error: invalid value `lots` for `--shm-size <BYTES>`: `lots` is no size; write 64m or 1g\nhint: `rbuild --help` and `rbuild COMMAND --help` say what there is\n125",
            ),
        ];
        for (typed, answer) in table {
            assert_eq!(refused(typed), answer, "{typed}");
        }
    }
}
