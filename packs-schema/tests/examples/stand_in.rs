//! Stand-in for an HTTP service, on a Unix socket or on loopback.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Request that a stand-in received.
#[derive(Clone)]
pub(crate) struct Request {
    /// Method and target, such as `GET /info`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

type Answer = dyn Fn(&Request) -> (u16, Vec<u8>) + Send + Sync;

/// Service that answers each request with a function of the test, and remembers the requests.
pub(crate) struct StandIn {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl StandIn {
    /// Listens on a Unix socket.
    pub(crate) fn unix(path: &Path, answer: impl Fn(&Request) -> (u16, Vec<u8>) + Send + Sync + 'static) -> StandIn {
        let listener = UnixListener::bind(path).unwrap();
        let (stand_in, serve) = StandIn::new(answer);
        // Ends with the process of the tests: a thread that waits for a connection holds nothing that others need.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(&mut &stream, &mut &stream)));
        stand_in
    }

    /// Listens on a port of loopback, and returns the address.
    pub(crate) fn tcp(answer: impl Fn(&Request) -> (u16, Vec<u8>) + Send + Sync + 'static) -> (StandIn, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stand_in, serve) = StandIn::new(answer);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(&mut &stream, &mut &stream)));
        (stand_in, address)
    }

    fn new(
        answer: impl Fn(&Request) -> (u16, Vec<u8>) + Send + Sync + 'static,
    ) -> (StandIn, impl Fn(&mut dyn Read, &mut dyn Write)) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer): (_, Box<Answer>) = (Arc::clone(&requests), Box::new(answer));
        let serve = move |input: &mut dyn Read, output: &mut dyn Write| {
            let Some(request) = read(input) else { return };
            let (status, body) = answer(&request);
            seen.lock().unwrap().push(request);
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = output.write_all(head.as_bytes()).and_then(|()| output.write_all(&body));
        };
        (StandIn { requests }, serve)
    }

    /// Returns the requests that begin with this text.
    pub(crate) fn requests(&self, begin: &str) -> Vec<Request> {
        self.requests.lock().unwrap().iter().filter(|r| r.line.starts_with(begin)).cloned().collect()
    }
}

fn read(input: &mut dyn Read) -> Option<Request> {
    let mut lines = BufReader::new(input).lines();
    let first = lines.next()?.ok()?;
    let line = first.rsplit_once(' ')?.0.to_owned();
    let headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let pair = |line: String| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Some(Request { line, headers: headers.filter_map(pair).collect() })
}
