//! The decisions themselves. What comes in is what is known, by value; what goes out says what is to be done. No files,
//! no clock, no waiting.

use packs_schema::agent::execution::{Exit, Spec, State};
use packs_schema::agent::launch::{Outcome, Refusal};

use super::Change;
use crate::exec::LauncherError;
use crate::exec::directory::{Evidence, Found, Lock};

/// What is to be done with an execution of before a restart.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) enum Verdict {
    /// Take over how it ended.
    Import(Box<Exit>),
    /// A shim has it.
    Running,
    /// End it in this state, for this reason.
    End(State, String),
    /// Have the launcher stop what is left of it, then see [`lost`].
    CleanUp,
    /// Queue it.
    Queue(Box<Spec>),
}

/// Where and when the agent is.
#[derive(Debug, Clone)]
pub(in crate::exec) struct Present {
    /// The boot id.
    pub(in crate::exec) boot_id: String,
    /// When the host started, in milliseconds since 1970.
    pub(in crate::exec) booted_at_ms: u64,
    /// Now, in milliseconds since 1970.
    pub(in crate::exec) now_ms: u64,
    /// Now, in milliseconds since the host started.
    pub(in crate::exec) boottime_ms: u64,
}

impl Present {
    /// How long what `spec` says may still wait for its start; by the clock that nobody sets, where the spec has it.
    pub(in crate::exec) fn left_ms(&self, spec: &Spec) -> u64 {
        let waited_ms = match spec.created_boottime_ms {
            Some(created) if spec.boot_id == self.boot_id => self.boottime_ms.saturating_sub(created),
            _ => self.now_ms.saturating_sub(spec.created_at_ms),
        };
        spec.start_within_ms.saturating_sub(waited_ms)
    }
}

/// An execution of before a restart that has not ended by its row.
///
/// ```text
///  exit there ──────────▶ import         lock held ────▶ running
///  boot id differs ─────▶ interrupted    lock free, or started there ──▶ clean up, lost
///  spec unreadable ─────▶ error          kill there ───▶ killed
///  past its deadline ───▶ expired        had secrets ──▶ error          else ──▶ queued again
/// ```
pub(in crate::exec) fn at_start(evidence: Evidence, created_at_ms: u64, present: &Present) -> Verdict {
    let ended = evidence.exit.is_there();
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
        return Verdict::End(State::Interrupted, "the host went down".to_owned());
    }
    if ended || evidence.started.is_there() || evidence.lock == Lock::Free {
        return Verdict::CleanUp;
    }
    let spec = match evidence.spec {
        Found::Good(spec) => spec,
        Found::Damaged(why) => {
            return Verdict::End(State::Error, format!("its spec cannot be read: it was not started: {why}"));
        }
        Found::Absent => {
            return Verdict::End(State::Error, "its directory is missing: it was not started".to_owned());
        }
    };
    if evidence.kill {
        return Verdict::End(State::Killed, KILLED_BEFORE.to_owned());
    }
    if present.left_ms(&spec) == 0 {
        return Verdict::End(State::Expired, EXPIRED.to_owned());
    }
    if spec.has_secrets {
        let reason = "the agent was restarted before its start, and its secret parameters are kept in memory only";
        return Verdict::End(State::Error, reason.to_owned());
    }
    Verdict::Queue(Box::new(spec))
}

/// The reason of an execution that waited too long.
pub(in crate::exec) const EXPIRED: &str = "it waited past its start deadline";
/// The reason of an execution that was killed while it waited.
pub(in crate::exec) const KILLED_BEFORE: &str = "it was killed before its start";

/// What the directory of a live execution says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) struct Look {
    /// Take this over.
    pub(in crate::exec) change: Option<Change>,
    /// Its shim has gone without a word: see to what is left.
    pub(in crate::exec) bury: bool,
}

/// The directory of an execution in `state` has something new. While the launcher has not answered its start, a lock that
/// nobody holds says nothing: the launcher makes it first, and holds it then.
pub(in crate::exec) fn look(evidence: Evidence, state: State, standing: Standing) -> Look {
    if let Found::Good(exit) = evidence.exit {
        return Look { change: Some(Change::Ended(Box::new(exit))), bury: false };
    }
    let started = if state == State::Queued { evidence.started.good() } else { None };
    Look { change: started.map(Change::Started), bury: evidence.lock == Lock::Free && standing == Standing::Handed }
}

/// What to do about a shim that seems to have gone.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) enum Burial {
    /// It did leave a word.
    Take(Box<Exit>),
    /// It lives, or is only about to come: to ask for the end would end it.
    Leave,
    /// Have the launcher stop what is left.
    CleanUp,
}

/// A second look, before anything is stopped: a lock that was free a moment ago may be one that was just being taken, or
/// that the launcher has taken back.
pub(in crate::exec) fn burial(evidence: Evidence) -> Burial {
    match (evidence.exit, evidence.lock) {
        (Found::Good(exit), _) => Burial::Take(Box::new(exit)),
        (_, Lock::Free) => Burial::CleanUp,
        (_, Lock::Absent | Lock::Held) => Burial::Leave,
    }
}

/// What became of a cleaning up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::exec) enum Cleaned {
    /// Nothing is left.
    Done,
    /// Something may be left, for this reason.
    Failed(String),
    /// Nobody was there to do it: it is left to our successor.
    Nobody,
}

/// The launcher's answer to a cleaning up; `None`: it did not come in time.
pub(in crate::exec) fn cleaned(answer: Option<Result<Outcome, LauncherError>>) -> Cleaned {
    match answer {
        Some(Ok(Outcome::Done)) => Cleaned::Done,
        Some(Ok(Outcome::Refused { message, .. })) => {
            Cleaned::Failed(format!("the launcher did not clean up after it: {message}"))
        }
        Some(Err(LauncherError::Gone)) => Cleaned::Nobody,
        Some(Err(error @ (LauncherError::TooLarge(_) | LauncherError::Socket(_)))) => {
            Cleaned::Failed(format!("nobody cleaned up after it: {error}"))
        }
        None => Cleaned::Failed("the launcher did not clean up after it in time".to_owned()),
    }
}

/// How an execution without a shim ended, once what was left of it is gone. Its exit record is looked for once more: the
/// shim may have been about to end by itself. `None`: not for us to say, or it lives after all.
pub(in crate::exec) fn lost(evidence: Evidence, cleaned: Cleaned, at_ms: u64) -> Option<Change> {
    let reason = match evidence.exit {
        Found::Good(exit) => return Some(Change::Ended(Box::new(exit))),
        Found::Damaged(why) => format!("its exit record cannot be read: {why}"),
        Found::Absent => "its shim was killed".to_owned(),
    };
    if evidence.lock == Lock::Held {
        return None;
    }
    let left = match cleaned {
        Cleaned::Done => String::new(),
        Cleaned::Failed(why) => format!("; {why}"),
        Cleaned::Nobody => return None,
    };
    Some(Change::Aborted { state: State::Lost, reason: reason + &left, at_ms })
}

/// What a launcher's answer to a start means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::exec) enum Answered {
    /// A shim has it; its directory tells the rest.
    HasShim,
    /// It has been started before: its directory says how it stands.
    LookAgain,
    /// It was not started and never will be.
    Refused(String),
    /// Not known: it may have been started or not. Our successor finds out.
    Nobody,
}

/// The launcher's answer to a start.
pub(in crate::exec) fn answered(answer: Result<Outcome, LauncherError>) -> Answered {
    match answer {
        Ok(Outcome::Done) => Answered::HasShim,
        Ok(Outcome::Refused { code: Refusal::AlreadyStarted, .. }) => Answered::LookAgain,
        Ok(Outcome::Refused { message, .. }) => Answered::Refused(message),
        Err(LauncherError::Gone) => Answered::Nobody,
        Err(error @ (LauncherError::TooLarge(_) | LauncherError::Socket(_))) => Answered::Refused(error.to_string()),
    }
}

/// How a live execution stands with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::exec) enum Standing {
    /// It waits for its start here, and nobody else has heard of it.
    Waits,
    /// The launcher was asked to start it, and has not answered.
    Asked,
    /// The launcher has answered us, or had started it for our predecessor: a shim has it, or had it.
    Handed,
    /// Its end is on the way to the history.
    Ending,
}

/// What a caller's kill does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum Kill {
    /// It ends here and now.
    AtOnce,
    /// Whoever has it is told.
    Tell,
    /// There is nothing to stop; `None` of [`Standing`] means the same.
    Ended,
}

/// A caller asks for the end.
pub(in crate::exec) fn kill(standing: Option<Standing>) -> Kill {
    match standing {
        Some(Standing::Waits) => Kill::AtOnce,
        Some(Standing::Asked | Standing::Handed) => Kill::Tell,
        Some(Standing::Ending) | None => Kill::Ended,
    }
}

/// Whether a kill may be answered with yes.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::exec) enum Told {
    /// It holds from here on.
    Yes,
    /// The launcher refused.
    Refused(String),
    /// Nobody can be told.
    No(LauncherError),
    /// The launcher knows of no shim, and a later one would not learn of it.
    Unwritten,
}

/// The end was asked for: `in_directory` when the directory says so now, or that it has ended.
pub(in crate::exec) fn told(in_directory: bool, answer: Result<Outcome, LauncherError>) -> Told {
    match answer {
        Ok(Outcome::Done) if in_directory => Told::Yes,
        Ok(Outcome::Done) => Told::Unwritten,
        // Something may be left of it, and the caller is to know.
        Ok(Outcome::Refused { message, .. }) => Told::Refused(message),
        Err(LauncherError::Gone) if in_directory => Told::Yes,
        Err(error) => Told::No(error),
    }
}

/// Whether an execution ends as expired when its start deadline passes.
pub(in crate::exec) fn expires(standing: Option<Standing>) -> bool {
    standing == Some(Standing::Waits)
}
