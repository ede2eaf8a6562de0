//! What answers while the agent recovers: health, and "ask again" to everything else.
//!
//! A start takes a moment, in which connections wait in the kernel's queue. One that takes longer, because a damaged history is
//! read in again, must not look like a host that is gone: after [`GRACE`] callers are answered here, until the agent is ready.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use packs_schema::base::name::InstanceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::body::Body;
use super::handlers::instance::codes_only;
use super::handlers::json;
use super::handshakes::{Bounds, Handshakes, Incomplete, Slot};
use super::listener::{STALLED, accept, accept_some, breathe, handshake};
use super::patience::Patient;
use super::problem::ApiError;
use super::tls::Tls;
use crate::exec::RECOVERING;
use crate::health::{Detail, Health};
use crate::metrics::Metrics;
use crate::registry::Registry;

/// How long a start may take before callers are answered in its stead.
const GRACE: Duration = Duration::from_secs(2);
/// Sockets at once.
const BOUNDS: Bounds = Bounds { total: 64, per_source: 16 };

/// What the answers are made of.
pub(crate) struct Starting {
    pub(crate) instance: InstanceId,
    pub(crate) health: Arc<Health>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Answers callers until it is dropped, which cuts what is under way.
pub(crate) async fn answer(starting: Arc<Starting>, api: &TcpListener, probes: Option<&TcpListener>, tls: Arc<Tls>) {
    tokio::time::sleep(GRACE).await;
    tracing::warn!("the start takes long: callers are told that the agent recovers");
    let handshakes = Handshakes::new(BOUNDS, "api", starting.metrics.clone());
    let plain = Handshakes::new(BOUNDS, "health", starting.metrics.clone());
    let (mut connections, mut accepted) = (JoinSet::new(), 0);
    let mut turns = JoinSet::new();
    turns.spawn(handshakes.clone().give_turns());
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            (stream, from) = accept(api, &starting.health) => {
                if let Some(mut slot) = handshakes.begin(from) {
                    let (starting, tls) = (starting.clone(), tls.clone());
                    connections.spawn(async move {
                        let ended = match handshake(stream, &mut slot, &tls).await {
                            Ok(stream) => slot.in_time(serve(starting, stream)).await,
                            Err(why) => Err(why),
                        };
                        finish(slot, ended);
                    });
                }
                breathe(&mut accepted).await;
            }
            (stream, from) = accept_some(probes, &starting.health) => {
                if let Some(mut slot) = plain.begin(from) {
                    let starting = starting.clone();
                    connections.spawn(async move {
                        let stream = Patient::new(slot.socket(stream), STALLED);
                        let ended = slot.in_time(serve(starting, stream)).await;
                        finish(slot, ended);
                    });
                }
                breathe(&mut accepted).await;
            }
        }
    }
}

fn finish(slot: Slot, ended: Result<(), Incomplete>) {
    match ended {
        Ok(()) => slot.succeed(),
        Err(why) => slot.fail(&why),
    }
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(starting: Arc<Starting>, stream: T) -> io::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&starting, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = http1::Builder::new();
    let connection = connection.keep_alive(false).serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

fn respond(starting: &Starting, request: &Request<Incoming>) -> Response<Body> {
    if request.method() == Method::GET && request.uri().path() == "/v1/health" {
        let mut health = starting.health.report(&starting.registry, &starting.instance, &|_| Detail::Nothing);
        codes_only(&mut health, &[RECOVERING]);
        return json(503, &health);
    }
    ApiError::NotReady.respond(&uuid::Uuid::now_v7().hyphenated().to_string())
}
