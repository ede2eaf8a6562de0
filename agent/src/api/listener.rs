//! The listeners: bounded handshakes and connections, each with its time limits, and an orderly end.
//!
//! ```text
//!  accept ──▶ handshake (few, short, evicted when full) ──▶ place (max_connections) ──▶ requests
//! ```
//!
//! A connection ends early when the caller's certificate does, or when its authority is no longer trusted.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::App;
use super::body::{Body, stopped};
use super::connections::Closed;
use super::handlers::instance;
use super::handshakes::{Bounds, Handshakes, Slot};
use super::patience::Patient;
use super::router::{self, Peer};
use super::tls::{self, Tls};
use crate::health::Health;

/// Sockets of peers that have not shown their certificate yet. One source may be an orchestrator that opens dozens at once.
const HANDSHAKES: Bounds = Bounds { total: 256, per_source: 64 };
/// Sockets of the plain health listener.
const PROBES: Bounds = Bounds { total: 32, per_source: 8 };
/// Time for the first byte of a handshake, or of a probe.
const SILENT: Duration = Duration::from_secs(2);
/// Time for a whole handshake, or a whole probe.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time that a caller whose certificate was checked waits for a place among the connections.
const PLACE: Duration = Duration::from_secs(30);
/// A connection without a request, or with half of one's head, is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// A connection whose peer takes nothing of what is sent to it is closed after this.
pub(super) const STALLED: Duration = Duration::from_secs(60);
/// What is under way at the end has this long.
const DRAIN: Duration = Duration::from_secs(5);
/// A connection's buffers.
const BUFFER: usize = 16 << 10;
/// After so many closed connections the heap's free pages go back to the system.
const TRIM: u64 = 64;

/// Between two tries to accept when the host has no descriptor or memory for it.
const PAUSE: Duration = Duration::from_millis(100);
/// The code of health meanwhile.
const NOT_ACCEPTING: &str = "not_accepting";

/// The listening sockets.
pub(crate) struct Doors {
    /// Of the REST interface.
    pub(crate) api: TcpListener,
    /// Of load balancer probes.
    pub(crate) health: Option<TcpListener>,
    /// The most connections of the interface at once.
    pub(crate) max_connections: usize,
}

/// Serves until `stop` becomes true, and then what is under way.
pub(crate) async fn serve(app: Arc<App>, doors: Doors, tls: Arc<Tls>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(doors.max_connections));
    let (handshakes, probes) = (Handshakes::new(HANDSHAKES), Handshakes::new(PROBES));
    let mut connections = JoinSet::new();
    let mut closed: u64 = 0;
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {
                closed += 1;
                if connections.is_empty() || closed.is_multiple_of(TRIM) {
                    crate::sys::trim_heap();
                }
            }
            (stream, from) = accept(&doors.api, &app.health) => {
                let slot = handshakes.begin(from.ip());
                connections.spawn(secure(app.clone(), (stream, from, slot), places.clone(), tls.clone(), stop.clone()));
            }
            (stream, from) = accept_some(doors.health.as_ref(), &app.health) => {
                connections.spawn(plain(app.clone(), stream, probes.begin(from.ip()), stop.clone()));
            }
        }
    }
    drop(doors);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "connections were cut at the end");
        connections.abort_all();
    }
}

/// The next connection. What comes is taken at once; its number is bounded by [`Handshakes`].
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
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: the listener stays ready, so wait for something to come free. Told once.
                if !health.has(NOT_ACCEPTING) {
                    tracing::error!(%error, "cannot accept connections");
                    health.set(NOT_ACCEPTING, format!("connections cannot be accepted: {error}"));
                }
                tokio::time::sleep(PAUSE).await;
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

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// How a handshake did not come to its end.
pub(super) enum NoHandshake {
    Evicted,
    Silent,
    Slow,
    Refused(io::Error),
}

/// Waits for `work` as long as the slot is there: the peer must send something soon, and be done in time.
pub(super) async fn in_time<T>(slot: &mut Slot, work: impl Future<Output = io::Result<T>>) -> Result<T, NoHandshake> {
    let spoke = slot.spoke.clone();
    let silent = async {
        tokio::time::sleep(SILENT).await;
        if spoke.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        done = work => done.map_err(NoHandshake::Refused),
        () = slot.evicted() => Err(NoHandshake::Evicted),
        () = silent => Err(NoHandshake::Silent),
        () = tokio::time::sleep(HANDSHAKE) => Err(NoHandshake::Slow),
    }
}

async fn secure(
    app: Arc<App>,
    (stream, from, mut slot): (TcpStream, SocketAddr, Slot),
    places: Arc<Semaphore>,
    tls: Arc<Tls>,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "cannot set TCP_NODELAY");
    }
    let stream = Patient::new(stream, STALLED).noting(slot.spoke.clone());
    let stream = match in_time(&mut slot, TlsAcceptor::from(tls.current()).accept(stream)).await {
        Ok(stream) => stream,
        Err(NoHandshake::Refused(error)) => return tracing::info!(%from, %error, "handshake refused"),
        Err(NoHandshake::Slow) => return tracing::info!(%from, "handshake took too long"),
        // Anybody can make as many of these lines as he likes.
        Err(NoHandshake::Silent) => return tracing::debug!(%from, "nothing came"),
        Err(NoHandshake::Evicted) => return tracing::debug!(%from, "handshake given up for another one"),
    };
    let place = tokio::select! {
        place = places.acquire_owned() => place.expect("the semaphore is never closed"),
        () = slot.evicted() => return tracing::info!(%from, "no place among the connections came free"),
        () = tokio::time::sleep(PLACE) => return tracing::info!(%from, "no place among the connections came free"),
    };
    drop(slot);
    let certificates = stream.get_ref().1.peer_certificates();
    let peer: Arc<Peer> = Arc::new(tls::principal(certificates));
    let chain = certificates.unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    let Some(mut open) = tls.open(chain) else {
        return tracing::info!(%from, "the certificate is not accepted any more");
    };
    app.connections.fetch_add(1, Ordering::Relaxed);
    let serving = app.clone();
    let service = service_fn(move |request| {
        let (app, peer) = (serving.clone(), peer.clone());
        async move { Ok::<_, Infallible>(router::answer(app, peer, request).await) }
    });
    tokio::select! {
        () = drive(stream, service, stop) => {}
        why = open.closed() => match why {
            Closed::Expired => tracing::warn!(%from, "connection closed: the caller's certificate has expired"),
            Closed::Refused(error) => {
                tracing::warn!(%from, error, "connection closed: the authorities have changed");
            }
        }
    }
    app.connections.fetch_sub(1, Ordering::Relaxed);
    drop(place);
}

/// The plain listener: `GET /v1/health` and nothing else, one request for each connection.
async fn plain(app: Arc<App>, stream: TcpStream, mut slot: Slot, stop: watch::Receiver<bool>) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let app = app.clone();
        async move {
            let asked = request.method() == Method::GET && request.uri().path() == "/v1/health";
            let mut response = if asked {
                instance::health_codes(&app)
            } else {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            };
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok::<_, Infallible>(response)
        }
    });
    let stream = Patient::new(stream, STALLED).noting(slot.spoke.clone());
    let driven = async {
        drive(stream, service, stop).await;
        Ok(())
    };
    // However it ends, there is nothing to say.
    let _ = in_time(&mut slot, driven).await;
}

async fn drive<T, S>(stream: T, service: S, mut stop: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = crate::log::chain(&error), "connection ended early");
    }
}
