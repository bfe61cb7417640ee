//! `image inspect`: everything about images, as JSON.

use serde::Serialize as _;
use serde_json::{Map, Value, json};
use store::{ImageRecord, Store};

use super::{config, find};
use crate::args::InspectArgs;
use crate::fault::Fault;
use crate::output::print;
use crate::progress::terminal::say;
use crate::template::Template;

/// Prints what is known of the images. Those that are not there are told on standard error, after the others.
pub(crate) fn inspect(store: &Store, args: &InspectArgs) -> Result<(), Fault> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let found = args
        .images
        .iter()
        .map(|word| find(store, word).and_then(|image| document(store, &image)));
    let (documents, faults): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    let documents: Vec<Value> = documents.into_iter().flatten().collect();
    match (template, &args.format) {
        (Some(template), _) => {
            for document in &documents {
                print(&(template.fill(document)? + "\n"))?;
            }
        }
        (None, Some(_)) => print(
            &documents
                .iter()
                .map(|it| format!("{it}\n"))
                .collect::<String>(),
        )?,
        (None, None) => print(&pretty(&documents.into()))?,
    }
    let mut faults = faults.into_iter().filter_map(Result::err);
    let Some(last) = faults.next_back() else {
        return Ok(());
    };
    faults.for_each(|fault| say(&fault.words()));
    Err(last)
}

/// With four blanks, as docker does.
fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("a value is JSON");
    String::from_utf8_lossy(&bytes).into_owned() + "\n"
}

/// The fields and their order are docker's.
pub(super) fn document(store: &Store, image: &ImageRecord) -> Result<Value, Fault> {
    let config = config(store, image)?;
    let names = store.names(&image.id)?;
    let tags: Vec<String> = names
        .iter()
        .filter(|name| name.digest().is_none())
        .map(oci::Reference::familiar)
        .collect();
    let repository_digests = names.iter().filter_map(|name| {
        let digest = name.digest().copied().or(image.manifest)?;
        Some(format!("{}@{digest}", name.familiar_name()))
    });
    let mut repository_digests: Vec<String> = repository_digests.collect();
    repository_digests.dedup();
    let mut document = json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": repository_digests,
        "Comment": config.history.last().map_or("", |entry| &entry.comment),
        "Created": config.created,
        "Author": config.author,
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size,
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        "Metadata": { "LastTagTime": store.last_tagged(&image.id)? },
        "Descriptor": descriptor(store, image),
    });
    if let Value::Object(fields) = &mut document {
        drop_empty(fields, &["Author", "Variant", "Created", "Descriptor"]);
    }
    Ok(document)
}

/// Fields that docker leaves out when they are empty.
fn drop_empty(fields: &mut Map<String, Value>, names: &[&str]) {
    fields.retain(|name, value| {
        !names.contains(&name.as_str()) || !(value.is_null() || *value == "")
    });
}

fn descriptor(store: &Store, image: &ImageRecord) -> Option<Value> {
    let manifest = image.manifest?;
    let size = store.blob_size(&manifest).ok()?;
    Some(
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size }),
    )
}
