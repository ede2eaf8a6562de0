//! Door for the fuzz targets to the interface: bytes of a connection after the handshake come in, bytes of the answers go out.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use packs_schema::agent::config::Config;
use packs_schema::base::name::Principal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::fingerprint::Fingerprints;
use super::pushes::Pushes;
use super::router::{self, Origin};
use super::tls::{Peer, Tls};
use super::{App, listener};
use crate::access::Access;
use crate::audit::{self, Audit};
use crate::clock;
use crate::exec::{Exec, Launcher, Settings};
use crate::health::Health;
use crate::history::History;
use crate::instance::Instance;
use crate::metrics::Metrics;
use crate::registry::Registry;

/// Time after which a peer that sends nothing more is taken for one that closed the connection.
const QUIET: Duration = Duration::from_millis(3);

/// Number of reads in vain until the connection ends.
const IDLE_READS: u32 = 8;

/// The interface with all that is behind it, but for a launcher that answers.
pub struct Service {
    runtime: Runtime,
    app: Arc<App>,
    peer: Arc<Peer>,
    stop: watch::Sender<bool>,
    _launcher: std::os::unix::net::UnixStream,
}

impl Service {
    /// Starts with the configuration whose files exist, for a caller with this principal.
    pub fn start(config: &Config, principal: &str) -> Service {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let (stop, stopping) = watch::channel(false);
        let app = Arc::new(runtime.block_on(build(config, ours, stopping)));
        let principal = Principal::new(principal).map_err(|error| error.to_string());
        Service { runtime, app, peer: Arc::new(Peer { principal, authority: None }), stop, _launcher: theirs }
    }

    /// Answers what a peer sends; returns all that is sent back.
    pub fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let busy = Arc::new(AtomicU32::new(0));
        let wire = Wire { input: bytes.to_vec(), at: 0, sent: sent.clone(), busy: busy.clone(), quiet: None, idle: 0 };
        let service = service_fn(move |request| {
            let (app, peer, busy) = (self.app.clone(), self.peer.clone(), busy.clone());
            async move {
                busy.fetch_add(1, Ordering::Relaxed);
                let response = router::answer(app, Origin::Remote(peer), request).await;
                busy.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Infallible>(response)
            }
        });
        self.runtime.block_on(listener::drive(wire, service, self.stop.subscribe()));
        std::mem::take(&mut *sent.lock().expect("no other thread"))
    }
}

async fn build(config: &Config, launcher: std::os::unix::net::UnixStream, stopping: watch::Receiver<bool>) -> App {
    let health = Arc::new(Health::default());
    let access = Arc::new(Access::load(&config.paths.grants, health.clone()).expect("grants"));
    let tls = Arc::new(Tls::load(&config.tls, health.clone()));
    let launcher = Launcher::connect(launcher.into()).expect("a socket");
    let instance = Instance::learn(config, "boot", &launcher).await;
    access.set_facts(instance.known_facts());
    let registry = Arc::new(Registry::new(config.paths.packs.clone()).with_runtime(&config.paths.runtime));
    let metrics = Arc::new(Metrics::default());
    let settings = Settings::new(config, instance.id().clone(), "boot".to_owned());
    std::fs::create_dir_all(&settings.executions).expect("a directory");
    let history = Arc::new(open_history(&config.paths.state, &instance));
    let audit = audit::Settings { directory: config.paths.audit(), config: config.audit.clone() };
    let (audit, _) = Audit::open(&audit, health.clone()).expect("a thread");
    let begun = Exec::begin(
        settings,
        history.clone(),
        registry.clone(),
        access.clone(),
        launcher,
        audit.clone(),
        health.clone(),
        metrics.clone(),
    );
    App {
        stopping,
        channel: config.repository.channel.clone(),
        enforcement: config.paths.runtime.join("enforcement.json"),
        started_at_ms: clock::now_ms(),
        access,
        tls,
        exec: begun.await.expect("nothing to recover"),
        audit,
        history,
        registry,
        health,
        metrics,
        fingerprints: Fingerprints::load(&config.paths.state).expect("a key"),
        pushes: Pushes::new(config),
        connections: AtomicU32::new(0),
        instance,
    }
}

fn open_history(state: &Path, instance: &Instance) -> History {
    History::open(&state.join("history.db"), instance.id()).expect("a new history")
}

/// Connection whose peer has sent everything already. It closes the connection when all requests are answered, or when nothing has
/// happened for a while: then a request waits for a body that does not come, or for something else that does not happen.
struct Wire {
    input: Vec<u8>,
    at: usize,
    sent: Arc<Mutex<Vec<u8>>>,
    /// Number of requests that have no response yet.
    busy: Arc<AtomicU32>,
    quiet: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Number of reads while nothing was left and no request was served.
    idle: u32,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = &self.input[self.at..];
        if !left.is_empty() {
            let taken = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..taken]);
            self.at += taken;
            return Poll::Ready(Ok(()));
        }
        if self.busy.load(Ordering::Relaxed) == 0 {
            // The library reads on while a request that has come is not yet served, and would drop it at the end.
            if self.idle >= IDLE_READS {
                return Poll::Ready(Ok(()));
            }
            self.idle += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let quiet = self.quiet.get_or_insert_with(|| Box::pin(tokio::time::sleep(QUIET)));
        quiet.as_mut().poll(cx).map(Ok)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.sent.lock().expect("no other thread").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
