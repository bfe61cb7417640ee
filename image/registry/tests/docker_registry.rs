//! Against the reference registry itself: Debian's `docker-registry`, started here on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::{Cursor, Read as _};
use std::net::TcpListener;
use std::time::Duration;

use kit::docker_registry::{Access, Server};
use oci::{Digest, Reference, media_type};
use registry::http::Retry;
use registry::{
    Client, Credential, Credentials, Document, Pushed, RegistryError, Settings, Upload,
};

fn named(server: &Server, name: &str) -> Reference {
    format!("{}/{name}", server.address()).parse().unwrap()
}

struct Somebody(&'static str);

impl Credentials for Somebody {
    fn find(&self, _registry: &str) -> Result<Option<Credential>, RegistryError> {
        Ok(Some(Credential::Password {
            user: "somebody".to_owned(),
            password: self.0.to_owned(),
        }))
    }
}

fn client(credentials: impl Credentials + 'static) -> Client {
    let retry = Retry {
        attempts: 2,
        delay: Duration::from_millis(1),
        ..Retry::default()
    };
    Client::new(
        Settings {
            retry,
            ..Settings::default()
        },
        Box::new(credentials),
    )
}

fn push(
    client: &Client,
    to: &Reference,
    bytes: &[u8],
    mount_from: Option<&str>,
) -> Result<Pushed, RegistryError> {
    let upload = Upload {
        digest: Digest::of(bytes),
        mount_from,
        content: &mut Cursor::new(bytes),
        progress: &|_| {},
    };
    client.push_blob(to, upload)
}

fn push_image(client: &Client, to: &Reference, config: &[u8], layer: &[u8]) -> Digest {
    push(client, to, config, None).unwrap();
    push(client, to, layer, None).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","size":{},"digest":"{}"}},"layers":[{{"mediaType":"{}","size":{},"digest":"{}"}}]}}"#,
        media_type::MANIFEST,
        media_type::CONFIG,
        config.len(),
        Digest::of(config),
        media_type::LAYER,
        layer.len(),
        Digest::of(layer),
    );
    client
        .push_manifest(to, media_type::MANIFEST, manifest.as_bytes())
        .unwrap()
}

#[test]
fn what_was_pushed_comes_back() {
    let server = Server::start(Access::Everybody);
    let client = client(());
    let name = named(&server, "team/app:v1");
    // Larger than two of the chunks in which blobs are sent.
    let layer: Vec<u8> = (0..20_000_000u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let digest = push_image(&client, &name, b"{}", &layer);

    assert_eq!(client.digest(&name).unwrap(), digest);
    let (image, index) = client.image(&name, &oci::Platform::host()).unwrap();
    assert!(index.is_none());
    assert_eq!(image.digest, digest);
    let Document::Image(manifest) = image.document else {
        panic!("an image was pushed")
    };
    let wanted = Digest::try_from(manifest.layers()[0].digest()).unwrap();
    let mut read = Vec::new();
    client
        .blob(&name, &wanted, layer.len() as u64)
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert!(
        read == layer,
        "the layer's bytes come back as they were sent"
    );
}

#[test]
fn what_is_there_is_not_sent_again() {
    let server = Server::start(Access::Everybody);
    let client = client(());
    let (first, second) = (named(&server, "a/first"), named(&server, "b/second"));
    assert_eq!(
        push(&client, &first, b"some bytes", None).unwrap(),
        Pushed::Sent
    );
    assert_eq!(
        push(&client, &first, b"some bytes", None).unwrap(),
        Pushed::Existed
    );
    assert_eq!(
        push(&client, &second, b"some bytes", Some("a/first")).unwrap(),
        Pushed::Mounted
    );
    assert_eq!(
        push(&client, &second, b"other bytes", Some("a/first")).unwrap(),
        Pushed::Sent
    );
}

#[test]
fn a_blob_of_another_size_is_an_error_at_its_end() {
    let server = Server::start(Access::Everybody);
    let client = client(());
    let name = named(&server, "app");
    push(&client, &name, b"0123456789", None).unwrap();
    let digest = Digest::of(b"0123456789");
    let read = |size| {
        client
            .blob(&name, &digest, size)
            .unwrap()
            .read_to_end(&mut Vec::new())
    };
    assert_eq!(read(10).unwrap(), 10);
    assert_eq!(read(9).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert!(read(11).is_err());
}

#[test]
fn what_is_not_there_is_said_in_one_sentence() {
    let server = Server::start(Access::Everybody);
    let client = client(());
    let error = client.manifest(&named(&server, "app:missing")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "manifest for `{}/app:missing` not found: manifest unknown",
            server.address()
        )
    );
}

#[test]
fn a_registry_with_passwords_takes_the_right_one_only() {
    let server = Server::start(Access::Somebody);
    let name = named(&server, "app:v1");
    let digest = push_image(&client(Somebody("secret")), &name, b"{}", b"layer");
    assert_eq!(client(Somebody("secret")).digest(&name).unwrap(), digest);
    for stranger in [client(Somebody("wrong")), client(())] {
        let error = stranger.manifest(&name).unwrap_err();
        assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    }
}

#[test]
fn nobody_listening_is_said_with_the_host() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let name: Reference = format!("127.0.0.1:{port}/app").parse().unwrap();
    let error = client(()).manifest(&name).unwrap_err().to_string();
    assert!(error.starts_with("cannot reach `127.0.0.1`"), "{error}");
}

fn settled(settings: &str, credentials: impl Credentials + 'static) -> Client {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), settings).unwrap();
    let mut settings = Settings::read([file.path().to_owned()]).unwrap();
    settings.retry.attempts = 1;
    Client::new(settings, Box::new(credentials))
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_cannot_help() {
    let (registry, mirror) = (
        Server::start(Access::Everybody),
        Server::start(Access::Everybody),
    );
    let somewhere = client(());
    let both = push_image(&somewhere, &named(&registry, "both:v1"), b"{}", b"layer");
    push_image(&somewhere, &named(&mirror, "hub/both:v1"), b"{}", b"layer");
    let here = push_image(&somewhere, &named(&registry, "here:v1"), b"{ }", b"other");
    // Only the mirror has it: that is where it comes from, though the registry is asked for.
    let there = push_image(
        &somewhere,
        &named(&mirror, "hub/there:v1"),
        b"{  }",
        b"more",
    );

    let dead = kit::docker_registry::free_address();
    let settings = format!(
        "[registry.\"{}\"]\nmirrors = [\"{dead}\", \"http://{}/hub\"]\n",
        registry.address(),
        mirror.address()
    );
    let client = settled(&settings, ());
    for (name, digest) in [("both:v1", both), ("here:v1", here), ("there:v1", there)] {
        let name = named(&registry, name);
        assert_eq!(client.digest(&name).unwrap(), digest, "{name}");
        assert_eq!(client.manifest(&name).unwrap().digest, digest, "{name}");
    }
    // Nothing is given to a mirror.
    push(&client, &named(&registry, "new"), b"new bytes", None).unwrap();
    assert!(
        !somewhere
            .has_blob(&named(&mirror, "hub/new"), &Digest::of(b"new bytes"))
            .unwrap()
    );
}

#[test]
fn a_login_is_right_or_wrong_before_anything_is_kept() {
    let password = |password: &str| Credential::Password {
        user: "somebody".to_owned(),
        password: password.to_owned(),
    };
    let closed = Server::start(Access::Somebody);
    client(())
        .log_in(closed.address(), &password("secret"))
        .unwrap();
    let error = client(())
        .log_in(closed.address(), &password("wrong"))
        .unwrap_err();
    assert!(matches!(error, RegistryError::Login { .. }), "{error}");
    let open = Server::start(Access::Everybody);
    client(())
        .log_in(open.address(), &password("anything"))
        .unwrap();
}

#[test]
fn a_small_blob_takes_three_requests_and_an_empty_one_as_well() {
    let server = Server::start(Access::Everybody);
    let (client, to) = (client(()), named(&server, "app:v1"));
    for (bytes, requests) in [(&b"small"[..], 3), (b"", 6)] {
        assert_eq!(push(&client, &to, bytes, None).unwrap(), Pushed::Sent);
        let blob = client.blob(&to, &Digest::of(bytes), bytes.len() as u64);
        let mut read = Vec::new();
        blob.unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        let sent = server.requests();
        let sent = sent.iter().filter(|it| !it.starts_with("GET "));
        assert_eq!(sent.count(), requests);
    }
}
