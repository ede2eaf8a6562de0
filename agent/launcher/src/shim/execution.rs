//! Supervision of one execution, from its start to the removal of all that was made for it.
//!
//! The exit record is written first and the clean-up follows, so that callers do not wait for it. The run-time directory is marked
//! before, and locked until the end: a launcher cleans up after a shim that died in between ([`crate::clean_up`]).

use packs_schema::agent::execution::{State, file};

use super::clock::Clock;
use super::equipment::{Equipment, Watches};
use super::record::{self, Outcome};
use super::usage::Baseline;
use super::watch::Watch;
use super::{Inherited, Job, child};
use crate::runtime_dir;

/// Supervises an execution. No process of it is left afterwards, except those that its action file keeps.
pub(super) fn run(job: Job, inherited: &Inherited<'_>, equipment: &mut nix::Result<Equipment>) {
    let (clock, baseline) = (Clock::start(), Baseline::now());
    let outcome = supervise(&job, inherited, &clock, equipment);
    let leftovers = outcome.leftovers.as_ref();
    let any_alive = leftovers.is_some_and(|left| left.after_subreaper > 0);
    let any_kept = leftovers.is_some_and(|left| left.kept > 0);
    let exit = record::exit(&job, &clock, &baseline, outcome);
    // A mark that cannot be made leaves the execution among those that run until it is cleaned up.
    let _ = runtime_dir::mark_ended(&job.handles.runtime);
    record::write_exit(&job, &exit);
    clean_up(&job, inherited, any_alive, any_kept);
}

fn supervise(job: &Job, inherited: &Inherited<'_>, clock: &Clock, equipment: &mut nix::Result<Equipment>) -> Outcome {
    if let Err(e) = record::write_started(job, inherited, clock) {
        return Outcome::not_started(State::Error, format!("`{}` cannot be written: {e}", file::STARTED));
    }
    let Equipment { signals, terminations, changes, buffer, stack } = match equipment {
        Ok(equipment) => equipment,
        Err(e) => {
            return Outcome::not_started(State::Error, format!("the shim cannot receive signals or map memory: {e}"));
        }
    };
    let watches = changes.as_ref().and_then(|changes| Watches::new(changes, job));
    // Drops a signal that arrived during an earlier execution.
    while let Ok(Some(_)) = terminations.read_signal() {}
    let watch = Watch::new(job, clock, [signals, terminations], watches, buffer);
    if watch.kill_requested() {
        return Outcome::not_started(State::Killed, "killed before it started".to_owned());
    }
    match child::spawn(job, inherited.ignored_signals, stack) {
        Ok(child) => watch.run(child),
        Err(reason) => Outcome::not_started(State::Error, reason),
    }
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
