//! What may go wrong in a cycle, and the choice of it.

use nix::libc::{EIO, EMFILE, ENOMEM, ENOSPC};

use super::control::{Call, Rule};
use crate::Random;

/// Ten years, in seconds.
const TEN_YEARS: i64 = 10 * 365 * 86_400;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A process is killed at some moment.
    Kill(Victim),
    /// The launcher is told to stop and started again, as in an upgrade.
    Restart,
    /// A process is killed at a named point, or a call of it fails there.
    Point(Rule),
    /// The wall clock leaps for a while, and a process is killed meanwhile.
    Clock { seconds: i64, victim: Victim },
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Api,
    Launcher,
    Shim,
    All,
}

const VICTIMS: [Victim; 4] = [Victim::Api, Victim::Launcher, Victim::Shim, Victim::All];

/// Where an execution's life could be cut: each step that leaves something on disk, or takes something away.
const POINTS: [(&str, Call, &str); 26] = [
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
    ("launch", Call::Open, "kill"),
    ("launch", Call::Unlink, ""),
    ("shim", Call::Open, "started"),
    ("shim", Call::Write, "/started"),
    ("shim", Call::Open, "output.log"),
    ("shim", Call::Write, "/output.log"),
    ("shim", Call::Open, "tasks"),
    // Where a process is moved that is to be kept.
    ("shim", Call::Mkdir, ""),
    ("shim", Call::Open, "cgroup.procs"),
    ("shim", Call::Fork, ""),
    ("shim", Call::Open, "exit.new"),
    ("shim", Call::Write, "/exit.new"),
    ("shim", Call::Rename, "exit"),
    ("shim", Call::Unlink, ""),
];

/// Where a call may fail, with what.
const ERRORS: [(&str, Call, &str, i32); 17] = [
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
    ("shim", Call::Write, "/output.log", ENOSPC),
    ("shim", Call::Open, "started", ENOSPC),
    ("shim", Call::Write, "/exit.new", ENOSPC),
    ("shim", Call::Resize, "/exit.new", ENOSPC),
    ("shim", Call::Rename, "exit", EIO),
];

impl Fault {
    /// One of all that may happen.
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
