//! Registries that say one thing and send another: each is told in one sentence, and leaves no image.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::error::Error;

use export::{LayerState, PullError, PullWatch, pull};
use kit::web::{Page, Web};
use oci::{Digest, Platform, Reference, media_type};
use registry::{Client, Credential, Credentials, RegistryError, Settings};
use snapshot::Snapshots;
use store::Store;

struct Nobody;

impl PullWatch for Nobody {
    fn layer(&self, _: &Digest, _: LayerState) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Somebody who has something to lose.
struct Somebody;

impl Credentials for Somebody {
    fn find(&self, _: &str) -> Result<Option<Credential>, RegistryError> {
        Ok(Some(Credential::Password {
            user: "somebody".to_owned(),
            password: "secret".to_owned(),
        }))
    }
}

/// An image of one layer, served; what is put over it afterwards is the lie.
struct Served {
    web: Web,
    layer: Vec<u8>,
    config: Vec<u8>,
}

impl Served {
    fn new() -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        tar.append_data(&mut header, "file", &b"hello"[..]).unwrap();
        let layer = tar.into_inner().unwrap();
        let served = Self {
            web: Web::start().unwrap(),
            config: config(&Digest::of(&layer)),
            layer,
        };
        served.blob(&served.config, &served.config);
        served.blob(&served.layer, &served.layer);
        served.manifest(manifest(&served.config, &served.layer));
        served
    }

    /// Serves `bytes` as the blob that `of` is.
    fn blob(&self, of: &[u8], bytes: &[u8]) {
        let path = format!("/v2/app/blobs/{}", Digest::of(of));
        self.web.put(&path, Page::new(bytes));
    }

    fn manifest(&self, body: impl Into<Vec<u8>>) {
        self.web.put("/v2/app/manifests/v1", Page::new(body));
    }

    /// The whole error, in one line.
    fn refusal(&self) -> String {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(Store::open(directory.path()).unwrap());
        let mut settings = Settings::default();
        settings.retry.attempts = 1;
        let client = Client::new(settings, Box::new(Somebody));
        let name: Reference = format!("{}/app:v1", self.web.host()).parse().unwrap();
        let pulled = pull(&snapshots, &client, &name, &Platform::host(), &Nobody);
        let error: PullError = pulled.unwrap_err();
        assert_eq!(snapshots.store().images().unwrap(), []);
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            words.push_str(&format!(": {error}"));
            cause = error.source();
        }
        assert!(words.len() < 500 && !words.contains('\n'), "{words}");
        words
    }
}

fn config(diff_id: &Digest) -> Vec<u8> {
    let host = Platform::host();
    format!(
        r#"{{"architecture":"{}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#,
        host.architecture
    )
    .into_bytes()
}

fn manifest(config: &[u8], layer: &[u8]) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","size":{},"digest":"{}"}},"layers":[{{"mediaType":"{}","size":{},"digest":"{}"}}]}}"#,
        media_type::MANIFEST,
        media_type::CONFIG,
        config.len(),
        Digest::of(config),
        media_type::LAYER,
        layer.len(),
        Digest::of(layer),
    )
}

fn check(lie: impl FnOnce(&Served), expected: &str) {
    let served = Served::new();
    lie(&served);
    let words = served.refusal();
    assert!(
        words.contains(expected),
        "{words}\nis not about: {expected}"
    );
}

#[test]
fn a_manifest_that_is_none_is_refused_needing_root() {
    check(
        |it| it.manifest(vec![b' '; (4 << 20) + 1]),
        "is larger than the 4194304 bytes",
    );
    check(|it| it.manifest("<html>"), "it is no JSON");
    check(
        |it| it.manifest(r#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#),
        "either an image with layers or an index",
    );
    check(
        |it| it.manifest(r#"{"schemaVersion":1,"fsLayers":[],"layers":[]}"#),
        "schema 1",
    );
    let escape = |it: &Served| {
        let honest = manifest(&it.config, &it.layer);
        let digest = Digest::of(&it.layer).to_string();
        it.manifest(honest.replace(&digest, "sha256:../../../etc/passwd"));
    };
    check(escape, "cannot be used");
    let huge = |it: &Served| {
        let honest = manifest(&it.config, &it.layer);
        let size = format!(r#""size":{},"#, it.config.len());
        it.manifest(honest.replacen(&size, r#""size":99999999999,"#, 1));
    };
    check(huge, "more than the 8388608 it may have");
}

#[test]
fn bytes_that_are_others_than_promised_are_refused_needing_root() {
    check(
        |it| it.blob(&it.config, &it.config.to_ascii_uppercase()),
        "the registry sent other bytes for",
    );
    check(
        |it| it.blob(&it.config, &[&it.config[..], b" "].concat()),
        "is larger than the",
    );
    let other: fn(&Served) -> Vec<u8> = |it| it.layer.iter().map(|byte| byte ^ 1).collect();
    check(
        |it| it.blob(&it.layer, &other(it)),
        "the registry sent other bytes for",
    );
    check(
        |it| it.blob(&it.layer, &[&it.layer[..], b" "].concat()),
        "is larger than the",
    );
    check(|it| it.blob(&it.layer, &it.layer[..512]), "cannot fetch");
    // Honest bytes under the name of another layer's content.
    let claimed = |it: &Served| {
        let config = config(&Digest::of(b"another layer"));
        it.blob(&config, &config);
        it.manifest(manifest(&config, &it.layer));
    };
    check(claimed, "but the config says");
}

#[test]
fn credentials_do_not_go_to_a_realm_elsewhere_needing_root() {
    let elsewhere = Web::start().unwrap();
    let realm = elsewhere.url("/token").replace("127.0.0.1", "localhost");
    check(
        |it| {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
            it.web.put(
                "/v2/app/manifests/v1",
                Page {
                    status: 401,
                    headers: vec![("WWW-Authenticate".to_owned(), challenge)],
                    ..Page::default()
                },
            );
        },
        "credentials are not sent there",
    );
    let asked = elsewhere.asked();
    assert!(!asked.is_empty());
    for it in asked {
        assert!(!it.headers.contains_key("authorization"), "{it:?}");
        assert!(!it.path.contains("somebody"), "{it:?}");
    }
}
