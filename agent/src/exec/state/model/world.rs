//! A world: everything that matters at one moment, small enough to be compared and counted. Two places for executions:
//! client 0 asks for execution 0, client 1 for execution 1. What must hold in every world is here as well.

use packs_schema::agent::execution::{Exit, FORMAT, Spec, Started, State};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, ExecutionId};
use serde_json::json;

use super::Standing;
use crate::exec::admission::Claim;
use crate::exec::directory::{Evidence, Found, Lock};

/// How often each fault may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    pub(super) api: u8,
    pub(super) launcher: u8,
    pub(super) shim: u8,
    pub(super) reboot: u8,
    /// The api cannot write a `kill` file.
    pub(super) disk: u8,
    /// The launcher can make no cgroup or process.
    pub(super) room: u8,
}

/// A client that submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    Idle,
    Asked,
    /// The connection broke; with a key it asks again.
    Lost,
    /// 202, for this execution.
    Accepted(usize),
    Refused,
}

/// A client that kills, one for each execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Killer {
    Idle,
    /// Taken note of; the history is being told.
    Marked,
    Asked {
        written: bool,
        answer: Ask,
    },
    /// Not written: waits for the end in the history.
    Waits,
    Yes,
    No,
}

/// A question to the launcher.
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

/// An execution's directory; without `spec` after a power cut that took all of it.
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

/// What the api holds of an execution that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Live {
    pub(super) state: State,
    pub(super) start: bool,
    pub(super) asked: bool,
    pub(super) ending: Option<Ending>,
}

/// An end on its way: by us, an exit record is left first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ending {
    pub(super) state: State,
    pub(super) leave_exit: bool,
}

impl Live {
    pub(super) fn standing(&self) -> Standing {
        match (self.ending, self.start, self.asked) {
            (Some(_), ..) => Standing::Ending,
            (None, true, _) => Standing::Waits,
            (None, false, true) => Standing::Asked,
            (None, false, false) => Standing::Handed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Taking {
    None,
    /// It has a place and a directory.
    Placed,
    /// Its row is on disk.
    Written,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bury {
    None,
    Look,
    Asked(Ask),
    /// Nobody was there.
    LeftAlone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// At this execution, having asked for its cleaning up or not.
    Recovering(usize, Ask),
    Serving,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Api {
    /// False: its launcher has gone.
    pub(super) line: bool,
    pub(super) phase: Phase,
    pub(super) live: [Option<Live>; 2],
    pub(super) taking: [Taking; 2],
    pub(super) running: [bool; 2],
    pub(super) queue: Vec<usize>,
    pub(super) launch: [Ask; 2],
    pub(super) bury: [Bury; 2],
}

/// Who asked the launcher for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Killer,
    Bury,
    Recovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Request {
    Start(usize),
    Kill(usize, Who),
}

/// What the launcher is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Idle,
    /// `lock` is made, not yet held.
    Claimed(usize),
    Locked(usize),
    /// No exit record was there; the lock comes next.
    Looking(usize, Who),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Line {
    None,
    Open,
    /// The api has died, and the launcher has not seen it yet: what it asked before is still done.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Launcher {
    pub(super) line: Line,
    pub(super) requests: Vec<Request>,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shim {
    Born,
    Started,
    /// No `kill` was there.
    Checked,
    Watching,
    Ending(State),
    Wrote,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Action {
    pub(super) starts: u8,
    pub(super) alive: bool,
    /// A kill was answered before the start.
    pub(super) forbidden: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) keyed: bool,
    pub(super) faults: Faults,
    pub(super) boot: u8,
    pub(super) clients: [Client; 2],
    pub(super) killers: [Killer; 2],
    pub(super) rows: [Option<Row>; 2],
    pub(super) dirs: [Option<Dir>; 2],
    pub(super) api: Option<Api>,
    pub(super) launcher: Option<Launcher>,
    pub(super) shims: [Option<Shim>; 2],
    pub(super) actions: [Action; 2],
    /// What is wrong, when a step saw something that no look at the world would.
    pub(super) wrong: Option<&'static str>,
}

impl World {
    /// A host that has just started; with a key, both clients mean the same.
    pub(super) fn new(keyed: bool, faults: Faults) -> World {
        World {
            keyed,
            faults,
            boot: 0,
            clients: [Client::Idle; 2],
            killers: [Killer::Idle; 2],
            rows: [None; 2],
            dirs: [None; 2],
            api: None,
            launcher: None,
            shims: [None; 2],
            actions: [Action::default(); 2],
            wrong: None,
        }
    }

    pub(super) fn holds_lock(&self, at: usize) -> bool {
        self.shims[at].is_some() || self.launcher.as_ref().is_some_and(|l| l.stage == Stage::Locked(at))
    }

    /// What the api sees in the directory.
    pub(super) fn evidence(&self, at: usize) -> Evidence {
        let Some(dir) = self.dirs[at] else {
            let (spec, started, exit) = (Found::Absent, Found::Absent, Found::Absent);
            return Evidence { spec, lock: Lock::Absent, started, exit, kill: false };
        };
        let lock = match (dir.lock, self.holds_lock(at)) {
            (false, _) => Lock::Absent,
            (true, true) => Lock::Held,
            (true, false) => Lock::Free,
        };
        let exit = match dir.exit {
            ExitFile::Absent => Found::Absent,
            ExitFile::Damaged => Found::Damaged("it is empty".to_owned()),
            ExitFile::Good(state) => Found::Good(exit(at, state)),
        };
        let started = dir.started.map_or(Found::Absent, |boot| Found::Good(started(boot)));
        Evidence { spec: Found::Good(self.spec(at, dir.boot)), lock, started, exit, kill: dir.kill }
    }

    fn spec(&self, at: usize, boot: u8) -> Spec {
        let mut spec = SPEC.with(Clone::clone);
        spec.id = id(at);
        spec.boot_id = boot_id(boot);
        spec.created_boottime_ms = Some(0);
        spec.has_secrets = !self.keyed && at == 1;
        spec
    }

    /// What is wrong with this world, whatever comes next. `before` is the one it came from.
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
            if action.starts > 0 && action.forbidden {
                return Err("an action was started after a kill that had been answered before its start");
            }
            if ended && action.alive {
                return Err("an action lives on although its execution has ended");
            }
            if before.rows[at].is_some_and(|row| row.state.is_terminal()) && row != before.rows[at] {
                return Err("a terminal row was changed");
            }
            let killed = row.is_some_and(|row| row.state == State::Killed);
            if killed && self.killers[at] == Killer::Idle {
                return Err("an execution was killed without being asked to");
            }
        }
        let accepted = self.clients.map(|client| if let Client::Accepted(at) = client { Some(at) } else { None });
        if accepted.into_iter().flatten().any(|at| self.rows[at].is_none()) {
            return Err("an execution was accepted and has no row");
        }
        if let (true, [Some(one), Some(other)]) = (self.keyed, accepted)
            && one != other
        {
            return Err("one key stands for two executions");
        }
        Ok(())
    }

    /// What is wrong with a world in which nothing goes on by itself.
    pub(super) fn check_at_rest(&self) -> Result<(), &'static str> {
        let Some(api) = &self.api else { return Err("at rest without an api") };
        if self.rows.iter().flatten().any(|row| !row.state.is_terminal()) {
            return Err("at rest, and an execution has not ended");
        }
        if api.live.iter().any(Option::is_some) || api.running.contains(&true) || !api.queue.is_empty() {
            return Err("at rest, and a place is taken");
        }
        if api.phase != Phase::Serving || (0..2).any(|at| self.holds_lock(at)) {
            return Err("at rest, and a lock is held");
        }
        if self.actions.iter().any(|action| action.alive) {
            return Err("at rest, and an action lives on");
        }
        if self.clients.contains(&Client::Asked) {
            return Err("at rest, and a client waits");
        }
        if self.dirs.iter().zip(self.rows).any(|(dir, row)| dir.is_some() && row.is_none()) {
            return Err("at rest, and a directory belongs to nobody");
        }
        Ok(())
    }
}

// Made once: worlds are many.
thread_local! {
    static IDS: [ExecutionId; 2] =
        [0, 1].map(|at| ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2a{at}")).unwrap());
    static CLAIM: Claim = Claim::bare(&ActionRef::new("linux.a").unwrap());
    static SPEC: Spec = serde_json::from_value(json!({
        "format": FORMAT, "id": id(0), "action": "linux.a", "version": "1.0.0", "digest": "a".repeat(64),
        "parameters": {}, "has_secrets": false, "noop": false, "principal": "spiffe://x/ann", "created_at_ms": 0,
        "start_within_ms": 5_000, "boot_id": "",
    }))
    .unwrap();
    static EXIT: Exit = serde_json::from_value(json!({
        "format": FORMAT, "id": id(0), "state": "succeeded", "started_at_ms": 5, "ended_at_ms": 9, "duration_ms": 4,
        "usage": {"user_us": 1, "system_us": 2}, "stdout": {"written_bytes": 0, "dropped_bytes": 0},
        "stderr": {"written_bytes": 0, "dropped_bytes": 0}, "unenforced": [],
    }))
    .unwrap();
    static EXECUTION: Execution = serde_json::from_value(json!({
        "id": id(0), "instance": "i-1", "action": "linux.a", "version": "1.0.0", "digest": "a".repeat(64),
        "state": "queued", "parameters": {}, "noop": false, "principal": "spiffe://x/ann", "created_at_ms": 0,
    }))
    .unwrap();
}

pub(super) fn id(at: usize) -> ExecutionId {
    IDS.with(|ids| ids[at].clone())
}

pub(super) fn claim() -> Claim {
    CLAIM.with(Clone::clone)
}

pub(super) fn boot_id(boot: u8) -> String {
    format!("boot {boot}")
}

/// A record in this state, for the real `advance`.
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
