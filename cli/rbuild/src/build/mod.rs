//! `build`: what was typed into what is meant, the build itself, and what is said of it.

mod allow;
mod annotation;
mod attest;
mod cache;
mod call;
mod context;
mod environment;
mod forecast;
mod lent;
mod metadata;
mod output;
mod request;
mod sizes;
mod subrequests;
mod verdict;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use engine::{BuildError, Built, Engine};
use export::{Attestations, Described, Given};
use oci::Reference;
use registry::{Client, DockerConfig};
use snapshot::Snapshots;
use store::Store;

use crate::args::{BuildArgs, GraphFormat};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::image::{self, ArchiveTo};
use crate::interrupt::Interrupt;
use crate::output::print;
use crate::progress::colour::{Colours, Tone};
use crate::progress::report::{self, Detail};
use crate::progress::terminal::say;
use crate::progress::{Display, Mode, State};
use crate::registries;
use crate::rootless;
pub(crate) use call::Asked;
pub(crate) use environment::platform as default_platform;
use metadata::Metadata;
use output::Output;
use request::Meant;

/// How a build is and was shown.
struct Shown {
    mode: Mode,
    colours: Colours,
    detail: Detail,
    state: State,
}

/// How long a finished build waits for the disk before it leaves that to the next one.
pub(crate) const SYNC_LIMIT: Duration = Duration::from_secs(2);

/// Builds, shows how, and says what came of it.
pub(crate) fn build(store: Store, args: &BuildArgs, detail: Detail) -> Result<(), Fault> {
    for warning in args.legacy.check()? {
        say(&warning);
    }
    environment::refuse(|name| std::env::var(name).ok())?;
    let mut meant = Meant::read(args, |name| std::env::var(name).ok())?;
    let engine = Engine::with_registries(store, registries(&meant.outputs)?);
    meant.open_caches(engine.registries())?;
    if args.graph == Some(GraphFormat::Dot) {
        let graph = engine
            .graph(&meant.request, &|_| {})
            .map_err(|error| in_words(error, None))?;
        return Ok(print(&llb::dot::dot(&graph))?);
    }
    if let Some(format) = args.list_context {
        return context::list(&engine, &meant, format);
    }
    if let Some(asked) = Asked::by(args) {
        return call::ask(&engine, &meant, asked);
    }
    if let Some(format) = args.dry_run {
        return forecast::forecast(&engine, &meant, format);
    }
    refuse_terminal(&meant.outputs)?;
    for kind in meant.outputs.iter().filter_map(Output::engine) {
        kind.reach()?;
    }
    let cancel = meant.request.cancel.clone();
    let interrupt = Interrupt::watch(move || cancel.cancel())?;
    let mode = match (args.quiet, args.progress) {
        (true, _) => Mode::Quiet,
        (false, Some(mode)) => mode,
        (false, None) => environment::mode(|name| std::env::var(name).ok())?,
    };
    let colours = Colours::from_environment(|name| std::env::var(name).ok());
    let display = Display::start(mode, colours)?;
    let built = engine::build(&engine, &meant.request, &|event| display.sink(event));
    let shown = Shown {
        mode,
        colours,
        detail,
        state: display.finish(),
    };
    let said = match built {
        Ok(built) => conclude(&engine, &meant, &built, (&shown, &interrupt))
            .and_then(|()| sizes::report(&built.sizes, args.size_report)),
        Err(BuildError::Cancelled) => Err(canceled(&interrupt)),
        Err(error) => Err(in_words(error, Some(&shown.state))),
    };
    let said = said.map_err(|fault| {
        say(&fault.words());
        Fault::silent(fault.status())
    });
    // Only now: the person has the answer and waits for nothing but the prompt.
    engine.store().mark_synced(SYNC_LIMIT)?;
    // A budget that cannot be kept now is kept another time.
    if let Err(error) = engine.store().keep_budget() {
        tracing::warn!(%error, "the cache is not kept within its budget");
    }
    said
}

/// What is done and said of a build that went well.
fn conclude(
    engine: &Engine,
    meant: &Meant,
    built: &Built,
    (shown, interrupt): (&Shown, &Interrupt),
) -> Result<(), Fault> {
    let archived = write_archives(engine, meant, built)?;
    hand_over(engine, meant, built, (shown, interrupt))?;
    if let Some((path, with_warnings)) = &meant.metadata_file {
        let warnings = match with_warnings {
            true => shown.state.warnings(),
            false => &[],
        };
        let metadata = Metadata {
            built,
            archived,
            warnings,
        };
        let text = metadata.text(engine.store())?;
        std::fs::write(path, text).map_err(|source| {
            let what = format!("cannot write `{}`", path.display());
            Fault::from(anyhow::Error::new(source).context(what))
        })?;
    }
    if matches!(shown.mode, Mode::Auto | Mode::Tty | Mode::Plain) {
        say_warnings(meant, shown);
    }
    if let Some(image) = built.image.filter(|_| shown.mode == Mode::Quiet) {
        print(&format!("{image}\n"))?;
    }
    match (&built.verified, meant.verify) {
        (Some(verified), Some(format)) => verdict::say(verified, format),
        _ => Ok(()),
    }
}

/// Writes the archives that are asked for, and gives what the last calls the image.
fn write_archives(
    engine: &Engine,
    meant: &Meant,
    built: &Built,
) -> Result<Option<Described>, Fault> {
    // Under its names if it has some, so that whoever loads it finds them again.
    let names: Vec<String> = match &built.names[..] {
        [] => built.images.iter().map(|(_, id)| id.to_string()).collect(),
        names => names.iter().map(ToString::to_string).collect(),
    };
    let snapshots = Snapshots::new(engine.store().clone());
    let mut described = None;
    for output in &meant.outputs {
        let Output::Archive {
            destination,
            packing,
            is_layout,
            ..
        } = output
        else {
            continue;
        };
        let to = match (destination, is_layout) {
            (Some(path), true) => ArchiveTo::Layout(path),
            (Some(path), false) => ArchiveTo::File(path),
            (None, _) => ArchiveTo::Stdout,
        };
        let mut options = packing.options(&meant.annotations);
        options.attestations = Some(match packing.takes_attestations() {
            true => built.attestations.clone(),
            false => Attestations::default(),
        });
        let written = image::write(&snapshots, &names, to, &options);
        described = written.map_err(|fault| fault.prefix("ERROR: failed to build: "))?;
    }
    Ok(described)
}

/// Gives the image to the other engines that are asked for.
fn hand_over(
    engine: &Engine,
    meant: &Meant,
    built: &Built,
    (shown, interrupt): (&Shown, &Interrupt),
) -> Result<(), Fault> {
    for kind in meant.outputs.iter().filter_map(Output::engine) {
        // Others are not told to give up: nobody waits for them then.
        interrupt.be_brief();
        let snapshots = registries::snapshots(engine.store().clone())?;
        for image in given(built) {
            let said = image::engines::hand_over(&snapshots, image, &kind.find()?);
            if interrupt.exit().is_some() {
                return Err(canceled(interrupt));
            }
            let said = said.map_err(|fault| {
                let fault = fault.prefix("ERROR: failed to build: ");
                fault.hint("the image is built, and in rbuild's own store")
            })?;
            if matches!(shown.mode, Mode::Auto | Mode::Tty | Mode::Plain) {
                say(&format!("{}: {said}", kind.name()));
            }
        }
    }
    Ok(())
}

/// The image under each of its names, or without one.
fn given(built: &Built) -> Vec<Given<'_>> {
    match &built.names[..] {
        [] => built.image.iter().map(Given::Unnamed).collect(),
        names => names.iter().map(Given::Named).collect(),
    }
}

fn say_warnings(meant: &Meant, shown: &Shown) {
    let text = report::warnings(shown.state.warnings(), shown.detail, |_| {
        meant.dockerfile_text()
    });
    if io::stderr().is_terminal() {
        let paint = |line| shown.colours.paint(Tone::Warning, line) + "\n";
        say(&text.lines().map(paint).collect::<String>());
    } else {
        say(&text);
    }
}

/// Why a build failed: the last lines of the step, the lines of the Dockerfile, the chain of causes.
fn in_words(error: BuildError, state: Option<&State>) -> Fault {
    let mut preamble = state.map(report::failures).unwrap_or_default();
    if let Some(place) = error.place() {
        preamble.push_str(&report::clean_lines(&place.excerpt()));
    }
    let step = matches!(error, BuildError::Step(_));
    // Whether the step wanted to be somebody else nobody knows; that it could not have been is known.
    let hint = error
        .hint()
        .or_else(|| step.then(rootless::lacking).flatten());
    // Before there is anything to solve, docker does not speak of solving.
    let prefix = match &error {
        BuildError::Read(error) if error.is_of_context() => "ERROR: failed to build: ",
        _ => "ERROR: failed to build: failed to solve: ",
    };
    let fault = Fault::from(error).prefix(prefix).below(preamble);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

fn canceled(interrupt: &Interrupt) -> Fault {
    let exit = interrupt.exit().unwrap_or(Exit::Failure);
    Fault::from(anyhow::anyhow!("canceled"))
        .prefix("ERROR: failed to build: ")
        .exit(exit)
}

/// Who speaks to registries, as the person trusts them.
fn registries(outputs: &[Output]) -> Result<Client, Fault> {
    let mut settings = registries::settings()?;
    for output in outputs {
        if let Output::Push(push) = output
            && push.insecure
        {
            for name in push
                .names
                .iter()
                .filter_map(|it| it.parse::<Reference>().ok())
            {
                settings.allow_insecure(name.registry());
            }
        }
    }
    Ok(Client::new(settings, Box::new(DockerConfig)))
}

fn refuse_terminal(outputs: &[Output]) -> Result<(), Fault> {
    let to_stdout = |output: &&Output| match output {
        Output::Archive { destination, .. } => destination.is_none(),
        Output::Tar(files) => files.destination.is_none(),
        Output::Image { .. }
        | Output::Engine { .. }
        | Output::Push(_)
        | Output::CacheOnly
        | Output::Local(_) => false,
    };
    let count = outputs.iter().filter(to_stdout).count();
    if count > 1 {
        return Err(Fault::usage(
            "standard output takes one output; name files for the others with dest=FILE",
        ));
    }
    if count > 0 && io::stdout().is_terminal() {
        return Err(Fault::usage("an archive on the terminal helps nobody")
            .hint("name a file with dest=FILE, or redirect"));
    }
    Ok(())
}
