//! Supervision of one execution, from its start to the removal of all that was made for it.
//!
//! The exit record is written first and the clean-up follows, so that callers do not wait for it. The run-time directory is marked
//! before, and locked until the end: a launcher cleans up after a shim that died in between ([`crate::clean_up`]).
//!
//! The process of a prepared execution is made before the execution is claimed, set up completely, and waits on a pipe of the
//! launcher's for a byte before it executes its program:
//!
//! ```text
//!  prepared job ─▶ process, set up ──byte──▶ executes ─▶ claim received ─▶ supervised
//!                       └─ pipe closed ─▶ ends ─┬─ claim received ─▶ made again, as for any other job
//!                                               └─ none ─▶ nothing is left
//! ```
//!
//! The shim is suspended meanwhile, as for every process that shares its memory.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use packs_schema::agent::execution::{State, file};

use super::child::{self, Blueprint, Cancelled, Child};
use super::clock::Clock;
use super::equipment::{Equipment, Watches};
use super::job::UnclaimedJob;
use super::record::{self, Outcome};
use super::transfer;
use super::usage::Baseline;
use super::watch::Watch;
use super::{Inherited, Job};
use crate::{runtime_dir, sys};

/// Supervises an execution. No process of it is left afterwards, except those that its action file keeps.
pub(super) fn run(job: Job, inherited: &Inherited<'_>, equipment: &mut nix::Result<Equipment>) {
    let (clock, baseline) = (Clock::start(), Baseline::now());
    let outcome = supervise(&job, inherited, &clock, equipment);
    end(&job, inherited, &clock, &baseline, outcome);
}

/// Makes the process of a prepared job, and supervises the execution if it is started.
pub(super) fn run_prepared(
    mut job: UnclaimedJob,
    go: OwnedFd,
    socket: &UnixStream,
    inherited: &Inherited<'_>,
    equipment: &mut nix::Result<Equipment>,
) {
    let baseline = Baseline::now();
    let child = equipment.as_mut().ok().map(|equipment| {
        equipment.drop_terminations();
        let blueprint = Blueprint {
            plan: &job.plan,
            result: &job.result,
            pack: &job.pack,
            has_own_account: job.lease.is_some(),
            ignored_signals: inherited.ignored_signals,
            go: Some(&go),
        };
        child::spawn(&blueprint, &mut equipment.stack)
    });
    drop(go);
    let received = transfer::receive_claim(socket);
    let Some(Some((claim, clock))) = received else {
        if let Some(Ok(child)) = child {
            sys::wait_for(child.pid);
        }
        job.overwrite();
        // The launcher removes what it has made for the execution. One that has died cannot, and the record of the account is not
        // found by the next one while this process has it locked.
        if let (None, Some(lease)) = (received, &job.lease) {
            lease.release(inherited.runtime);
        }
        return;
    };
    let job = job.claimed(claim);
    let outcome = match child.map(|child| child.map(Child::or_cancelled)) {
        Some(Ok(Ok(child))) => supervise_released(&job, &clock, equipment, child),
        Some(Err(reason)) => Outcome::not_started(State::Error, reason),
        Some(Ok(Err(Cancelled))) | None => {
            // The launcher may have written it before it died.
            let _ = job.handles.directory.remove_file(file::STARTED);
            supervise(&job, inherited, &clock, equipment)
        }
    };
    end(&job, inherited, &clock, &baseline, outcome);
}

/// Records the end of an execution, and removes what was made for it.
fn end(job: &Job, inherited: &Inherited<'_>, clock: &Clock, baseline: &Baseline, mut outcome: Outcome) {
    let _closed_last = outcome.output.take();
    let leftovers = outcome.leftovers.as_ref();
    let any_alive = leftovers.is_some_and(|left| left.after_subreaper > 0);
    let any_kept = leftovers.is_some_and(|left| left.kept > 0);
    let exit = record::exit(job, clock, baseline, outcome);
    // A mark that cannot be made leaves the execution among those that run until it is cleaned up.
    let _ = runtime_dir::mark_ended(&job.handles.runtime);
    record::write_exit(job, &exit);
    clean_up(job, inherited, any_alive, any_kept);
}

fn supervise(job: &Job, inherited: &Inherited<'_>, clock: &Clock, equipment: &mut nix::Result<Equipment>) -> Outcome {
    if let Err(e) = record::write_started(&job.plan, &job.handles.directory, inherited.boot_id, clock) {
        return Outcome::not_started(State::Error, format!("`{}` cannot be written: {e}", file::STARTED));
    }
    let equipment = match equipment {
        Ok(equipment) => equipment,
        Err(e) => {
            return Outcome::not_started(State::Error, format!("the shim cannot receive signals or map memory: {e}"));
        }
    };
    equipment.drop_terminations();
    let stack = &mut equipment.stack;
    let watches = equipment.changes.as_ref().and_then(|changes| Watches::new(changes, job));
    let watch = Watch::new(job, clock, [&equipment.signals, &equipment.terminations], watches, &mut equipment.buffer);
    if watch.kill_requested() {
        return Outcome::not_started(State::Killed, "killed before it started".to_owned());
    }
    let blueprint = Blueprint {
        plan: &job.plan,
        result: &job.handles.result,
        pack: &job.handles.pack,
        has_own_account: job.handles.lease.is_some(),
        ignored_signals: inherited.ignored_signals,
        go: None,
    };
    match child::spawn(&blueprint, stack) {
        Ok(child) => watch.run(child),
        Err(reason) => Outcome::not_started(State::Error, reason),
    }
}

/// Supervises an action whose program the launcher has released.
fn supervise_released(job: &Job, clock: &Clock, equipment: &mut nix::Result<Equipment>, child: Child) -> Outcome {
    let equipment = equipment.as_mut().expect("its child was made with it");
    let watches = equipment.changes.as_ref().and_then(|changes| Watches::new(changes, job));
    Watch::new(job, clock, [&equipment.signals, &equipment.terminations], watches, &mut equipment.buffer)
        .run_released(child)
}

fn clean_up(job: &Job, inherited: &Inherited<'_>, any_alive: bool, any_kept: bool) {
    job.plan.group.remove();
    job.plan.group.remove_total_if_orphaned(inherited.launcher);
    match &job.handles.lease {
        Some(lease) if any_kept && lease.is_in_use() => lease.keep(inherited.runtime),
        Some(lease) if !any_alive || !lease.is_in_use() => lease.release(inherited.runtime),
        _ => {}
    }
    runtime_dir::remove(inherited.runtime, &job.plan.execution);
}
