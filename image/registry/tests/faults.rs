//! Networks that break, and registries that are busy: the real registry behind a proxy that makes
//! trouble.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::{Cursor, Read as _};
use std::time::Duration;

use kit::docker_registry::{Access, Server};
use kit::proxy::{Proxy, What};
use oci::{Digest, Reference, media_type};
use registry::http::Retry;
use registry::{Client, Pushed, RegistryError, Settings, Upload};

/// What a chunk of an upload has.
const CHUNK: u64 = 8 << 20;

/// A registry that is reached through a proxy.
struct Stand {
    /// Keeps it alive.
    _server: Server,
    proxy: Proxy,
    client: Client,
    name: Reference,
    blob: Vec<u8>,
}

impl Stand {
    fn new() -> Self {
        let server = Server::start(Access::Everybody);
        let proxy = Proxy::start(server.address());
        let name = format!("{}/app:v1", proxy.address()).parse().unwrap();
        let blob = (0..20_000_000u32)
            .map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        Self {
            client: client(Retry::default().stall),
            _server: server,
            proxy,
            name,
            blob,
        }
    }

    fn push(&self) -> Result<Pushed, RegistryError> {
        let upload = Upload {
            digest: Digest::of(&self.blob),
            mount_from: None,
            content: &mut Cursor::new(&self.blob),
            progress: &|_| {},
        };
        self.client.push_blob(&self.name, upload)
    }

    fn pull(&self) -> std::io::Result<Vec<u8>> {
        self.pull_by(&self.client)
    }

    fn pull_by(&self, client: &Client) -> std::io::Result<Vec<u8>> {
        let digest = Digest::of(&self.blob);
        let blob = client.blob(&self.name, &digest, self.blob.len() as u64);
        let mut read = Vec::new();
        blob.map_err(std::io::Error::other)?
            .read_to_end(&mut read)?;
        Ok(read)
    }

    /// What it takes to send or to fetch the blob, and a little for the words around it.
    fn once(&self) -> u64 {
        self.blob.len() as u64 + (1 << 20)
    }
}

/// One that tries four times, and lets a server be silent for so long.
fn client(stall: Duration) -> Client {
    let retry = Retry {
        attempts: 4,
        delay: Duration::from_millis(1),
        stall,
    };
    let settings = Settings {
        retry,
        ..Settings::default()
    };
    Client::new(settings, Box::new(()))
}

#[test]
fn a_download_goes_on_where_it_broke_however_often() {
    let stand = Stand::new();
    stand.push().unwrap();
    // More often than a download may fail: each time it came further.
    stand
        .proxy
        .trouble("GET /v2/app/blobs/", 9, What::CutsAnswer(2_000_000));
    let before = stand.proxy.down();
    assert!(stand.pull().unwrap() == stand.blob);
    assert_eq!(stand.proxy.left(), 0);
    assert!(stand.proxy.down() - before <= stand.once());
}

#[test]
fn a_download_that_stalls_is_begun_again_where_it_stopped() {
    let stand = Stand::new();
    stand.push().unwrap();
    stand
        .proxy
        .trouble("GET /v2/app/blobs/", 2, What::Stalls(5_000_000));
    let before = stand.proxy.down();
    let hasty = client(Duration::from_secs(3));
    assert!(stand.pull_by(&hasty).unwrap() == stand.blob);
    assert_eq!(stand.proxy.left(), 0);
    assert!(stand.proxy.down() - before <= stand.once());
}

#[test]
fn a_download_that_never_comes_further_ends() {
    let stand = Stand::new();
    stand.push().unwrap();
    stand
        .proxy
        .trouble("GET /v2/app/blobs/", 100, What::CutsAnswer(1000));
    stand.pull().unwrap_err();
    assert!(stand.proxy.left() > 50);
}

#[test]
fn an_upload_that_broke_before_a_part_goes_on_with_that_part() {
    let stand = Stand::new();
    stand.proxy.trouble("PATCH ", 2, What::CutsRequest(0));
    assert_eq!(stand.push().unwrap(), Pushed::Sent);
    assert_eq!(stand.proxy.left(), 0);
    assert!(stand.proxy.up() <= stand.once());
    assert!(stand.pull().unwrap() == stand.blob);
}

#[test]
fn an_upload_that_broke_within_a_part_is_whole_in_the_end() {
    let stand = Stand::new();
    stand
        .proxy
        .trouble("PATCH ", 3, What::CutsRequest(3_000_000));
    assert_eq!(stand.push().unwrap(), Pushed::Sent);
    assert_eq!(stand.proxy.left(), 0);
    assert!(stand.pull().unwrap() == stand.blob);
}

#[test]
fn a_part_whose_receipt_was_lost_is_not_sent_twice() {
    let stand = Stand::new();
    stand.proxy.trouble("PATCH ", 1, What::CutsAnswer(0));
    assert_eq!(stand.push().unwrap(), Pushed::Sent);
    // This registry forgets an upload that it is asked about by an old address.
    assert!(stand.proxy.up() <= stand.once() + CHUNK);
    assert!(stand.pull().unwrap() == stand.blob);
}

#[test]
fn a_blob_whose_receipt_was_lost_is_not_sent_again() {
    let stand = Stand::new();
    stand
        .proxy
        .trouble("PUT /v2/app/blobs/", 1, What::CutsAnswer(0));
    assert_eq!(stand.push().unwrap(), Pushed::Sent);
    assert_eq!(stand.proxy.left(), 0);
    assert!(stand.proxy.up() <= stand.once());
}

#[test]
fn a_small_blob_that_did_not_arrive_at_once_goes_as_a_part() {
    let failures = [
        What::CutsRequest(0),
        What::CutsRequest(3_000),
        What::CutsAnswer(0),
        What::Answers("400 -"),
        What::Answers("404 -"),
        What::Answers("503 -"),
    ];
    for (times, failure) in failures.into_iter().flat_map(|it| [(1, it), (2, it)]) {
        let mut stand = Stand::new();
        stand.blob.truncate(5_000);
        stand.proxy.trouble("PUT /v2/app/blobs/", times, failure);
        assert_eq!(stand.push().unwrap(), Pushed::Sent, "{failure:?}");
        assert!(stand.pull().unwrap() == stand.blob, "{failure:?}");
    }
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    let stand = Stand::new();
    for request in [
        "HEAD /v2/",
        "POST /v2/",
        "PATCH ",
        "PUT /v2/",
        "GET /v2/app/",
    ] {
        for answer in ["500 -", "503 -", "429 -\nretry-after: 0"] {
            stand.proxy.trouble(request, 1, What::Answers(answer));
        }
    }
    assert_eq!(stand.push().unwrap(), Pushed::Sent);
    assert!(stand.pull().unwrap() == stand.blob);
    assert_eq!(stand.proxy.left(), 0);
}

#[test]
fn who_asks_for_more_patience_than_anybody_has_is_not_waited_for() {
    let stand = Stand::new();
    stand.push().unwrap();
    let wait = What::Answers("429 -\nretry-after: 999999999");
    stand.proxy.trouble("GET /v2/app/", 1, wait);
    let error = stand.pull().unwrap_err().to_string();
    assert_eq!(
        error,
        "`127.0.0.1` answers 429 and asks to be left alone for 999999999 seconds"
    );
}

#[test]
fn a_registry_that_stays_broken_is_told_in_one_sentence() {
    let stand = Stand::new();
    stand.proxy.trouble("PATCH ", 100, What::Answers("502 -"));
    let error = stand.push().unwrap_err().to_string();
    assert!(error.ends_with(" answers 502"), "{error}");
    assert_eq!(stand.proxy.left(), 96);
}

#[test]
fn a_manifest_that_breaks_is_asked_for_again() {
    let stand = Stand::new();
    stand.push().unwrap();
    let digest = Digest::of(&stand.blob);
    let described = format!(
        r#"{{"mediaType":"{}","size":{},"digest":"{digest}"}}"#,
        media_type::LAYER,
        stand.blob.len()
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{described},"layers":[{described}]}}"#,
        media_type::MANIFEST
    );
    let (client, name) = (&stand.client, &stand.name);
    stand
        .proxy
        .trouble("PUT /v2/app/manifests/", 2, What::CutsAnswer(0));
    let pushed = client
        .push_manifest(name, media_type::MANIFEST, manifest.as_bytes())
        .unwrap();
    stand
        .proxy
        .trouble("GET /v2/app/manifests/", 3, What::CutsAnswer(600));
    assert_eq!(client.manifest(name).unwrap().digest, pushed);
    assert_eq!(stand.proxy.left(), 0);
}
