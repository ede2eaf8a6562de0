//! Responses while the agent recovers: health, and 503 with `Retry-After` to everything else.
//!
//! A start is short, and connections wait in the kernel's queue meanwhile. A longer one, because a damaged history is rebuilt
//! from the directories, must not look like an unreachable host: after [`GRACE_PERIOD`] callers are answered here, until the
//! agent is ready.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use packs_schema::agent::rest;
use packs_schema::base::name::InstanceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::body::Body;
use super::handlers::instance::codes_only;
use super::handlers::json;
use super::handshakes::{Bounds, Handshakes, Incomplete, Slot};
use super::listener::{WRITE_TIMEOUT, accept, accept_some, handshake, yield_after_batch};
use super::plain_health;
use super::problem::ApiError;
use super::tls::Tls;
use super::write_timeout::WriteTimeout;
use crate::exec::RECOVERING;
use crate::health::{Detail, Health};
use crate::metrics::Metrics;
use crate::registry::Registry;

/// Duration of a start before callers are answered here.
const GRACE_PERIOD: Duration = Duration::from_secs(2);
/// Maximum numbers of sockets.
const BOUNDS: Bounds = Bounds { total: 64, per_source: 16 };

/// State that the responses are built from.
pub(crate) struct Starting {
    pub(crate) instance: InstanceId,
    pub(crate) health: Arc<Health>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Starting {
    fn report(&self) -> rest::Health {
        self.health.report(&self.registry, &self.instance, &|_| Detail::Nothing)
    }
}

/// Callers that are being answered. When it is dropped, those that were accepted still get their answers, within their time limit.
#[derive(Default)]
struct Answering {
    connections: JoinSet<()>,
    turns: JoinSet<()>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        let (mut connections, turns) = (std::mem::take(&mut self.connections), std::mem::take(&mut self.turns));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                while connections.join_next().await.is_some() {}
                drop(turns);
            });
        }
    }
}

/// Answers callers until it is dropped.
pub(crate) async fn answer(starting: Arc<Starting>, api: &TcpListener, probes: Option<&TcpListener>, tls: Arc<Tls>) {
    tokio::time::sleep(GRACE_PERIOD).await;
    tracing::warn!("the start takes long: answering callers that the agent is recovering");
    let handshakes = Handshakes::new(BOUNDS, "api", starting.metrics.clone());
    let plain = Handshakes::new(BOUNDS, "health", starting.metrics.clone());
    let (mut answering, mut accepted) = (Answering::default(), 0);
    answering.turns.spawn(handshakes.clone().give_turns());
    loop {
        tokio::select! {
            Some(_) = answering.connections.join_next() => {}
            (stream, from) = accept(api, &starting.health) => {
                if let Some(mut slot) = handshakes.begin(from) {
                    let (starting, tls) = (starting.clone(), tls.clone());
                    answering.connections.spawn(async move {
                        let ended = match handshake(stream, &mut slot, &tls).await {
                            Ok((stream, _)) => slot.run_in_time(serve(starting, stream, respond)).await,
                            Err(why) => Err(why),
                        };
                        finish(slot, ended);
                    });
                }
                yield_after_batch(&mut accepted).await;
            }
            (stream, from) = accept_some(probes, &starting.health) => {
                if let Some(mut slot) = plain.begin(from) {
                    let starting = starting.clone();
                    answering.connections.spawn(async move {
                        let stream = WriteTimeout::new(slot.socket(stream), WRITE_TIMEOUT);
                        let ended = slot.run_in_time(serve(starting, stream, respond_plainly)).await;
                        finish(slot, ended);
                    });
                }
                yield_after_batch(&mut accepted).await;
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

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(
    starting: Arc<Starting>,
    stream: T,
    respond: fn(&Starting, &Request<Incoming>) -> Response<Body>,
) -> io::Result<()> {
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
        let mut health = starting.report();
        codes_only(&mut health, &[RECOVERING]);
        // The start may have ended since this connection was accepted.
        return json(if health.ready { 200 } else { 503 }, &health);
    }
    ApiError::NotReady.respond(&uuid::Uuid::now_v7().hyphenated().to_string())
}

fn respond_plainly(starting: &Starting, request: &Request<Incoming>) -> Response<Body> {
    plain_health::respond(request, || starting.report())
}
