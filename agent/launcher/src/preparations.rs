//! Executions that are made ready while the api writes their acceptance to the disk (`Prepare`): looked up, with account, run-time
//! directory and cgroups, but without a claim. If a shim is idle, it has made the process as well, which runs nothing of the action
//! before the start ([`crate::shims`]). The start that follows compares the request, claims the execution, and releases the
//! process, or gives the execution to a shim.
//!
//! ```text
//!  Prepare ──▶ open ──Start, the same request──▶ taken
//!               ├─ another request, PREPARED_FOR over, its shim died ──▶ discarded: all of it is removed, secrets are overwritten
//!               └─ the launcher ends ──▶ the process ends; the rest is removed by the next one (`clean_up`), by the name of the
//!                                        run-time directory
//! ```

use std::cell::RefCell;
use std::time::Instant;

use nix::unistd::Pid;
use packs_schema::agent::launch::{PREPARED_FOR, Start};
use packs_schema::base::name::ExecutionId;
use serde_json::Value;

use crate::dir::Dir;
use crate::shim::{UnclaimedJob, wipe};
use crate::shims::{Shims, WaitingProcess};
use crate::{clock, runtime_dir};

/// Maximum number of open preparations.
const MAX: usize = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Preparations {
    open: RefCell<Vec<Preparation>>,
}

struct Preparation {
    start: Start,
    prepared: Prepared,
    until: Instant,
    /// The same by a clock that goes on while the host is suspended, in milliseconds.
    until_boot_ms: u64,
}

/// Everything that was made for an execution.
pub(crate) struct Prepared {
    /// Without what may be secret, if a process waits.
    pub(crate) job: UnclaimedJob,
    pub(crate) waiting: Option<WaitingProcess>,
    /// The directory of its pack.
    pub(crate) home: Dir,
    /// True if the run-time directory has become that of a started execution.
    is_activated: bool,
}

impl Prepared {
    /// Has an idle shim make the process, if there is one.
    pub(crate) fn new(mut job: UnclaimedJob, home: Dir, shims: &Shims) -> Prepared {
        let waiting = shims.prepare(&job);
        if waiting.is_some() {
            job.overwrite();
        }
        Prepared { job, waiting, home, is_activated: false }
    }

    /// Makes the run-time directory that of a started execution.
    pub(crate) fn activate(&mut self, runtime: &Dir) -> nix::Result<()> {
        runtime_dir::activate(runtime, &self.job.plan.execution, &mut self.job.runtime)?;
        self.is_activated = true;
        Ok(())
    }

    /// Removes all of it. The directory last: the next launcher cleans up by it.
    pub(crate) fn discard(self, runtime: &Dir, shims: &Shims) {
        if let Some(waiting) = self.waiting {
            shims.cancel(waiting);
        }
        let mut job = self.job;
        job.overwrite();
        job.plan.group.remove();
        job.lease = None;
        if self.is_activated {
            runtime_dir::remove(runtime, &job.plan.execution);
        } else {
            runtime_dir::remove_prepared(runtime, &job.plan.execution);
        }
    }
}

impl Preparations {
    /// Returns true if there is no place for another one.
    pub(crate) fn is_full(&self) -> bool {
        self.count() >= MAX
    }

    /// Adds one.
    pub(crate) fn put(&self, start: Start, prepared: Prepared) {
        let valid_ms = u64::try_from(PREPARED_FOR.as_millis()).unwrap_or(0);
        // Without that clock nothing stays valid.
        let until_boot_ms = clock::boot_ms().map_or(0, |now| now + valid_ms);
        let until = Instant::now() + PREPARED_FOR;
        self.open.borrow_mut().push(Preparation { start, prepared, until, until_boot_ms });
    }

    /// Returns the number of open ones.
    pub(crate) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Takes what was prepared for exactly this request. Discards what was prepared for another request for the same execution, or too
    /// long ago.
    pub(crate) fn take(&self, start: &Start, runtime: &Dir, shims: &Shims) -> Option<Prepared> {
        let mut found = {
            let mut open = self.open.borrow_mut();
            let at = open.iter().position(|known| known.start.execution == start.execution)?;
            open.remove(at)
        };
        let is_valid = found.until > Instant::now() && clock::boot_ms().is_ok_and(|now| now < found.until_boot_ms);
        let is_same = found.start == *start;
        wipe_values(&mut found.start);
        if is_valid && is_same {
            return Some(found.prepared);
        }
        found.prepared.discard(runtime, shims);
        None
    }

    /// Discards those that are too old.
    pub(crate) fn expire(&self, now: Instant, runtime: &Dir, shims: &Shims) {
        self.discard_if(runtime, shims, |preparation| preparation.until <= now);
    }

    /// Discards the one whose process a shim has made that has ended.
    pub(crate) fn discard_of(&self, shim: Pid, runtime: &Dir, shims: &Shims) {
        let is_its = |preparation: &Preparation| {
            preparation.prepared.waiting.as_ref().is_some_and(|waiting| waiting.is_of(shim))
        };
        self.discard_if(runtime, shims, is_its);
    }

    /// Discards that of an execution.
    pub(crate) fn discard_execution(&self, execution: &ExecutionId, runtime: &Dir, shims: &Shims) {
        self.discard_if(runtime, shims, |preparation| preparation.start.execution == *execution);
    }

    /// Discards all.
    pub(crate) fn discard_all(&self, runtime: &Dir, shims: &Shims) {
        self.discard_if(runtime, shims, |_| true);
    }

    /// Returns when the next one becomes too old.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.open.borrow().iter().map(|preparation| preparation.until).min()
    }

    fn discard_if(&self, runtime: &Dir, shims: &Shims, is_over: impl Fn(&Preparation) -> bool) {
        let over: Vec<Preparation> =
            self.open.borrow_mut().extract_if(.., |preparation| is_over(preparation)).collect();
        for mut preparation in over {
            wipe_values(&mut preparation.start);
            preparation.prepared.discard(runtime, shims);
        }
    }
}

/// Overwrites the texts of the parameters, which may be secret.
fn wipe_values(start: &mut Start) {
    start.parameters.values_mut().for_each(wipe_value);
}

fn wipe_value(value: &mut Value) {
    match value {
        Value::String(text) => wipe(&mut std::mem::take(text).into_bytes()),
        Value::Array(items) => items.iter_mut().for_each(wipe_value),
        Value::Object(properties) => properties.values_mut().for_each(wipe_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
