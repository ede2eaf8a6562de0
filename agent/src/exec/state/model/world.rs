//! World: everything that matters at one moment, small enough to be hashed and compared. There are two executions: client 0
//! submits execution 0, client 1 execution 1. The invariants of every world are checked here as well.

use packs_schema::agent::execution::{Exit, FORMAT, Spec, Started, State};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, ExecutionId};
use serde_json::json;

use super::Ownership;
use crate::exec::admission::AdmissionRules;
use crate::exec::directory::{Evidence, Lock, RecordFile};
use crate::records::record;

/// Number of times each fault may still occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    pub(super) api: u8,
    pub(super) launcher: u8,
    pub(super) shim: u8,
    pub(super) reboot: u8,
    /// The api cannot write a `kill` file.
    pub(super) disk: u8,
    /// The launcher cannot create a cgroup or process.
    pub(super) resources: u8,
}

/// How starts are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Preparing {
    /// Not at all: by an earlier launcher, or an api with much to do.
    No,
    Right,
    /// Wrong: the launcher starts what it should prepare.
    StartsAtOnce,
    /// Wrong: a process that waits executes its program when its launcher ends.
    RunsWithoutLauncher,
    /// Wrong: the shim of a released process makes another one when its launcher ends.
    RunsAgain,
    /// Wrong: the launcher does not remove what an earlier one has prepared.
    KeepsOld,
    /// Wrong: the launcher does not discard what is not started.
    KeepsOwn,
}

/// Cgroups and run-time directory of an execution that is not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Prepared {
    No,
    /// Known to the launcher.
    Open,
    /// Left by a launcher that has died.
    Left,
}

/// Client that submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    Idle,
    Asked,
    /// The connection broke; with a key it submits again.
    Lost,
    /// 202, for this execution.
    Accepted(usize),
    Refused,
}

/// Client that kills; one per execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Killer {
    Idle,
    /// The kill is accepted and being written to the history.
    Marked,
    Asked {
        written: bool,
        answer: Ask,
    },
    /// `kill` could not be written: waits for the end in the history.
    Waits,
    Yes,
    No,
}

/// Request to the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    None,
    Unsent,
    Pending,
    Answered(Reply),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Done,
    Already,
    Refused,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ExitFile {
    Absent,
    Good(State),
    Damaged,
}

/// Directory of an execution; `None` in the world after a power cut that lost all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Dir {
    pub(super) boot: u8,
    pub(super) lock: bool,
    pub(super) started: Option<u8>,
    pub(super) kill: bool,
    pub(super) exit: ExitFile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) state: State,
    pub(super) boot: u8,
}

/// Live execution in the memory of the api.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Live {
    pub(super) state: State,
    pub(super) start: bool,
    pub(super) asked: bool,
    /// True while `running` is in memory only.
    pub(super) unwritten: bool,
    pub(super) ending: Option<Ending>,
}

/// End being written; one decided by the api writes an exit record first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ending {
    pub(super) state: State,
    pub(super) write_exit_record: bool,
}

impl Live {
    pub(super) fn ownership(&self) -> Ownership {
        match (self.ending, self.start, self.asked) {
            (Some(_), ..) => Ownership::Ending,
            (None, true, _) => Ownership::Ours,
            (None, false, true) => Ownership::StartRequested,
            (None, false, false) => Ownership::HandedOver,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Acceptance {
    None,
    /// The execution has a slot or is queued, and has a directory.
    Admitted,
    /// The row is on disk.
    Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CleanUp {
    None,
    Recheck,
    Asked(Ask),
    /// The launcher had exited.
    LeftAlone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// At this execution; a clean-up may have been requested.
    Recovering(usize, Ask),
    Serving,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Api {
    /// False once its launcher has exited.
    pub(super) connection: bool,
    pub(super) phase: Phase,
    pub(super) live: [Option<Live>; 2],
    pub(super) acceptance: [Acceptance; 2],
    pub(super) running: [bool; 2],
    pub(super) queue: Vec<usize>,
    pub(super) launch: [Ask; 2],
    pub(super) clean_up: [CleanUp; 2],
}

/// Requester of a kill from the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Killer,
    CleanUp,
    Recovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Request {
    Prepare(usize),
    Start(usize),
    Kill(usize, Who),
}

/// Request that the launcher is processing, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Idle,
    /// `lock` is created, not yet held.
    Claimed(usize),
    Locked(usize),
    /// The shim of the process that waits has the claim.
    Given(usize),
    /// `started` is written; the process is released next.
    Recorded(usize),
    /// There was no exit record; the lock is checked next.
    Looking(usize, Who),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Connection {
    None,
    Open,
    /// The api has died, which the launcher has not noticed yet: earlier requests are still carried out.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Launcher {
    pub(super) connection: Connection,
    pub(super) requests: Vec<Request>,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shim {
    /// Has the claim of an execution whose process waits, and is suspended.
    Given,
    Forked,
    Started,
    /// There was no `kill`.
    Checked,
    Watching,
    Ending(State),
    Wrote,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Action {
    pub(super) starts: u8,
    pub(super) alive: bool,
    /// True if a kill was answered before the start.
    pub(super) forbidden: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) keyed: bool,
    pub(super) preparing: Preparing,
    pub(super) faults: Faults,
    pub(super) boot: u8,
    pub(super) clients: [Client; 2],
    pub(super) killers: [Killer; 2],
    pub(super) rows: [Option<Row>; 2],
    pub(super) dirs: [Option<Dir>; 2],
    pub(super) api: Option<Api>,
    pub(super) launcher: Option<Launcher>,
    pub(super) prepared: [Prepared; 2],
    /// True while a process, made by an idle shim, waits for its start.
    pub(super) waiting: [bool; 2],
    pub(super) shims: [Option<Shim>; 2],
    pub(super) actions: [Action; 2],
    /// Violation found by a step that cannot be seen from the world afterwards.
    pub(super) wrong: Option<&'static str>,
}

impl World {
    /// Returns a host that has just booted; with a key, both clients submit the same execution.
    pub(super) fn new(keyed: bool, faults: Faults) -> World {
        World {
            keyed,
            preparing: Preparing::No,
            faults,
            boot: 0,
            clients: [Client::Idle; 2],
            killers: [Killer::Idle; 2],
            rows: [None; 2],
            dirs: [None; 2],
            api: None,
            launcher: None,
            prepared: [Prepared::No; 2],
            waiting: [false; 2],
            shims: [None; 2],
            actions: [Action::default(); 2],
            wrong: None,
        }
    }

    pub(super) fn holds_lock(&self, at: usize) -> bool {
        let stages = [Stage::Locked(at), Stage::Given(at), Stage::Recorded(at)];
        self.shims[at].is_some() || self.launcher.as_ref().is_some_and(|l| stages.contains(&l.stage))
    }

    /// Returns what the api reads from the directory.
    pub(super) fn evidence(&self, at: usize) -> Evidence {
        let Some(dir) = self.dirs[at] else {
            let (spec, started, exit) = (RecordFile::Absent, RecordFile::Absent, RecordFile::Absent);
            return Evidence { spec, lock: Lock::Absent, started, exit, kill: false };
        };
        let lock = match (dir.lock, self.holds_lock(at)) {
            (false, _) => Lock::Absent,
            (true, true) => Lock::Held,
            (true, false) => Lock::Free,
        };
        let exit = match dir.exit {
            ExitFile::Absent => RecordFile::Absent,
            ExitFile::Damaged => RecordFile::Damaged("it is empty".to_owned()),
            ExitFile::Good(state) => RecordFile::Valid(exit(at, state)),
        };
        let started = dir.started.map_or(RecordFile::Absent, |boot| RecordFile::Valid(started(boot)));
        Evidence { spec: RecordFile::Valid(self.spec(at, dir.boot)), lock, started, exit, kill: dir.kill }
    }

    fn spec(&self, at: usize, boot: u8) -> Spec {
        let mut spec = SPEC.with(Clone::clone);
        spec.id = id(at);
        spec.boot_id = boot_id(boot);
        spec.created_boottime_ms = Some(0);
        spec.has_secrets = !self.keyed && at == 1;
        spec
    }

    /// Checks the invariants of every world; `before` is the preceding one.
    pub(super) fn check(&self, before: &World) -> Result<(), &'static str> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        for at in 0..2 {
            let (action, row) = (self.actions[at], self.rows[at]);
            let ended = row.is_some_and(|row| row.state.is_terminal());
            if action.starts > 1 {
                return Err("an action was started twice");
            }
            if action.starts > 0 && row.is_none() {
                return Err("an action was started before its acceptance was on disk");
            }
            if action.starts > 0 && action.forbidden {
                return Err("an action was started after a kill that had been answered before its start");
            }
            if ended && action.alive {
                return Err("an action is alive although its execution has ended");
            }
            if before.rows[at].is_some_and(|row| row.state.is_terminal()) && row != before.rows[at] {
                return Err("a terminal row was changed");
            }
            let killed = row.is_some_and(|row| row.state == State::Killed);
            if killed && self.killers[at] == Killer::Idle {
                return Err("an execution was killed without a request");
            }
        }
        let accepted = self.clients.map(|client| if let Client::Accepted(at) = client { Some(at) } else { None });
        if accepted.into_iter().flatten().any(|at| self.rows[at].is_none()) {
            return Err("an execution was accepted and has no row");
        }
        if let (true, [Some(one), Some(other)]) = (self.keyed, accepted)
            && one != other
        {
            return Err("one key belongs to two executions");
        }
        Ok(())
    }

    /// Checks the invariants of a world in which nothing happens by itself any more.
    pub(super) fn check_at_rest(&self) -> Result<(), &'static str> {
        let Some(api) = &self.api else { return Err("at rest without an api") };
        if self.rows.iter().flatten().any(|row| !row.state.is_terminal()) {
            return Err("at rest, and an execution has not ended");
        }
        if api.live.iter().any(Option::is_some) || api.running.contains(&true) || !api.queue.is_empty() {
            return Err("at rest, and a slot is taken");
        }
        if api.phase != Phase::Serving || (0..2).any(|at| self.holds_lock(at)) {
            return Err("at rest, and a lock is held");
        }
        if self.actions.iter().any(|action| action.alive) {
            return Err("at rest, and an action is alive");
        }
        if self.prepared.iter().any(|prepared| *prepared != Prepared::No) {
            return Err("at rest, and something is prepared");
        }
        if self.waiting.contains(&true) {
            return Err("at rest, and a process waits for its start");
        }
        if self.clients.contains(&Client::Asked) {
            return Err("at rest, and a client waits");
        }
        if self.dirs.iter().zip(self.rows).any(|(dir, row)| dir.is_some() && row.is_none()) {
            return Err("at rest, and a directory has no row");
        }
        Ok(())
    }
}

// Created once: there are many worlds.
thread_local! {
    static IDS: [ExecutionId; 2] =
        [0, 1].map(|at| ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2a{at}")).unwrap());
    static RULES: AdmissionRules = AdmissionRules::unrestricted(&ActionRef::new("linux.a").unwrap());
    static SPEC: Spec = record(json!({}));
    static EXIT: Exit = record(json!({}));
    static EXECUTION: Execution = record(json!({}));
}

pub(super) fn id(at: usize) -> ExecutionId {
    IDS.with(|ids| ids[at].clone())
}

pub(super) fn rules() -> AdmissionRules {
    RULES.with(Clone::clone)
}

pub(super) fn boot_id(boot: u8) -> String {
    format!("boot {boot}")
}

/// Returns a record in this state, for the real `advance`.
pub(super) fn execution(state: State) -> Execution {
    let mut execution = EXECUTION.with(Clone::clone);
    execution.state = state;
    execution
}

fn exit(at: usize, state: State) -> Exit {
    let mut exit = EXIT.with(Clone::clone);
    exit.id = id(at);
    exit.state = state;
    exit
}

fn started(boot: u8) -> Started {
    Started { format: FORMAT, boot_id: boot_id(boot), started_at_ms: 1, timeout_ms: 1, unenforced: Vec::new() }
}
