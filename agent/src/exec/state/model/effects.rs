//! Effects of the api on the world: changes of state, slots, and the connection to the launcher.

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Outcome, Refusal};

use super::world::{Api, Ask, Connection, Ending, ExitFile, Reply, Request, World, execution, id, rules};
use super::{Change, Ownership};
use crate::exec::LauncherError;
use crate::exec::admission::Slots;
use crate::exec::state::advance;

/// Returns the running api.
pub(super) fn api(w: &mut World) -> &mut Api {
    w.api.as_mut().expect("a step of the api")
}

/// Models `Exec::apply_change`, up to the write to the history.
pub(super) fn apply_change(w: &mut World, at: usize, change: Change) {
    let by_us = matches!(change, Change::Aborted { .. });
    let Some(live) = &mut api(w).live[at] else { return };
    if live.ending.is_some() {
        return;
    }
    let mut record = execution(live.state);
    if advance(&mut record, change).is_err() {
        return;
    }
    if record.state.is_terminal() {
        live.ending = Some(Ending { state: record.state, write_exit_record: by_us });
    } else {
        live.state = record.state;
        live.unwritten = true;
    }
}

/// Models the history: a terminal row never changes.
pub(super) fn write_row(w: &mut World, at: usize, state: State) {
    match &mut w.rows[at] {
        Some(row) if !row.state.is_terminal() => row.state = state,
        Some(row) if row.state == state => {}
        Some(_) | None => w.wrong = Some("an end was shown that is not in the history"),
    }
}

pub(super) fn write_exit_record(w: &mut World, at: usize, state: State) {
    let Some(dir) = &mut w.dirs[at] else { return };
    if let ExitFile::Good(_) = dir.exit {
        w.wrong = Some("an exit record was overwritten");
    }
    dir.exit = ExitFile::Good(state);
}

/// Calls `work` with real `Slots`: one may run, two may wait.
pub(super) fn with_slots<T>(api: &mut Api, work: impl FnOnce(&mut Slots) -> T) -> T {
    let mut slots = Slots::new(1, 2);
    for at in 0..2 {
        if api.running[at] {
            slots.resume_running(&id(at), rules(), 0);
        }
    }
    for at in &api.queue {
        slots.requeue(&id(*at), rules());
    }
    let done = work(&mut slots);
    api.running = [slots.is_running(&id(0)), slots.is_running(&id(1))];
    done
}

pub(super) fn release(w: &mut World, at: usize) {
    let api = api(w);
    with_slots(api, |slots| slots.release(&id(at)));
    api.queue.retain(|waiting| *waiting != at);
    start_ready(w);
}

pub(super) fn start_ready(w: &mut World) {
    let api = api(w);
    let next = with_slots(api, |slots| slots.take_ready(0));
    for at in 0..2 {
        if next.contains(&id(at)) {
            api.queue.retain(|waiting| *waiting != at);
        }
    }
    for at in 0..2 {
        if next.contains(&id(at)) {
            launch(w, at);
        }
    }
}

pub(super) fn launch(w: &mut World, at: usize) {
    let api = api(w);
    if let Some(live) = &mut api.live[at]
        && live.ownership() == Ownership::Ours
    {
        live.start = false;
        live.asked = true;
        api.launch[at] = Ask::Unsent;
    }
}

pub(super) fn send(w: &mut World, request: Request) -> Ask {
    match &mut w.launcher {
        Some(launcher)
            if launcher.connection == Connection::Open && w.api.as_ref().is_some_and(|api| api.connection) =>
        {
            launcher.requests.push(request);
            Ask::Pending
        }
        _ => Ask::Answered(Reply::Gone),
    }
}

pub(super) fn outcome(reply: Reply) -> Result<Outcome, LauncherError> {
    let refused = |code| Ok(Outcome::Refused { code, message: String::new() });
    match reply {
        Reply::Done => Ok(Outcome::Done),
        Reply::Already => refused(Refusal::AlreadyStarted),
        Reply::Refused => refused(Refusal::Resources),
        Reply::Gone => Err(LauncherError::Gone),
    }
}
