//! Latency of well-behaved callers and of health probes.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bolt_client::local::Caller;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::sockets::connect_from;

/// Deadline of a call.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two rounds of calls.
const PAUSE: Duration = Duration::from_millis(5);

/// Kinds of calls.
pub const KINDS: [&str; 3] = ["run, warm connection", "run, new connection", "health probe"];

/// Latencies of calls of one kind.
#[derive(Debug, Default, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Returns the `percent`-th percentile.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
    }

    /// Number of calls.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99] = [50, 99].map(|percent| self.percentile(percent).as_secs_f64() * 1e3);
        write!(f, "{p50:>7.2} {p99:>7.2}")
    }
}

/// Calls during one phase.
#[derive(Debug, Default, Clone)]
pub struct Calls {
    /// Latencies for each of [`KINDS`].
    pub times: [Times; 3],
    /// Errors of failed calls.
    pub failed: Vec<String>,
}

impl Calls {
    /// Adds the calls of a further phase.
    pub(crate) fn extend(&mut self, more: Calls) {
        for (times, more) in self.times.iter_mut().zip(more.times) {
            times.0.extend(more.0);
        }
        self.failed.extend(more.failed);
    }
}

/// Connection parameters of the callers.
pub(crate) struct Line {
    api: SocketAddr,
    health: SocketAddr,
    config: Arc<ClientConfig>,
    /// Each new connection comes from the next source address, which the agent has not seen before.
    next: u32,
}

impl Line {
    pub(crate) fn new(api: SocketAddr, health: SocketAddr, operator: &Caller) -> Line {
        Line { api, health, config: Arc::new(crate::http::of(operator)), next: 0x7f01_0000 }
    }

    /// Calls repeatedly for the duration `time`.
    pub(crate) async fn call_for(&mut self, time: Duration) -> Calls {
        let mut calls = Calls::default();
        let until = Instant::now() + time;
        let mut warm = match self.connect().await {
            Ok(warm) => warm,
            Err(error) => {
                calls.failed.push(format!("{}: {error}", KINDS[0]));
                return calls;
            }
        };
        while Instant::now() < until {
            note(&mut calls, 0, run(&mut warm)).await;
            note(&mut calls, 1, async { run(&mut self.connect().await?).await }).await;
            note(&mut calls, 2, self.probe()).await;
            tokio::time::sleep(PAUSE).await;
        }
        calls
    }

    fn address(&mut self) -> Ipv4Addr {
        self.next += 1;
        Ipv4Addr::from(self.next)
    }

    async fn connect(&mut self) -> Result<SendRequest<Full<Bytes>>, String> {
        let text = |e: std::io::Error| e.to_string();
        let stream = connect_from(self.address(), self.api).await.map_err(text)?;
        let name = ServerName::try_from("agent.invalid").expect("a valid name");
        let stream = tokio_rustls::TlsConnector::from(self.config.clone()).connect(name, stream).await.map_err(text)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| format!("{e:?}"))?;
        // Ends when the sender is dropped.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn probe(&mut self) -> Result<(), String> {
        let text = |e: std::io::Error| e.to_string();
        let mut stream = connect_from(self.address(), self.health).await.map_err(text)?;
        stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost: agent\r\n\r\n").await.map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(text)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("it answered {answer:?}")) }
    }
}

async fn note(calls: &mut Calls, kind: usize, call: impl Future<Output = Result<(), String>>) {
    let begun = Instant::now();
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(())) => calls.times[kind].0.push(begun.elapsed()),
        Ok(Err(error)) => calls.failed.push(format!("{}: {error}", KINDS[kind])),
        Err(_) => calls.failed.push(format!("{}: no answer within {PATIENCE:?}", KINDS[kind])),
    }
}

/// Runs an action that does nothing, and waits for its end.
async fn run(sender: &mut SendRequest<Full<Bytes>>) -> Result<(), String> {
    let text = |e: hyper::Error| format!("{e:?}");
    let request = Request::post("/v1/executions?wait=25s")
        .header("host", "agent")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(b"{\"action\":\"crowd.nothing\"}")))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(text)?;
    let body = answer.into_body().collect().await.map_err(text)?.to_bytes();
    let execution: Execution =
        serde_json::from_slice(&body).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&body)))?;
    if execution.state == State::Succeeded { Ok(()) } else { Err(format!("it ended as {}", execution.state)) }
}
