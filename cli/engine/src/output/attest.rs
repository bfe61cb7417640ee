//! What is said about the results of a build: where they come from and what they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use export::sbom::{self, About, Inventory};
use export::{
    Attestations, Builder, ConfigSource, Invocation, Material, Predicate, Provenance, Steps,
};
use jiff::Timestamp;
use llb::op::{MountKind, Network, Source};
use llb::{KeyHasher, Op, Vertex, VertexId};
use lower::Plan;
use oci::{Digest, ImageConfig, Platform, Reference};
use serde_json::{Value, json};
use snapshot::{Kind, Root, SnapshotId};
use solve::progress::Warning;

use crate::report::Errand;
use crate::solving::Solved;
use crate::{ContextFrom, ExportError, Job, NoCache};

/// The build-args by which BuildKit is told to scan more than the result.
const SCAN_MORE: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What is said about each result, in the order of the platforms; nothing where that is not wanted.
/// `images` are their ids, where they are images.
pub(super) fn predicates(
    job: &Job<'_>,
    solved: &Solved,
    images: &[(Platform, Digest)],
    errand: &Errand<'_>,
) -> Result<Vec<Vec<Predicate>>, ExportError> {
    let attest = &job.request.attest;
    if attest.sbom {
        warn_of_more(job);
    }
    let mut all = Vec::new();
    for (index, (target, output)) in job.targets.iter().zip(&solved.outputs).enumerate() {
        let mut predicates = Vec::new();
        if attest.sbom {
            let top = super::top(job, output.as_ref(), errand)?;
            let image = images.get(index).map(|(_, id)| *id);
            let name = format!("[{}] generating sbom", target.platform);
            predicates.push(errand.part(
                &name,
                || materials_list(job, target, (top, image)),
                |_| 0,
            )?);
        }
        if let Some(wanted) = &attest.provenance {
            let made = provenance(job, target, solved)?;
            predicates.push(made.predicate(wanted.version, wanted.mode));
        }
        all.push(predicates);
    }
    Ok(all)
}

/// What is said about images, by their ids.
pub(super) fn attestations(
    images: &[(Platform, Digest)],
    predicates: &[Vec<Predicate>],
) -> Attestations {
    let mut attestations = Attestations::default();
    for ((_, id), predicates) in images.iter().zip(predicates) {
        for predicate in predicates {
            attestations.add(*id, predicate.clone());
        }
    }
    attestations
}

/// The files of a result with files beside them that say something of them.
pub(super) fn beside_files(
    job: &Job<'_>,
    top: Option<SnapshotId>,
    predicates: &[Predicate],
    prefix: &str,
) -> Result<Option<SnapshotId>, ExportError> {
    if predicates.is_empty() {
        return Ok(top);
    }
    let snapshots = &job.engine.snapshots;
    let files = files(job, top)?;
    let active = snapshots.prepare(top).map_err(sbom::SbomError::from)?;
    for predicate in predicates {
        let name = match predicate.kind.as_str() {
            "https://spdx.dev/Document" => "sbom.spdx.json",
            _ => "provenance.json",
        };
        // A new directory, in which nothing is yet that could lead elsewhere.
        let path = active.upper().join(format!("{prefix}{name}"));
        super::write(&path, &predicate.of_files(&files))?;
    }
    Ok(Some(active.commit().map_err(sbom::SbomError::from)?))
}

/// All regular files of a result, with what is in them.
fn files(job: &Job<'_>, top: Option<SnapshotId>) -> Result<Vec<(String, Digest)>, ExportError> {
    let snapshots = &job.engine.snapshots;
    let merged = snapshots.merged(top).map_err(sbom::SbomError::from)?;
    let root = Root::from_fd(snapshots.view(top).map_err(sbom::SbomError::from)?);
    let mut files = Vec::new();
    for entry in merged
        .iter()
        .filter(|it| matches!(it.kind, Kind::File { .. }))
    {
        let digest = root.open_file(entry.path()).and_then(digest);
        let digest = digest.map_err(|source| sbom::SbomError::Read {
            path: entry.path().to_owned(),
            source,
        })?;
        files.push((entry.path().display().to_string(), digest));
    }
    Ok(files)
}

fn digest(mut file: File) -> io::Result<Digest> {
    let mut hash = oci::Sha256::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// The bill of materials of a result.
fn materials_list(
    job: &Job<'_>,
    target: &Plan,
    (top, image): (Option<SnapshotId>, Option<Digest>),
) -> Result<Predicate, ExportError> {
    let snapshots = &job.engine.snapshots;
    let inventory = sbom::scan(snapshots, top)?;
    warn_of_unread(job, &inventory);
    let names = job.request.tags.first().map(Reference::familiar);
    let epoch = job
        .epoch(target)
        .and_then(|it| Timestamp::from_second(it).ok());
    let about = About {
        name: names.unwrap_or_else(|| "result".to_owned()),
        image,
        created: epoch.unwrap_or(job.begun.at),
        top,
    };
    Ok(sbom::predicate(snapshots, &inventory, &about)?)
}

fn warn_of_unread(job: &Job<'_>, inventory: &Inventory) {
    for path in &inventory.unread {
        warn(
            job,
            format!(
                "the SBOM lacks the packages of {}: rpm's database is not read yet",
                path.display()
            ),
        );
    }
}

fn warn_of_more(job: &Job<'_>) {
    for name in SCAN_MORE {
        if job.request.build_args.contains_key(name) || job.definition.speaks_of(name) {
            warn(
                job,
                format!("{name} is not supported yet: the SBOM is of the result alone"),
            );
        }
    }
}

fn warn(job: &Job<'_>, message: String) {
    job.reporter.warning(Warning {
        rule: String::new(),
        url: String::new(),
        place: None,
        message,
    });
}

/// Where a result comes from.
fn provenance(job: &Job<'_>, target: &Plan, solved: &Solved) -> Result<Provenance, ExportError> {
    let vertices = needed(job, target);
    let execs = vertices.iter().filter_map(|id| match &vertex(job, *id).op {
        Op::Exec(exec) => Some(exec),
        _ => None,
    });
    let is_local = |id: &VertexId| matches!(&vertex(job, *id).op, Op::Source(Source::Local(_)));
    let options = job.request.attest.provenance.clone().unwrap_or_default();
    let number = KeyHasher::new("build")
        .number(job.begun.at.as_microsecond().cast_unsigned())
        .number(std::process::id().into())
        .finish();
    Ok(Provenance {
        builder: Builder {
            id: options.builder_id,
            platform: Platform::host().to_string(),
            build: number.to_string()[..25].to_owned(),
            says_reproducible: options.says_reproducible,
        },
        config: ConfigSource {
            fetched: job.definition.context().origin().cloned(),
            path: job.definition.name().to_owned(),
        },
        invocation: invocation(job, &vertices),
        materials: materials(job, target, (&vertices, solved)),
        is_complete: !vertices.iter().any(is_local)
            && !matches!(
                job.request.context,
                ContextFrom::Directory(_) | ContextFrom::Stdin
            ),
        is_hermetic: execs.clone().all(|exec| exec.network == Network::None),
        time: (job.begun.at, Timestamp::now()),
        steps: steps(job, &vertices),
    })
}

/// The vertices that a target's result is made from, in the order of the graph.
fn needed(job: &Job<'_>, target: &Plan) -> BTreeSet<VertexId> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<VertexId> = target.root.iter().map(|root| root.vertex).collect();
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(vertex(job, id).inputs.iter().map(|input| input.vertex));
        }
    }
    reached
}

fn vertex<'a>(job: &'a Job<'_>, id: VertexId) -> &'a Vertex {
    job.plan.graph.vertex(id)
}

/// What was asked for, in the words in which BuildKit's frontend is asked.
fn invocation(job: &Job<'_>, vertices: &BTreeSet<VertexId>) -> Invocation {
    let request = job.request;
    let mut asked = Invocation::default();
    let mut say = |key: String, value: &str| asked.args.insert(key, value.to_owned());
    for (name, value) in &request.build_args {
        say(format!("build-arg:{name}"), value);
    }
    for (name, value) in &request.labels {
        say(format!("label:{name}"), value);
    }
    if let Some(target) = &request.target {
        say("target".to_owned(), target);
    }
    match &request.no_cache {
        NoCache::Off => {}
        NoCache::All => drop(say("no-cache".to_owned(), "")),
        NoCache::Stages(stages) => {
            let stages: Vec<&str> = stages.iter().map(String::as_str).collect();
            say("no-cache".to_owned(), &stages.join(","));
        }
    }
    for id in vertices {
        match &vertex(job, *id).op {
            Op::Exec(exec) => {
                for mount in &exec.mounts {
                    let (of, id, required) = match &mount.kind {
                        MountKind::Secret { id, required, .. } => {
                            (&mut asked.secrets, id, required)
                        }
                        MountKind::Ssh { id, required, .. } => (&mut asked.ssh, id, required),
                        _ => continue,
                    };
                    let optional = of.entry(id.clone()).or_insert(true);
                    *optional &= !required;
                }
            }
            Op::Source(Source::Local(local)) if !asked.locals.contains(&local.name) => {
                asked.locals.push(local.name.clone());
            }
            _ => {}
        }
    }
    asked.locals.push("dockerfile".to_owned());
    asked
}

/// What came from outside, each thing once.
fn materials(
    job: &Job<'_>,
    target: &Plan,
    (vertices, solved): (&BTreeSet<VertexId>, &Solved),
) -> Vec<Material> {
    let mut materials: BTreeSet<Material> = job
        .definition
        .context()
        .origin()
        .cloned()
        .into_iter()
        .collect();
    for id in vertices {
        let Op::Source(planned) = &vertex(job, *id).op else {
            continue;
        };
        materials.extend(match solved.resolved.get(id).unwrap_or(planned) {
            Source::Image(image) => image_material(job, target, image),
            other => fetched(other),
        });
    }
    materials.into_iter().collect()
}

/// An image, by the digest by which registries know it, or by its id where none knows it.
fn image_material(job: &Job<'_>, target: &Plan, image: &llb::op::ImageSource) -> Option<Material> {
    let store = &job.engine.store;
    let name: Reference = image.reference.parse().ok()?;
    let known = store.image(&image.id).ok().flatten();
    let digest = name.digest().copied().or(known.and_then(|it| it.manifest));
    let config = store.open_blob(&image.id).ok();
    let config = config.and_then(|file| serde_json::from_reader::<_, ImageConfig>(file).ok());
    let platform = config.map_or_else(|| target.platform.clone(), |it| it.platform());
    Some(Material {
        uri: export::package_url(&name, &platform),
        algorithm: "sha256".to_owned(),
        digest: digest.unwrap_or(image.id).hex(),
    })
}

/// A file of the web or a commit, as it was when the build asked.
pub(crate) fn fetched(source: &Source) -> Option<Material> {
    match source {
        Source::Http(http) => Some(Material {
            uri: llb::without_credentials(&http.url),
            algorithm: "sha256".to_owned(),
            digest: http.pin.as_ref()?.content.hex(),
        }),
        Source::Git(git) => {
            let commit = git.pin.clone()?;
            let reference = match git.reference.as_str() {
                "" => String::new(),
                name => format!("#{name}"),
            };
            Some(Material {
                uri: format!("{}{reference}", llb::without_credentials(&git.remote)),
                algorithm: if commit.len() == 64 { "sha256" } else { "sha1" }.to_owned(),
                digest: commit,
            })
        }
        Source::Image(_) | Source::Local(_) => None,
    }
}

/// The steps, and where they come from.
fn steps(job: &Job<'_>, vertices: &BTreeSet<VertexId>) -> Steps {
    let positions: BTreeMap<&VertexId, usize> = vertices
        .iter()
        .enumerate()
        .map(|(at, id)| (id, at))
        .collect();
    let number = |id: &VertexId| format!("step{}", positions[id]);
    let mut definition = Vec::new();
    let mut numbers = BTreeMap::new();
    let mut locations = serde_json::Map::new();
    for id in vertices {
        let vertex = vertex(job, *id);
        let input = |it: &llb::Input| format!("{}:{}", number(&it.vertex), it.output);
        let inputs: Vec<String> = vertex.inputs.iter().map(input).collect();
        let mut step = json!({ "id": number(id), "op": { "Op": llb::told(&vertex.op) } });
        if !inputs.is_empty() {
            step["inputs"] = json!(inputs);
        }
        definition.push(step);
        numbers.insert(format!("blake3:{}", vertex.digest()), number(id));
        if let Some(lines) = vertex.metadata.source {
            let range = json!({ "start": { "line": lines.first_line }, "end": { "line": lines.last_line } });
            locations.insert(number(id), json!({ "locations": [{ "ranges": [range] }] }));
        }
    }
    let info = json!({
        "filename": job.definition.name(),
        "language": "Dockerfile",
        "data": BASE64_STANDARD.encode(job.definition.text()),
    });
    Steps {
        definition,
        numbers,
        source: json!({ "locations": Value::Object(locations), "infos": [info] }),
    }
}
