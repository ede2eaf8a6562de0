//! Sends one request and reads its answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use packs_schema::agent::rest::{PROBLEM_TYPE, Problem};
use serde::de::DeserializeOwned;

use super::answer::Answer;
use super::{ANSWER_TIMEOUT, Agent, MAX_JSON, wire};
use crate::error::{Error, Kind};
use crate::phase::Phase;
use crate::show::visible;

/// Maximum size of a problem document in bytes: 100 errors of parameters, which quote values.
const MAX_PROBLEM: usize = 1 << 20;

/// Request that has not been sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// Time that the request asks the agent to wait before it answers.
    patience: Duration,
    /// True if the request is idempotent, so that it may be sent again.
    repeatable: bool,
    /// True if an answer of any status is accepted, unless it is a problem document.
    any_status: bool,
    /// Maximum size of a JSON answer in bytes.
    limit: usize,
}

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Call {
        Call {
            method: Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            patience: Duration::ZERO,
            repeatable: true,
            any_status: false,
            limit: MAX_JSON,
        }
    }

    pub(super) fn post(path: impl Into<String>, body: Vec<u8>) -> Call {
        let mut call = Call { method: Method::POST, body: body.into(), repeatable: false, ..Call::get(path) };
        if !call.body.is_empty() {
            call.headers.push(("content-type", "application/json".to_owned()));
        }
        call
    }

    /// Returns a POST with a body that is not JSON; its answer may take `patience`.
    pub(super) fn upload(path: impl Into<String>, kind: &str, body: Bytes, patience: Duration) -> Call {
        let call = Call { method: Method::POST, body, patience, ..Call::get(path) };
        call.header("content-type", kind)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn repeatable(mut self) -> Call {
        self.repeatable = true;
        self
    }

    pub(super) fn limit(self, limit: usize) -> Call {
        Call { limit, ..self }
    }

    pub(super) fn any_status(mut self) -> Call {
        self.any_status = true;
        self
    }

    /// Appends `?name=value` or `&name=value`, escaped.
    pub(super) fn query(mut self, name: &str, value: &str) -> Call {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.path.push(char::from(byte));
            } else {
                self.path.push_str(&format!("%{byte:02X}"));
            }
        }
        self
    }

    pub(super) fn wait(self, wait: Option<Duration>) -> Call {
        match wait {
            Some(wait) => {
                let call = self.query("wait", &packs_schema::base::quantity::format_duration(wait));
                Call { patience: wait, ..call }
            }
            None => self,
        }
    }

    fn request(&self, agent: &Agent) -> Result<Request<Full<Bytes>>, Kind> {
        let mut builder = Request::builder().method(&self.method).uri(&self.path);
        builder = builder.header(header::HOST, agent.instance.address.host_header());
        builder = builder.header(header::USER_AGENT, concat!("bolt/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::new(self.body.clone())).map_err(|e| Kind::Protocol(format!("cannot make the request: {e}")))
    }
}

impl Agent {
    /// Sends `call` and reads a JSON answer, which must be about this instance and about `asked`.
    pub(super) async fn json<T: Answer>(&self, call: Call, asked: T::Asked<'_>) -> Result<T, Error> {
        let bytes = self.body(call).await?;
        let answer: T = parse(&bytes).map_err(|kind| self.error(kind))?;
        answer.check(self.instance.id(), asked).map_err(|mismatch| self.error(mismatch.into()))?;
        Ok(answer)
    }

    /// Sends `call` and reads the whole answer, if it is not larger than the limit of the call.
    pub(super) async fn body(&self, call: Call) -> Result<Bytes, Error> {
        let limit = call.limit;
        let (wire, response) = self.exchange(call).await?;
        let result = tokio::time::timeout(ANSWER_TIMEOUT, collect(response.into_body(), limit)).await;
        let bytes = match result {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(kind)) => return Err(self.error(kind)),
            Err(_) => return Err(self.error(Kind::TimedOut(Phase::Http, "the answer stopped midway"))),
        };
        if wire.is_open() {
            self.put_back(wire);
        }
        Ok(bytes)
    }

    /// Sends `call` and reads at most `limit` bytes of the answer; returns true if there were more.
    pub(super) async fn bounded(&self, call: Call, limit: usize) -> Result<(Vec<u8>, bool), Error> {
        let (wire, response) = self.exchange(call).await?;
        let (mut bytes, mut body) = (Vec::new(), response.into_body());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.error(wire.broken(&e)))?;
            let Ok(data) = frame.into_data() else { continue };
            let left = limit - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(left)]);
            if data.len() > left {
                return Ok((bytes, true));
            }
        }
        if wire.is_open() {
            self.put_back(wire);
        }
        Ok((bytes, false))
    }

    /// Sends `call` and returns a successful answer whose body has not been read yet.
    pub(super) async fn exchange(&self, call: Call) -> Result<(wire::Wire, Response<Incoming>), Error> {
        let (wire, response) = self.send(&call).await.map_err(|kind| self.error(kind))?;
        if response.status().is_success() || (call.any_status && !is_problem(&response)) {
            return Ok((wire, response));
        }
        let kind = match tokio::time::timeout(ANSWER_TIMEOUT, refusal(response)).await {
            Ok(kind) => kind,
            Err(_) => Kind::TimedOut(Phase::Http, "the answer stopped midway"),
        };
        if wire.is_open() {
            self.put_back(wire);
        }
        Err(self.error(kind))
    }

    async fn send(&self, call: &Call) -> Result<(wire::Wire, Response<Incoming>), Kind> {
        if let Some(idle) = self.take_idle().filter(wire::Wire::is_open) {
            match self.send_over(idle, call).await {
                // The agent may have closed the connection while it was idle: try a new one.
                Err(Kind::Broken(_)) if call.repeatable => {}
                other => return other,
            }
        }
        let wire = self.dial().await?;
        self.send_over(wire, call).await
    }

    async fn send_over(&self, mut wire: wire::Wire, call: &Call) -> Result<(wire::Wire, Response<Incoming>), Kind> {
        let request = call.request(self)?;
        let response = tokio::time::timeout(call.patience + ANSWER_TIMEOUT, wire.send(request))
            .await
            .map_err(|_| Kind::TimedOut(Phase::Http, "connected, but no answer"))??;
        Ok((wire, response))
    }
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Kind> {
    serde_json::from_slice(bytes)
        .map_err(|e| Kind::Protocol(format!("the answer is not what was expected: {}", visible(&e.to_string()))))
}

async fn collect(body: Incoming, limit: usize) -> Result<Bytes, Kind> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) => match e.downcast_ref::<hyper::Error>() {
            Some(error) => Err(wire::explain(error)),
            None => Err(Kind::Protocol(format!("the answer is larger than {limit} bytes"))),
        },
    }
}

/// Returns the error for an unsuccessful answer.
async fn refusal(response: Response<Incoming>) -> Kind {
    let status: StatusCode = response.status();
    let is_problem = is_problem(&response);
    let body = match collect(response.into_body(), MAX_PROBLEM).await {
        Ok(body) => body,
        Err(kind) => return kind,
    };
    match serde_json::from_slice::<Problem>(&body) {
        // The status of the response line counts, not the copy in the body.
        Ok(problem) if is_problem => Kind::Problem(Box::new(Problem { status: status.as_u16(), ..problem })),
        _ => Kind::Protocol(format!("it answered with status {} and no problem document", status.as_u16())),
    }
}

fn is_problem(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == PROBLEM_TYPE))
}
