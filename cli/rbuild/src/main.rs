//! The rbuild command line: words into commands, builds onto the screen, errors into words.
//!
//! [`args`] is what was typed. Each command is a function of its arguments and the store. Data goes
//! to standard output through [`output`], talk to standard error; a command that fails returns a
//! [`fault::Fault`], and only `main` prints it.

mod args;
mod build;
mod exit;
mod fault;
mod human;
mod image;
mod interrupt;
mod output;
mod progress;
mod spec;
mod table;
mod template;

use std::process::ExitCode;

use store::Store;

use args::{Command, CommandLine, ImageCommand};
use fault::Fault;
use progress::terminal::say;

fn main() -> ExitCode {
    match CommandLine::read(std::env::args_os().collect()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            say(&fault.words());
            fault.status().into()
        }
    }
}

fn run(line: CommandLine) -> Result<(), Fault> {
    if let Command::Version = line.command {
        return Ok(output::print(concat!(
            "rbuild ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        ))?);
    }
    let root = line.root.map_or_else(store::default_root, Ok)?;
    let store = Store::open(&root)?;
    match line.command {
        Command::Images(args) => image::ls(&store, &args),
        Command::Rmi(args) => image::rm(&store, &args),
        Command::Tag(args) => image::tag(&store, &args),
        Command::History(args) => image::history(&store, &args),
        Command::Inspect(args) => image::inspect(&store, &args),
        Command::Image(command) => run_image(&store, command),
        _ => Ok(()),
    }
}

fn run_image(store: &Store, command: ImageCommand) -> Result<(), Fault> {
    match command {
        ImageCommand::Ls(args) => image::ls(store, &args),
        ImageCommand::Rm(args) => image::rm(store, &args),
        ImageCommand::Prune(args) => image::prune(store, &args),
        ImageCommand::Tag(args) => image::tag(store, &args),
        ImageCommand::History(args) => image::history(store, &args),
        ImageCommand::Inspect(args) => image::inspect(store, &args),
        _ => Ok(()),
    }
}
