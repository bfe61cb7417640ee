//! `--cache-from` and `--cache-to`: where caches are kept elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use oci::media_type::Compression;
use oci::{Digest, Reference};
use registry::Client;
use remote::{Backend, Bucket, CacheTo, Directory, InRegistry, Keys, Mode, Which};

use crate::fault::Fault;
use crate::spec::fields;

const FROM: &str = "--cache-from";
const TO: &str = "--cache-to";
/// Under which name a directory has a cache where nobody names one.
const TAG: &str = "latest";
/// Under which name a bucket has one. Not BuildKit's, whose caches are others.
const NAME: &str = "rbuild";

/// Where a cache is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a registry.
    Registry(Reference),
    /// In a directory: a name, or a certain manifest.
    Local {
        path: PathBuf,
        tag: String,
        digest: Option<Digest>,
    },
    /// In a bucket.
    S3(Box<Keys>, Option<Secret>),
}

/// Who one is for a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    id: String,
    key: String,
    token: Option<String>,
}

/// What one `--cache-to` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Export {
    /// A cache in the image.
    Inline,
    /// A cache of its own.
    To(Box<To>),
}

/// A cache of its own, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct To {
    place: Place,
    mode: Mode,
    compression: Compression,
    level: Option<i32>,
    force_compression: bool,
    ignore_error: bool,
    oci_media_types: bool,
    mounts: Which,
}

/// The environment.
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the text of one `--cache-from`, which may name several caches.
pub(crate) fn from(text: &str, variable: Variable<'_>) -> Result<Vec<Place>, Fault> {
    let mut spec = match Spec::read(FROM, text)? {
        Read::References(references) => {
            return Ok(references.into_iter().map(Place::Registry).collect());
        }
        Read::Spec(spec) => spec,
    };
    if spec.kind == "inline" {
        return Err(Fault::usage(format!(
            "`{FROM} type=inline`: a cache in an image is read with type=registry,ref=IMAGE"
        )));
    }
    let place = spec.place(variable)?;
    spec.finish()?;
    Ok(vec![place])
}

/// Reads the text of one `--cache-to`.
pub(crate) fn to(text: &str, variable: Variable<'_>) -> Result<Vec<Export>, Fault> {
    let mut spec = match Spec::read(TO, text)? {
        Read::References(references) => {
            let plain = |it| Export::To(Box::new(To::plain(Place::Registry(it))));
            return Ok(references.into_iter().map(plain).collect());
        }
        Read::Spec(spec) => spec,
    };
    if spec.kind == "inline" {
        if let Some(mode) = spec.take("mode").filter(|it| it != "min") {
            return Err(spec.wrong(
                "mode",
                &mode,
                "a cache in an image has the image's own layers, which is mode=min",
            ));
        }
        spec.finish()?;
        return Ok(vec![Export::Inline]);
    }
    let mut to = To::plain(spec.place(variable)?);
    to.read(&mut spec)?;
    spec.finish()?;
    Ok(vec![Export::To(Box::new(to))])
}

impl Place {
    /// The cache there, not looked at yet.
    pub(crate) fn open(self, client: &Arc<Client>) -> Result<Arc<dyn Backend>, Fault> {
        Ok(match self {
            Self::Registry(reference) => Arc::new(InRegistry::new(Arc::clone(client), reference)),
            Self::Local { path, tag, digest } => Arc::new(Directory::new(path, &tag, digest)),
            Self::S3(keys, secret) => {
                let secret = secret.map(|it| (it.id, it.key, it.token));
                Arc::new(Bucket::new(*keys, secret).map_err(Fault::usage)?)
            }
        })
    }
}

impl To {
    fn plain(place: Place) -> Self {
        Self {
            place,
            mode: Mode::Min,
            compression: Compression::Gzip,
            level: None,
            force_compression: false,
            ignore_error: false,
            oci_media_types: true,
            mounts: Which::None,
        }
    }

    fn read(&mut self, spec: &mut Spec) -> Result<(), Fault> {
        if let Some(mode) = spec.take("mode") {
            self.mode = match &*mode {
                "min" => Mode::Min,
                "max" => Mode::Max,
                _ => return Err(spec.wrong("mode", &mode, "known are min and max")),
            };
        }
        if let Some(word) = spec.take("compression") {
            self.compression = match &*word {
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                "uncompressed" => Compression::None,
                _ => {
                    let known = "known are gzip, zstd and uncompressed";
                    return Err(spec.wrong("compression", &word, known));
                }
            };
        }
        if let Some(word) = spec.take("compression-level") {
            let (most, of) = match self.compression {
                Compression::Gzip => (9, "gzip"),
                Compression::Zstd => (22, "zstd"),
                Compression::None => (-1, "uncompressed"),
            };
            let level = word.parse().ok().filter(|level| (0..=most).contains(level));
            let known = match most {
                -1 => "uncompressed layers have none".to_owned(),
                _ => format!("{of} has the levels 0 to {most}"),
            };
            self.level = Some(level.ok_or_else(|| spec.wrong("compression-level", &word, &known))?);
        }
        spec.flag("force-compression", &mut self.force_compression)?;
        spec.flag("ignore-error", &mut self.ignore_error)?;
        spec.flag("oci-mediatypes", &mut self.oci_media_types)?;
        let mut image_manifest = true;
        spec.flag("image-manifest", &mut image_manifest)?;
        if !image_manifest {
            let why = "a cache is written as an image manifest, which every registry takes";
            return Err(spec.wrong("image-manifest", "false", why));
        }
        self.mounts = match spec.take("mounts").as_deref() {
            None | Some("none") => Which::None,
            Some("all") => Which::All,
            Some(ids) => Which::Some(ids.split(';').map(str::to_owned).collect()),
        };
        Ok(())
    }

    /// The export, for the engine.
    pub(crate) fn open(self, client: &Arc<Client>) -> Result<CacheTo, Fault> {
        Ok(CacheTo {
            backend: self.place.open(client)?,
            mode: self.mode,
            compression: self.compression,
            level: self.level,
            force_compression: self.force_compression,
            ignore_error: self.ignore_error,
            oci_media_types: self.oci_media_types,
            mounts: self.mounts,
        })
    }
}

impl std::fmt::Debug for Secret {
    /// Leaves all but the id out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secret").field(&self.id).finish()
    }
}

/// The text of an option.
enum Read {
    /// Names of caches in registries, and nothing else.
    References(Vec<Reference>),
    Spec(Spec),
}

/// `key=value` pairs that nobody has asked for yet.
struct Spec {
    flag: &'static str,
    kind: String,
    fields: Vec<(String, String)>,
    /// What was asked for.
    known: Vec<&'static str>,
}

impl Spec {
    fn read(flag: &'static str, text: &str) -> Result<Read, Fault> {
        let all = fields(text).map_err(|error| Fault::usage(format!("`{flag}`: {error}")))?;
        if !all.is_empty() && all.iter().all(|(_, value)| value.is_none()) {
            let references = all.iter().map(|(text, _)| reference(flag, text));
            return Ok(Read::References(references.collect::<Result<_, _>>()?));
        }
        let mut fields = Vec::new();
        let mut kind = None;
        for (key, value) in all {
            match (key, value) {
                (key, Some(value)) if key == "type" => kind = Some(value),
                (key, Some(value)) => fields.push((key, value)),
                (key, None) => {
                    return Err(Fault::usage(format!("`{flag}`: `{key}` has no value")));
                }
            }
        }
        let Some(kind) = kind else {
            let error = format!("`{flag} {text}` says no type");
            return Err(Fault::usage(error).hint(TYPES));
        };
        if !matches!(&*kind, "registry" | "local" | "inline" | "s3") {
            let error = format!("`{flag}`: `{kind}` is no type of cache");
            return Err(Fault::usage(error).hint(TYPES));
        }
        Ok(Read::Spec(Self {
            flag,
            kind,
            fields,
            known: Vec::new(),
        }))
    }

    fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        // The last one counts, as everywhere.
        let place = self.fields.iter().rposition(|(it, _)| it == key)?;
        let (_, value) = self.fields.swap_remove(place);
        self.fields.retain(|(it, _)| it != key);
        Some(value)
    }

    fn flag(&mut self, key: &'static str, value: &mut bool) -> Result<(), Fault> {
        if let Some(word) = self.take(key) {
            *value = match &*word {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(self.wrong(key, &word, "known are true and false")),
            };
        }
        Ok(())
    }

    fn need(&mut self, key: &'static str) -> Result<String, Fault> {
        let (flag, kind) = (self.flag, self.kind.clone());
        self.take(key)
            .filter(|it| !it.is_empty())
            .ok_or_else(|| Fault::usage(format!("`{flag} type={kind}` needs `{key}=`")))
    }

    fn wrong(&self, key: &str, value: &str, why: &str) -> Fault {
        Fault::usage(format!("`{}`: `{key}={value}` is not possible", self.flag)).hint(why)
    }

    /// Refuses what nobody asked for.
    fn finish(self) -> Result<(), Fault> {
        match self.fields.first() {
            None => Ok(()),
            Some((key, _)) => {
                let error = format!("`{} type={}` has no `{key}=`", self.flag, self.kind);
                Err(Fault::usage(error).hint(format!("it has {}", self.known.join(", "))))
            }
        }
    }

    fn place(&mut self, variable: Variable<'_>) -> Result<Place, Fault> {
        match &*self.kind {
            "registry" => {
                let text = self.need("ref")?;
                Ok(Place::Registry(reference(self.flag, &text)?))
            }
            "local" => self.directory(),
            _ => self.bucket(variable),
        }
    }

    fn directory(&mut self) -> Result<Place, Fault> {
        let key = if self.flag == FROM { "src" } else { "dest" };
        let path = PathBuf::from(self.need(key)?);
        let tag = self.take("tag").unwrap_or_else(|| TAG.to_owned());
        let digest = match self.flag == FROM {
            true => self.take("digest"),
            false => None,
        };
        let digest = match digest {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| self.wrong("digest", &text, "a digest is sha256:HEX"))?,
            ),
        };
        Ok(Place::Local { path, tag, digest })
    }

    fn bucket(&mut self, variable: Variable<'_>) -> Result<Place, Fault> {
        let bucket = match self.take("bucket").or_else(|| variable("AWS_BUCKET")) {
            Some(bucket) => bucket,
            None => self.need("bucket")?,
        };
        let region = match self.take("region").or_else(|| variable("AWS_REGION")) {
            Some(region) => region,
            None => self.need("region")?,
        };
        let endpoint =
            match self.take("endpoint_url") {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    self.wrong("endpoint_url", &text, "it is an address: https://…")
                })?),
            };
        let mut path_style = false;
        self.flag("use_path_style", &mut path_style)?;
        let names = self.take("name").unwrap_or_else(|| NAME.to_owned());
        let names: Vec<String> = names.split(';').map(str::to_owned).collect();
        let keys = Keys {
            endpoint,
            path_style,
            region,
            bucket,
            prefix: self.take("prefix").unwrap_or_default(),
            blobs_prefix: self
                .take("blobs_prefix")
                .unwrap_or_else(|| "blobs/".to_owned()),
            manifests_prefix: self
                .take("manifests_prefix")
                .unwrap_or_else(|| "manifests/".to_owned()),
            names,
        };
        let secret = self.secret(variable)?;
        Ok(Place::S3(Box::new(keys), secret))
    }

    /// From the option, else from the environment; never half of each.
    fn secret(&mut self, variable: Variable<'_>) -> Result<Option<Secret>, Fault> {
        let id = self.take("access_key_id");
        let key = self.take("secret_access_key");
        let token = self.take("session_token");
        match (id, key) {
            (Some(id), Some(key)) => Ok(Some(Secret { id, key, token })),
            (None, None) => {
                let found = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
                let token = token.or_else(|| variable("AWS_SESSION_TOKEN"));
                Ok(found.map(|(id, key)| Secret { id, key, token }))
            }
            (Some(_), None) => self.need("secret_access_key").map(|_| None),
            (None, Some(_)) => self.need("access_key_id").map(|_| None),
        }
    }
}

const TYPES: &str = "known are type=registry, type=local, type=inline and type=s3";

fn reference(flag: &str, text: &str) -> Result<Reference, Fault> {
    text.parse()
        .map_err(|error| Fault::usage(format!("`{flag}`: `{text}` names no cache: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<T: std::fmt::Debug>(read: Result<T, Fault>) -> String {
        match read {
            Ok(read) => format!("{read:?}"),
            Err(fault) => fault.words().trim_end().to_owned(),
        }
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn what_is_wrong_names_the_flag_and_the_key() {
        let table = [
            (
                "type=redis,ref=x",
                "error: `--cache-to`: `redis` is no type of cache\nhint: known are type=registry, type=local, type=inline and type=s3",
            ),
            (
                "ref=x",
                "error: `--cache-to ref=x` says no type\nhint: known are type=registry, type=local, type=inline and type=s3",
            ),
            (
                "type=registry",
                "error: `--cache-to type=registry` needs `ref=`",
            ),
            (
                "type=registry,ref=UPPER",
                "error: `--cache-to`: `UPPER` names no cache: invalid reference format: `UPPER`: repository name must be lowercase",
            ),
            (
                "type=registry,ref=x,mode=all",
                "error: `--cache-to`: `mode=all` is not possible\nhint: known are min and max",
            ),
            (
                "type=registry,ref=x,compression=xz",
                "error: `--cache-to`: `compression=xz` is not possible\nhint: known are gzip, zstd and uncompressed",
            ),
            (
                "type=registry,ref=x,compression-level=12",
                "error: `--cache-to`: `compression-level=12` is not possible\nhint: gzip has the levels 0 to 9",
            ),
            (
                "type=registry,ref=x,ignore-error=maybe",
                "error: `--cache-to`: `ignore-error=maybe` is not possible\nhint: known are true and false",
            ),
            (
                "type=registry,ref=x,image-manifest=false",
                "error: `--cache-to`: `image-manifest=false` is not possible\nhint: a cache is written as an image manifest, which every registry takes",
            ),
            (
                "type=local,src=x",
                "error: `--cache-to type=local` needs `dest=`",
            ),
            (
                "type=local,dest",
                "error: `--cache-to`: `dest` has no value",
            ),
            (
                "type=inline,mode=max",
                "error: `--cache-to`: `mode=max` is not possible\nhint: a cache in an image has the image's own layers, which is mode=min",
            ),
            (
                "type=inline,ref=x",
                "error: `--cache-to type=inline` has no `ref=`\nhint: it has mode",
            ),
            (
                "type=s3,bucket=b",
                "error: `--cache-to type=s3` needs `region=`",
            ),
            (
                "type=s3,bucket=b,region=r,endpoint_url=x",
                "error: `--cache-to`: `endpoint_url=x` is not possible\nhint: it is an address: https://…",
            ),
            (
                "type=s3,bucket=b,region=r,access_key_id=x",
                "error: `--cache-to type=s3` needs `secret_access_key=`",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(words(to(text, &nothing)), expected, "{text}");
        }
        assert_eq!(
            words(from("type=inline", &nothing)),
            "error: `--cache-from type=inline`: a cache in an image is read with type=registry,ref=IMAGE"
        );
    }

    #[test]
    fn a_bare_name_is_one_in_a_registry() {
        let read = from("a/b:c,d", &nothing).unwrap();
        let expected = ["a/b:c", "d"].map(|it| Place::Registry(it.parse().unwrap()));
        assert_eq!(read, expected);
        let plain = To::plain(expected[0].clone());
        assert_eq!(
            to("a/b:c", &nothing).unwrap(),
            [Export::To(Box::new(plain))]
        );
    }

    #[test]
    fn an_export_is_as_it_is_asked_for() {
        let text = "type=local,dest=/c,tag=t,mode=max,compression=zstd,compression-level=9,force-compression=true,ignore-error=true,oci-mediatypes=false,image-manifest=true,mounts=a;/root/.cargo";
        let expected = To {
            place: Place::Local {
                path: "/c".into(),
                tag: "t".to_owned(),
                digest: None,
            },
            mode: Mode::Max,
            compression: Compression::Zstd,
            level: Some(9),
            force_compression: true,
            ignore_error: true,
            oci_media_types: false,
            mounts: Which::Some(vec!["a".to_owned(), "/root/.cargo".to_owned()]),
        };
        assert_eq!(
            to(text, &nothing).unwrap(),
            [Export::To(Box::new(expected))]
        );
    }

    #[test]
    fn a_bucket_takes_from_the_environment_what_is_not_said() {
        let environment = |name: &str| match name {
            "AWS_REGION" => Some("eu-west-1".to_owned()),
            "AWS_ACCESS_KEY_ID" => Some("me".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
            _ => None,
        };
        let read = from(
            "type=s3,bucket=b,name=main;other,prefix=ci/,endpoint_url=http://127.0.0.1:9000,use_path_style=true",
            &environment,
        );
        let text = words(read);
        assert!(!text.contains("hush"), "{text}");
        for part in [
            "eu-west-1",
            "Secret(\"me\")",
            "\"main\", \"other\"",
            "blobs/",
            "path_style: true",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
