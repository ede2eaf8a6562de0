//! Listeners: bounded handshakes and connections, each with its time limits, and an orderly drain.
//!
//! ```text
//!  accept ──▶ handshake (see `handshakes`) ──▶ connection slot (see `connection_slots`) ──▶ requests
//! ```
//!
//! A connection ends early when the caller's certificate expires, or when its authority is no longer trusted.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::App;
use super::body::{Body, stopped};
use super::connection_slots::ConnectionSlots;
use super::connections::Closed;
use super::handlers::instance;
use super::handshakes::{Bounds, Handshakes, Incomplete, Slot, Socket, reset};
use super::plain_health;
use super::router::{self, Origin};
use super::tls::{Tls, Verifying};
use super::write_timeout::WriteTimeout;
use crate::health::Health;

/// Slots for peers that are not authenticated yet. One source may be an orchestrator that opens dozens at once.
const HANDSHAKES: Bounds = Bounds { total: 256, per_source: 64 };
/// Slots of the plain health listener.
const PROBES: Bounds = Bounds { total: 64, per_source: 16 };
/// Number of sockets accepted in a row before other ready tasks run.
const ACCEPT_BATCH: u32 = 16;
/// Time limit for the head of a request, and for an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit for a write that makes no progress.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time in which a connection that has sent no request yet may send its first one at shutdown.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
/// Time limit for requests in progress at shutdown.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Buffer size of a connection, in bytes.
const BUFFER: usize = 16 << 10;
/// Interval at which free pages of the heap are returned to the system after connections have closed.
const TRIM: Duration = Duration::from_secs(1);

/// Pause before the next attempt to accept when the host lacks descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Health code while connections cannot be accepted.
const NOT_ACCEPTING: &str = "not_accepting";

/// Listening sockets.
pub(crate) struct ListeningSockets {
    /// Socket of the REST interface.
    pub(crate) api: TcpListener,
    /// Socket of load balancer probes.
    pub(crate) health: Option<TcpListener>,
    /// Maximum number of connections of the interface.
    pub(crate) max_connections: usize,
}

/// Serves until `stop` becomes true, then drains requests in progress.
pub(crate) async fn serve(app: Arc<App>, sockets: ListeningSockets, tls: Arc<Tls>, mut stop: watch::Receiver<bool>) {
    let slots = ConnectionSlots::new(sockets.max_connections);
    let handshakes = Handshakes::new(HANDSHAKES, "api", app.metrics.clone());
    let probes = Handshakes::new(PROBES, "health", app.metrics.clone());
    let turns = tokio::spawn(handshakes.clone().give_turns());
    let mut connections = JoinSet::new();
    let (mut closed, mut accepted) = (false, 0);
    let mut trim = tokio::time::interval(TRIM);
    trim.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => closed = true,
            _ = trim.tick(), if closed => {
                crate::sys::trim_heap();
                closed = false;
            }
            (stream, from) = accept(&sockets.api, &app.health) => {
                let is_open = app.closed_because().is_none();
                match is_open.then(|| handshakes.begin(from)).flatten() {
                    Some(slot) => {
                        let shared = (app.clone(), slots.clone(), tls.clone());
                        connections.spawn(secure(shared, (stream, from, slot), stop.clone()));
                    }
                    None => reset(stream),
                }
                yield_after_batch(&mut accepted).await;
            }
            (stream, from) = accept_some(sockets.health.as_ref(), &app.health) => {
                match probes.begin(from) {
                    Some(slot) => {
                        connections.spawn(plain(app.clone(), stream, slot, stop.clone()));
                    }
                    None => reset(stream),
                }
                yield_after_batch(&mut accepted).await;
            }
        }
    }
    drop(sockets);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "connections were cut at shutdown");
        connections.abort_all();
    }
    turns.abort();
    // Aborted: wait until it has ended.
    let _ = turns.await;
}

/// Lets other ready tasks run after every [`ACCEPT_BATCH`] sockets, which may arrive faster than they can be served.
pub(super) async fn yield_after_batch(accepted: &mut u32) {
    *accepted += 1;
    if *accepted >= ACCEPT_BATCH {
        *accepted = 0;
        tokio::task::yield_now().await;
    }
}

/// Accepts the next connection at once; [`Handshakes`] bounds how many are kept.
pub(super) async fn accept(listener: &TcpListener, health: &Health) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                if health.has(NOT_ACCEPTING) {
                    tracing::info!("connections are accepted again");
                    health.clear(NOT_ACCEPTING);
                }
                return accepted;
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: the listener stays ready, so wait until something is released. Logged once.
                if !health.has(NOT_ACCEPTING) {
                    tracing::error!(%error, "cannot accept connections");
                    health.set(NOT_ACCEPTING, format!("cannot accept connections: {error}"));
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

pub(super) async fn accept_some(listener: Option<&TcpListener>, health: &Health) -> (TcpStream, SocketAddr) {
    match listener {
        Some(listener) => accept(listener, health).await,
        None => std::future::pending().await,
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Performs the handshake with a peer; its expensive steps wait for their turn.
pub(super) async fn handshake(
    stream: TcpStream,
    slot: &mut Slot,
    tls: &Tls,
) -> Result<(TlsStream<WriteTimeout<Socket>>, Verifying), Incomplete> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let requester = slot.requester();
    let stream = WriteTimeout::new(slot.socket(stream), WRITE_TIMEOUT);
    slot.run_in_time(async {
        // Cheap: reads and parses at most a whole ClientHello.
        let started = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let turn = requester.turn().await;
        let Some((config, verifying)) = tls.current() else {
            return Err(io::Error::other("the certificates cannot be used"));
        };
        let accept = started.into_stream(config);
        drop(turn);
        Ok((requester.run_by_turns(accept).await?, verifying))
    })
    .await
}

async fn secure(
    (app, connection_slots, tls): (Arc<App>, ConnectionSlots, Arc<Tls>),
    (stream, from, mut slot): (TcpStream, SocketAddr, Slot),
    stop: watch::Receiver<bool>,
) {
    let (stream, verified) = match handshake(stream, &mut slot, &tls).await {
        Ok(secured) => secured,
        Err(why) => return slot.fail(&why),
    };
    // The caller is authenticated and can no longer be evicted.
    let handshakes = slot.all().clone();
    slot.succeed();
    let certificates = stream.get_ref().1.peer_certificates();
    let chain = certificates.unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    let (mut open, peer) = match tls.open(chain, &verified) {
        Ok(opened) => opened,
        Err(error) => {
            return tracing::info!(%from, error, "connection closed: the authorities no longer accept the certificate");
        }
    };
    let Some(connection_slot) = connection_slots.acquire(peer.principal.as_ref().ok()).await else {
        return handshakes.count_no_connection_slot(from);
    };
    let origin = Origin::Remote(Arc::new(peer));
    app.connections.fetch_add(1, Ordering::Relaxed);
    let serving = app.clone();
    let service = service_fn(move |request| {
        let (app, origin) = (serving.clone(), origin.clone());
        async move { Ok::<_, Infallible>(router::answer(app, origin, request).await) }
    });
    tokio::select! {
        // First: a certificate may have been revoked while the caller waited for a slot.
        biased;
        why = open.closed() => match why {
            Closed::Expired => tracing::warn!(%from, "connection closed: the caller's certificate has expired"),
            Closed::Refused(error) => {
                tracing::warn!(%from, error, "connection closed: the authorities have changed");
            }
        },
        () = drive(stream, service, stop) => {}
    }
    app.connections.fetch_sub(1, Ordering::Relaxed);
    drop(connection_slot);
}

/// Serves the plain listener: `GET /v1/health` only, one request for each connection.
async fn plain(app: Arc<App>, stream: TcpStream, mut slot: Slot, stop: watch::Receiver<bool>) {
    let answered = Arc::new(AtomicBool::new(false));
    let set_answered = answered.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, set_answered) = (app.clone(), set_answered.clone());
        async move {
            let mut response = plain_health::respond(&request, || instance::health_without_packs(&app));
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            set_answered.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let stream = WriteTimeout::new(slot.socket(stream), WRITE_TIMEOUT);
    let driven = async {
        drive(stream, service, stop).await;
        if answered.load(Ordering::Relaxed) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    match slot.run_in_time(driven).await {
        Ok(()) => slot.succeed(),
        Err(why) => slot.fail(&why),
    }
}

/// Serves the requests of one connection. A caller that was accepted before a stop is not turned away by it: its first request is
/// answered if it arrives within [`FIRST_REQUEST`], and the connection closed then.
pub(super) async fn drive<T, S>(stream: T, service: S, mut stop: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<Body>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (first, mut has_first) = watch::channel(false);
    let service = service_fn(move |request| {
        first.send_replace(true);
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let may_close = async {
        stopped(&mut stop).await;
        // Over or not: the connection is closed as soon as it has no request.
        let _ = tokio::time::timeout(FIRST_REQUEST, has_first.wait_for(|has| *has)).await;
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = may_close => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = crate::log::chain(&error), "connection ended early");
    }
}
