//! Executions that are made ready while the api writes their acceptance to the disk (`Prepare`): looked up, with account, run-time
//! directory and cgroups, but without a process and without a claim. The start that follows compares the request, claims the
//! execution, and gives it to a shim.
//!
//! ```text
//!  Prepare ──▶ open ──Start, the same request──▶ taken
//!               ├─ another request, PREPARED_FOR over ──▶ discarded: all of it is removed, secrets are overwritten
//!               └─ the launcher ends ──▶ removed by the next one (`clean_up`), by the name of the run-time directory
//! ```

use std::cell::RefCell;
use std::time::Instant;

use packs_schema::agent::launch::{PREPARED_FOR, Start};
use serde_json::Value;

use crate::dir::Dir;
use crate::shim::{UnclaimedJob, wipe};
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
    job: UnclaimedJob,
    /// The directory of its pack.
    home: Dir,
    until: Instant,
    /// The same by a clock that goes on while the host is suspended, in milliseconds.
    until_boot_ms: u64,
}

impl Preparations {
    /// Returns true if there is no place for another one.
    pub(crate) fn is_full(&self) -> bool {
        self.count() >= MAX
    }

    /// Adds one.
    pub(crate) fn put(&self, start: Start, job: UnclaimedJob, home: Dir) {
        let valid_ms = u64::try_from(PREPARED_FOR.as_millis()).unwrap_or(0);
        // Without that clock nothing stays valid.
        let until_boot_ms = clock::boot_ms().map_or(0, |now| now + valid_ms);
        let until = Instant::now() + PREPARED_FOR;
        self.open.borrow_mut().push(Preparation { start, job, home, until, until_boot_ms });
    }

    /// Returns the number of open ones.
    pub(crate) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Takes what was prepared for exactly this request, with the directory of its pack. Discards what was prepared for another
    /// request for the same execution, or too long ago.
    pub(crate) fn take(&self, start: &Start, runtime: &Dir) -> Option<(UnclaimedJob, Dir)> {
        let mut found = {
            let mut open = self.open.borrow_mut();
            let at = open.iter().position(|known| known.start.execution == start.execution)?;
            open.remove(at)
        };
        let is_valid = found.until > Instant::now() && clock::boot_ms().is_ok_and(|now| now < found.until_boot_ms);
        let is_same = found.start == *start;
        wipe_values(&mut found.start);
        if is_valid && is_same {
            return Some((found.job, found.home));
        }
        discard(found.job, runtime);
        None
    }

    /// Discards those that are too old.
    pub(crate) fn expire(&self, now: Instant, runtime: &Dir) {
        self.discard_if(runtime, |preparation| preparation.until <= now);
    }

    /// Discards all.
    pub(crate) fn discard_all(&self, runtime: &Dir) {
        self.discard_if(runtime, |_| true);
    }

    /// Returns when the next one becomes too old.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.open.borrow().iter().map(|preparation| preparation.until).min()
    }

    fn discard_if(&self, runtime: &Dir, is_over: impl Fn(&Preparation) -> bool) {
        let over: Vec<Preparation> =
            self.open.borrow_mut().extract_if(.., |preparation| is_over(preparation)).collect();
        for mut preparation in over {
            wipe_values(&mut preparation.start);
            discard(preparation.job, runtime);
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

/// Removes all that was made for a job that is not started. The directory last: the next launcher cleans up by it.
pub(crate) fn discard(mut job: UnclaimedJob, runtime: &Dir) {
    job.overwrite();
    job.plan.group.remove();
    job.lease = None;
    runtime_dir::remove_prepared(runtime, &job.plan.execution);
}
