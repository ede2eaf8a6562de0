//! The listeners: bounded connections, each with its time limits, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::App;
use super::body::{Body, stopped};
use super::handlers::instance;
use super::patience::Patient;
use super::router::{self, Peer};
use super::tls::{self, Tls};
use crate::health::Health;

/// A handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection without a request, or with half of one's head, is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// A connection whose peer takes nothing of what is sent to it is closed after this.
const STALLED: Duration = Duration::from_secs(60);
/// What is under way at the end has this long.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections of the plain health listener.
const MAX_PROBES: usize = 16;
/// A connection's buffers.
const BUFFER: usize = 16 << 10;
/// After so many closed connections the heap's free pages go back to the system.
const TRIM: u64 = 64;

/// Between two tries to accept when the host has no descriptor or memory for it.
const PAUSE: Duration = Duration::from_millis(100);
/// The code of health meanwhile.
const NOT_ACCEPTING: &str = "not_accepting";

/// The doors.
pub(crate) struct Doors {
    /// Of the REST interface.
    pub(crate) api: TcpListener,
    /// Of load balancer probes.
    pub(crate) health: Option<TcpListener>,
    /// The most connections of the interface at once.
    pub(crate) max_connections: usize,
}

/// Serves until `stop` becomes true, and then what is under way.
pub(crate) async fn serve(app: Arc<App>, doors: Doors, tls: Tls, mut stop: watch::Receiver<bool>) {
    let api_places = Arc::new(Semaphore::new(doors.max_connections));
    let probe_places = Arc::new(Semaphore::new(MAX_PROBES));
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
            (stream, place) = accept(&doors.api, &api_places, &app.health) => {
                connections.spawn(secure(app.clone(), stream, place, tls.current(), stop.clone()));
            }
            (stream, place) = accept_some(doors.health.as_ref(), &probe_places, &app.health) => {
                connections.spawn(plain(app.clone(), stream, place, stop.clone()));
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

/// A place first, then a connection: those beyond the bound wait in the kernel's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>, health: &Health) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if health.has(NOT_ACCEPTING) {
                    tracing::info!("connections are accepted again");
                    health.clear(NOT_ACCEPTING);
                }
                return (stream, place);
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

async fn accept_some(
    listener: Option<&TcpListener>,
    places: &Arc<Semaphore>,
    health: &Health,
) -> (TcpStream, OwnedSemaphorePermit) {
    match listener {
        Some(listener) => accept(listener, places, health).await,
        None => std::future::pending().await,
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn secure(
    app: Arc<App>,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    config: Arc<rustls::ServerConfig>,
    stop: watch::Receiver<bool>,
) {
    let from = stream.peer_addr().map_or_else(|_| "-".to_owned(), |a| a.to_string());
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(from, %error, "cannot set TCP_NODELAY");
    }
    let handshake = TlsAcceptor::from(config).accept(Patient::new(stream, STALLED));
    let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(from, %error, "handshake refused"),
        Err(_) => return tracing::info!(from, "handshake took too long"),
    };
    let peer: Arc<Peer> = Arc::new(tls::principal(stream.get_ref().1.peer_certificates()));
    app.connections.fetch_add(1, Ordering::Relaxed);
    let serving = app.clone();
    let service = service_fn(move |request| {
        let (app, peer) = (serving.clone(), peer.clone());
        async move { Ok::<_, Infallible>(router::answer(app, peer, request).await) }
    });
    drive(stream, service, stop).await;
    app.connections.fetch_sub(1, Ordering::Relaxed);
    drop(place);
}

/// The plain listener: `GET /v1/health` and nothing else.
async fn plain(app: Arc<App>, stream: TcpStream, place: OwnedSemaphorePermit, stop: watch::Receiver<bool>) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let app = app.clone();
        async move {
            let asked = request.method() == Method::GET && request.uri().path() == "/v1/health";
            Ok::<_, Infallible>(if asked {
                instance::health(&app, None)
            } else {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            })
        }
    });
    drive(Patient::new(stream, STALLED), service, stop).await;
    drop(place);
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
