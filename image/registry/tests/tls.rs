//! Registries that prove who they are, and want to know who asks: real ones, with certificates of an
//! authority that only the settings know.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use kit::certificates::{Authority, signed_token};
use kit::docker_registry::Server;
use kit::web::{Page, Web};
use oci::{Digest, Reference};
use registry::{Client, Credential, Credentials, Pushed, RegistryError, Settings, Upload};

/// The address by which others reach this machine, where nothing is spoken in the clear; asking sends
/// nothing.
fn outer_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

fn settings(text: &str) -> Settings {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let mut settings = Settings::read([file.path().to_owned()]).unwrap();
    settings.retry.attempts = 1;
    settings
}

fn knowing(server: &Server, directory: &Path) -> Client {
    let text = format!(
        "[registry.\"{}\"]\ncertificates = \"{}\"\n",
        server.address(),
        directory.display()
    );
    Client::new(settings(&text), Box::new(()))
}

fn push(client: &Client, server: &Server) -> Result<Pushed, RegistryError> {
    let name: Reference = format!("{}/team/app", server.address()).parse().unwrap();
    let upload = Upload {
        digest: Digest::of(b"bytes"),
        mount_from: None,
        content: &mut std::io::Cursor::new(b"bytes"),
        progress: &|_| {},
    };
    client.push_blob(&name, upload)
}

#[test]
fn a_registry_is_believed_by_its_own_authority_and_by_nobody_else() {
    let authority = Authority::new();
    let host = outer_address();
    let own = authority.issue("server", &format!("IP:{host}"), 2);
    let server = Server::start_with_tls(&host, &own, None);
    assert_eq!(
        push(&knowing(&server, &authority.directory()), &server).unwrap(),
        Pushed::Sent
    );

    let stranger = Client::new(settings(""), Box::new(()));
    let error = push(&stranger, &server).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("`{host}` is not believed")),
        "{error}"
    );
    let other = Authority::new();
    let error = push(&knowing(&server, &other.directory()), &server).unwrap_err();
    assert!(error.to_string().contains("is not believed"), "{error}");
    let insecure = format!("[registry.\"{}\"]\ninsecure = true\n", server.address());
    let insecure = Client::new(settings(&insecure), Box::new(()));
    assert_eq!(push(&insecure, &server).unwrap(), Pushed::Existed);
}

#[test]
fn a_certificate_for_another_host_or_that_is_over_is_refused_on_loopback_too() {
    let authority = Authority::new();
    for (host, name, days) in [
        ("127.0.0.1", "DNS:elsewhere.example", 2),
        ("127.0.0.1", "IP:127.0.0.1", -1),
    ] {
        let own = authority.issue("server", name, days);
        let server = Server::start_with_tls(host, &own, None);
        let error = push(&knowing(&server, &authority.directory()), &server).unwrap_err();
        assert!(
            error.to_string().contains("is not believed"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_registry_that_wants_to_see_a_certificate_is_shown_it() {
    let authority = Authority::new();
    let own = authority.issue("server", "IP:127.0.0.1", 2);
    let server = Server::start_with_tls("127.0.0.1", &own, Some(&authority.certificate()));
    let directory = authority.directory();
    assert!(push(&knowing(&server, &directory), &server).is_err());

    let us = authority.issue("client", "DNS:us.example", 2);
    fs::copy(&us.certificate, directory.join("client.cert")).unwrap();
    let lacking = push(&knowing(&server, &directory), &server)
        .unwrap_err()
        .to_string();
    assert!(lacking.contains("client.key"), "{lacking}");
    fs::copy(&us.key, directory.join("client.key")).unwrap();
    assert_eq!(
        push(&knowing(&server, &directory), &server).unwrap(),
        Pushed::Sent
    );

    fs::write(directory.join("client.key"), "no key").unwrap();
    let error = push(&knowing(&server, &directory), &server)
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("there is no private key in it"), "{error}");
}

struct Somebody;

impl Credentials for Somebody {
    fn find(&self, _: &str) -> Result<Option<Credential>, RegistryError> {
        Ok(Some(Credential::Password {
            user: "somebody".to_owned(),
            password: "secret".to_owned(),
        }))
    }
}

#[test]
fn a_realm_gives_tokens_for_what_is_done_and_another_for_what_is_mounted() {
    let authority = Authority::new();
    let signer = authority.issue("signer", "DNS:signer.example", 2);
    let realm = Web::start().unwrap();
    let server = Server::start_with_tokens(&realm.url("/token"), &authority.certificate());
    let claims = r#"{"iss":"test","sub":"somebody","aud":"test","exp":4102444800,"nbf":0,"iat":0,"jti":"1","access":[{"type":"repository","name":"team/app","actions":["pull","push"]},{"type":"repository","name":"team/base","actions":["pull","push"]}]}"#;
    let token = signed_token(&signer, claims);
    realm.put("/token", Page::new(format!(r#"{{"token":"{token}"}}"#)));

    let client = Client::new(settings(""), Box::new(Somebody));
    assert_eq!(push(&client, &server).unwrap(), Pushed::Sent);
    let asked = realm.asked();
    assert_eq!(
        asked[0].path,
        "/token?service=test&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&account=somebody"
    );
    // base64 of `somebody:secret`
    assert_eq!(
        asked[0].headers["authorization"],
        "Basic c29tZWJvZHk6c2VjcmV0"
    );
    assert_eq!(asked.len(), 1, "one token does for all of it: {asked:?}");

    let base: Reference = format!("{}/team/base", server.address()).parse().unwrap();
    let upload = Upload {
        digest: Digest::of(b"bytes"),
        mount_from: Some("team/app"),
        content: &mut std::io::Cursor::new(b"bytes"),
        progress: &|_| {},
    };
    assert_eq!(client.push_blob(&base, upload).unwrap(), Pushed::Mounted);
    let last = &realm.asked().last().unwrap().path.clone();
    assert!(
        last.contains(
            "scope=repository%3Ateam%2Fbase%3Apull%2Cpush&scope=repository%3Ateam%2Fapp%3Apull&"
        ),
        "{last}"
    );

    // A token that is over is asked for anew, once; one that never does ends it.
    realm.put("/token", Page::new(r#"{"token":"x.y.z"}"#));
    let other = Client::new(settings(""), Box::new(Somebody));
    let before = realm.asked().len();
    let error = push(&other, &server).unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    assert!(realm.asked().len() - before <= 2);
}
