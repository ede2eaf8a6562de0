//! A package index on loopback whose answers a test can hold back.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Pause between two bytes of an answer that is held back; shorter than any client's read timeout.
const DRIP: Duration = Duration::from_millis(200);

/// Index of a directory of wheels. Trickles the list of a project byte by byte until it is opened.
#[derive(Debug)]
pub struct SlowIndex {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    wheels: PathBuf,
    open: AtomicBool,
    over: AtomicBool,
    asked: AtomicU32,
}

impl SlowIndex {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(wheels: &Path) -> SlowIndex {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let [open, over] = [false, false].map(AtomicBool::new);
        let state = Arc::new(State { wheels: wheels.to_owned(), open, over, asked: AtomicU32::new(0) });
        let inside = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.over.load(Ordering::SeqCst) {
                    return;
                }
                let state = inside.clone();
                std::thread::spawn(move || drop(state.answer(stream)));
            }
        });
        SlowIndex { address, state }
    }

    /// Returns the value for pip's `--index-url`.
    pub fn url(&self) -> String {
        format!("http://{}/simple", self.address)
    }

    /// Returns the number of requests for a project's list.
    pub fn asked(&self) -> u32 {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Answers at once from now on.
    pub fn open(&self) {
        self.state.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for SlowIndex {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let path = first.split(' ').nth(1).unwrap_or_default().trim_matches('/').to_owned();
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type:";
        if let Some(project) = path.strip_prefix("simple/") {
            self.asked.fetch_add(1, Ordering::SeqCst);
            write!(stream, "{head} text/html\r\n\r\n<!DOCTYPE html><html><body>")?;
            while !self.open.load(Ordering::SeqCst) {
                if self.over.load(Ordering::SeqCst) {
                    return Ok(());
                }
                stream.write_all(b"\n")?;
                std::thread::sleep(DRIP);
            }
            for entry in std::fs::read_dir(&self.wheels)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.starts_with(&format!("{project}-")) {
                    write!(stream, "<a href=\"/wheels/{name}\">{name}</a>")?;
                }
            }
            return write!(stream, "</body></html>");
        }
        let name = path.strip_prefix("wheels/").filter(|name| !name.contains('/')).unwrap_or("none");
        match std::fs::read(self.wheels.join(name)) {
            Ok(wheel) => {
                write!(stream, "{head} application/octet-stream\r\ncontent-length: {}\r\n\r\n", wheel.len())?;
                stream.write_all(&wheel)
            }
            Err(_) => write!(stream, "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
        }
    }
}
