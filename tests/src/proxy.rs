//! Proxy between an agent and its bucket that injects named faults.
//!
//! ```text
//!  agent ──▶ Proxy: which fault is this path's turn? ──▶ bucket
//!                └─ none: passed on as it is
//! ```
//!
//! Each answer closes its connection, so that a request is a connection and the log is in order.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest head of a message, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Interval at which a waiting connection checks whether the proxy has stopped.
const LOOK: Duration = Duration::from_millis(50);
/// Chunk size of an endless body, in bytes.
const PIECE: usize = 64 << 10;

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// None: passes the request on. For a number of requests before another fault.
    Pass,
    /// Passes the request on, and resets the connection instead of answering.
    LoseAnswer,
    /// Answers with this status and code.
    Status(u16, &'static str),
    /// Accepts the connection and never answers.
    Silent,
    /// Resets the connection.
    Reset,
    /// Holds the request back until [`Proxy::heal`] is called.
    Hold,
    /// Cuts the body, and the connection, after this many bytes.
    Cut(usize),
    /// Changes a byte in the middle of the body.
    Corrupt,
    /// Replaces the body.
    Swap(Vec<u8>),
    /// Announces a length that differs from the body's by this many bytes.
    Length(i64),
    /// Sends an endless body.
    Endless,
    /// Sends status 500 with an endless body.
    EndlessError,
    /// Sends the body byte by byte, with this pause.
    Drip(Duration),
}

/// Requests that a fault applies to.
#[derive(Debug, Clone)]
struct Rule {
    path: String,
    left: u32,
    fault: Fault,
}

/// A request that passed the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Path and query.
    pub path: String,
    /// Value of `Range`, if present.
    pub range: Option<String>,
    /// Fault that was applied.
    pub fault: Option<Fault>,
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    passed: Mutex<Vec<Passed>>,
    sent: AtomicU64,
    over: AtomicBool,
}

/// A running proxy; stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of `bucket`, without faults.
    pub fn before(bucket: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&inside);
                // Ends with its connection, or with the proxy.
                std::thread::spawn(move || drop(carry(stream, bucket, &shared)));
            }
        });
        Proxy { address, shared, server: Some(server) }
    }

    /// Returns the value for `endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Applies `fault` to the next `times` requests whose `METHOD path` contains `path`.
    pub fn fail(&self, path: &str, times: u32, fault: Fault) {
        let rule = Rule { path: path.to_owned(), left: times, fault };
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// Removes all faults and clears the log of requests.
    pub fn heal(&self) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.passed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.sent.store(0, Ordering::SeqCst);
    }

    /// Returns the requests so far, in order.
    pub fn passed(&self) -> Vec<Passed> {
        self.shared.passed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of bytes sent towards the agent.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

fn carry(mut stream: TcpStream, bucket: SocketAddr, shared: &Shared) -> io::Result<()> {
    let head = peek_head(&stream, shared)?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let method = text.split(' ').next().unwrap_or_default();
    let fault = take_turn(&format!("{method} {path}"), shared);
    let passed = Passed { path, range: header(&text, "range"), fault: fault.clone() };
    shared.passed.lock().unwrap_or_else(PoisonError::into_inner).push(passed);
    if fault == Some(Fault::Reset) {
        // Unread data makes the kernel reset the connection.
        return Ok(());
    }
    let mut read = vec![0; head.len()];
    stream.read_exact(&mut read)?;
    match fault {
        Some(Fault::Status(status, code)) => {
            // Unread data would make the kernel reset the connection, and lose the answer.
            read_body(&text, &mut stream)?;
            let body =
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} Fault\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            send(&mut stream, head.as_bytes(), shared)
        }
        Some(Fault::Silent) => wait(&stream, shared),
        Some(Fault::Hold) => {
            let held =
                || shared.rules.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|r| r.fault == Fault::Hold);
            while held() && !shared.over.load(Ordering::SeqCst) {
                std::thread::sleep(LOOK);
            }
            let (head, body) = ask(&text, &mut stream, bucket)?;
            answer(&mut stream, &head, body, None, shared)
        }
        Some(Fault::LoseAnswer) => ask(&text, &mut stream, bucket).map(drop),
        Some(Fault::EndlessError) => endless(&mut stream, "HTTP/1.1 500 Fault\r\nconnection: close\r\n\r\n", shared),
        fault => {
            let (head, body) = ask(&text, &mut stream, bucket)?;
            answer(&mut stream, &head, body, fault.as_ref(), shared)
        }
    }
}

/// Peeks at the head of the request without consuming it.
fn peek_head(stream: &TcpStream, shared: &Shared) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(LOOK))?;
    let mut buffer = vec![0; MAX_HEAD];
    loop {
        match stream.peek(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                if let Some(end) = buffer[..count].windows(4).position(|four| four == b"\r\n\r\n") {
                    buffer.truncate(end + 4);
                    stream.set_read_timeout(None)?;
                    return Ok(buffer);
                }
                std::thread::yield_now();
            }
            Err(e) if is_early(&e) && !shared.over.load(Ordering::SeqCst) => {}
            Err(e) => return Err(e),
        }
    }
}

fn take_turn(path: &str, shared: &Shared) -> Option<Fault> {
    let mut rules = shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = rules.iter_mut().find(|rule| rule.left > 0 && path.contains(&rule.path))?;
    rule.left -= 1;
    Some(rule.fault.clone())
}

/// The body of the request with this head.
fn read_body(head: &str, stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = header(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// The bucket's answer to the request: its head, and the whole body.
fn ask(head: &str, stream: &mut TcpStream, bucket: SocketAddr) -> io::Result<(String, Vec<u8>)> {
    let body = read_body(head, stream)?;
    let mut upstream = TcpStream::connect(bucket)?;
    // Not among the headers that are signed.
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let body = answer.split_off(end + 4);
    Ok((String::from_utf8_lossy(&answer).into_owned(), body))
}

fn answer(stream: &mut TcpStream, head: &str, body: Vec<u8>, fault: Option<&Fault>, shared: &Shared) -> io::Result<()> {
    let with_length = |length: i64| {
        let kept = head.trim_end().split("\r\n").filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !matches!(name.as_str(), "content-length" | "connection" | "transfer-encoding")
        });
        let kept: Vec<&str> = kept.collect();
        format!("{}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n", kept.join("\r\n"))
    };
    let whole = i64::try_from(body.len()).unwrap_or(i64::MAX);
    let (head, body) = match fault {
        Some(Fault::Cut(after)) => (with_length(whole), body[..body.len().min(*after)].to_vec()),
        Some(Fault::Corrupt) => {
            let (mut body, middle) = (body, usize::try_from(whole / 2).unwrap_or(0));
            if let Some(byte) = body.get_mut(middle) {
                *byte ^= 1;
            }
            (with_length(whole), body)
        }
        Some(Fault::Swap(other)) => (with_length(i64::try_from(other.len()).unwrap_or(0)), other.clone()),
        Some(Fault::Length(more)) => (with_length((whole + more).max(0)), body),
        Some(Fault::Endless) => {
            let head = with_length(0).replace("content-length: 0\r\n", "");
            return endless(stream, &head, shared);
        }
        Some(Fault::Drip(pause)) => {
            send(stream, with_length(whole).as_bytes(), shared)?;
            for byte in body {
                if shared.over.load(Ordering::SeqCst) {
                    break;
                }
                send(stream, &[byte], shared)?;
                std::thread::sleep(*pause);
            }
            return Ok(());
        }
        // A body that the bucket sends in chunks goes as it is.
        _ => (head.to_owned(), body),
    };
    send(stream, head.as_bytes(), shared)?;
    send(stream, &body, shared)
}

fn endless(stream: &mut TcpStream, head: &str, shared: &Shared) -> io::Result<()> {
    send(stream, head.as_bytes(), shared)?;
    while !shared.over.load(Ordering::SeqCst) {
        send(stream, &[b'x'; PIECE], shared)?;
    }
    Ok(())
}

fn send(stream: &mut TcpStream, bytes: &[u8], shared: &Shared) -> io::Result<()> {
    stream.write_all(bytes)?;
    shared.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    Ok(())
}

/// Reads until the other end closes.
fn wait(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(LOOK))?;
    while !shared.over.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Err(e) if !is_early(&e) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn header(head: &str, name: &str) -> Option<String> {
    let line = head.split("\r\n").find(|line| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name)))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}
