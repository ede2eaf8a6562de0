//! Actions that run while faults happen, and the output each must have if it succeeded.
//!
//! Each action first appends its execution id to a ledger, which reveals a second start.

use std::path::Path;
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, Problem};
use packs_schema::base::name::ExecutionId;
use serde_json::json;

use super::handle::ApiHandle;
use crate::http::Call;
use crate::{PackSource, Random};

/// Lines that `lines` writes to each stream.
const LINES: u32 = 40;
/// Number of blocks that `flood` writes.
const BLOCKS: u32 = 24;
/// Time during which a request is retried.
const TRIES: u32 = 3000;

/// Kind of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Writes some lines to both streams, with a pause.
    Lines,
    /// Writes several hundred kilobytes.
    Flood,
    /// Runs one at a time, in the order of acceptance.
    Alone,
    /// Never ends by itself, ignores TERM and starts daemons; is killed.
    Killed,
    /// Same, but ends by its time-out.
    TimedOut,
    /// Leaves a service running, as its signed action file allows.
    Kept,
}

const KINDS: [Kind; 8] =
    [Kind::Lines, Kind::Lines, Kind::Flood, Kind::Alone, Kind::Alone, Kind::Killed, Kind::TimedOut, Kind::Kept];

/// Execution to be requested.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) kind: Kind,
    /// Idempotency key, also a word in the command line of every process it leaves behind.
    pub(super) key: String,
    /// Delay between acceptance and the request to kill it.
    kill_after: Duration,
}

impl Order {
    pub(super) fn choose(random: &mut Random, cycle: u64, number: u64) -> Order {
        // A duration for `sleep` that no other process uses, also not one left by
        // another run with the same seed.
        let key = format!("86400.{:07}{cycle:07}{number:02}", std::process::id());
        Order { kind: *random.one_of(&KINDS), key, kill_after: Duration::from_millis(random.below(200)) }
    }

    /// Submits the order until it is accepted, then asks for its kill if its kind is killed.
    pub(super) async fn place(&self, api: &ApiHandle) -> Result<ExecutionId, String> {
        let action = match self.kind {
            Kind::Lines => "lines",
            Kind::Flood => "flood",
            Kind::Alone => "alone",
            Kind::Killed | Kind::TimedOut => "hang",
            Kind::Kept => "serve",
        };
        let mut body = json!({ "action": format!("fault.{action}") });
        if let Kind::Killed | Kind::TimedOut | Kind::Kept = self.kind {
            body["parameters"] = json!({ "mark": self.key });
        }
        if self.kind == Kind::TimedOut {
            body["timeout_ms"] = json!(200);
        }
        let post = Call::post("/v1/executions", body.to_string()).header("idempotency-key", &self.key);
        let accepted: Execution = persist(api, post).await?.ok_or("there is no such action")?;
        if self.kind == Kind::Killed {
            tokio::time::sleep(self.kill_after).await;
            let kill = Call::post(&format!("/v1/executions/{}/kill", accepted.id), "");
            // The execution may have ended otherwise by now.
            let _: Option<Execution> = persist(api, kill).await?;
        }
        Ok(accepted.id)
    }

    /// Returns why this end is not allowed for the order; `wrote` is the kept part of its output.
    pub(super) fn judge(&self, end: &Execution, ran: usize, wrote: &[Vec<u8>; 2]) -> Result<(), String> {
        let fits = match end.state {
            State::Succeeded => !matches!(self.kind, Kind::Killed | Kind::TimedOut),
            State::Killed => self.kind == Kind::Killed,
            State::TimedOut => self.kind == Kind::TimedOut,
            State::Lost | State::Error => true,
            _ => false,
        };
        if !fits {
            return Err(format!("{:?} ended as {}", self.kind, end.state));
        }
        let most = usize::from(end.state != State::Error);
        let least = usize::from(end.state == State::Succeeded);
        if ran < least || ran > most {
            return Err(format!("ended as {} and was started {ran} times", end.state));
        }
        if end.state != State::Succeeded {
            return Ok(());
        }
        let kept = end.leftovers.as_ref().map_or(0, |left| left.kept);
        if kept != u32::from(self.kind == Kind::Kept) {
            return Err(format!("{:?} succeeded, and its record says that {kept} processes were kept", self.kind));
        }
        let expected = self.output(&end.id);
        let totals = [end.stdout.unwrap_or_default(), end.stderr.unwrap_or_default()];
        for ((expected, totals), wrote) in expected.iter().zip(totals).zip(wrote) {
            if totals.written_bytes != expected.len() as u64 {
                return Err(format!("wrote {} bytes of {}", totals.written_bytes, expected.len()));
            }
            if totals.dropped_bytes == 0 && wrote != expected {
                return Err(format!("{} bytes read back differ from {} written", wrote.len(), expected.len()));
            }
        }
        Ok(())
    }

    fn output(&self, id: &ExecutionId) -> [Vec<u8>; 2] {
        let mut streams = [String::new(), String::new()];
        for (name, stream) in ["out", "err"].into_iter().zip(&mut streams) {
            match self.kind {
                Kind::Lines => *stream = (0..LINES).map(|n| format!("{name} {n} {id}\n")).collect(),
                Kind::Flood if name == "out" => {
                    *stream = format!("{id} 0123456789abcdef\n").repeat(256 * BLOCKS as usize)
                }
                _ => {}
            }
        }
        streams.map(String::into_bytes)
    }
}

/// Retries while the agent does not answer or is busy; `None` when there is nothing left to do.
async fn persist(api: &ApiHandle, call: Call) -> Result<Option<Execution>, String> {
    for _ in 0..TRIES {
        match api.ask(call.clone()).await {
            Ok(answer) if answer.status.is_success() => return Ok(Some(answer.json())),
            Ok(answer) if matches!(answer.status.as_u16(), 503 | 507) => {}
            Ok(answer) => {
                let problem: Problem = answer.problem();
                return if problem.code == Code::AlreadyEnded { Ok(None) } else { Err(format!("{problem:?}")) };
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("not accepted in time".to_owned())
}

/// Returns the pack with these actions; each writes to `ledger`.
pub(super) fn pack(ledger: &Path) -> PackSource {
    let begin = format!("#!/bin/sh\necho \"begin $BOLT_EXECUTION_ID\" >> {}\n", ledger.display());
    let end = format!("echo \"end $BOLT_EXECUTION_ID\" >> {}\n", ledger.display());
    let lines = format!(
        "n=0\nwhile [ $n -lt {LINES} ]; do echo \"out $n $BOLT_EXECUTION_ID\"; echo \"err $n $BOLT_EXECUTION_ID\" >&2; n=$((n+1)); \
         if [ $n = 20 ]; then sleep 0.1; fi; done\n"
    );
    let flood = format!(
        "line=\"$BOLT_EXECUTION_ID 0123456789abcdef\n\"\nblock=\nn=0\nwhile [ $n -lt 256 ]; do block=\"$block$line\"; n=$((n+1)); done\n\
         n=0\nwhile [ $n -lt {BLOCKS} ]; do printf %s \"$block\"; n=$((n+1)); done\n"
    );
    let hang = "trap '' TERM\nsetsid sleep \"$BOLT_PARAM_MARK\" &\n( setsid sleep \"$BOLT_PARAM_MARK\" & )\n\
                while :; do sleep \"$BOLT_PARAM_MARK\"; done\n";
    let serve = "setsid sleep \"$BOLT_PARAM_MARK\" </dev/null >/dev/null 2>&1 &\n";
    let quick = "bolt: {class: diagnostic, timeout: 2m}";
    let mark = "parameters: {mark: {type: string, pattern: '^[0-9.]+$', required: true}}\n\
                bolt: {class: diagnostic, timeout: 10m, grace: 50ms}";
    let alone = "bolt: {class: remediation, timeout: 2m, concurrency: {max: 1, group: alone}}";
    PackSource::new("fault", "1.0.0")
        .action("lines", quick, &format!("{begin}{lines}"))
        .action("flood", quick, &format!("{begin}{flood}"))
        .action("hang", mark, &format!("{begin}{hang}"))
        .action("serve", &mark.replace("grace: 50ms", "grace: 50ms, leftovers: keep"), &format!("{begin}{serve}"))
        .action("alone", alone, &format!("{begin}sleep 0.05\n{end}"))
}
