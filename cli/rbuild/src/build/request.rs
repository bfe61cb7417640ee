//! The arguments of `build` into what the engine understands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use engine::{
    AgentFrom, Attest, ContextFrom, DockerfileFrom, Leaks, LogLimits, NamedFrom, NoCache, Pull,
    Request, SecretFrom, SizeLimits,
};
use export::{Annotations, SaveOptions};
use oci::{Platform, Reference};
use registry::Client;

use super::output::{Output, Packing, Times};
use super::{allow, annotation, attest, cache, environment, lent, metadata};
use crate::args::{BuildArgs, ForecastFormat, Network, SecretLeaks};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::image::engines::Kind;
use crate::{limits, pairs};

/// What a person meant.
#[derive(Debug)]
pub(crate) struct Meant {
    /// For the engine.
    pub(crate) request: Request,
    /// For us, afterwards.
    pub(crate) outputs: Vec<Output>,
    /// `--annotation`, for each of the outputs.
    pub(crate) annotations: Annotations,
    /// `--metadata-file`, and whether it is to have the warnings.
    pub(crate) metadata_file: Option<(PathBuf, bool)>,
    /// `--verify-reproducible`, and how what comes of it is printed.
    pub(crate) verify: Option<ForecastFormat>,
    /// `--cache-from`
    cache_from: Vec<cache::Place>,
    /// `--cache-to`
    cache_to: Vec<cache::Export>,
}

impl Meant {
    /// What `args` mean, with `variable` for the environment.
    pub(crate) fn read(
        args: &BuildArgs,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Fault> {
        let mut outputs = args
            .output
            .iter()
            .map(|text| Output::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        let times = times(&outputs)?;
        if args.push {
            outputs.push(Output::Push(super::output::Push::default()));
        }
        let annotations = annotation::annotations(&args.annotation)?;
        let secrets = args.secret.iter().map(|text| lent::secret(text, &variable));
        let secrets =
            secrets.map(|secret| secret.map(|(id, value)| (id, SecretFrom::Value(value))));
        let ssh = args.ssh.iter().map(|text| lent::agent(text, &variable));
        let (context, dockerfile) = sources(args)?;
        let defaults = Request::new(&args.context);
        let request = Request {
            context,
            contexts: contexts(&args.build_context)?,
            dockerfile,
            target: args.target.clone().filter(|it| !it.is_empty()),
            build_args: build_args(args, &variable)?,
            labels: pairs::labels(&args.label)?,
            platforms: platforms(&args.platform, &variable)?,
            no_cache: no_cache(args),
            network: network(args.network),
            extra_hosts: pairs::hosts(&args.add_host)?,
            shm_size: args.shm_size,
            ulimits: limits::ulimits(&args.limits.ulimit)?,
            cgroup_parent: args.limits.cgroup_parent.clone(),
            resources: limits::resources(&args.resource, &args.limits)?,
            allowed: allow::allowed(&args.allow, network(args.network))?,
            strict_args: args.strict_args,
            secrets: secrets.collect::<Result<BTreeMap<_, _>, _>>()?,
            ssh: agents(ssh)?,
            tags: tags(args, &outputs)?,
            outputs: engine_outputs(&outputs, &annotations)?,
            stored: of_store(&outputs, &annotations),
            rewrite_timestamp: times.rewrites,
            epoch: times.epoch,
            iidfile: args.iidfile.clone(),
            pull: match (args.pull, args.offline) {
                (true, _) => Pull::Always,
                (false, true) => Pull::Never,
                (false, false) => Pull::Missing,
            },
            parallelism: args.jobs.map(Into::into),
            size_limits: SizeLimits {
                image: args.max_size,
                growth: args.max_layer_growth,
            },
            report_sizes: args.size_report.is_some(),
            leaks: match args.secret_leaks {
                None | Some(SecretLeaks::Refuse) => Leaks::Refuse,
                Some(SecretLeaks::Warn) => Leaks::Warn,
                Some(SecretLeaks::Ignore) => Leaks::Ignore,
            },
            known_tokens: args.secret_leaks.is_some(),
            log_limits: log_limits(args),
            explain: args.explain,
            verify: args.verify_reproducible.is_some(),
            attest: attest::attest(args)?,
            ..defaults
        };
        check_annotations(&request, &outputs, &annotations)?;
        check_names(&request, &outputs)?;
        check_sizes(args, &outputs)?;
        check_attestations(&request, &outputs)?;
        let warnings = metadata::is_asked(variable("BUILDX_METADATA_WARNINGS").as_deref());
        let metadata_file = args.metadata_file.clone().map(|path| (path, warnings));
        let cache_from = args.cache_from.iter().map(|it| cache::from(it, &variable));
        let cache_to = args.cache_to.iter().map(|it| cache::to(it, &variable));
        Ok(Self {
            request,
            outputs,
            annotations,
            metadata_file,
            verify: args.verify_reproducible,
            cache_from: flat(cache_from)?,
            cache_to: flat(cache_to)?,
        })
    }

    /// Gives the request the caches that it imports from and exports to.
    pub(crate) fn open_caches(&mut self, registries: &Arc<Client>) -> Result<(), Fault> {
        for place in self.cache_from.drain(..) {
            self.request.cache_from.push(place.open(registries)?);
        }
        for export in self.cache_to.drain(..) {
            match export {
                cache::Export::Inline => self.request.inline_cache = true,
                cache::Export::To(to) => self.request.cache_to.push(to.open(registries)?),
            }
        }
        Ok(())
    }

    /// The Dockerfile's text, to show lines of it.
    pub(crate) fn dockerfile_text(&self) -> Option<String> {
        let path = match (&self.request.dockerfile, &self.request.context) {
            (DockerfileFrom::File(path), _) => path.clone(),
            (DockerfileFrom::Context, ContextFrom::Directory(context)) => {
                context.join("Dockerfile")
            }
            _ => return None,
        };
        std::fs::read_to_string(path).ok()
    }
}

fn flat<T>(all: impl Iterator<Item = Result<Vec<T>, Fault>>) -> Result<Vec<T>, Fault> {
    Ok(all
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// Where the context and the Dockerfile are. The standard input can be one of them only.
fn sources(args: &BuildArgs) -> Result<(ContextFrom, DockerfileFrom), Fault> {
    let context = ContextFrom::parse(&args.context);
    let dockerfile = args.file.as_deref().map(DockerfileFrom::parse);
    if (&context, &dockerfile) == (&ContextFrom::Stdin, &Some(DockerfileFrom::Stdin)) {
        return Err(Fault::usage(
            "invalid argument: can't use stdin for both build context and dockerfile",
        ));
    }
    Ok((context, dockerfile.unwrap_or(DockerfileFrom::Context)))
}

/// `NAME=CONTEXT`, each name once.
fn contexts(texts: &[String]) -> Result<BTreeMap<String, NamedFrom>, Fault> {
    let mut contexts = BTreeMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=').filter(|(_, it)| !it.is_empty()) else {
            return Err(Fault::usage(format!(
                "invalid context value: {text}, expected NAME=CONTEXT"
            )));
        };
        let usage = |error: anyhow::Error| Fault::from(error).exit(Exit::Usage);
        let name = engine::context_name(name).map_err(|error| usage(error.into()))?;
        let from = NamedFrom::parse(value).map_err(|error| {
            // What stands before an `@` is no secret where nobody is asked.
            let is_local = value.starts_with("oci-layout:") || value.starts_with("docker-image:");
            let shown = if is_local {
                value.to_owned()
            } else {
                llb::without_credentials(value)
            };
            let error = anyhow::Error::new(error);
            usage(error.context(format!("invalid build context `{name}={shown}`")))
        })?;
        contexts.insert(name, from);
    }
    Ok(contexts)
}

/// `--ssh`, each id once.
fn agents(
    all: impl Iterator<Item = Result<(String, AgentFrom), Fault>>,
) -> Result<BTreeMap<String, AgentFrom>, Fault> {
    let mut agents = BTreeMap::new();
    for agent in all {
        let (id, from) = agent?;
        if agents.contains_key(&id) {
            return Err(Fault::usage(format!("`--ssh` has the id `{id}` twice")));
        }
        agents.insert(id, from);
    }
    Ok(agents)
}

/// `--build-arg`, and the one that the environment gives as well.
fn build_args(
    args: &BuildArgs,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Fault> {
    const EPOCH: &str = "SOURCE_DATE_EPOCH";
    let mut given = pairs::build_args(&args.build_arg, &variable)?;
    if !given.contains_key(EPOCH)
        && let Some(epoch) = variable(EPOCH).filter(|it| !it.is_empty())
    {
        given.insert(EPOCH.to_owned(), epoch);
    }
    Ok(given)
}

/// Each platform once, in the order in which they were named.
fn platforms(
    texts: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Platform>, Fault> {
    if texts.is_empty() {
        return Ok(environment::platform(variable)?.into_iter().collect());
    }
    let mut platforms = Vec::new();
    for text in texts {
        let platform: Platform = text.trim().parse().map_err(|error: oci::PlatformError| {
            Fault::from(anyhow::Error::new(error)).exit(Exit::Usage)
        })?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// Where nothing is said it is as usual, and less than none is no limit.
fn log_limits(args: &BuildArgs) -> LogLimits {
    let limit = |said: Option<i64>, usual| said.map_or(usual, |it| u64::try_from(it).ok());
    let usual = LogLimits::default();
    LogLimits {
        size: limit(args.step_log_max_size, usual.size),
        speed: limit(args.step_log_max_speed, usual.speed),
    }
}

fn no_cache(args: &BuildArgs) -> NoCache {
    match (args.no_cache, &args.no_cache_filter[..]) {
        (true, _) => NoCache::All,
        (false, []) => NoCache::Off,
        (false, stages) => {
            NoCache::Stages(stages.iter().map(|stage| stage.to_lowercase()).collect())
        }
    }
}

fn network(network: Network) -> llb::op::Network {
    match network {
        Network::Default => llb::op::Network::Default,
        Network::None => llb::op::Network::None,
        Network::Host => llb::op::Network::Host,
    }
}

fn tags(args: &BuildArgs, outputs: &[Output]) -> Result<Vec<Reference>, Fault> {
    let of_outputs = outputs.iter().flat_map(|output| match output {
        Output::Archive { names, .. }
        | Output::Image { names, .. }
        | Output::Engine { names, .. } => &names[..],
        Output::Push(_) | Output::CacheOnly | Output::Local(_) | Output::Tar(_) => &[],
    });
    args.tag.iter().chain(of_outputs).map(tag).collect()
}

fn tag(text: &String) -> Result<Reference, Fault> {
    match text.parse::<Reference>() {
        Ok(name) if name.digest().is_some() => Err(Fault::usage(format!(
            "invalid tag `{text}`: a digest is no tag"
        ))),
        Ok(name) => Ok(name),
        Err(error) => Err(Fault::from(
            anyhow::Error::new(error).context(format!("invalid tag `{text}`")),
        )
        .exit(Exit::Usage)),
    }
}

/// Which times the image shows. All outputs that are images are one image.
fn times(outputs: &[Output]) -> Result<Times, Fault> {
    let mut all = outputs.iter().filter_map(Output::times);
    let first = all.next().unwrap_or_default();
    if all.any(|it| it != first) {
        return Err(Fault::usage(
            "`--output`: all outputs are the same image, so they have the same rewrite-timestamp and source-date-epoch",
        )
        .hint("say it for each of them, or build twice: the steps are cached"));
    }
    Ok(first)
}

/// How the manifest of the image in the store is: as all outputs have it, and as those say that mean
/// the store.
fn of_store(outputs: &[Output], annotations: &Annotations) -> SaveOptions {
    let usual = SaveOptions {
        annotations: Some(annotations.clone()),
        ..SaveOptions::default()
    };
    let of_images = outputs.iter().filter_map(|it| match it {
        Output::Image { packing, .. } | Output::Engine { packing, .. } => {
            Some(packing.options(&Annotations::default()))
        }
        _ => None,
    });
    of_images.fold(usual, |all, more| SaveOptions {
        annotations: all
            .annotations
            .zip(more.annotations)
            .map(|(all, more)| all.and(&more)),
        media_types: more.media_types.or(all.media_types),
        ..all
    })
}

/// Refuses limits of images where there is none.
fn check_sizes(args: &BuildArgs, outputs: &[Output]) -> Result<(), Fault> {
    let flags = [
        ("--max-size", args.max_size.is_some()),
        ("--max-layer-growth", args.max_layer_growth.is_some()),
        ("--size-report", args.size_report.is_some()),
    ];
    let given = flags.iter().find(|(_, given)| *given);
    match given {
        Some((flag, _)) if !outputs.is_empty() && !outputs.iter().any(Output::is_image) => {
            let message = format!("`{flag}` is about images, and no output is one");
            Err(Fault::usage(message))
        }
        _ => Ok(()),
    }
}

/// Refuses attestations that would go nowhere.
fn check_attestations(request: &Request, outputs: &[Output]) -> Result<(), Fault> {
    let asks = request.attest != Attest::default();
    let keeps = |it: &Output| *it != Output::CacheOnly;
    if asks && !outputs.is_empty() && !outputs.iter().any(keeps) {
        return Err(Fault::usage(
            "attestations go beside images and files, and `type=cacheonly` makes neither",
        ));
    }
    Ok(())
}

/// Refuses annotations that nothing could have.
fn check_annotations(
    request: &Request,
    outputs: &[Output],
    annotations: &Annotations,
) -> Result<(), Fault> {
    let of_outputs = outputs.iter().filter_map(Output::annotations);
    let all = of_outputs.fold(annotations.clone(), |all, more| all.and(more));
    if !annotations.is_empty()
        && !outputs.is_empty()
        && outputs.iter().all(|it| it.annotations().is_none())
    {
        return Err(Fault::usage(
            "`--annotation`: only images have annotations, and no output is one",
        ));
    }
    let insists = |it: &&Output| it.packing().is_some_and(Packing::insists_on_dockers);
    if let Some(output) = outputs.iter().find(insists)
        && !(annotations.is_empty() && output.annotations().is_none_or(Annotations::is_empty))
    {
        return Err(Fault::usage(
            "`oci-mediatypes=false` of `--output`: Docker's manifests have no annotations",
        )
        .hint("leave `oci-mediatypes=false` out, or the annotations"));
    }
    if all.name_an_index() && request.platforms.len() < 2 {
        return Err(Fault::usage(
            "index annotations not supported for single platform export: an image for one platform has no index",
        )
        .hint("name several platforms with --platform, or annotate the manifest"));
    }
    Ok(())
}

/// Refuses an image without a name where it could not be found.
fn check_names(request: &Request, outputs: &[Output]) -> Result<(), Fault> {
    let mut engines = outputs.iter().filter_map(Output::engine);
    if request.tags.is_empty() && engines.any(|it| it == Kind::Containerd) {
        return Err(Fault::usage(
            "`--output type=containerd` needs a name: containerd finds images by nothing else",
        )
        .hint("add --tag NAME, or name=NAME to the output"));
    }
    Ok(())
}

/// Archives, and what other engines get, are made from the image in the store.
fn engine_outputs(
    outputs: &[Output],
    annotations: &Annotations,
) -> Result<Vec<engine::Output>, Fault> {
    let mut meant: Vec<engine::Output> = Vec::new();
    for output in outputs {
        let output = match output {
            Output::Image { .. } | Output::Archive { .. } | Output::Engine { .. } => {
                engine::Output::Image
            }
            Output::Push(push) => engine::Output::Push(engine::Push {
                names: push.names.iter().map(tag).collect::<Result<_, _>>()?,
                options: push.packing.options(annotations),
            }),
            Output::CacheOnly => engine::Output::CacheOnly,
            Output::Local(files) => engine::Output::Local(files.clone()),
            Output::Tar(files) => engine::Output::Tar(files.clone()),
        };
        if !meant.contains(&output) {
            meant.push(output);
        }
    }
    Ok(meant)
}
