//! Applying a change to an execution's record. The only place that changes `Execution::state`; [`State::may_become`] defines the
//! allowed transitions.

use packs_schema::agent::execution::{Exit, FORMAT, Started, State, StreamTotals, Usage};
use packs_schema::agent::rest::Execution;

/// Change of an execution.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) enum Change {
    /// A shim has it.
    Started(Started),
    /// There is an exit record.
    Ended(Box<Exit>),
    /// The api ends it, without an exit record of a shim.
    Aborted { state: State, reason: String, at_ms: u64 },
}

/// Error returned when the state does not allow a change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an execution that is {from} cannot become {to}")]
pub(in crate::exec) struct NotAllowed {
    from: State,
    to: State,
}

/// Applies a change; returns the states that the execution went through, with their times.
pub(in crate::exec) fn advance(record: &mut Execution, change: Change) -> Result<Vec<(State, u64)>, NotAllowed> {
    let mut through = Vec::new();
    match change {
        Change::Started(started) => {
            step(record, State::Running, started.started_at_ms, &mut through)?;
            record.started_at_ms = Some(started.started_at_ms);
            record.unenforced = started.unenforced;
        }
        Change::Ended(exit) => {
            let exit = *exit;
            if !exit.state.is_terminal() {
                return Err(NotAllowed { from: record.state, to: exit.state });
            }
            if record.state == State::Queued && !record.state.may_become(exit.state) {
                step(record, State::Running, exit.started_at_ms, &mut through)?;
            }
            step(record, exit.state, exit.ended_at_ms, &mut through)?;
            record.reason = exit.reason;
            // Without a process there is neither an exit status nor a duration.
            let began = exit.exit_status.is_some() || exit.signal.is_some() || exit.duration_ms > 0;
            record.started_at_ms = began.then_some(exit.started_at_ms);
            record.ended_at_ms = Some(exit.ended_at_ms);
            record.duration_ms = began.then_some(exit.duration_ms);
            record.exit_status = exit.exit_status;
            record.signal = exit.signal;
            record.usage = Some(exit.usage);
            record.stdout = Some(exit.stdout);
            record.stderr = Some(exit.stderr);
            record.leftovers = exit.leftovers;
            record.unenforced = exit.unenforced;
            record.result = exit.result;
            record.result_error = exit.result_error;
        }
        Change::Aborted { state, reason, at_ms } => {
            step(record, state, at_ms, &mut through)?;
            record.reason = Some(reason);
            record.ended_at_ms = Some(at_ms);
        }
    }
    Ok(through)
}

/// Makes the exit record of an execution that ended without a shim.
pub(in crate::exec) fn to_exit_record(record: &Execution) -> Exit {
    let ended_at_ms = record.ended_at_ms.unwrap_or(record.created_at_ms);
    let started_at_ms = record.started_at_ms.unwrap_or(ended_at_ms);
    Exit {
        format: FORMAT,
        id: record.id.clone(),
        state: record.state,
        reason: record.reason.clone(),
        exit_status: None,
        signal: None,
        started_at_ms,
        ended_at_ms,
        duration_ms: ended_at_ms.saturating_sub(started_at_ms),
        usage: Usage::default(),
        stdout: StreamTotals::default(),
        stderr: StreamTotals::default(),
        leftovers: None,
        unenforced: record.unenforced.clone(),
        result: None,
        result_error: None,
    }
}

fn step(record: &mut Execution, to: State, at_ms: u64, through: &mut Vec<(State, u64)>) -> Result<(), NotAllowed> {
    if !record.state.may_become(to) {
        return Err(NotAllowed { from: record.state, to });
    }
    record.state = to;
    through.push((to, at_ms));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::record;
    use serde_json::json;

    fn queued() -> Execution {
        record(json!({}))
    }

    fn exit(state: State) -> Change {
        Change::Ended(Box::new(record(
            json!({ "state": state, "started_at_ms": 5, "ended_at_ms": 9, "duration_ms": 4 }),
        )))
    }

    #[test]
    fn an_end_before_the_start_was_seen_passes_through_running() {
        let mut seen = queued();
        let through = advance(&mut seen, exit(State::Succeeded)).unwrap();
        assert_eq!(through, [(State::Running, 5), (State::Succeeded, 9)]);
        assert_eq!((seen.state, seen.started_at_ms, seen.ended_at_ms), (State::Succeeded, Some(5), Some(9)));
    }

    #[test]
    fn a_terminal_state_never_changes() {
        let mut seen = queued();
        advance(&mut seen, exit(State::Failed)).unwrap();
        let before = seen.clone();
        assert!(advance(&mut seen, exit(State::Succeeded)).is_err());
        let abort = Change::Aborted { state: State::Lost, reason: String::new(), at_ms: 10 };
        assert!(advance(&mut seen, abort).is_err());
        assert_eq!(seen, before);
    }

    #[test]
    fn an_execution_that_never_started_has_no_start_time() {
        let mut seen = queued();
        let aborted = Change::Aborted { state: State::Error, reason: String::new(), at_ms: 7 };
        advance(&mut seen, aborted).unwrap();
        assert_eq!((seen.started_at_ms, seen.ended_at_ms), (None, Some(7)));
        // The same when the history is lost and it is imported from its directory.
        let mut again = queued();
        advance(&mut again, Change::Ended(Box::new(to_exit_record(&seen)))).unwrap();
        assert_eq!((again.started_at_ms, again.duration_ms, again.ended_at_ms), (None, None, Some(7)));
    }

    #[test]
    fn an_exit_record_without_a_terminal_state_is_refused() {
        let mut seen = queued();
        assert!(advance(&mut seen, exit(State::Running)).is_err());
        assert_eq!(seen, queued());
    }
}
