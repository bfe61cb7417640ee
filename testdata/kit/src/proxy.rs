//! Troubles on the way: stands in front of a real server and passes everything on, until a request
//! comes that is to go wrong.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::loopback::{Listener, lock};

/// A proxy for TCP. It ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    listener: Listener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: String,
    troubles: Mutex<Vec<Trouble>>,
    up: AtomicU64,
    down: AtomicU64,
}

/// What is to go wrong.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// With requests that begin so: `GET /v2/app/blobs/`.
    pub request: &'static str,
    /// With how many of them.
    pub times: u32,
    /// How.
    pub what: What,
}

/// How a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The connection breaks when so many bytes of the request have been passed on.
    CutsRequest(u64),
    /// The connection breaks when so many bytes of the answer have been passed on.
    CutsAnswer(u64),
    /// Nothing more is passed on of the answer behind so many bytes, and the connection stays.
    Stalls(u64),
    /// This is answered in place of the server: `503 -` and perhaps headers, each in its line.
    Answers(&'static str),
}

impl Proxy {
    /// Stands in front of the server at `HOST:PORT`.
    ///
    /// # Panics
    /// If the loopback cannot be listened on.
    pub fn start(server: &str) -> Self {
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            troubles: Mutex::default(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let listener = Listener::start(move |client| pass(client, &serving))
            .expect("loopback has a free port");
        Self { listener, shared }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.listener.address().to_string()
    }

    /// From now on this goes wrong.
    pub fn trouble(&self, request: &'static str, times: u32, what: What) {
        lock(&self.shared.troubles).push(Trouble {
            request,
            times,
            what,
        });
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        lock(&self.shared.troubles).clear();
    }

    /// How many of the troubles did not happen.
    pub fn left(&self) -> u32 {
        lock(&self.shared.troubles).iter().map(|it| it.times).sum()
    }

    /// How many bytes went to the server so far.
    pub fn up(&self) -> u64 {
        self.shared.up.load(Ordering::SeqCst)
    }

    /// How many bytes came from the server so far.
    pub fn down(&self) -> u64 {
        self.shared.down.load(Ordering::SeqCst)
    }
}

/// One connection, with what is to go wrong on it.
struct Line {
    client: TcpStream,
    server: TcpStream,
    trouble: Mutex<Option<What>>,
}

fn pass(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(&shared.server)?;
    let line = Arc::new(Line {
        client,
        server,
        trouble: Mutex::default(),
    });
    let (down, counted) = (Arc::clone(&line), Arc::clone(shared));
    thread::spawn(move || {
        drop(pass_answers(&down, &counted));
        down.cut();
    });
    let passed = pass_requests(&line, shared);
    line.cut();
    passed
}

impl Line {
    fn cut(&self) {
        drop(self.client.shutdown(Shutdown::Both));
        drop(self.server.shutdown(Shutdown::Both));
    }
}

/// From the client to the server. A request begins a piece of its own, as all clients send them.
fn pass_requests(line: &Line, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = None;
    loop {
        let length = (&line.client).read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut piece = &buffer[..length];
        match take(shared, piece) {
            Some(What::Answers(answer)) => return answer_instead(line, answer),
            Some(What::CutsRequest(bytes)) => left = Some(bytes),
            Some(what) => *lock(&line.trouble) = Some(what),
            None => {}
        }
        if let Some(left) = &mut left {
            piece = &piece[..piece
                .len()
                .min(usize::try_from(*left).unwrap_or(usize::MAX))];
            *left -= piece.len() as u64;
        }
        (&line.server).write_all(piece)?;
        shared.up.fetch_add(piece.len() as u64, Ordering::SeqCst);
        if left == Some(0) {
            return Ok(());
        }
    }
}

fn pass_answers(line: &Line, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = (&line.server).read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let piece = &buffer[..length];
        let mut trouble = lock(&line.trouble);
        let left = match &mut *trouble {
            Some(What::CutsAnswer(left) | What::Stalls(left)) => left,
            _ => &mut u64::MAX.clone(),
        };
        let passed = piece
            .len()
            .min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left = left.saturating_sub(passed as u64);
        let what = *trouble;
        drop(trouble);
        (&line.client).write_all(&piece[..passed])?;
        shared.down.fetch_add(passed as u64, Ordering::SeqCst);
        match what {
            Some(What::CutsAnswer(0)) => return Ok(()),
            // Until the client goes, which the other direction sees.
            Some(What::Stalls(0)) => loop {
                if (&line.server).read(&mut buffer)? == 0 {
                    return Ok(());
                }
            },
            _ => {}
        }
    }
}

/// The trouble that these bytes of a client are to have.
fn take(shared: &Shared, piece: &[u8]) -> Option<What> {
    let mut troubles = lock(&shared.troubles);
    let trouble = troubles
        .iter_mut()
        .find(|it| it.times > 0 && piece.starts_with(it.request.as_bytes()))?;
    trouble.times -= 1;
    Some(trouble.what)
}

fn answer_instead(line: &Line, answer: &str) -> io::Result<()> {
    let head = answer.replace('\n', "\r\n");
    let answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    (&line.client).write_all(answer.as_bytes())?;
    line.client.shutdown(Shutdown::Write)?;
    // What is on its way is read, or the client would not read the answer.
    io::copy(&mut &line.client, &mut io::sink()).map(drop)
}
