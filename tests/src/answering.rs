//! Plain HTTP server on loopback, one request per connection, whose answers a test provides.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Method and path: `GET /`.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Returns the value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Answer: status and reason, further header lines, and body.
pub(crate) type Answer = (&'static str, String, Vec<u8>);

/// A running server; stops when dropped.
#[derive(Debug)]
pub(crate) struct Answering {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Answering {
    /// Starts a server on a free port.
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Answering {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let over = Arc::new(AtomicBool::new(false));
        let inside = Arc::clone(&over);
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.load(Ordering::SeqCst) {
                    return;
                }
                drop(serve(stream, &answer));
            }
        });
        Answering { address, over, server: Some(server) }
    }

    /// Returns `http://127.0.0.1:<port>`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

fn serve(mut stream: TcpStream, answer: impl Fn(&Request) -> Answer) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = Request { line: String::new(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match (line.trim_end(), line.split_once(':')) {
            ("", _) => break,
            (_, Some((name, value))) if !request.line.is_empty() => {
                request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            (first, _) => first.strip_suffix(" HTTP/1.1").unwrap_or(first).clone_into(&mut request.line),
        }
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    let (status, headers, body) = answer(&request);
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n")?;
    stream.write_all(&body)
}
