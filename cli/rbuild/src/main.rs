//! The rbuild command line: words into commands, builds onto the screen, errors into words.
//!
//! [`args`] is what was typed. Each command is a function of its arguments and the store. Data goes
//! to standard output through [`output`], talk to standard error; a command that fails returns a
//! [`fault::Fault`], and only `main` prints it.

mod args;
mod build;
mod cache;
mod containers;
mod diagnostics;
mod exit;
mod explain;
mod fault;
mod history;
mod human;
mod image;
mod info;
mod interrupt;
mod limits;
mod login;
mod output;
mod pairs;
mod progress;
mod registries;
mod rootless;
mod run;
mod spec;
mod table;
mod template;

use std::process::ExitCode;

use store::Store;

use args::{
    BuilderCommand, CacheCommand, Command, CommandLine, ImageCommand, StoreCommand, SystemCommand,
};
use exit::Exit;
use fault::Fault;
use progress::report::Detail;
use progress::terminal::say;

fn main() -> ExitCode {
    diagnostics::word_panics();
    diagnostics::start_log();
    match CommandLine::read(std::env::args_os().collect()).and_then(obey) {
        Ok(exit) => exit.into(),
        Err(fault) => {
            say(&fault.words());
            fault.status().into()
        }
    }
}

/// Looks after what the store may have lost when the machine went down; costs nothing otherwise.
fn recover(store: &Store) -> Result<(), Fault> {
    for image in export::recover(&snapshot::Snapshots::new(store.clone()))?.lost {
        say(&format!(
            "warning: image {image} was damaged when the machine went down and is removed\n"
        ));
    }
    Ok(())
}

fn obey(line: CommandLine) -> Result<Exit, Fault> {
    // What needs no store, and none of what a store needs.
    match &line.command {
        Command::Version => {
            output::print(concat!("rbuild ", env!("CARGO_PKG_VERSION"), "\n"))?;
            return Ok(Exit::Success);
        }
        Command::Login(args) => return login::login(args).map(|()| Exit::Success),
        Command::Logout(args) => return login::logout(args).map(|()| Exit::Success),
        Command::Search(args) => return image::search(args).map(|()| Exit::Success),
        Command::System(SystemCommand::Info(args)) => {
            return info::info(line.root, args).map(|()| Exit::Success);
        }
        _ => {}
    }
    let root = rootless::climb(line.root)?;
    if let Command::Store(StoreCommand::Verify(args)) = &line.command {
        cache::verify(&root, args)?;
        return Ok(Exit::Success);
    }
    let store = Store::open(&root)?;
    recover(&store)?;
    let detail = if line.debug {
        Detail::Full
    } else {
        Detail::Summary
    };
    match line.command {
        Command::Run(args) => return run::run(store, &args),
        Command::Build(args) | Command::Image(ImageCommand::Build(args)) => {
            build::build(store, &args, detail)
        }
        Command::Ps(args) => containers::ps(&store, &args),
        Command::Rm(args) => containers::rm(&store, &args),
        Command::Images(args) | Command::Image(ImageCommand::Ls(args)) => image::ls(&store, &args),
        Command::Rmi(args) | Command::Image(ImageCommand::Rm(args)) => image::rm(&store, &args),
        Command::Image(ImageCommand::Prune(args)) => image::prune(&store, &args),
        Command::Tag(args) | Command::Image(ImageCommand::Tag(args)) => image::tag(&store, &args),
        Command::History(args) | Command::Image(ImageCommand::History(args)) => {
            image::history(&store, &args)
        }
        Command::Inspect(args) | Command::Image(ImageCommand::Inspect(args)) => {
            image::inspect(&store, &args)
        }
        Command::Image(ImageCommand::Tree(args)) => image::tree(&store, &args),
        Command::Image(ImageCommand::Diff(args)) => image::diff(store, &args),
        Command::Image(ImageCommand::Blame(args)) => image::blame(store, &args),
        Command::Save(args) | Command::Image(ImageCommand::Save(args)) => image::save(store, &args),
        Command::Pull(args) | Command::Image(ImageCommand::Pull(args)) => {
            return image::pull(store, &args);
        }
        Command::Push(args) | Command::Image(ImageCommand::Push(args)) => {
            return image::push(store, &args);
        }
        Command::Load(args) | Command::Image(ImageCommand::Load(args)) => image::load(store, &args),
        Command::Import(args) | Command::Image(ImageCommand::Import(args)) => {
            image::import(store, &args)
        }
        Command::Explain(args) => explain::explain(store, &args),
        Command::Cache(command) => match command {
            CacheCommand::Ls(args) => cache::ls(&store, &args),
            CacheCommand::Du(args) => cache::du(&store, &args),
            CacheCommand::Inspect(args) => cache::inspect(&store, &args),
            CacheCommand::Cp(args) => cache::cp(&store, &args),
            CacheCommand::Rm(args) => cache::rm(&store, &args),
            CacheCommand::Prune(args) => cache::prune(&store, &args),
        },
        Command::Builder(command) => match command {
            BuilderCommand::Du(args) => cache::du(&store, &args),
            BuilderCommand::Prune(args) => cache::prune(&store, &args),
            BuilderCommand::Build(args) => build::build(store, &args, detail),
            BuilderCommand::History(command) => history::history(&store, &command),
        },
        Command::System(SystemCommand::Df(args)) => cache::df(&store, &args),
        Command::Version
        | Command::Search(_)
        | Command::Login(_)
        | Command::Logout(_)
        | Command::Store(_)
        | Command::System(SystemCommand::Info(_)) => Ok(()),
    }?;
    Ok(Exit::Success)
}
