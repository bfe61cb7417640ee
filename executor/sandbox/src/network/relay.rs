//! Answers questions for names inside namespaces by asking servers that only the host reaches.
//!
//! The sockets for the questions are made inside, those for the servers outside: a program on the host is asked from the
//! host, as it expects. What is in a question or an answer nobody looks at.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{AbortHandle, abortable, pending};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::elsewhere;
use super::resolv::RELAY;
use crate::sys;

/// The thread that relays for all namespaces of a process.
#[derive(Debug)]
pub(super) struct Relay {
    handle: Handle,
    stop: AbortHandle,
    thread: Option<JoinHandle<()>>,
}

/// Relaying for one namespace, until it is dropped.
#[derive(Debug)]
pub(super) struct Served(Vec<AbortHandle>);

impl Drop for Served {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Relay {
    pub(super) fn start() -> io::Result<Relay> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (forever, stop) = abortable(pending::<()>());
        let thread = std::thread::Builder::new().name("names".to_owned());
        let thread = thread.spawn(move || {
            let _stopped = runtime.block_on(forever);
        })?;
        Ok(Relay {
            handle,
            stop,
            thread: Some(thread),
        })
    }

    /// Answers in a namespace for `servers`, the first of which is asked first.
    pub(super) fn serve(
        &self,
        namespace: BorrowedFd<'_>,
        servers: &[SocketAddr],
    ) -> io::Result<Served> {
        const PORT: u16 = 53;
        let (datagrams, streams) = elsewhere(|| {
            sys::enter_network(namespace)?;
            let datagrams = std::net::UdpSocket::bind((RELAY, PORT))?;
            let streams = std::net::TcpListener::bind((RELAY, PORT))?;
            datagrams.set_nonblocking(true)?;
            streams.set_nonblocking(true)?;
            Ok((datagrams, streams))
        })?;
        let servers: Arc<[SocketAddr]> = servers.into();
        let datagrams = self.spawn(answer_datagrams(datagrams, Arc::clone(&servers)));
        let streams = self.spawn(answer_streams(streams, servers));
        Ok(Served(vec![datagrams, streams]))
    }

    fn spawn(&self, task: impl Future<Output = io::Result<()>> + Send + 'static) -> AbortHandle {
        let (task, handle) = abortable(task);
        self.handle.spawn(async {
            if let Ok(Err(error)) = task.await {
                tracing::warn!(%error, "names are not relayed any more");
            }
        });
        handle
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.abort();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How many questions of a namespace may wait for an answer; more are lost, as on a network.
const WAITING: usize = 256;

/// How long a server may think before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long nobody listens after a question could not be taken, for want of descriptors as a rule.
const BREATH: Duration = Duration::from_millis(50);

/// How long a conversation over a stream may last.
const CONVERSATION: Duration = Duration::from_secs(30);

async fn answer_datagrams(
    socket: std::net::UdpSocket,
    servers: Arc<[SocketAddr]>,
) -> io::Result<()> {
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        // Each question that waits holds the socket.
        if length < HEADER || Arc::strong_count(&socket) > WAITING {
            continue;
        }
        let (socket, servers) = (Arc::clone(&socket), Arc::clone(&servers));
        let question = buffer[..length].to_vec();
        tokio::spawn(async move {
            let answer = ask_one_after_the_other(&question, &servers).await;
            let _ = socket.send_to(&answer, asker).await;
        });
    }
}

async fn ask_one_after_the_other(question: &[u8], servers: &[SocketAddr]) -> Vec<u8> {
    for server in servers {
        if let Ok(Ok(answer)) = timeout(PATIENCE, ask(question, *server)).await {
            return answer;
        }
    }
    failure(question)
}

async fn ask(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // The number of the question.
        if length >= HEADER && buffer[..2] == question[..2] {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

/// The bytes before the question itself (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// The answer of a server that failed, so that nobody waits for one.
fn failure(question: &[u8]) -> Vec<u8> {
    const ANSWER: u8 = 0x80;
    const SERVER_FAILURE: u8 = 2;
    let mut answer = question.to_vec();
    answer[2] |= ANSWER;
    answer[3] = answer[3] & 0xf0 | SERVER_FAILURE;
    answer
}

async fn answer_streams(
    listener: std::net::TcpListener,
    servers: Arc<[SocketAddr]>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let count = Arc::new(());
    loop {
        let Ok((mut asker, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        if Arc::strong_count(&count) > WAITING {
            continue;
        }
        let (count, servers) = (Arc::clone(&count), Arc::clone(&servers));
        tokio::spawn(async move {
            let _count = count;
            for server in servers.iter() {
                if let Ok(Ok(mut server)) = timeout(PATIENCE, TcpStream::connect(server)).await {
                    let talk = tokio::io::copy_bidirectional(&mut asker, &mut server);
                    let _ = timeout(CONVERSATION, talk).await;
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd as _;

    use super::super::new_namespace;
    use super::*;

    /// Two servers of the host, at one port: nobody, and one who answers with the question and a bit more.
    fn servers() -> [SocketAddr; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(there).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&[&buffer[..length], b"!"].concat(), asker);
            }
        });
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            write!(stream, "{text}!").unwrap();
        });
        let nobody = SocketAddr::new([127, 7, 7, 7].into(), there.port());
        [nobody, there]
    }

    fn ask_for(question: &'static [u8]) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(question, (RELAY, 53))?;
        let mut buffer = [0; 512];
        let (length, _) = socket.recv_from(&mut buffer)?;
        Ok(buffer[..length].to_vec())
    }

    #[test]
    fn root_only_a_question_goes_to_the_first_server_that_answers() {
        let relay = Relay::start().unwrap();
        let namespace = new_namespace().unwrap();
        let served = relay.serve(namespace.as_fd(), &servers()).unwrap();
        let inside = |what: &(dyn Fn() -> io::Result<Vec<u8>> + Sync)| {
            elsewhere(|| {
                sys::enter_network(namespace.as_fd())?;
                what()
            })
        };
        let asked = inside(&|| ask_for(b"id..a question")).unwrap();
        assert_eq!(asked, b"id..a question!");
        let told = inside(&|| {
            let mut stream = TcpStream::connect((RELAY, 53))?;
            stream.write_all(b"a longer one")?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        });
        assert_eq!(told.unwrap(), b"a longer one!");
        drop(served);
        // What is over frees its addresses, as soon as the thread has come to it.
        while relay.serve(namespace.as_fd(), &[]).is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn root_only_where_nobody_answers_that_is_the_answer() {
        let relay = Relay::start().unwrap();
        let namespace = new_namespace().unwrap();
        let [nobody, _] = servers();
        let _served = relay.serve(namespace.as_fd(), &[nobody]).unwrap();
        let answer = elsewhere(|| {
            sys::enter_network(namespace.as_fd())?;
            ask_for(b"id\x01\x00........")
        });
        assert_eq!(answer.unwrap(), b"id\x81\x02........");
    }
}
