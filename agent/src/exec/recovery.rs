//! What becomes of the executions of before a restart. Done before the api listens; doing it twice changes nothing.
//!
//! ```text
//!  exit there ──────────▶ import         lock held ────▶ running
//!  boot id differs ─────▶ interrupted    lock free, or started there ──▶ kill what is left, lost
//!  kill there ──────────▶ killed         past its deadline ▶ expired
//!  had secrets ─────────▶ error          else ──▶ queued again
//! ```
//!
//! A row without a directory ends as `interrupted` when the host has started since, else as `error`. A directory
//! without a row was never promised to anyone and goes, unless the database is new: then it is read in.

use std::sync::Arc;

use packs_schema::name::ExecutionId;
use packs_schema::rest::Execution;
use packs_schema::run::{Exit, Spec, State};

use super::directory::{self, Evidence, Found, Lock};
use super::state::Change;
use super::{Exec, Order, RecoverError};
use crate::clock;

/// What is to be done with an execution.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Take over how it ended.
    Import(Box<Exit>),
    /// A shim has it.
    Running,
    /// End it in this state, for this reason; `true`: have what is left of it killed first.
    End(State, &'static str, bool),
    /// Queue it.
    Queue(Box<Spec>),
}

/// Where and when the agent is.
#[derive(Debug, Clone)]
pub(super) struct Present {
    /// The boot id.
    pub(super) boot_id: String,
    /// When the host started, in milliseconds since 1970.
    pub(super) booted_at_ms: u64,
    /// Now.
    pub(super) now_ms: u64,
}

/// The table above.
pub(super) fn decide(evidence: Evidence, created_at_ms: u64, present: &Present) -> Verdict {
    if let Found::Good(exit) = evidence.exit {
        return Verdict::Import(Box::new(exit));
    }
    if evidence.lock == Lock::Held {
        return Verdict::Running;
    }
    let rebooted = match (&evidence.spec, &evidence.started) {
        (_, Found::Good(started)) => started.boot_id != present.boot_id,
        (Found::Good(spec), _) => spec.boot_id != present.boot_id,
        _ => created_at_ms < present.booted_at_ms,
    };
    if rebooted {
        return Verdict::End(State::Interrupted, "the host went down", false);
    }
    if evidence.exit.is_there() {
        return Verdict::End(State::Lost, "its exit record cannot be read", true);
    }
    if evidence.started.is_there() || evidence.lock == Lock::Free {
        return Verdict::End(State::Lost, "its shim was killed", true);
    }
    let Found::Good(spec) = evidence.spec else {
        return Verdict::End(State::Error, "its directory is missing or damaged: it was not started", false);
    };
    if evidence.kill {
        return Verdict::End(State::Killed, "it was killed before its start", false);
    }
    if spec.created_at_ms.saturating_add(spec.start_within_ms) <= present.now_ms {
        return Verdict::End(State::Expired, "it waited past its start deadline", false);
    }
    if spec.has_secrets {
        let reason = "the agent was restarted before its start, and its secret parameters are kept in memory only";
        return Verdict::End(State::Error, reason, false);
    }
    Verdict::Queue(Box::new(spec))
}

/// Brings every execution of before into an honest state.
pub(super) async fn recover(exec: &Arc<Exec>) -> Result<(), RecoverError> {
    let present =
        Present { boot_id: exec.settings.boot_id.clone(), booted_at_ms: booted_at_ms(), now_ms: clock::now_ms() };
    adopt_directories(exec).await?;
    let unfinished = exec.history.unfinished().await?;
    let count = unfinished.len();
    for record in unfinished {
        one(exec, record, &present).await?;
    }
    if count > 0 {
        tracing::info!(count, "looked after the executions of before the restart");
    }
    exec.pump();
    Ok(())
}

async fn one(exec: &Arc<Exec>, record: Execution, present: &Present) -> Result<(), RecoverError> {
    let id = record.id.clone();
    let look = || directory::evidence(&exec.directory(&id));
    match decide(look(), record.created_at_ms, present) {
        Verdict::Import(exit) => exec.conclude(record, Change::Ended(exit)).await,
        Verdict::Running => exec.adopt_running(record).await,
        Verdict::End(state, reason, kill) => {
            let mut reason = reason.to_owned();
            if kill {
                let left = exec.clean_up(&id).await;
                // The shim may have been about to end by itself.
                if let Some(exit) = look().exit.good() {
                    return exec.conclude(record, Change::Ended(Box::new(exit))).await;
                }
                reason.extend(left.map(|left| format!("; {left}")));
            }
            let change = Change::Aborted { state, reason, at_ms: clock::now_ms() };
            exec.conclude(record, change).await
        }
        Verdict::Queue(spec) => exec.adopt_waiting(record, Order::start_of(*spec)).await,
    }
}

/// Directories without a row: read in when the database is new or something happened there, else removed.
async fn adopt_directories(exec: &Arc<Exec>) -> Result<(), RecoverError> {
    let path = &exec.settings.executions;
    let entries = std::fs::read_dir(path).map_err(|e| RecoverError::Directory(path.clone(), e))?;
    let mut ids: Vec<ExecutionId> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(|name| ExecutionId::new(name).ok()))
        .collect();
    ids.sort();
    for id in ids {
        if exec.history.knows(&id).await? {
            continue;
        }
        let directory = exec.directory(&id);
        let evidence = directory::evidence(&directory);
        let happened = evidence.lock != Lock::Absent || evidence.started.is_there() || evidence.exit.is_there();
        match evidence.spec {
            Found::Good(spec) if (happened || exec.history.is_fresh()) && spec.id == id => {
                tracing::warn!(execution = %id, "read in from its directory");
                let record = exec.record_of(&spec);
                let key = spec.idempotency_key.zip(spec.fingerprint);
                let key = key.map(|(key, fingerprint)| crate::history::Key { key, fingerprint });
                exec.history.insert(record, key).await?;
            }
            _ if happened => tracing::error!(execution = %id, "its directory has no readable spec; left as it is"),
            _ => {
                tracing::info!(execution = %id, "never accepted; its directory is removed");
                directory::remove(&directory);
            }
        }
    }
    Ok(())
}

/// When the host started, from `/proc/stat` (proc(5), `btime`); 0 when it does not say.
fn booted_at_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    seconds.unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::name::{ActionRef, Digest, PackVersion, Principal};
    use packs_schema::run::{FORMAT, Started, StreamTotals, Usage};

    fn id() -> ExecutionId {
        ExecutionId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa").unwrap()
    }

    fn present() -> Present {
        Present { boot_id: "this".to_owned(), booted_at_ms: 500, now_ms: 2_000 }
    }

    fn spec() -> Spec {
        Spec {
            format: FORMAT,
            id: id(),
            action: ActionRef::new("linux.a").unwrap(),
            version: PackVersion::new("1.0.0").unwrap(),
            digest: Digest::new("a".repeat(64)).unwrap(),
            dev: None,
            parameters: serde_json::Map::new(),
            has_secrets: false,
            noop: false,
            timeout_ms: None,
            principal: Principal::new("spiffe://x/ann").unwrap(),
            note: None,
            run: None,
            idempotency_key: None,
            fingerprint: None,
            traceparent: None,
            created_at_ms: 1_000,
            start_within_ms: 5_000,
            boot_id: "this".to_owned(),
        }
    }

    fn started(boot: &str) -> Found<Started> {
        Found::Good(Started {
            format: FORMAT,
            boot_id: boot.to_owned(),
            started_at_ms: 1_100,
            timeout_ms: 1,
            unenforced: Vec::new(),
        })
    }

    fn exit() -> Exit {
        Exit {
            format: FORMAT,
            id: id(),
            state: State::Succeeded,
            reason: None,
            exit_status: Some(0),
            signal: None,
            started_at_ms: 1_100,
            ended_at_ms: 1_200,
            duration_ms: 100,
            usage: Usage::default(),
            stdout: StreamTotals::default(),
            stderr: StreamTotals::default(),
            leftovers: None,
            unenforced: Vec::new(),
            result: None,
            result_error: None,
        }
    }

    fn evidence() -> Evidence {
        let (started, exit) = (Found::Absent, Found::Absent);
        Evidence { spec: Found::Good(spec()), lock: Lock::Absent, started, exit, kill: false }
    }

    #[track_caller]
    fn expect(evidence: Evidence, state: State, kill: bool) {
        match decide(evidence, 1_000, &present()) {
            Verdict::End(s, _, k) => assert_eq!((s, k), (state, kill)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_has_an_exit_record_is_imported_whatever_else_is_there() {
        for lock in [Lock::Absent, Lock::Held, Lock::Free] {
            let found = Evidence { exit: Found::Good(exit()), started: started("other"), lock, ..evidence() };
            assert_eq!(decide(found, 0, &present()), Verdict::Import(Box::new(exit())));
        }
    }

    #[test]
    fn a_held_lock_means_running() {
        let found = Evidence { lock: Lock::Held, started: started("this"), ..evidence() };
        assert_eq!(decide(found, 1_000, &present()), Verdict::Running);
        let before_started = Evidence { lock: Lock::Held, ..evidence() };
        assert_eq!(decide(before_started, 1_000, &present()), Verdict::Running);
    }

    #[test]
    fn another_boot_means_interrupted() {
        let other = || Spec { boot_id: "other".to_owned(), ..spec() };
        expect(Evidence { spec: Found::Good(other()), ..evidence() }, State::Interrupted, false);
        expect(Evidence { started: started("other"), lock: Lock::Free, ..evidence() }, State::Interrupted, false);
        let nothing = Evidence { spec: Found::Absent, ..evidence() };
        let verdict = decide(nothing, 400, &present());
        assert!(matches!(verdict, Verdict::End(State::Interrupted, _, false)), "{verdict:?}");
    }

    #[test]
    fn a_shim_that_is_gone_means_lost() {
        expect(Evidence { started: started("this"), lock: Lock::Free, ..evidence() }, State::Lost, true);
        expect(Evidence { lock: Lock::Free, ..evidence() }, State::Lost, true);
        expect(Evidence { exit: Found::Damaged(String::new()), lock: Lock::Free, ..evidence() }, State::Lost, true);
    }

    #[test]
    fn what_was_not_started_waits_again_or_says_why_not() {
        assert_eq!(decide(evidence(), 1_000, &present()), Verdict::Queue(Box::new(spec())));
        expect(Evidence { kill: true, ..evidence() }, State::Killed, false);
        let late = Spec { start_within_ms: 1_000, ..spec() };
        expect(Evidence { spec: Found::Good(late), ..evidence() }, State::Expired, false);
        let secret = Spec { has_secrets: true, ..spec() };
        expect(Evidence { spec: Found::Good(secret), ..evidence() }, State::Error, false);
        expect(Evidence { spec: Found::Damaged(String::new()), ..evidence() }, State::Error, false);
        expect(Evidence { spec: Found::Absent, ..evidence() }, State::Error, false);
    }
}
