//! Kinds of faults, and the choice of one for each cycle.

use nix::libc::{EIO, EMFILE, ENOMEM, ENOSPC};

use super::control::{Call, Rule};
use crate::Random;

/// Ten years, in seconds.
const TEN_YEARS: i64 = 10 * 365 * 86_400;

/// Fault of a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Kill a process at a random moment.
    Kill(Victim),
    /// Stop and restart the launcher, as in an upgrade.
    Restart,
    /// Kill a process at a named point, or fail its call there.
    Point(Rule),
    /// Move the wall clock for a while, and kill a process meanwhile.
    Clock { seconds: i64, victim: Victim },
}

/// Process to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Api,
    Launcher,
    Shim,
    All,
}

const VICTIMS: [Victim; 4] = [Victim::Api, Victim::Launcher, Victim::Shim, Victim::All];

/// Points of an execution's life at which a process is killed: each step that creates or removes something on disk.
const POINTS: [(&str, Call, &str); 29] = [
    ("api", Call::Mkdir, ""),
    ("api", Call::Open, "/spec"),
    ("api", Call::Write, "/spec"),
    ("api", Call::Write, "history.db-wal"),
    ("api", Call::Fsync, "history.db-wal"),
    ("api", Call::Open, "/kill"),
    ("api", Call::Rename, "/exit"),
    ("launch", Call::Open, "lock"),
    ("launch", Call::Mkdir, ""),
    ("launch", Call::Open, "result"),
    ("launch", Call::Write, "memory.limit_in_bytes"),
    ("launch", Call::Fork, ""),
    // Of a prepared execution, whose process waits: claimed, and given to its shim.
    ("launch", Call::Rename, ""),
    ("launch", Call::Open, "started"),
    ("launch", Call::Write, "/started"),
    ("launch", Call::Open, "kill"),
    ("launch", Call::Unlink, ""),
    ("shim", Call::Open, "started"),
    ("shim", Call::Write, "/started"),
    ("shim", Call::Open, "output.log"),
    ("shim", Call::Write, "/output.log"),
    ("shim", Call::Open, "tasks"),
    // Move of a process that is to be kept.
    ("shim", Call::Mkdir, ""),
    ("shim", Call::Open, "cgroup.procs"),
    ("shim", Call::Fork, ""),
    ("shim", Call::Open, "exit.new"),
    ("shim", Call::Write, "/exit.new"),
    ("shim", Call::Rename, "exit"),
    ("shim", Call::Unlink, ""),
];

/// Calls that may fail, with their error.
const ERRORS: [(&str, Call, &str, i32); 18] = [
    ("api", Call::Mkdir, "", ENOSPC),
    ("api", Call::Open, "/spec", EMFILE),
    ("api", Call::Open, "/spec", ENOSPC),
    ("api", Call::Write, "/spec", ENOSPC),
    ("api", Call::Write, "/spec", EIO),
    ("api", Call::Write, "history.db-wal", ENOSPC),
    ("api", Call::Write, "history.db-wal", EIO),
    ("api", Call::Fsync, "history.db-wal", EIO),
    ("api", Call::Accept, "", EMFILE),
    ("launch", Call::Open, "lock", ENOSPC),
    ("launch", Call::Mkdir, "", ENOMEM),
    ("launch", Call::Fork, "", ENOMEM),
    ("launch", Call::Open, "started", ENOSPC),
    ("shim", Call::Write, "/output.log", ENOSPC),
    ("shim", Call::Open, "started", ENOSPC),
    ("shim", Call::Write, "/exit.new", ENOSPC),
    ("shim", Call::Resize, "/exit.new", ENOSPC),
    ("shim", Call::Rename, "exit", EIO),
];

impl Fault {
    /// Chooses a fault.
    pub(super) fn choose(random: &mut Random) -> Fault {
        match random.below(10) {
            0..=2 => Fault::Kill(*random.one_of(&VICTIMS)),
            3 => Fault::Restart,
            4..=6 => {
                let (role, call, name) = *random.one_of(&POINTS);
                let after = random.below(2) == 1;
                Fault::Point(Rule { role, call, name, after, error: 0, skip: few(random, 4), times: 1 })
            }
            7 | 8 => {
                let (role, call, name, error) = *random.one_of(&ERRORS);
                let (skip, times) = (few(random, 4), 1 + few(random, 3));
                Fault::Point(Rule { role, call, name, after: false, error, skip, times })
            }
            _ => {
                let seconds = if random.below(2) == 0 { TEN_YEARS } else { -TEN_YEARS };
                Fault::Clock { seconds, victim: *random.one_of(&VICTIMS) }
            }
        }
    }
}

fn few(random: &mut Random, bound: u64) -> i32 {
    i32::try_from(random.below(bound)).unwrap_or_default()
}
