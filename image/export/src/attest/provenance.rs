//! Where an image comes from: SLSA provenance as BuildKit fills it in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Predicate;

/// What BuildKit says that the parameters of such a build mean, in the words of version 1 and of 0.2.
const BUILD_TYPE: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";

/// Which SLSA provenance is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// 1
    #[default]
    V1,
    /// 0.2
    V02,
}

/// How much of a build is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing that whoever built may want to keep to himself: no arguments, no steps.
    Min,
    /// All but the values of secrets.
    #[default]
    Max,
}

/// How a build went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Who built.
    pub builder: Builder,
    /// What the build began with.
    pub config: ConfigSource,
    /// What was asked for.
    pub invocation: Invocation,
    /// What came from outside.
    pub materials: Vec<Material>,
    /// Whether that is all that did: nothing came from a directory of the machine.
    pub is_complete: bool,
    /// Whether no step had a network.
    pub is_hermetic: bool,
    /// When it began, and when it was done.
    pub time: (Timestamp, Timestamp),
    /// The steps.
    pub steps: Steps,
}

/// Who built, and what he says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Builder {
    /// An address that stands for whoever built; empty where nobody says.
    pub id: String,
    /// On what: `linux/amd64`.
    pub platform: String,
    /// A number that no other build has.
    pub build: String,
    /// Whether who built says that the same comes out each time.
    pub says_reproducible: bool,
}

/// What a build began with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigSource {
    /// Where the context was fetched, and what it was: the algorithm of the digest, and the digest.
    pub fetched: Option<Material>,
    /// The Dockerfile's name.
    pub path: String,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invocation {
    /// The options, in BuildKit's words: `build-arg:A`, `label:B`, `target`.
    pub args: BTreeMap<String, String>,
    /// The ids of the secrets that steps ask for, and whether they can do without.
    pub secrets: BTreeMap<String, bool>,
    /// The ids of the agents, likewise.
    pub ssh: BTreeMap<String, bool>,
    /// The directories that were lent.
    pub locals: Vec<String>,
}

/// Something that came from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where it was.
    pub uri: String,
    /// `sha256` or `sha1`.
    pub algorithm: String,
    /// What it was, in hex digits.
    pub digest: String,
}

/// The steps of a build, each of which has a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Steps {
    /// `{"id": "step0", "op": …, "inputs": ["step1:0"]}`
    pub definition: Vec<Value>,
    /// Their numbers by their digests.
    pub numbers: BTreeMap<String, String>,
    /// Which lines of the Dockerfile they stand for, and its text.
    pub source: Value,
}

impl Provenance {
    /// The provenance as something that can be said about an image.
    pub fn predicate(&self, version: Version, mode: Mode) -> Predicate {
        match version {
            Version::V1 => Predicate {
                kind: "https://slsa.dev/provenance/v1".to_owned(),
                content: self.v1(mode),
            },
            Version::V02 => Predicate {
                kind: "https://slsa.dev/provenance/v0.2".to_owned(),
                content: self.v02(mode),
            },
        }
    }

    fn v1(&self, mode: Mode) -> Value {
        let mut internal = json!({ "builderPlatform": self.builder.platform });
        if mode == Mode::Max {
            internal["buildConfig"] = self.build_config();
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "configSource": self.config_source("path"),
                    "request": self.request(mode),
                },
                "internalParameters": internal,
                "resolvedDependencies": self.materials(),
            },
            "runDetails": {
                "builder": { "id": self.builder.id },
                "metadata": {
                    "invocationId": self.builder.build,
                    "startedOn": self.time.0,
                    "finishedOn": self.time.1,
                    "buildkit_hermetic": self.is_hermetic,
                    "buildkit_completeness": {
                        "request": mode == Mode::Max,
                        "resolvedDependencies": self.is_complete,
                    },
                    "buildkit_reproducible": self.builder.says_reproducible,
                    "buildkit_metadata": self.metadata(mode),
                },
            },
        })
    }

    fn v02(&self, mode: Mode) -> Value {
        let mut content = json!({
            "builder": { "id": self.builder.id },
            "buildType": BUILD_TYPE_02,
            "materials": self.materials(),
            "invocation": {
                "configSource": self.config_source("entryPoint"),
                "parameters": self.request(mode),
                "environment": { "platform": self.builder.platform },
            },
            "metadata": {
                "buildInvocationID": self.builder.build,
                "buildStartedOn": self.time.0,
                "buildFinishedOn": self.time.1,
                "completeness": {
                    "parameters": mode == Mode::Max,
                    "environment": true,
                    "materials": self.is_complete,
                },
                "reproducible": self.builder.says_reproducible,
                "https://mobyproject.org/buildkit@v1#hermetic": self.is_hermetic,
                "https://mobyproject.org/buildkit@v1#metadata": self.metadata(mode),
            },
        });
        if mode == Mode::Max {
            content["buildConfig"] = self.build_config();
        }
        content
    }

    fn config_source(&self, path: &str) -> Value {
        let mut source = Map::from_iter([(path.to_owned(), json!(self.config.path))]);
        if let Some(fetched) = &self.config.fetched {
            source.insert("uri".to_owned(), json!(fetched.uri));
            source.insert("digest".to_owned(), fetched.digest());
        }
        Value::Object(source)
    }

    fn request(&self, mode: Mode) -> Value {
        let asked = &self.invocation;
        // What a person gives as a value is his own affair.
        let is_own = |key: &str| {
            let own = ["build-arg:", "label:", "annotation"];
            own.iter().any(|prefix| key.starts_with(prefix))
        };
        let args: BTreeMap<&String, &String> = asked
            .args
            .iter()
            .filter(|(key, _)| mode == Mode::Max || !is_own(key))
            .collect();
        let name = |name: &String| json!({ "name": name });
        let mut request = json!({
            "frontend": "dockerfile.v0",
            "args": args,
            "locals": asked.locals.iter().map(name).collect::<Vec<_>>(),
        });
        if mode == Mode::Max {
            let lent = |(id, optional): (&String, &bool)| json!({ "id": id, "optional": optional });
            request["secrets"] = asked.secrets.iter().map(lent).collect();
            request["ssh"] = asked.ssh.iter().map(lent).collect();
        }
        request
    }

    fn materials(&self) -> Vec<Value> {
        let material = |it: &Material| json!({ "uri": it.uri, "digest": it.digest() });
        self.materials.iter().map(material).collect()
    }

    fn build_config(&self) -> Value {
        json!({ "llbDefinition": self.steps.definition, "digestMapping": self.steps.numbers })
    }

    fn metadata(&self, mode: Mode) -> Value {
        match mode {
            Mode::Min => json!({}),
            Mode::Max => json!({ "source": self.steps.source }),
        }
    }
}

impl Material {
    fn digest(&self) -> Value {
        json!({ &self.algorithm: self.digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance() -> Provenance {
        let text = |text: &str| text.to_owned();
        let material = Material {
            uri: text("pkg:docker/base@1?platform=linux%2Famd64"),
            algorithm: text("sha256"),
            digest: text("00ff"),
        };
        Provenance {
            builder: Builder {
                id: text("https://ci.example/7"),
                platform: text("linux/amd64"),
                build: text("b1"),
                says_reproducible: true,
            },
            config: ConfigSource {
                fetched: None,
                path: text("Dockerfile"),
            },
            invocation: Invocation {
                args: BTreeMap::from([
                    (text("build-arg:TOKEN"), text("canary")),
                    (text("label:a"), text("canary")),
                    (text("target"), text("release")),
                ]),
                secrets: BTreeMap::from([(text("key"), true)]),
                ssh: BTreeMap::new(),
                locals: vec![text("context")],
            },
            materials: vec![material],
            is_complete: false,
            is_hermetic: true,
            time: (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
            steps: Steps {
                definition: vec![json!({ "id": "step0" })],
                numbers: BTreeMap::from([(text("blake3:1"), text("step0"))]),
                source: json!({ "infos": [{ "data": "canary" }] }),
            },
        }
    }

    #[test]
    fn min_tells_nothing_that_a_person_gave() {
        for version in [Version::V1, Version::V02] {
            let told = |mode| provenance().predicate(version, mode).content.to_string();
            assert!(!told(Mode::Min).contains("canary"));
            assert!(!told(Mode::Min).contains(r#""key""#));
            assert!(told(Mode::Min).contains(r#""target":"release""#));
            assert_eq!(told(Mode::Max).matches("canary").count(), 3);
            assert!(told(Mode::Max).contains(r#"{"id":"key","optional":true}"#));
            assert!(told(Mode::Max).contains(r#""llbDefinition":[{"id":"step0"}]"#));
        }
    }

    #[test]
    fn both_versions_have_what_their_definitions_ask_for() {
        let of = |version| provenance().predicate(version, Mode::Max);
        let (v1, v02) = (of(Version::V1), of(Version::V02));
        assert_eq!(v1.kind, "https://slsa.dev/provenance/v1");
        let at = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or_default();
        let build = "/buildDefinition/externalParameters";
        assert_eq!(
            at(&v1.content, &format!("{build}/configSource/path")),
            "Dockerfile"
        );
        let material = at(
            &v1.content,
            "/buildDefinition/resolvedDependencies/0/digest",
        );
        assert_eq!(material, json!({ "sha256": "00ff" }));
        assert_eq!(
            at(&v1.content, "/runDetails/builder/id"),
            "https://ci.example/7"
        );
        assert_eq!(
            at(&v1.content, "/runDetails/metadata/startedOn"),
            "1970-01-01T00:00:00Z"
        );
        assert_eq!(v02.kind, "https://slsa.dev/provenance/v0.2");
        assert_eq!(
            at(&v02.content, "/invocation/configSource/entryPoint"),
            "Dockerfile"
        );
        assert_eq!(at(&v02.content, "/materials/0/digest"), material);
        assert_eq!(at(&v02.content, "/metadata/reproducible"), true);
    }
}
