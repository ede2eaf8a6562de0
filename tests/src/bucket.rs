//! An S3 bucket in this process, over real HTTP on loopback.
//!
//! ```text
//!  socket ─▶ bytes counted ─▶ clock checked, request noted ─▶ s3s: signature checked ─▶ objects, in memory
//! ```
//!
//! Checks signatures, answers 304 and 412 as S3 does, keeps every version, pages its listings, and records each
//! request, so that a test can count what a poll costs. Its clock can be set.

mod http;
mod objects;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bolt_client::local::AgentSpec;
use tokio::sync::oneshot;

use objects::Objects;

/// Access key id that the bucket accepts.
pub const ACCESS_KEY: &str = "AKIDBOLTTESTS0000000";
/// Secret of that key.
pub const SECRET_KEY: &str = "canary-bucket-secret-0123456789abcdefghi";

/// A running bucket; stops when dropped.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

/// State shared by server and test.
#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<Objects>,
    requests: Mutex<Vec<Asked>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    clock_ahead_s: AtomicI64,
    denies_listings: AtomicBool,
}

/// A request that the bucket received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Method, such as `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Value of `If-None-Match` or `If-Match`, if present.
    pub condition: Option<String>,
    /// Value of `X-Amz-Content-Sha256`, which the signature covers, if present.
    pub content_sha256: Option<String>,
    /// Status of the answer.
    pub status: u16,
}

/// Traffic since a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, in order.
    pub requests: Vec<Asked>,
    /// Bytes received, including request heads.
    pub bytes_in: u64,
    /// Bytes sent, including response heads.
    pub bytes_out: u64,
}

impl Bucket {
    /// Starts an empty bucket called `packs` on a free port of loopback.
    pub fn start() -> Bucket {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let (shared, (stop, stopped)) = (Arc::new(Shared::default()), oneshot::channel());
        let (name, inside) = ("packs".to_owned(), Arc::clone(&shared));
        let bucket = name.clone();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = http::serve(listener, bucket, inside) => {}
                    _ = stopped => {}
                }
            });
        });
        Bucket { name, address, shared, stop: Some(stop), server: Some(server) }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the value for `endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns `s3://packs/<prefix>`.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.name)
    }

    /// Returns `s3://packs/<prefix>` with the endpoint as query, as `--repo` takes it.
    pub fn location(&self, prefix: &str) -> String {
        location(&self.url(prefix), &self.endpoint())
    }

    /// Returns `spec` with its repository in this bucket.
    pub fn follow(&self, spec: AgentSpec, prefix: &str) -> AgentSpec {
        follow(spec, &self.url(prefix), &self.endpoint())
    }

    /// Returns a mark for [`since`](Self::since).
    pub fn mark(&self) -> (usize, u64, u64) {
        let count = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).len();
        let Shared { bytes_in, bytes_out, .. } = &*self.shared;
        (count, bytes_in.load(Ordering::SeqCst), bytes_out.load(Ordering::SeqCst))
    }

    /// Returns the traffic since a mark.
    pub fn since(&self, (count, bytes_in, bytes_out): (usize, u64, u64)) -> Traffic {
        let requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Traffic {
            requests: requests[count..].to_vec(),
            bytes_in: self.shared.bytes_in.load(Ordering::SeqCst) - bytes_in,
            bytes_out: self.shared.bytes_out.load(Ordering::SeqCst) - bytes_out,
        }
    }

    /// Sets the bucket's clock `seconds` ahead of this host's.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.clock_ahead_s.store(seconds, Ordering::SeqCst);
    }

    /// Refuses listings from now on, as without the permission `s3:ListBucket`.
    pub fn deny_listings(&self, deny: bool) {
        self.shared.denies_listings.store(deny, Ordering::SeqCst);
    }

    /// Returns the keys below `prefix`, sorted.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.objects(|objects| objects.keys(prefix))
    }

    /// Returns the content of `key`.
    pub fn content(&self, key: &str) -> Option<Vec<u8>> {
        self.objects(|objects| objects.current(key).map(|version| version.content.to_vec()))
    }

    /// Returns the number of versions of `key` so far.
    pub fn versions(&self, key: &str) -> usize {
        self.objects(|objects| objects.versions(key))
    }

    /// Writes without any check, as an attacker with access to the bucket could.
    pub fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        self.objects(|objects| objects.put(key, content.into().into(), std::time::SystemTime::now()));
    }

    /// Copies the changed files below `directory` to `prefix`, the timestamp last, as a publisher does.
    pub fn mirror(&self, directory: &Path, prefix: &str) {
        let mut files = Vec::new();
        let mut left = vec![directory.to_owned()];
        while let Some(path) = left.pop() {
            for entry in std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() { left.push(entry) } else { files.push(entry) }
            }
        }
        files.sort_by_key(|path| path.ends_with("timestamp.json"));
        for path in files {
            let name = path.strip_prefix(directory).expect("it is below").display().to_string();
            let (key, content) = (format!("{prefix}/{name}"), std::fs::read(&path).expect("it can be read"));
            if !name.starts_with('.') && self.content(&key).as_ref() != Some(&content) {
                self.put(&key, content);
            }
        }
    }

    /// Backdates every object by `by`.
    pub fn age(&self, by: std::time::Duration) {
        self.objects(|objects| objects.age(by));
    }

    /// Removes without any check.
    pub fn remove(&self, key: &str) {
        self.objects(|objects| objects.remove(key));
    }

    fn objects<T>(&self, look: impl FnOnce(&mut Objects) -> T) -> T {
        look(&mut self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

/// Returns `url` with the endpoint as query, as `--repo` takes it.
pub fn location(url: &str, endpoint: &str) -> String {
    format!("{url}?endpoint={endpoint}&region=us-east-1&path_style=true")
}

/// Returns `spec` with its repository at `url`, the endpoint, and the bucket's credentials in its environment.
pub fn follow(spec: AgentSpec, url: &str, endpoint: &str) -> AgentSpec {
    let spec = credentials().into_iter().fold(spec, |spec, (name, value)| spec.env(name, value));
    spec.set("repository", "url", url)
        .set("repository", "endpoint", endpoint)
        .set("repository", "region", "us-east-1")
        .set("repository", "path_style", true)
}

/// Returns the variables that give a process access to the bucket, and hide all other credentials of this host.
pub fn credentials() -> [(&'static str, &'static str); 3] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_EC2_METADATA_DISABLED", "true")]
}
