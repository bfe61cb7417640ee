//! `--output`: where the result of a build goes.

use std::path::PathBuf;

use engine::Files;
use export::{Annotations, Compression, MediaTypes, SaveOptions};

use super::annotation;
use crate::fault::Fault;
use crate::image::engines::Kind;
use crate::spec::fields;

/// Where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Into the store, as an image.
    Image {
        /// Names that the option gives to the image.
        names: Vec<String>,
        /// How its manifest is.
        packing: Packing,
    },
    /// Into registries as well.
    Push(Push),
    /// Nowhere: only the cache knows it.
    CacheOnly,
    /// Into an archive as well.
    Archive {
        /// The file, or the directory of a layout; standard output where `None`.
        destination: Option<PathBuf>,
        /// A name that the option gives to the image.
        names: Vec<String>,
        /// How layers are packed.
        packing: Packing,
        /// Whether it is a directory and no tar.
        is_layout: bool,
    },
    /// Into another engine on this machine as well.
    Engine {
        /// Which.
        kind: Kind,
        /// Names that the option gives to the image.
        names: Vec<String>,
        /// How its manifest is.
        packing: Packing,
    },
    /// Its files into a directory.
    Local(Files),
    /// Its files into a tar.
    Tar(Files),
}

/// How an archive or a registry gets an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Packing {
    /// How layers are packed: as they are where `None`.
    compression: Option<Compression>,
    /// Whether those packed with gzip have a table of contents.
    estargz: bool,
    level: Option<i32>,
    /// What stands beside manifests and indices.
    annotations: Annotations,
    /// Whose media types they have, where that is said.
    media_types: Option<MediaTypes>,
    /// Whether those of Docker are usual.
    is_dockers: bool,
    /// Which times the image shows.
    times: Times,
}

/// Which times an image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Times {
    /// `rewrite-timestamp=true`: none of its new files is younger than the epoch.
    pub(crate) rewrites: bool,
    /// `source-date-epoch=`
    pub(crate) epoch: Option<i64>,
}

impl Packing {
    /// As an archive takes it, with `annotations` of all outputs.
    pub(crate) fn options(&self, annotations: &Annotations) -> SaveOptions {
        let annotations = annotations.and(&self.annotations);
        // Docker's know no annotations: with some, BuildKit has OCI's, too.
        let usual = self.is_dockers && annotations.is_empty() && !self.estargz;
        let usual = usual.then_some(MediaTypes::Docker);
        SaveOptions {
            compression: self.compression,
            estargz: self.estargz,
            level: self.level,
            media_types: self.media_types.or(usual),
            annotations: Some(annotations),
            ..SaveOptions::default()
        }
    }

    /// As the image in the store takes it: only what it is asked for counts.
    fn of_store(self) -> Self {
        Self {
            is_dockers: false,
            ..self
        }
    }

    /// Whether what is said of an image can stand beside it: Docker's archives have no place for that.
    pub(crate) fn takes_attestations(&self) -> bool {
        !self.is_dockers
    }

    /// Whether Docker's media types are asked for.
    pub(crate) fn insists_on_dockers(&self) -> bool {
        self.media_types == Some(MediaTypes::Docker)
    }
}

/// How an image goes into registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Push {
    /// Its names there; those of `--tag` where there are none.
    pub(crate) names: Vec<String>,
    /// How its layers are packed, and what is said of it.
    pub(crate) packing: Packing,
    /// Whether the registries may be spoken to in plain http, or with any certificate.
    pub(crate) insecure: bool,
}

/// The fields of one `--output`.
#[derive(Default)]
struct Fields {
    /// `push=true`
    push: bool,
    /// `registry.insecure=true`
    insecure: bool,
    kind: Option<String>,
    destination: Option<String>,
    names: Vec<String>,
    packing: Packing,
    platform_split: bool,
    /// `attestation-prefix=`
    attestation_prefix: String,
    /// `tar=false`
    is_layout: bool,
}

impl Output {
    /// The other engine that gets the image.
    pub(crate) fn engine(&self) -> Option<Kind> {
        match self {
            Self::Engine { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// How the image is packed, where it is one.
    pub(crate) fn packing(&self) -> Option<&Packing> {
        match self {
            Self::Image { packing, .. }
            | Self::Engine { packing, .. }
            | Self::Push(Push { packing, .. })
            | Self::Archive { packing, .. } => Some(packing),
            Self::CacheOnly | Self::Local(_) | Self::Tar(_) => None,
        }
    }

    /// The annotations that the option itself gives.
    pub(crate) fn annotations(&self) -> Option<&Annotations> {
        self.packing().map(|it| &it.annotations)
    }

    /// Which times the image shows, where it is one.
    pub(crate) fn times(&self) -> Option<Times> {
        self.packing().map(|it| it.times)
    }

    /// Whether it is an image, or has one in it.
    pub(crate) fn is_image(&self) -> bool {
        self.packing().is_some()
    }

    /// Reads the text of one `--output`.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let mut fields = Fields::read(text)?;
        let is_plain = matches!(fields.kind.as_deref(), Some("local" | "tar"));
        if is_plain && !fields.packing.annotations.is_empty() {
            return Err(wrong(text, "only images have annotations"));
        }
        if fields.is_layout && fields.kind.as_deref() != Some("oci") {
            return Err(wrong(text, "only type=oci is written as a directory"));
        }
        if is_plain && fields.packing.times.rewrites {
            let why =
                "only layers of images have times to rewrite; here SOURCE_DATE_EPOCH alone does it";
            return Err(wrong(text, why));
        }
        let epoch = fields.packing.times.epoch.take_if(|_| is_plain);
        if is_plain && fields.packing.media_types.is_some() {
            return Err(wrong(text, "only images have media types"));
        }
        if is_plain && fields.packing != Packing::default() {
            return Err(wrong(text, "only layers of images are compressed"));
        }
        fields.packing.is_dockers = fields.kind.as_deref() == Some("docker");
        let destination = fields.destination.clone().filter(|it| it != "-");
        let destination = destination.map(PathBuf::from);
        let files = Files {
            destination: destination.clone(),
            platform_split: fields.platform_split,
            epoch,
            attestation_prefix: fields.attestation_prefix.clone(),
        };
        let engine = fields.kind.as_deref().and_then(Kind::of_output);
        let pushes = fields.push || fields.kind.as_deref() == Some("registry");
        if let (Some(engine), None, false) = (engine, &fields.destination, pushes) {
            return Ok(fields.into_engine(engine));
        }
        match fields.kind.as_deref() {
            Some("image" | "registry") if pushes && destination.is_none() => Ok(Self::Push(Push {
                names: fields.names,
                packing: fields.packing,
                insecure: fields.insecure,
            })),
            _ if pushes => Err(wrong(text, "only images are pushed")),
            Some("image") if fields.destination.is_some() => {
                Err(Fault::usage("`--output type=image` has no `dest=`").hint(KNOWN))
            }
            Some("image") => Ok(fields.image()),
            Some("cacheonly") => Ok(Self::CacheOnly),
            Some("podman" | "containerd") if fields.destination.is_some() => {
                let why = "archives are type=docker,dest=FILE and type=oci,dest=FILE";
                Err(wrong(text, why))
            }
            Some("oci") if fields.is_layout && destination.is_none() => {
                Err(wrong(text, "a layout is a directory: write dest=DIRECTORY"))
            }
            // One archive serves both: an OCI layout with docker's manifest.json.
            Some("docker" | "oci") => Ok(Self::Archive {
                destination,
                names: fields.names,
                packing: fields.packing,
                is_layout: fields.is_layout,
            }),
            Some("local") if files.destination.is_none() => Err(Fault::usage(
                "dest is required for local output: write `type=local,dest=DIRECTORY`",
            )),
            Some("local") => Ok(Self::Local(files)),
            Some("tar") => Ok(Self::Tar(files)),
            Some(kind) => Err(Fault::usage(format!("`{kind}` is no type of output")).hint(KNOWN)),
            None => Err(Fault::usage(format!("`--output {text}` says no type")).hint(KNOWN)),
        }
    }
}

impl Fields {
    fn image(self) -> Output {
        Output::Image {
            names: self.names,
            packing: self.packing.of_store(),
        }
    }

    fn into_engine(self, kind: Kind) -> Output {
        Output::Engine {
            kind,
            names: self.names,
            packing: self.packing.of_store(),
        }
    }

    fn read(text: &str) -> Result<Self, Fault> {
        let fields = fields(text).map_err(|error| Fault::usage(error.to_string()))?;
        let mut read = Self::default();
        // A path alone is a directory, and `-` a tar on standard output.
        if let [(path, None)] = &fields[..] {
            let kind = if path == "-" { "tar" } else { "local" };
            read.kind = Some(kind.to_owned());
            read.destination = Some(text.to_owned());
            return Ok(read);
        }
        for (key, value) in fields {
            let Some(value) = value else {
                return Err(wrong(text, &format!("`{key}` has no value")));
            };
            if let Some(read_key) = annotation::option(&key) {
                let (of, name) = read_key.map_err(|why| wrong(text, &why))?;
                read.packing.annotations.add(of, name, value);
                continue;
            }
            match (key.as_str(), value.as_str()) {
                ("type", _) => read.kind = Some(value),
                ("dest", _) => read.destination = Some(value),
                ("name", _) => read.names.extend(value.split(',').map(str::to_owned)),
                ("compression", _) => {
                    read.packing.compression = Some(compression(&value, text)?);
                    read.packing.estargz = value == "estargz";
                }
                ("compression-level", _) => {
                    let level = value.parse();
                    let level =
                        level.map_err(|_| wrong(text, &format!("`{value}` is no level")))?;
                    read.packing.level = Some(level);
                }
                ("oci-mediatypes", "true" | "1") => {
                    read.packing.media_types = Some(MediaTypes::Oci);
                }
                ("oci-mediatypes", "false" | "0") => {
                    read.packing.media_types = Some(MediaTypes::Docker);
                }
                ("rewrite-timestamp", "true" | "1") => read.packing.times.rewrites = true,
                ("rewrite-timestamp", "false" | "0") => {}
                ("source-date-epoch", _) => {
                    let epoch = value.parse();
                    let why = format!("`{value}` is no number of seconds since 1970");
                    read.packing.times.epoch = Some(epoch.map_err(|_| wrong(text, &why))?);
                }
                ("attestation-prefix", _) if !value.contains('/') => {
                    read.attestation_prefix = value;
                }
                ("push", "true" | "1") => read.push = true,
                ("registry.insecure", "true" | "1") => read.insecure = true,
                ("registry.insecure", "false" | "0") => {}
                ("platform-split", "true" | "1") => read.platform_split = true,
                ("tar", "false" | "0") => read.is_layout = true,
                ("mode", "delete") => {
                    return Err(wrong(text, "rbuild does not delete what is in a directory"));
                }
                // Harmless ways to ask for what is done anyway.
                ("push" | "unpack" | "platform-split", "false")
                | ("tar" | "store" | "force-compression", "true")
                | ("force-compression", "false")
                | ("mode", "copy") => {}
                _ => return Err(later(&format!("`{key}={value}` of `--output`"))),
            }
        }
        read.check_level(text)?;
        if read.packing.estargz && read.packing.media_types == Some(MediaTypes::Docker) {
            let why =
                "compression=estargz needs annotations, which Docker's media types do not know";
            return Err(wrong(text, why));
        }
        Ok(read)
    }

    fn check_level(&self, text: &str) -> Result<(), Fault> {
        let most = match self.packing.compression {
            Some(Compression::Gzip) => 9,
            Some(Compression::Zstd) => 22,
            Some(Compression::None) | None => {
                return match self.packing.level {
                    None => Ok(()),
                    Some(_) => Err(wrong(
                        text,
                        "a level goes with compression=gzip, estargz or zstd",
                    )),
                };
            }
        };
        match self.packing.level {
            Some(level) if !(0..=most).contains(&level) => {
                Err(wrong(text, &format!("the level is between 0 and {most}")))
            }
            _ => Ok(()),
        }
    }
}

fn compression(name: &str, text: &str) -> Result<Compression, Fault> {
    match name {
        "uncompressed" => Ok(Compression::None),
        "gzip" | "estargz" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        _ => Err(wrong(
            text,
            &format!("`{name}` is no compression; there are uncompressed, gzip, estargz and zstd"),
        )),
    }
}

fn wrong(text: &str, why: &str) -> Fault {
    Fault::usage(format!("`--output {text}`: {why}"))
}

const KNOWN: &str = "known are type=image, type=registry, type=docker, type=podman, type=containerd, type=oci, type=local, type=tar and type=cacheonly";

fn later(what: &str) -> Fault {
    Fault::usage(format!("{what} is not supported yet")).hint(KNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match Output::parse(text) {
            Ok(output) => format!("{output:?}"),
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn outputs_are_bxs() {
        let table = [
            (
                "type=image",
                "Image { names: [], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } } }",
            ),
            (
                "type=docker",
                "Engine { kind: Docker, names: [], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } } }",
            ),
            ("type=cacheonly", "CacheOnly"),
            (
                "type=docker,dest=x.tar",
                r#"Archive { destination: Some("x.tar"), names: [], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: None, is_dockers: true, times: Times { rewrites: false, epoch: None } }, is_layout: false }"#,
            ),
            (
                "type=oci,dest=-",
                "Archive { destination: None, names: [], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } }, is_layout: false }",
            ),
            (
                "type=oci,dest=x,name=a:1,compression=zstd,compression-level=19",
                r#"Archive { destination: Some("x"), names: ["a:1"], packing: Packing { compression: Some(Zstd), estargz: false, level: Some(19), annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } }, is_layout: false }"#,
            ),
            (
                "type=oci,dest=x,compression=gzip,compression-level=10",
                "error: `--output type=oci,dest=x,compression=gzip,compression-level=10`: the level is between 0 and 9",
            ),
            (
                "type=oci,dest=x,compression=lz4",
                "error: `--output type=oci,dest=x,compression=lz4`: `lz4` is no compression; there are uncompressed, gzip, estargz and zstd",
            ),
            (
                "type=registry,compression=estargz,oci-mediatypes=false",
                "error: `--output type=registry,compression=estargz,oci-mediatypes=false`: compression=estargz needs annotations, which Docker's media types do not know",
            ),
            (
                "type=oci,dest=x,compression-level=1",
                "error: `--output type=oci,dest=x,compression-level=1`: a level goes with compression=gzip, estargz or zstd",
            ),
            (
                "type=image,push=false",
                "Image { names: [], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } } }",
            ),
            (
                "type=image,push=true,\"name=a,b\"",
                r#"Push(Push { names: ["a", "b"], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } }, insecure: false })"#,
            ),
            (
                "type=registry,compression=zstd,compression-level=9,registry.insecure=true",
                "Push(Push { names: [], packing: Packing { compression: Some(Zstd), estargz: false, level: Some(9), annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } }, insecure: true })",
            ),
            (
                "./out",
                r#"Local(Files { destination: Some("./out"), platform_split: false, epoch: None, attestation_prefix: "" })"#,
            ),
            (
                "-",
                r#"Tar(Files { destination: None, platform_split: false, epoch: None, attestation_prefix: "" })"#,
            ),
            (
                "type=local,dest=x,platform-split=true",
                r#"Local(Files { destination: Some("x"), platform_split: true, epoch: None, attestation_prefix: "" })"#,
            ),
            (
                "type=tar,dest=x.tar",
                r#"Tar(Files { destination: Some("x.tar"), platform_split: false, epoch: None, attestation_prefix: "" })"#,
            ),
            (
                "type=tar",
                r#"Tar(Files { destination: None, platform_split: false, epoch: None, attestation_prefix: "" })"#,
            ),
            (
                "type=local",
                "error: dest is required for local output: write `type=local,dest=DIRECTORY`",
            ),
            (
                "type=local,dest=x,mode=delete",
                "error: `--output type=local,dest=x,mode=delete`: rbuild does not delete what is in a directory",
            ),
            (
                "type=tar,dest=x,compression=gzip",
                "error: `--output type=tar,dest=x,compression=gzip`: only layers of images are compressed",
            ),
            (
                "type=tar,dest",
                "error: `--output type=tar,dest`: `dest` has no value",
            ),
            (
                "type=image,push=maybe",
                "error: `push=maybe` of `--output` is not supported yet",
            ),
            (
                "type=oci,dest=x,tar=false",
                r#"Archive { destination: Some("x"), names: [], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: None, is_dockers: false, times: Times { rewrites: false, epoch: None } }, is_layout: true }"#,
            ),
            (
                "type=oci,tar=false",
                "error: `--output type=oci,tar=false`: a layout is a directory: write dest=DIRECTORY",
            ),
            (
                "type=docker,dest=x,tar=false",
                "error: `--output type=docker,dest=x,tar=false`: only type=oci is written as a directory",
            ),
            (
                "type=local,dest=x,annotation.a=b",
                "error: `--output type=local,dest=x,annotation.a=b`: only images have annotations",
            ),
            (
                "type=image,annotation-layer.a=b",
                "error: `--output type=image,annotation-layer.a=b`: there is no type `layer`; the types are manifest, index, manifest-descriptor and index-descriptor",
            ),
            (
                "type=image,oci-mediatypes=false,rewrite-timestamp=true,source-date-epoch=7",
                "Image { names: [], packing: Packing { compression: None, estargz: false, level: None, annotations: Annotations([]), media_types: Some(Docker), is_dockers: false, times: Times { rewrites: true, epoch: Some(7) } } }",
            ),
            (
                "type=tar,source-date-epoch=7",
                r#"Tar(Files { destination: None, platform_split: false, epoch: Some(7), attestation_prefix: "" })"#,
            ),
            (
                "type=tar,rewrite-timestamp=true",
                "error: `--output type=tar,rewrite-timestamp=true`: only layers of images have times to rewrite; here SOURCE_DATE_EPOCH alone does it",
            ),
            (
                "type=local,dest=x,oci-mediatypes=false",
                "error: `--output type=local,dest=x,oci-mediatypes=false`: only images have media types",
            ),
            (
                "type=oci,dest=x,source-date-epoch=now",
                "error: `--output type=oci,dest=x,source-date-epoch=now`: `now` is no number of seconds since 1970",
            ),
            ("type=nonsense", "error: `nonsense` is no type of output"),
            ("dest=x", "error: `--output dest=x` says no type"),
            (
                "type=image,dest=x",
                "error: `--output type=image` has no `dest=`",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
