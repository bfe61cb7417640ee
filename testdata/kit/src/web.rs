//! A small web server on the loopback, whose answers a test decides on, and that remembers what it
//! was asked.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::loopback::{Listener, lock};

/// A web server. It ends when this is dropped.
#[derive(Debug)]
pub struct Web {
    listener: Listener,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pages: Mutex<BTreeMap<String, Page>>,
    directory: Mutex<Option<PathBuf>>,
    asked: Mutex<Vec<Asked>>,
}

/// What is at a path.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// 200 where zero.
    pub status: u16,
    /// What is sent.
    pub body: Vec<u8>,
    /// Asked whether it is still this, the server says yes.
    pub etag: Option<String>,
    /// Likewise, in HTTP's words.
    pub last_modified: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// What goes wrong.
    pub fault: Fault,
}

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The connection breaks in the middle of the body.
    Breaks,
    /// Nothing is said until the other side goes.
    Silent,
    /// Zeros follow the body until the other side goes, and nothing says how many.
    Endless,
    /// The body comes a byte a second.
    Trickles,
}

/// A request and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET`
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The answer's.
    pub status: u16,
}

impl Web {
    /// A server without pages.
    ///
    /// # Errors
    /// If the loopback cannot be listened on.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        let listener = Listener::start(move |stream| answer(stream, &serving))?;
        Ok(Self { listener, shared })
    }

    /// The address of a path, which begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listener.address())
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        self.listener.address().to_string()
    }

    /// Puts a page at a path, in place of what was there. At one without a query it answers all that
    /// have no page of their own.
    pub fn put(&self, path: &str, page: Page) {
        lock(&self.shared.pages).insert(path.to_owned(), page);
    }

    /// Serves the files of a directory wherever there is no page.
    pub fn serve(&self, directory: impl Into<PathBuf>) {
        *lock(&self.shared.directory) = Some(directory.into());
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }
}

impl Page {
    /// A page with a body.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// A page that sends elsewhere.
    pub fn redirect(to: &str) -> Self {
        Self {
            status: 302,
            headers: vec![("location".to_owned(), to.to_owned())],
            ..Self::default()
        }
    }

    /// The same with an ETag.
    #[must_use]
    pub fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.to_owned());
        self
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut asked = read_request(&stream)?;
    let page = find(shared, &asked.path)?;
    let header = |name: &str| asked.headers.get(name).cloned();
    let same = (page.etag.is_some() && header("if-none-match") == page.etag)
        || (page.last_modified.is_some() && header("if-modified-since") == page.last_modified);
    asked.status = match page.status {
        0 if same => 304,
        0 => 200,
        status => status,
    };
    let (status, method) = (asked.status, asked.method.clone());
    lock(&shared.asked).push(asked);
    if page.fault == Fault::Silent {
        // Until the other side goes.
        return stream.read(&mut [0]).map(drop);
    }
    let length = if same { 0 } else { page.body.len() };
    let mut head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\n");
    if !same && page.fault != Fault::Endless {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    let own = [("etag", &page.etag), ("last-modified", &page.last_modified)];
    for (name, value) in own {
        if let Some(value) = value {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in &page.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    let sent = match page.fault {
        Fault::Breaks => length / 2,
        Fault::Trickles => 0,
        _ => length,
    };
    if method == "HEAD" {
        return stream.flush();
    }
    if page.fault == Fault::Trickles {
        for byte in &page.body {
            stream.write_all(std::slice::from_ref(byte))?;
            thread::sleep(Duration::from_secs(1));
        }
    }
    stream.write_all(&page.body[..sent])?;
    if page.fault == Fault::Endless {
        loop {
            stream.write_all(&[0; 4096])?;
        }
    }
    stream.flush()
}

fn find(shared: &Shared, path: &str) -> io::Result<Page> {
    let bare = path.split('?').next().unwrap_or_default();
    let pages = lock(&shared.pages);
    if let Some(page) = pages.get(path).or_else(|| pages.get(bare)) {
        return Ok(page.clone());
    }
    drop(pages);
    let missing = Page {
        status: 404,
        ..Page::default()
    };
    let path = bare;
    let directory = lock(&shared.directory).clone();
    let Some(directory) = directory.filter(|_| !path.contains("..")) else {
        return Ok(missing);
    };
    let path = directory.join(path.trim_start_matches('/'));
    match path.is_file() {
        true => Ok(Page::new(std::fs::read(path)?)),
        false => Ok(missing),
    }
}

fn read_request(stream: &TcpStream) -> io::Result<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Ok(Asked {
        method,
        path,
        headers,
        status: 0,
    })
}
