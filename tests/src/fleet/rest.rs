//! Routes and answers of a simulated instance, with its fault.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use packs_schema::agent::execution::State;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{
    ActionView, Code, CreateExecution, Execution, Health, IDEMPOTENCY_KEY, OutputChunk, OutputStart, PROBLEM_TYPE,
    PackList, PackView, Page, Problem, Reason, StreamStart,
};
use packs_schema::base::name::{ExecutionId, PackName};
use packs_schema::base::quantity::parse_duration;
use packs_schema::base::strict;
use packs_schema::pack::action::Action;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::executions::{self, Claims};
use super::instance::{self, Instance};
use super::{ACTION, Fault, Shared};

/// Body of an answer; may break off, or have no end.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Maximum size of a request in bytes.
const MAX_REQUEST: usize = 1 << 20;
/// Longest wait for the end of an execution, as in agents.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Size of a huge answer in pieces of 64 KiB.
const HUGE_PIECES: usize = 1024;
/// Terminal escape sequences: a colour, the title of the window, and a C1 control character.
const CONTROL: &str = "\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\rover\n";
/// Claimed length of an output that never ends.
const ENDLESS_BYTES: u64 = 1 << 40;

/// Reply to a request.
pub(super) enum Reply {
    /// Answer, which may be a lie.
    Answer(Box<Response<Body>>),
    /// Close the connection.
    Close,
    /// Never answer.
    Never,
}

/// A request with its body.
struct Call {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    /// Number of this start among those with its idempotency key, from 1; 0 for other requests.
    start: u32,
}

impl Call {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, v)| v)
    }

    fn key(&self) -> Option<&str> {
        self.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok())
    }

    /// Returns the time until which the request waits.
    fn deadline(&self) -> Instant {
        let wait = self.query("wait").and_then(|text| parse_duration(text).ok()).unwrap_or_default();
        Instant::now() + wait.min(MAX_WAIT)
    }
}

/// Answers one request.
pub(super) async fn answer(shared: &Shared, index: usize, request: Request<Incoming>) -> Reply {
    let instance = &shared.instances[index];
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_REQUEST).collect().await else { return Reply::Close };
    match instance.fault {
        Fault::ResetsAfterRequest => return Reply::Close,
        Fault::SilentAfterRequest => return Reply::Never,
        _ => {}
    }
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    let (method, headers, body) = (head.method, head.headers, body.to_bytes());
    let mut call = Call { method, path, query, headers, body, start: 0 };
    if call.method == Method::POST && call.path == "/v1/executions" {
        call.start = instance.executions().count(call.key().unwrap_or_default());
    }
    let response = route(shared, instance, &call).await;
    Reply::Answer(Box::new(match instance.fault {
        Fault::ResetsInAnswer => cut(response, true).await,
        Fault::LosesFirstAnswer if call.start == 1 => cut(response, true).await,
        Fault::StopsInAnswer => cut(response, false).await,
        Fault::HugeAnswer => huge(),
        Fault::AnswersHtml => {
            with_body(StatusCode::OK, "text/html", "<!doctype html><title>Welcome to nginx!</title>\n")
        }
        _ => response,
    }))
}

async fn route(shared: &Shared, instance: &Instance, call: &Call) -> Response<Body> {
    let parts: Vec<&str> = call.path.trim_matches('/').split('/').collect();
    if parts == ["v1", "health"] {
        return health(instance);
    }
    if instance.fault == Fault::Forbidden {
        return problem(Code::Forbidden, "no grant lets the caller do this");
    }
    match (call.method.as_str(), &parts[..]) {
        ("GET", ["v1", "actions"]) => {
            let page = Page { items: vec![action()], next: None };
            json(StatusCode::OK, &page)
        }
        ("GET", ["v1", "actions", name]) if *name == ACTION && instance.fault != Fault::NoSuchAction => {
            json(StatusCode::OK, &action())
        }
        ("GET", ["v1", "actions", name]) => problem(Code::UnknownAction, &format!("there is no action {name}")),
        ("GET", ["v1", "packs"]) => packs(),
        ("POST", ["v1", "executions"]) => create(shared, instance, call).await,
        ("GET", ["v1", "executions"]) => list(shared, instance, call),
        (method, ["v1", "executions", id, rest @ ..]) => {
            let Ok(id) = ExecutionId::new(*id) else { return unknown_execution(id) };
            match (method, rest) {
                ("GET", []) => {
                    wait_for_end(instance, &id, call.deadline()).await;
                    execution(shared, instance, &id, call)
                }
                ("POST", ["kill"]) => kill(shared, instance, &id, call),
                ("GET", [stream @ ("stdout" | "stderr" | "output")]) => {
                    output(shared, instance, &id, stream, call).await
                }
                _ => problem(Code::NotFound, "no such route"),
            }
        }
        _ => problem(Code::NotFound, "no such route"),
    }
}

async fn create(shared: &Shared, instance: &Instance, call: &Call) -> Response<Body> {
    let asked = strict::parse(&call.body).and_then(serde_json::from_value::<CreateExecution>);
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return problem(Code::InvalidBody, &error.to_string()),
    };
    if asked.instance.as_ref().is_some_and(|id| *id != instance.id) {
        return problem(Code::WrongInstance, "the request is for another instance");
    }
    if asked.action.to_string() != ACTION || instance.fault == Fault::NoSuchAction {
        return problem(Code::UnknownAction, "there is no such action");
    }
    if asked.version.as_ref().is_some_and(|version| *version != executions::version()) {
        return problem(Code::VersionMismatch, "another version is active");
    }
    if call.query("class").is_some_and(|class| class != "diagnostic") {
        return problem(Code::ClassMismatch, "the action is a diagnostic");
    }
    let deadline = call.deadline();
    match instance.fault {
        Fault::QueueFull => return retry_later(Code::QueueFull, "the queue is full"),
        Fault::RateExceeded => return retry_later(Code::RateExceeded, "the rate limit is exceeded"),
        Fault::Starting if call.start <= 2 => return retry_later(Code::Unavailable, "the agent is starting"),
        _ => {}
    }
    let started = {
        let mut executions = instance.executions();
        let run_time = instance.run_time(&shared.setup, executions.next_number());
        executions.start(call.key(), asked, run_time, instance.fault != Fault::ActionFails)
    };
    let Some(id) = started else { return problem(Code::IdempotencyMismatch, "the key was used for another request") };
    wait_for_end(instance, &id, deadline).await;
    execution(shared, instance, &id, call)
}

async fn wait_for_end(instance: &Instance, id: &ExecutionId, deadline: Instant) {
    let ends = instance.executions().ends(id);
    if let Some(ends) = ends {
        tokio::time::sleep_until(ends.min(deadline)).await;
    }
}

/// Answers with an execution, and with its output where the request asks for it.
fn execution(shared: &Shared, instance: &Instance, id: &ExecutionId, call: &Call) -> Response<Body> {
    let Some(mut execution) = view(shared, instance, id) else { return unknown_execution(id.as_str()) };
    let ended = execution.state.is_terminal();
    if let Some(limit) = call.query("output").and_then(|text| text.parse().ok())
        && ended
    {
        execution.output = Some(Box::new(first_bytes(shared, instance, limit)));
    }
    json(if ended || call.method == Method::GET { StatusCode::OK } else { StatusCode::ACCEPTED }, &execution)
}

fn view(shared: &Shared, instance: &Instance, id: &ExecutionId) -> Option<Execution> {
    let stdout_bytes = match instance.fault {
        Fault::EndlessOutput => ENDLESS_BYTES,
        _ => text(shared, instance).len() as u64,
    };
    let reason = (instance.fault == Fault::ControlCharacters).then(|| CONTROL.to_owned());
    let claimed = claimed_id(instance);
    instance.executions().view(id, &claimed, &Claims { stdout_bytes, reason })
}

/// Returns the id under which the instance answers.
fn claimed_id(instance: &Instance) -> packs_schema::base::name::InstanceId {
    match instance.fault {
        Fault::AnswersAsAnother => instance::id(instance.index + 1),
        _ => instance.id.clone(),
    }
}

/// Returns the standard output of every execution of the instance. One of twenty differs from the others.
fn text(shared: &Shared, instance: &Instance) -> String {
    match instance.fault {
        Fault::ControlCharacters => CONTROL.to_owned(),
        Fault::EndlessOutput => "endless\n".repeat(8 << 10),
        _ if shared.setup.distinct => {
            let (id, index) = (&instance.id, instance.index);
            format!("{id} at 2026-11-28T10:{:02}:{:02}Z\nload: {index}.42\n", index / 60 % 60, index % 60)
        }
        _ if crate::Random::new(shared.setup.seed ^ u64::from(instance.index)).below(20) == 0 => {
            "load: 7.31\n".to_owned()
        }
        _ => "load: 0.42\n".to_owned(),
    }
}

fn first_bytes(shared: &Shared, instance: &Instance, limit: usize) -> OutputStart {
    let text = text(shared, instance);
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    let truncated = end < text.len() || instance.fault == Fault::EndlessOutput;
    let start = |text: &str, truncated| StreamStart { text: Some(text.to_owned()), base64: None, truncated };
    OutputStart { stdout: start(&text[..end], truncated), stderr: start("", false) }
}

fn kill(shared: &Shared, instance: &Instance, id: &ExecutionId, call: &Call) -> Response<Body> {
    let killed = instance.executions().kill(id);
    match killed {
        None => unknown_execution(id.as_str()),
        Some(false) => problem(Code::AlreadyEnded, "the execution has ended"),
        Some(true) => execution(shared, instance, id, call),
    }
}

/// Answers with one page, filtered by run, state and end.
fn list(shared: &Shared, instance: &Instance, call: &Call) -> Response<Body> {
    let limit = call.query("limit").and_then(|text| text.parse().ok()).unwrap_or(50);
    let ids = instance.executions().list();
    let is_asked = |execution: &Execution| {
        call.query("run").is_none_or(|run| execution.run.as_ref().is_some_and(|of| of.as_str() == run))
            && call.query("state").is_none_or(|state| execution.state.as_str() == state)
            && (call.query("ended") != Some("true") || execution.state.is_terminal())
    };
    let items = ids.iter().filter_map(|id| view(shared, instance, id)).filter(is_asked).take(limit).collect();
    json(StatusCode::OK, &Page::<Execution> { items, next: None })
}

/// Answers with output: bytes of a stream, or lines of both. A request that follows waits for the end first.
async fn output(shared: &Shared, instance: &Instance, id: &ExecutionId, what: &str, call: &Call) -> Response<Body> {
    if call.query("follow") == Some("true") {
        wait_for_end(instance, id, Instant::now() + MAX_WAIT).await;
    }
    let Some(execution) = view(shared, instance, id) else { return unknown_execution(id.as_str()) };
    let text = match execution.state {
        State::Running => String::new(),
        _ if what == "stderr" => String::new(),
        _ => text(shared, instance),
    };
    let (kind, text) = match what {
        "output" if text.is_empty() => ("application/x-ndjson", text),
        "output" => {
            let (at_us, text) = (execution.created_at_ms * 1000, Some(text));
            let chunk =
                OutputChunk { stream: Stream::Stdout, offset: 0, at_us, text, base64: None, dropped_bytes: None };
            ("application/x-ndjson", format!("{}\n", json!(chunk)))
        }
        _ => ("application/octet-stream", text),
    };
    match instance.fault {
        Fault::EndlessOutput if !text.is_empty() => with(StatusCode::OK, kind, endless(text.into())),
        _ => with_body(StatusCode::OK, kind, text),
    }
}

fn health(instance: &Instance) -> Response<Body> {
    let ready = instance.fault != Fault::Starting;
    let reason = || Reason { code: "starting".to_owned(), message: "the agent is starting".to_owned() };
    let health = Health {
        live: true,
        ready,
        degraded: !ready,
        reasons: (!ready).then(reason).into_iter().collect(),
        notes: Vec::new(),
        instance: claimed_id(instance),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &health)
}

fn packs() -> Response<Body> {
    let pack = PackView {
        name: PackName::new("sim").expect("a valid name"),
        description: "Simulated".to_owned(),
        version: Some(executions::version()),
        digest: Some(executions::digest()),
        dev: None,
        signed: None,
        actions: 1,
        failed: None,
    };
    json(StatusCode::OK, &PackList { items: vec![pack], sync: None })
}

fn action() -> ActionView {
    let action: Action = serde_json::from_value(json!({
        "pack": "sim", "name": "report", "description": "Report the load.", "runner_type": "local-shell-script",
        "entry_point": "report.sh", "enabled": true, "parameters": {}, "tags": [], "class": "diagnostic",
        "timeout": "1m", "grace": "1s", "start_within": "1m",
        "limits": { "memory": "256MiB", "cpu": "100%", "pids": 64, "open_files": 1024 },
        "output_max": "1MiB", "noop": false, "new_privileges": false,
    }))
    .expect("a valid definition");
    ActionView { version: executions::version(), digest: executions::digest(), dev: None, action }
}

fn unknown_execution(id: &str) -> Response<Body> {
    problem(Code::UnknownExecution, &format!("there is no execution {id}"))
}

fn retry_later(code: Code, detail: &str) -> Response<Body> {
    let mut response = problem(code, detail);
    response.headers_mut().insert(RETRY_AFTER, 1.into());
    response
}

fn problem(code: Code, detail: &str) -> Response<Body> {
    let problem = Problem::new(code, detail, "sim-1");
    let status = StatusCode::from_u16(problem.status).expect("a valid status");
    with_body(status, PROBLEM_TYPE, serde_json::to_vec(&problem).expect("it serialises"))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    with_body(status, "application/json", serde_json::to_vec(value).expect("it serialises"))
}

fn with_body(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Response<Body> {
    with(status, kind, Full::new(body.into()).map_err(|never| match never {}).boxed_unsync())
}

fn with(status: StatusCode, kind: &str, body: Body) -> Response<Body> {
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(body).expect("a valid answer")
}

/// Returns the same answer with the first half of its body, after which it breaks off or stops.
async fn cut(response: Response<Body>, breaks: bool) -> Response<Body> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let half = stream::iter([Ok(Frame::data(bytes.slice(..bytes.len() / 2)))]);
    let rest = stream::once(async move {
        if !breaks {
            std::future::pending::<()>().await;
        }
        // The first half leaves before the connection is reset.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(io::Error::other("the fault of this instance"))
    });
    Response::from_parts(head, StreamBody::new(half.chain(rest)).boxed_unsync())
}

/// Returns a JSON document of 64 MiB, from one piece of memory.
fn huge() -> Response<Body> {
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    let middle = stream::iter((0..HUGE_PIECES).map(move |_| Ok(Frame::data(piece.clone()))));
    let ends = |text: &'static str| stream::iter([Ok(Frame::data(Bytes::from_static(text.as_bytes())))]);
    let all = ends("{\"id\":\"").chain(middle).chain(ends("\"}"));
    with(StatusCode::OK, "application/json", StreamBody::new(all).boxed_unsync())
}

/// Returns a body that repeats `piece` until the peer goes away.
fn endless(piece: Bytes) -> Body {
    StreamBody::new(stream::repeat_with(move || Ok(Frame::data(piece.clone())))).boxed_unsync()
}
