//! The decisions. Arguments are facts, by value; results say what to do. No files, no clock, no waiting.

use packs_schema::agent::execution::{Exit, Spec, Started, State};
use packs_schema::agent::launch::{Outcome, Refusal};

use super::Change;
use crate::exec::LauncherError;
use crate::exec::directory::{Evidence, Lock, RecordFile};

/// Reason of an execution that waited too long.
pub(in crate::exec) const EXPIRED_REASON: &str = "it waited past its start deadline";
/// Reason of an execution that was killed while it waited.
pub(in crate::exec) const KILLED_BEFORE_START: &str = "it was killed before its start";

/// Action to take for an execution from before a restart.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) enum RecoveryAction {
    /// Take over this exit record.
    Import(Box<Exit>),
    /// Watch it: a shim has it.
    Resume,
    /// End it in this state, for this reason.
    End(State, String),
    /// Have the launcher stop what is left of it, then apply [`end_lost`].
    CleanUp,
    /// Queue it again.
    Requeue(Box<Spec>),
}

/// Boot and time of the host at the moment of a decision.
#[derive(Debug, Clone)]
pub(in crate::exec) struct HostTime {
    /// Id of this boot.
    pub(in crate::exec) boot_id: String,
    /// Time of the boot, in milliseconds since 1970.
    pub(in crate::exec) booted_at_ms: u64,
    /// Wall clock, in milliseconds since 1970.
    pub(in crate::exec) now_ms: u64,
    /// `CLOCK_BOOTTIME`, in milliseconds since the boot.
    pub(in crate::exec) boottime_ms: u64,
}

impl HostTime {
    /// Returns how long an execution may still wait for its start. Uses `CLOCK_BOOTTIME` where the spec has it, else (across
    /// boots, and for specs of an older api) the wall clock.
    pub(in crate::exec) fn remaining_ms(&self, spec: &Spec) -> u64 {
        let waited_ms = match spec.created_boottime_ms {
            Some(created) if spec.boot_id == self.boot_id => self.boottime_ms.saturating_sub(created),
            _ => self.now_ms.saturating_sub(spec.created_at_ms),
        };
        spec.start_within_ms.saturating_sub(waited_ms)
    }
}

/// Decides what becomes of an execution from before a restart that has not ended according to its row.
///
/// ```text
///  exit exists ─────────▶ import         lock held ────▶ resume
///  boot id differs ─────▶ interrupted    lock free, or started exists ─▶ clean up, lost
///  spec unreadable ─────▶ error          kill exists ──▶ killed
///  past its deadline ───▶ expired        had secrets ──▶ error          else ──▶ queue again
/// ```
pub(in crate::exec) fn decide_recovery(evidence: Evidence, created_at_ms: u64, host: &HostTime) -> RecoveryAction {
    let has_exit_file = evidence.exit.exists();
    if let RecordFile::Valid(exit) = evidence.exit {
        return RecoveryAction::Import(Box::new(exit));
    }
    if evidence.lock == Lock::Held {
        return RecoveryAction::Resume;
    }
    let rebooted = match (&evidence.spec, &evidence.started) {
        (_, RecordFile::Valid(started)) => started.boot_id != host.boot_id,
        (RecordFile::Valid(spec), _) => spec.boot_id != host.boot_id,
        _ => created_at_ms < host.booted_at_ms,
    };
    if rebooted {
        return RecoveryAction::End(State::Interrupted, "the host went down".to_owned());
    }
    if has_exit_file || evidence.started.exists() || evidence.lock == Lock::Free {
        return RecoveryAction::CleanUp;
    }
    let spec = match evidence.spec {
        RecordFile::Valid(spec) => spec,
        RecordFile::Damaged(why) => {
            return RecoveryAction::End(State::Error, format!("not started: its spec cannot be read: {why}"));
        }
        RecordFile::Absent => {
            return RecoveryAction::End(State::Error, "not started: its directory is missing".to_owned());
        }
    };
    if evidence.kill {
        return RecoveryAction::End(State::Killed, KILLED_BEFORE_START.to_owned());
    }
    if host.remaining_ms(&spec) == 0 {
        return RecoveryAction::End(State::Expired, EXPIRED_REASON.to_owned());
    }
    if spec.has_secrets {
        let reason = "the agent was restarted before its start, and its secret parameters are kept in memory only";
        return RecoveryAction::End(State::Error, reason.to_owned());
    }
    RecoveryAction::Requeue(Box::new(spec))
}

/// Conclusion from the directory of a live execution.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) struct Inspection {
    /// Change to apply.
    pub(in crate::exec) change: Option<Change>,
    /// True if the shim seems to have died without an exit record; see [`recheck_lost`].
    pub(in crate::exec) shim_lost: bool,
}

/// Inspects the directory of an execution in `state` after a change. While the launcher has not answered the start, a free lock
/// means nothing: the launcher creates the file first, and locks it then.
pub(in crate::exec) fn inspect(evidence: Evidence, state: State, ownership: Ownership) -> Inspection {
    if let Some(change) = inspect_exit(evidence.exit) {
        return Inspection { change: Some(change), shim_lost: false };
    }
    Inspection {
        change: inspect_started(evidence.started, state),
        shim_lost: evidence.lock == Lock::Free && ownership == Ownership::HandedOver,
    }
}

/// Inspects the exit record alone: it decides, whatever else is in the directory.
pub(in crate::exec) fn inspect_exit(exit: RecordFile<Exit>) -> Option<Change> {
    exit.valid().map(|exit| Change::Ended(Box::new(exit)))
}

/// Inspects the record of the start alone: as if the directory had been inspected before the end, which has an event of its own.
pub(in crate::exec) fn inspect_started(started: RecordFile<Started>, state: State) -> Option<Change> {
    if state == State::Queued { started.valid().map(Change::Started) } else { None }
}

/// Result of the second check of an execution whose shim seems to have died.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) enum LostCheck {
    /// There is an exit record after all.
    TakeOver(Box<Exit>),
    /// The shim is alive, or has not started yet: a clean-up would stop it.
    Leave,
    /// Have the launcher stop what is left.
    CleanUp,
}

/// Checks a second time before anything is stopped: a lock that was free a moment ago may have been in the middle of being taken
/// by the launcher, or of being removed again.
pub(in crate::exec) fn recheck_lost(evidence: Evidence) -> LostCheck {
    match (evidence.exit, evidence.lock) {
        (RecordFile::Valid(exit), _) => LostCheck::TakeOver(Box::new(exit)),
        (_, Lock::Free) => LostCheck::CleanUp,
        (_, Lock::Absent | Lock::Held) => LostCheck::Leave,
    }
}

/// Outcome of a clean-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::exec) enum CleanUpOutcome {
    /// Nothing of the execution is left.
    Done,
    /// Processes may be left, for this reason.
    Failed(String),
    /// The launcher has exited: the successor of this process cleans up.
    LauncherGone,
}

/// Interprets the launcher's answer to a clean-up; `None`: there was none in time.
pub(in crate::exec) fn interpret_clean_up(answer: Option<Result<Outcome, LauncherError>>) -> CleanUpOutcome {
    match answer {
        Some(Ok(Outcome::Done)) => CleanUpOutcome::Done,
        Some(Ok(Outcome::Refused { message, .. })) => {
            CleanUpOutcome::Failed(format!("the launcher did not clean up after it: {message}"))
        }
        Some(Err(LauncherError::Gone)) => CleanUpOutcome::LauncherGone,
        Some(Err(error @ (LauncherError::TooLarge(_) | LauncherError::Socket(_)))) => {
            CleanUpOutcome::Failed(format!("the launcher could not be asked to clean up after it: {error}"))
        }
        None => CleanUpOutcome::Failed("the launcher did not clean up after it in time".to_owned()),
    }
}

/// Decides the end of an execution without a shim, after the clean-up. Checks for an exit record once more: the shim may have
/// been about to write it. `None`: this process must not decide, or the shim is alive after all.
pub(in crate::exec) fn end_lost(evidence: Evidence, outcome: CleanUpOutcome, at_ms: u64) -> Option<Change> {
    let reason = match evidence.exit {
        RecordFile::Valid(exit) => return Some(Change::Ended(Box::new(exit))),
        RecordFile::Damaged(why) => format!("its exit record cannot be read: {why}"),
        RecordFile::Absent => "its shim was killed".to_owned(),
    };
    if evidence.lock == Lock::Held {
        return None;
    }
    let suffix = match outcome {
        CleanUpOutcome::Done => String::new(),
        CleanUpOutcome::Failed(why) => format!("; {why}"),
        CleanUpOutcome::LauncherGone => return None,
    };
    Some(Change::Aborted { state: State::Lost, reason: reason + &suffix, at_ms })
}

/// Outcome of a start request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::exec) enum StartOutcome {
    /// A shim has it; its directory has the rest.
    Started,
    /// Started before; its directory has its state.
    AlreadyStarted,
    /// Not started, and never will be.
    Refused(String),
    /// Not known whether it was started: the launcher has exited, and the successor of this process finds out.
    Unknown,
}

/// Interprets the launcher's answer to a start request.
pub(in crate::exec) fn interpret_start(answer: Result<Outcome, LauncherError>) -> StartOutcome {
    match answer {
        Ok(Outcome::Done) => StartOutcome::Started,
        Ok(Outcome::Refused { code: Refusal::AlreadyStarted, .. }) => StartOutcome::AlreadyStarted,
        Ok(Outcome::Refused { message, .. }) => StartOutcome::Refused(message),
        Err(LauncherError::Gone) => StartOutcome::Unknown,
        Err(error @ (LauncherError::TooLarge(_) | LauncherError::Socket(_))) => {
            StartOutcome::Refused(error.to_string())
        }
    }
}

/// Process that may decide about a live execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::exec) enum Ownership {
    /// This process: the execution waits here, and the launcher has not been asked to start it.
    Ours,
    /// The launcher was asked to start it and has not answered.
    StartRequested,
    /// The launcher has answered, or had started it for our predecessor: a shim has it, or had it.
    HandedOver,
    /// Its end is being written to the history.
    Ending,
}

/// Step to take for a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum KillStep {
    /// End it here.
    EndNow,
    /// Record the request in its directory and ask the launcher.
    Forward,
    /// Nothing: it has ended.
    AlreadyEnded,
}

/// Decides what a kill does; `None`: the execution is not live.
pub(in crate::exec) fn decide_kill(ownership: Option<Ownership>) -> KillStep {
    match ownership {
        Some(Ownership::Ours) => KillStep::EndNow,
        Some(Ownership::StartRequested | Ownership::HandedOver) => KillStep::Forward,
        Some(Ownership::Ending) | None => KillStep::AlreadyEnded,
    }
}

/// Outcome of a forwarded kill.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) enum KillOutcome {
    /// The kill is recorded and survives a crash.
    Recorded,
    /// The launcher refused.
    Refused(String),
    /// The launcher could not be asked.
    Unreachable(LauncherError),
    /// The launcher knows of no shim, and a shim that starts later would not learn of the kill.
    NotRecorded,
}

/// Interprets the launcher's answer to a kill; `is_recorded`: the directory has the request, or an exit record.
pub(in crate::exec) fn interpret_kill(is_recorded: bool, answer: Result<Outcome, LauncherError>) -> KillOutcome {
    match answer {
        Ok(Outcome::Done) if is_recorded => KillOutcome::Recorded,
        Ok(Outcome::Done) => KillOutcome::NotRecorded,
        // Processes may be left, and the caller must know.
        Ok(Outcome::Refused { message, .. }) => KillOutcome::Refused(message),
        Err(LauncherError::Gone) if is_recorded => KillOutcome::Recorded,
        Err(error) => KillOutcome::Unreachable(error),
    }
}

/// True if an execution ends as expired when its start deadline passes.
pub(in crate::exec) fn may_expire(ownership: Option<Ownership>) -> bool {
    ownership == Some(Ownership::Ours)
}
