//! Methods for the routes of the REST interface, one each.

use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{
    AccessReview, AccessTarget, ActionView, CreateExecution, DROPPED_BYTES, Execution, Health, IDEMPOTENCY_KEY, Info,
    KillRequest, OutputChunk, PackList, PackView, Page,
};
use packs_schema::base::name::{ActionRef, ExecutionId, IdempotencyKey, PackName, Principal, RunId};
use serde_json::Value;

use super::Agent;
use super::answer::{self, Answer, AskedExecution, OpenApi};
use super::call::Call;
use super::stream::{ByteStream, Lines};
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

/// Offsets at which an output starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputFrom {
    /// Number of bytes of standard output to skip.
    pub stdout: u64,
    /// Number of bytes of standard error to skip.
    pub stderr: u64,
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
        let body = serde_json::to_vec(create).map_err(|e| self.error(Kind::Protocol(e.to_string())))?;
        let call = Call::post("/v1/executions", body).wait(wait);
        let call = match key {
            Some(key) => call.header(IDEMPOTENCY_KEY, key.as_str()).repeatable(),
            None => call,
        };
        self.json(call, AskedExecution::Create(create)).await
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
        self.json(Call::get(format!("/v1/executions/{id}")).wait(wait), AskedExecution::Id(id)).await
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

    /// Requests the last `count` bytes of a stream.
    pub async fn last(&self, id: &ExecutionId, stream: Stream, count: u64) -> Result<ByteStream, Error> {
        self.bytes(Call::get(stream_path(id, stream)).header("range", format!("bytes=-{count}"))).await
    }

    /// Requests bytes `first` to `last` of a stream, both included.
    pub async fn range(&self, id: &ExecutionId, stream: Stream, first: u64, last: u64) -> Result<ByteStream, Error> {
        self.bytes(Call::get(stream_path(id, stream)).header("range", format!("bytes={first}-{last}"))).await
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
