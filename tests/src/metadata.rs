//! The metadata service of an instance (IMDSv2), as far as credentials of its profile need it.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bucket::{ACCESS_KEY, SECRET_KEY};

const TOKEN: &str = "a-session-token-of-the-service";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// A service that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Metadata {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Metadata {
    /// Starts one on a free port of loopback; its role may use the tests' bucket.
    pub fn start() -> Metadata {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.over.load(Ordering::SeqCst) {
                    return;
                }
                drop(answer(stream, &inside));
            }
        });
        Metadata { address, shared, server: Some(server) }
    }

    /// As `AWS_EC2_METADATA_SERVICE_ENDPOINT` is given.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked, in order: method, path, and whether with a token.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut with_token = false;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        with_token |= line == format!("x-aws-ec2-metadata-token: {TOKEN}");
        if line.is_empty() {
            break;
        }
    }
    let asked = first.strip_suffix(" HTTP/1.1").unwrap_or(&first).to_owned();
    let credentials = format!(
        "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\"AccessKeyId\":\"{ACCESS_KEY}\",\
         \"SecretAccessKey\":\"{SECRET_KEY}\",\"Token\":\"of-a-role\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}"
    );
    let (status, body) = match (asked.as_str(), with_token) {
        ("PUT /latest/api/token", _) => ("200 OK", TOKEN),
        (_, false) => ("401 Unauthorized", ""),
        (asked, true) if asked == format!("GET {ROLES}") => ("200 OK", "bolt-packs"),
        (asked, true) if asked == format!("GET {ROLES}bolt-packs") => ("200 OK", credentials.as_str()),
        _ => ("404 Not Found", ""),
    };
    let note = if with_token { format!("{asked} with a token") } else { asked };
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    let length = body.len();
    let head = "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\nconnection: close";
    write!(stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}")
}
