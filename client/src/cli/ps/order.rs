//! The order of listed executions.

use std::cmp::Reverse;
use std::time::Duration;

use clap::ValueEnum;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;

/// Sort key of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Key {
    /// When it was accepted, the newest first (default).
    Accepted,
    /// When it started; executions that have not started come first.
    Started,
    /// When it ended; executions that have not ended come first.
    Ended,
    /// How long it ran, or has been running.
    Duration,
    /// Instance id.
    Instance,
    /// Action.
    Action,
    /// State, in the order of an execution's life.
    State,
    /// Caller.
    Caller,
}

/// Sorts by `key`; within that, the newest first.
pub(super) fn sort(executions: &mut [Execution], key: Key, now_ms: u64) {
    executions.sort_by(|a, b| (b.created_at_ms, &b.id).cmp(&(a.created_at_ms, &a.id)));
    match key {
        Key::Accepted => {}
        Key::Started => executions.sort_by_key(|e| Reverse(e.started_at_ms.unwrap_or(u64::MAX))),
        Key::Ended => executions.sort_by_key(|e| Reverse(e.ended_at_ms.unwrap_or(u64::MAX))),
        Key::Duration => executions.sort_by_key(|e| Reverse(duration(e, now_ms))),
        Key::Instance => executions.sort_by(|a, b| a.instance.cmp(&b.instance)),
        Key::Action => executions.sort_by(|a, b| a.action.cmp(&b.action)),
        Key::State => executions.sort_by_key(|e| State::ALL.iter().position(|state| *state == e.state)),
        Key::Caller => executions.sort_by(|a, b| a.principal.cmp(&b.principal)),
    }
}

/// Returns how long an execution ran, or has been running by this host's clock; `None` if it has not started.
pub(super) fn duration(execution: &Execution, now_ms: u64) -> Option<Duration> {
    let so_far = || execution.started_at_ms.filter(|_| execution.state == State::Running);
    let ms = execution.duration_ms.or_else(|| so_far().map(|at| now_ms.saturating_sub(at)));
    ms.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_sorts_and_the_newest_comes_first_within_it() {
        let execution = |n: u64, instance: &str, state: &str, started: Option<u64>, took: Option<u64>| -> Execution {
            crate::records::record(serde_json::json!({
                "id": format!("01932c07-1f4e-7c61-b4b0-{n:012x}"), "instance": instance, "state": state,
                "created_at_ms": n, "started_at_ms": started, "duration_ms": took,
            }))
        };
        let mut list = vec![
            execution(1, "i-2", "succeeded", Some(100), Some(7_000)),
            execution(2, "i-1", "running", Some(4_000), None),
            execution(3, "i-2", "queued", None, None),
            execution(4, "i-1", "failed", Some(300), Some(10)),
        ];
        for (key, wanted) in [
            (Key::Accepted, [4, 3, 2, 1]),
            (Key::Started, [3, 2, 4, 1]),
            // The running one has been at it for six seconds.
            (Key::Duration, [1, 2, 4, 3]),
            (Key::Instance, [4, 2, 3, 1]),
            (Key::State, [3, 2, 1, 4]),
            (Key::Action, [4, 3, 2, 1]),
        ] {
            sort(&mut list, key, 10_000);
            let order: Vec<u64> = list.iter().map(|e| e.created_at_ms).collect();
            assert_eq!(order, wanted, "{key:?}");
        }
    }
}
