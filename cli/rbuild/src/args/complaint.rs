//! What is said of arguments that cannot be read.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use dockerfile_parser::{Case, suggest};

use super::CommandLine;
use crate::fault::Fault;

/// Clap's words in our form, of the `arguments` that it could not read.
pub(super) fn complaint(error: &clap::Error, arguments: &[OsString]) -> Fault {
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
    // Names of missing arguments and possible values stand on lines of their own.
    let details = rest
        .iter()
        .copied()
        .filter(|line| line.starts_with(['<', '[', '-']));
    let message = details.fold(message, |message, detail| format!("{message} {detail}"));
    let usage = rest.iter().find_map(|line| line.strip_prefix("Usage: "));
    let usage = match error.kind() {
        // Clap's own line has the option that it takes for similar.
        ErrorKind::UnknownArgument => Some(usage_of(&command(arguments))),
        _ => usage.map(str::to_owned),
    };
    let fault = Fault::usage(message);
    match (meant(error, arguments), usage) {
        (Some(meant), _) => fault.hint(format!("did you mean `{meant}`?")),
        (None, Some(usage)) => fault.hint(format!("usage: {usage}")),
        (None, None) => fault.hint("`rbuild --help` and `rbuild COMMAND --help` say what there is"),
    }
}

/// What was probably meant by a word that nobody knows.
fn meant(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (word, known) = match error.kind() {
        ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidArg)?;
            (word, options(&command(arguments)))
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand)?;
            let command = command(arguments);
            let names = command.get_subcommands().flat_map(|it| {
                let names = it.get_name_and_visible_aliases();
                names.into_iter().map(str::to_owned).collect::<Vec<_>>()
            });
            (word, names.collect())
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => {
                (text(ContextKind::InvalidValue)?, values.clone())
            }
            _ => return None,
        },
        _ => return None,
    };
    let word = word.split(['=', ' ']).next().unwrap_or_default();
    suggest(word, known.iter().map(String::as_str), Case::Sensitive)
}

/// How to write a command, on one line.
fn usage_of(command: &clap::Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    usage.lines().next().unwrap_or_default().to_owned()
}

/// The command that the arguments name, as far as they name one.
fn command(arguments: &[OsString]) -> clap::Command {
    let mut command = CommandLine::command();
    command.build();
    for word in arguments.iter().skip(1).filter_map(|it| it.to_str()) {
        match command.find_subcommand(word) {
            Some(below) => command = below.clone(),
            // A word of another kind: a value of what stands before the command, or all is named.
            None if !word.starts_with('-') && !command.has_subcommands() => break,
            None => {}
        }
    }
    command
}

/// The long options of a command, but for those that are only there to be understood.
fn options(command: &clap::Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|it| !it.is_hide_set());
    let names = shown.filter_map(clap::Arg::get_long_and_visible_aliases);
    names.flatten().map(|it| format!("--{it}")).collect()
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
                "error: unexpected argument `--taget` found\nhint: did you mean `--target`?\n125",
            ),
            (
                "rbuild build --tga x .",
                "error: unexpected argument `--tga` found\nhint: did you mean `--tag`?\n125",
            ),
            (
                "rbuild biuld .",
                "error: unrecognized subcommand `biuld`\nhint: did you mean `build`?\n125",
            ),
            (
                "rbuild --root /r image lss",
                "error: unrecognized subcommand `lss`\nhint: did you mean `ls`?\n125",
            ),
            (
                "rbuild build --progress=palin .",
                "error: invalid value `palin` for `--progress <MODE>` [possible values: auto, tty, plain, quiet, rawjson, none]\nhint: did you mean `plain`?\n125",
            ),
            (
                "rbuild build --squish .",
                "error: unexpected argument `--squish` found\nhint: usage: rbuild build [OPTIONS] <PATH>\n125",
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
                "error: unrecognized subcommand `imges`\nhint: did you mean `images`?\n125",
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
