//! Methods for the routes of the REST interface, one each.

use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::grants::Verb;
#[cfg(doc)]
use packs_schema::agent::rest::MAX_OUTPUT;
use packs_schema::agent::rest::{
    AccessReview, AccessTarget, ActionView, CreateExecution, DROPPED_BYTES, Execution, Health, IDEMPOTENCY_KEY, Info,
    KillRequest, OutputChunk, PackList, PackView, Page, StreamStart,
};
use packs_schema::base::name::{ActionRef, ExecutionId, IdempotencyKey, PackName, Principal, RunId};
use packs_schema::pack::action::Class;
use serde_json::Value;

use super::answer::{self, Answer, AskedExecution, OpenApi};
use super::bytes::start_bytes;
use super::call::Call;
use super::stream::{ByteStream, Lines};
use super::{Agent, MAX_EXECUTION};
use crate::error::{Error, Kind};

/// Maximum number of pages of a list that is read completely.
const MOST_PAGES: usize = 100;

/// Filter for executions; the default matches all that the caller may see.
#[derive(Debug, Clone, Default)]
pub struct ExecutionQuery {
    /// Executions of this action.
    pub action: Option<ActionRef>,
    /// Executions in this state.
    pub state: Option<State>,
    /// Executions that have ended only.
    pub ended: bool,
    /// Executions that this principal started.
    pub principal: Option<Principal>,
    /// Executions of this run.
    pub run: Option<RunId>,
    /// Executions accepted at this time or later, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Executions accepted before this time, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// Maximum number of items of a page.
    pub limit: Option<u32>,
    /// Cursor that the previous page returned.
    pub cursor: Option<String>,
}

impl ExecutionQuery {
    /// True if an execution is one of those that the filter asks for.
    pub(crate) fn matches(&self, execution: &Execution) -> bool {
        fn fits<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        fits(self.action.as_ref(), Some(&execution.action))
            && fits(self.state.as_ref(), Some(&execution.state))
            && fits(self.principal.as_ref(), Some(&execution.principal))
            && fits(self.run.as_ref(), execution.run.as_ref())
            && (!self.ended || execution.state.is_terminal())
            && self.since_ms.is_none_or(|since| execution.created_at_ms >= since)
            && self.until_ms.is_none_or(|until| execution.created_at_ms < until)
    }
}

/// Offsets at which an output starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputFrom {
    /// Number of bytes of standard output to skip.
    pub stdout: u64,
    /// Number of bytes of standard error to skip.
    pub stderr: u64,
}

/// Query of a start, or of a request for one execution. Agents of earlier versions know `wait` only, and refuse the others
/// (`bad_request`) before they read the body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitQuery {
    /// Time that the agent waits for the end before it answers.
    pub wait: Option<Duration>,
    /// Maximum number of bytes of each output stream that the answer holds once the execution has ended; at most
    /// [`MAX_OUTPUT`].
    pub output: Option<usize>,
    /// Class that the action must have to be started.
    pub class: Option<Class>,
}

impl WaitQuery {
    fn apply(&self, call: Call) -> Call {
        let mut call = call.wait(self.wait);
        if let Some(limit) = self.output {
            call = call.query("output", &limit.to_string());
        }
        if let Some(class) = self.class {
            call = call.query("class", &class.to_string());
        }
        call
    }
}

/// Part of an output stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// This number of bytes at the beginning; at least one.
    First(usize),
    /// This number of bytes at the end; at least one.
    Last(usize),
}

impl Agent {
    /// Requests `GET /v1/health`. An agent that is not ready answers as well.
    pub async fn health(&self) -> Result<Health, Error> {
        self.json(Call::get("/v1/health").any_status(), ()).await
    }

    /// Requests `GET /v1/info`.
    pub async fn info(&self) -> Result<Info, Error> {
        self.json(Call::get("/v1/info"), ()).await
    }

    /// Requests `GET /v1/packs`.
    pub async fn packs(&self) -> Result<PackList, Error> {
        self.json(Call::get("/v1/packs"), ()).await
    }

    /// Requests `GET /v1/packs/{pack}`.
    pub async fn pack(&self, name: &PackName) -> Result<PackView, Error> {
        self.json(Call::get(format!("/v1/packs/{name}")), name).await
    }

    /// Requests `POST /v1/packs/sync`: the agent polls its repository now.
    pub async fn sync(&self) -> Result<(), Error> {
        self.body(Call::post("/v1/packs/sync", Vec::new()).repeatable()).await.map(|_| ())
    }

    /// Requests `GET /v1/actions`, all pages.
    pub async fn actions(&self) -> Result<Vec<ActionView>, Error> {
        let mut actions: Vec<ActionView> = Vec::new();
        let mut call = Call::get("/v1/actions");
        for _ in 0..MOST_PAGES {
            let page: Page<ActionView> = self.json(call, ()).await?;
            actions.extend(page.items);
            match page.next {
                Some(cursor) => call = Call::get("/v1/actions").query("cursor", &cursor),
                None => {
                    let names = actions.iter().map(|view| view.action.reference());
                    answer::unique("action", names).map_err(|mismatch| self.error(mismatch.into()))?;
                    return Ok(actions);
                }
            }
        }
        Err(self.error(Kind::Protocol(format!("its actions have more than {MOST_PAGES} pages"))))
    }

    /// Requests `GET /v1/actions/{pack}.{action}`.
    pub async fn action(&self, action: &ActionRef) -> Result<ActionView, Error> {
        self.json(Call::get(format!("/v1/actions/{action}")), action).await
    }

    /// `GET /v1/access`: whether the grants of the instance let the caller do `verb` on the target, or on anything.
    pub async fn access(&self, verb: Verb, target: Option<&AccessTarget>) -> Result<AccessReview, Error> {
        let mut call = Call::get("/v1/access").query("verb", &verb.to_string());
        if let Some(target) = target {
            call = call.query("action", &target.to_string());
        }
        self.json(call, (verb, target)).await
    }

    /// Requests `POST /v1/executions`. The same key with the same body returns the same execution, so that a request
    /// whose connection broke may be sent again.
    pub async fn create(
        &self,
        create: &CreateExecution,
        key: Option<&IdempotencyKey>,
        wait: Option<Duration>,
    ) -> Result<Execution, Error> {
        self.create_with(create, key, &WaitQuery { wait, ..WaitQuery::default() }).await
    }

    /// Requests `POST /v1/executions`, as [`Agent::create`] does, with more in its query.
    pub async fn create_with(
        &self,
        create: &CreateExecution,
        key: Option<&IdempotencyKey>,
        query: &WaitQuery,
    ) -> Result<Execution, Error> {
        let body = serde_json::to_vec(create).map_err(|e| self.error(Kind::Protocol(e.to_string())))?;
        let call = query.apply(Call::post("/v1/executions", body)).limit(MAX_EXECUTION);
        let call = match key {
            Some(key) => call.header(IDEMPOTENCY_KEY, key.as_str()).repeatable(),
            None => call,
        };
        let execution = self.json(call, AskedExecution::Create(create)).await?;
        self.check_output(execution, query)
    }

    /// Requests `GET /v1/executions`: one page, newest first.
    pub async fn executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>, Error> {
        let mut call = Call::get("/v1/executions");
        for (name, value) in [
            ("action", query.action.as_ref().map(ToString::to_string)),
            ("state", query.state.map(|s| s.to_string())),
            ("ended", query.ended.then(|| "true".to_owned())),
            ("principal", query.principal.as_ref().map(ToString::to_string)),
            ("run", query.run.as_ref().map(ToString::to_string)),
            ("since_ms", query.since_ms.map(|t| t.to_string())),
            ("until_ms", query.until_ms.map(|t| t.to_string())),
            ("limit", query.limit.map(|n| n.to_string())),
            ("cursor", query.cursor.clone()),
        ] {
            if let Some(value) = value {
                call = call.query(name, &value);
            }
        }
        self.json(call, ()).await
    }

    /// Requests `GET /v1/executions/{id}`; with `wait`, answers when the execution has ended or the time is over.
    pub async fn execution(&self, id: &ExecutionId, wait: Option<Duration>) -> Result<Execution, Error> {
        self.execution_with(id, &WaitQuery { wait, ..WaitQuery::default() }).await
    }

    /// Requests `GET /v1/executions/{id}`, as [`Agent::execution`] does, with more in its query.
    pub async fn execution_with(&self, id: &ExecutionId, query: &WaitQuery) -> Result<Execution, Error> {
        let call = query.apply(Call::get(format!("/v1/executions/{id}"))).limit(MAX_EXECUTION);
        let execution = self.json(call, AskedExecution::Id(id)).await?;
        self.check_output(execution, query)
    }

    /// Fails if an answer holds output that was not asked for, or that cannot be read.
    fn check_output(&self, execution: Execution, query: &WaitQuery) -> Result<Execution, Error> {
        let fits =
            |start: &StreamStart| start_bytes(start).is_some_and(|bytes| bytes.len() <= query.output.unwrap_or(0));
        match &execution.output {
            Some(output) if query.output.is_none() || !fits(&output.stdout) || !fits(&output.stderr) => {
                Err(self.error(Kind::Protocol("the answer holds output that was not asked for".to_owned())))
            }
            _ => Ok(execution),
        }
    }

    /// Requests `GET /v1/executions/{id}/output`: both streams in the order in which they were written.
    pub async fn output(&self, id: &ExecutionId, from: OutputFrom, follow: bool) -> Result<Lines<OutputChunk>, Error> {
        let mut call = Call::get(format!("/v1/executions/{id}/output"));
        if follow {
            call = call.query("follow", "true");
        }
        for (name, offset) in [("stdout_from", from.stdout), ("stderr_from", from.stderr)] {
            if offset > 0 {
                call = call.query(name, &offset.to_string());
            }
        }
        self.lines(call).await
    }

    /// `GET /v1/executions/{id}/stdout` or `/stderr`: the bytes from `offset` on.
    pub async fn stream(
        &self,
        id: &ExecutionId,
        stream: Stream,
        offset: u64,
        follow: bool,
    ) -> Result<ByteStream, Error> {
        let mut call = Call::get(stream_path(id, stream));
        if follow {
            call = call.query("follow", "true");
        }
        match (offset, follow) {
            (0, _) => {}
            (offset, true) => call = call.query("offset", &offset.to_string()),
            (offset, false) => call = call.header("range", format!("bytes={offset}-")),
        }
        self.bytes(call).await
    }

    /// Reads a part of a stream, at most `limit` bytes, and returns true if there were more. The connection is used again if
    /// the answer was read to its end.
    pub(crate) async fn read_part(
        &self,
        id: &ExecutionId,
        stream: Stream,
        part: Part,
        limit: usize,
    ) -> Result<(Vec<u8>, bool), Error> {
        let call = Call::get(stream_path(id, stream));
        let call = match part {
            Part::Whole => call,
            Part::First(count) => call.header("range", format!("bytes=0-{}", count.saturating_sub(1))),
            Part::Last(count) => call.header("range", format!("bytes=-{count}")),
        };
        self.bounded(call, limit).await
    }

    /// Requests `POST /v1/executions/{id}/kill`: TERM, grace period, then KILL for all processes.
    pub async fn kill(&self, id: &ExecutionId, note: Option<&str>) -> Result<Execution, Error> {
        let request = KillRequest { note: note.map(str::to_owned) };
        let body = serde_json::to_vec(&request).map_err(|e| self.error(Kind::Protocol(e.to_string())))?;
        self.json(Call::post(format!("/v1/executions/{id}/kill"), body), AskedExecution::Id(id)).await
    }

    /// Requests `GET /v1/metrics` in the Prometheus text format.
    pub async fn metrics(&self) -> Result<String, Error> {
        let bytes = self.body(Call::get("/v1/metrics")).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.error(Kind::Protocol("the answer is not UTF-8".to_owned())))
    }

    /// Requests `GET /v1/openapi.json`.
    pub async fn openapi(&self) -> Result<Value, Error> {
        self.json(Call::get("/v1/openapi.json"), ()).await.map(|OpenApi(document)| document)
    }

    async fn bytes(&self, call: Call) -> Result<ByteStream, Error> {
        let (wire, response) = self.exchange(call).await?;
        let dropped = response.headers().get(DROPPED_BYTES).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        Ok(ByteStream::new(response.into_body(), wire, self, dropped.unwrap_or(0)))
    }

    async fn lines<T: for<'a> Answer<Asked<'a> = ()>>(&self, call: Call) -> Result<Lines<T>, Error> {
        self.bytes(call).await.map(Lines::new)
    }
}

fn stream_path(id: &ExecutionId, stream: Stream) -> String {
    match stream {
        Stream::Stdout => format!("/v1/executions/{id}/stdout"),
        Stream::Stderr => format!("/v1/executions/{id}/stderr"),
    }
}
