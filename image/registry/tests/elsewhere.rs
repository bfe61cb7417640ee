//! Where credentials and requests do not go: to other servers than they are for, and not in the clear.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use kit::web::{Page, Web};
use oci::Reference;
use registry::http::{Http, Reply, Request, Retry};
use registry::{Client, Credential, Credentials, RegistryError, Settings};

const ONCE: Retry = Retry {
    attempts: 1,
    delay: Duration::ZERO,
    stall: Duration::from_secs(60),
};

/// Asks with a password.
fn ask(url: &str) -> Result<Reply, String> {
    let request = Request {
        url: url.to_owned(),
        authorization: Some("Basic c2VjcmV0".to_owned()),
        ..Request::default()
    };
    Http::new(ONCE).send(&request).map_err(|it| it.to_string())
}

fn passwords(server: &Web) -> Vec<bool> {
    let asked = server.asked();
    asked
        .iter()
        .map(|it| it.headers.contains_key("authorization"))
        .collect()
}

#[test]
fn a_password_follows_a_redirect_only_on_its_own_server() {
    let (own, other) = (Web::start().unwrap(), Web::start().unwrap());
    own.put("/here", Page::redirect("/there"));
    own.put("/there", Page::new("here"));
    own.put("/away", Page::redirect(&other.url("/away")));
    other.put("/away", Page::redirect(&own.url("/there")));
    assert_eq!(ask(&own.url("/here")).unwrap().status, 200);
    assert_eq!(passwords(&own), [true, true]);
    assert_eq!(ask(&own.url("/away")).unwrap().status, 200);
    assert_eq!(passwords(&other), [false]);
}

#[test]
fn a_redirect_to_what_is_no_web_address_or_without_end_is_refused() {
    let server = Web::start().unwrap();
    for target in [
        "file:///etc/passwd",
        "gopher://127.0.0.1/x",
        "ftp://127.0.0.1/x",
        "data:text/plain,x",
        "unix:/run/x",
    ] {
        server.put("/to", Page::redirect(target));
        let error = ask(&server.url("/to")).err().unwrap();
        assert!(error.contains(target), "{target}: {error}");
    }
    server.put("/loop", Page::redirect("/loop"));
    let before = server.asked().len();
    let error = ask(&server.url("/loop")).err().unwrap();
    assert!(error.ends_with("redirects more than 10 times"), "{error}");
    assert_eq!(server.asked().len() - before, 11);
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

/// The address by which others reach this machine; asking sends nothing.
fn outer_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[test]
fn a_registry_that_does_not_speak_tls_is_not_spoken_to_in_the_clear() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut heard = Vec::new();
        // Each who comes hears plain HTTP; the last one is the test itself.
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut start = [0; 5];
            let count = stream.read(&mut start).unwrap();
            if start == *b"over!" {
                return heard;
            }
            heard.push(start[..count].to_vec());
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=x\r\ncontent-length: 0\r\n\r\n");
        }
        heard
    });
    let settings = Settings {
        retry: ONCE,
        ..Settings::default()
    };
    let client = Client::new(settings, Box::new(Somebody));
    let address = outer_address();
    let name: Reference = format!("{address}:{port}/it:v1").parse().unwrap();
    let error = client.digest(&name).unwrap_err().to_string();
    let mut end = std::net::TcpStream::connect((address.as_str(), port)).unwrap();
    end.write_all(b"over!").unwrap();
    let heard = server.join().unwrap();
    assert!(!heard.is_empty(), "{error}");
    // 22 is the handshake of TLS: nothing else was ever said.
    assert!(heard.iter().all(|it| it.first() == Some(&22)), "{heard:?}");
    assert!(error.contains(&address), "{error}");
}
