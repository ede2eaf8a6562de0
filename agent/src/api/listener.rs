//! The listeners: bounded handshakes and connections, each with its time limits, and an orderly end.
//!
//! ```text
//!  accept ──▶ handshake (see `handshakes`) ──▶ place (see `places`) ──▶ requests
//! ```
//!
//! A connection ends early when the caller's certificate does, or when its authority is no longer trusted.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
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
use super::connections::Closed;
use super::handlers::instance;
use super::handshakes::{Bounds, Handshakes, Incomplete, Slot, Socket, reset};
use super::patience::Patient;
use super::places::Places;
use super::router::{self, Peer};
use super::tls::{self, Tls};
use crate::health::Health;

/// Sockets of peers that have not shown their certificate yet. One source may be an orchestrator that opens dozens at once.
const HANDSHAKES: Bounds = Bounds { total: 256, per_source: 64 };
/// Sockets of the plain health listener.
const PROBES: Bounds = Bounds { total: 64, per_source: 16 };
/// Sockets that are accepted in a row, before whatever else is ready runs.
const ACCEPTS: u32 = 16;
/// A connection without a request, or with half of one's head, is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// A connection whose peer takes nothing of what is sent to it is closed after this.
pub(super) const STALLED: Duration = Duration::from_secs(60);
/// What is under way at the end has this long.
const DRAIN: Duration = Duration::from_secs(5);
/// A connection's buffers.
const BUFFER: usize = 16 << 10;
/// While connections are closed, the heap's free pages go back to the system this often.
const TRIM: Duration = Duration::from_secs(1);

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
    let places = Places::new(doors.max_connections);
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
            (stream, from) = accept(&doors.api, &app.health) => {
                match handshakes.begin(from) {
                    Some(slot) => {
                        let shared = (app.clone(), places.clone(), tls.clone());
                        connections.spawn(secure(shared, (stream, from, slot), stop.clone()));
                    }
                    None => reset(stream),
                }
                breathe(&mut accepted).await;
            }
            (stream, from) = accept_some(doors.health.as_ref(), &app.health) => {
                match probes.begin(from) {
                    Some(slot) => {
                        connections.spawn(plain(app.clone(), stream, slot, stop.clone()));
                    }
                    None => reset(stream),
                }
                breathe(&mut accepted).await;
            }
        }
    }
    drop(doors);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "connections were cut at the end");
        connections.abort_all();
    }
    turns.abort();
    // Aborted, or it would go on for ever.
    let _ = turns.await;
}

/// Lets everything else that is ready run after every [`ACCEPTS`] sockets, which may come faster than they can be served.
pub(super) async fn breathe(accepted: &mut u32) {
    *accepted += 1;
    if *accepted >= ACCEPTS {
        *accepted = 0;
        tokio::task::yield_now().await;
    }
}

/// The next connection. What comes is taken at once; [`Handshakes`] bounds how many are kept.
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

/// Takes a peer through the handshake, whose expensive steps wait for their turn.
pub(super) async fn handshake(
    stream: TcpStream,
    slot: &mut Slot,
    tls: &Tls,
) -> Result<TlsStream<Patient<Socket>>, Incomplete> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let asker = slot.asker();
    let stream = Patient::new(slot.socket(stream), STALLED);
    slot.in_time(async {
        // Cheap: what anybody sends is read and parsed, up to a whole ClientHello.
        let started = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let turn = asker.turn().await;
        let accept = started.into_stream(tls.current());
        drop(turn);
        asker.by_turns(accept).await
    })
    .await
}

async fn secure(
    (app, places, tls): (Arc<App>, Places, Arc<Tls>),
    (stream, from, mut slot): (TcpStream, SocketAddr, Slot),
    stop: watch::Receiver<bool>,
) {
    let stream = match handshake(stream, &mut slot, &tls).await {
        Ok(stream) => stream,
        Err(why) => return slot.fail(&why),
    };
    // The caller is known, and cannot be evicted any more.
    let handshakes = slot.all().clone();
    slot.succeed();
    let Some(place) = places.take().await else { return handshakes.no_place(from) };
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
    let answered = Arc::new(AtomicBool::new(false));
    let told = answered.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (app, told) = (app.clone(), told.clone());
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
            told.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let stream = Patient::new(slot.socket(stream), STALLED);
    let driven = async {
        drive(stream, service, stop).await;
        if answered.load(Ordering::Relaxed) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    match slot.in_time(driven).await {
        Ok(()) => slot.succeed(),
        Err(why) => slot.fail(&why),
    }
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
