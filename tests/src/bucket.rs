//! A bucket of the tests' own: S3 over real HTTP on loopback, in this process.
//!
//! ```text
//!  socket ─▶ bytes counted ─▶ clock checked, request noted ─▶ s3s: signature checked ─▶ objects, in memory
//! ```
//!
//! It checks signatures, answers 304 and 412 as S3 does, keeps every version, pages its listings, and remembers each
//! request, so that a test can say what a poll cost. Its clock can be set.

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

/// The key that the bucket knows …
pub const ACCESS_KEY: &str = "AKIDBOLTTESTS0000000";
/// … and its secret.
pub const SECRET_KEY: &str = "canary-bucket-secret-0123456789abcdefghi";

/// A running bucket. Dropping it ends it.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

/// What server and test both look at.
#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<Objects>,
    requests: Mutex<Vec<Asked>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    clock_ahead_s: AtomicI64,
    denies_listings: AtomicBool,
}

/// One request that the bucket was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `If-None-Match` or `If-Match`, when there was one.
    pub condition: Option<String>,
    /// `X-Amz-Content-Sha256`, which the signature covers, when there was one.
    pub content_sha256: Option<String>,
    /// The answer's status.
    pub status: u16,
}

/// What went over the wire since some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// The requests, in order.
    pub requests: Vec<Asked>,
    /// Bytes that came, with heads.
    pub bytes_in: u64,
    /// Bytes that went, with heads.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As `endpoint` is given.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `s3://packs/<prefix>`.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.name)
    }

    /// `s3://packs/<prefix>` with how it is reached, as `--repo` takes it.
    pub fn location(&self, prefix: &str) -> String {
        location(&self.url(prefix), &self.endpoint())
    }

    /// `spec` with its repository here.
    pub fn follow(&self, spec: AgentSpec, prefix: &str) -> AgentSpec {
        follow(spec, &self.url(prefix), &self.endpoint())
    }

    /// How many requests there were; for [`since`](Self::since).
    pub fn mark(&self) -> (usize, u64, u64) {
        let count = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).len();
        let Shared { bytes_in, bytes_out, .. } = &*self.shared;
        (count, bytes_in.load(Ordering::SeqCst), bytes_out.load(Ordering::SeqCst))
    }

    /// What went over the wire since a mark.
    pub fn since(&self, (count, bytes_in, bytes_out): (usize, u64, u64)) -> Traffic {
        let requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Traffic {
            requests: requests[count..].to_vec(),
            bytes_in: self.shared.bytes_in.load(Ordering::SeqCst) - bytes_in,
            bytes_out: self.shared.bytes_out.load(Ordering::SeqCst) - bytes_out,
        }
    }

    /// Sets its clock so many seconds ahead of this host's.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.shared.clock_ahead_s.store(seconds, Ordering::SeqCst);
    }

    /// Has it refuse to list, as without the permission `s3:ListBucket`.
    pub fn deny_listings(&self, deny: bool) {
        self.shared.denies_listings.store(deny, Ordering::SeqCst);
    }

    /// The keys below `prefix`, sorted.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.objects(|objects| objects.keys(prefix))
    }

    /// What stands at `key`.
    pub fn content(&self, key: &str) -> Option<Vec<u8>> {
        self.objects(|objects| objects.current(key).map(|version| version.content.to_vec()))
    }

    /// How many versions of `key` there have been.
    pub fn versions(&self, key: &str) -> usize {
        self.objects(|objects| objects.versions(key))
    }

    /// Writes past every check, as somebody does who has got hold of the bucket.
    pub fn put(&self, key: &str, content: impl Into<Vec<u8>>) {
        self.objects(|objects| objects.put(key, content.into().into()));
    }

    /// Copies the files below `directory` to `prefix`, those that changed, the timestamp last, as a publisher would.
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

    /// Has every object have been written that much earlier.
    pub fn age(&self, by: std::time::Duration) {
        self.objects(|objects| objects.age(by));
    }

    /// Removes past every check.
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

/// `url` with how it is reached, as `--repo` takes it.
pub fn location(url: &str, endpoint: &str) -> String {
    format!("{url}?endpoint={endpoint}&region=us-east-1&path_style=true")
}

/// `spec` with its repository at `url`, reached by `endpoint`, and with the bucket's credentials in its environment.
pub fn follow(spec: AgentSpec, url: &str, endpoint: &str) -> AgentSpec {
    let spec = credentials().into_iter().fold(spec, |spec, (name, value)| spec.env(name, value));
    spec.set("repository", "url", url)
        .set("repository", "endpoint", endpoint)
        .set("repository", "region", "us-east-1")
        .set("repository", "path_style", true)
}

/// The variables by which a process may use the bucket, and no other credentials of this host.
pub fn credentials() -> [(&'static str, &'static str); 3] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_EC2_METADATA_DISABLED", "true")]
}
