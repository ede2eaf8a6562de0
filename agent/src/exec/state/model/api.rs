//! The steps of the api and of its clients, after `agent/src/exec/*.rs`: what happens between two points of waiting is one
//! step. Decides nothing: the decisions, `advance` and the `Board` are the real ones.

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Outcome, Refusal};

use super::explore::{By, Step};
use super::host::end_api;
use super::world::{
    Api, Ask, Bury, Client, Dir, Ending, ExitFile, Killer, Line, Live, Phase, Reply, Request, Row, Taking, Who, World,
    boot_id, claim, execution, id,
};
use super::{Answered, Burial, Change, Decisions, Kill, Present, Told, Verdict};
use crate::exec::LauncherError;
use crate::exec::admission::Board;
use crate::exec::state::advance;

/// How long an execution of the model has waited: not long, or past its start deadline.
const WAITED_MS: [u64; 2] = [1_000, 6_000];

pub(super) fn steps(world: &World, d: &Decisions, out: &mut Vec<Step>) {
    let Some(api) = &world.api else { return };
    let mut step = |by: By, what: &'static str, at: usize, change: &dyn Fn(&mut World)| {
        let mut to = world.clone();
        change(&mut to);
        out.push(Step { by, what, at, to });
    };
    match api.phase {
        Phase::Recovering(at, ask) => recovering(world, d, (at, ask), &mut step),
        Phase::Serving => {
            for at in 0..2 {
                let again = world.clients[at] == Client::Lost && world.keyed;
                let slot = world.keyed || (world.dirs[at].is_none() && world.rows[at].is_none());
                if (world.clients[at] == Client::Idle || again) && slot && api.taking[at] == Taking::None {
                    step(By::Choice, "a client asks; it gets a place and a directory", at, &|w| place(w, at));
                }
                if world.killers[at] == Killer::Idle && world.rows[at].is_some() {
                    asks_to_kill(world, d, at, &mut step);
                }
            }
        }
    }
    for at in 0..2 {
        match api.taking[at] {
            Taking::None => {}
            Taking::Placed => step(By::Itself, "the row is committed", at, &|w| commit_row(w, at)),
            Taking::Written => step(By::Itself, "it is looked after, and the 202 is sent", at, &|w| accept(w, at)),
        }
        killing(world, d, at, &mut step);
        asked(api, d, at, &mut step);
        if let Some(live) = api.live[at] {
            living(world, d, at, live, &mut step);
        }
    }
}

type Add<'a> = dyn FnMut(By, &'static str, usize, &dyn Fn(&mut World)) + 'a;

fn api(w: &mut World) -> &mut Api {
    w.api.as_mut().expect("a step of the api")
}

// Recovery.

fn recovering(world: &World, d: &Decisions, (at, ask): (usize, Ask), step: &mut Add<'_>) {
    if at == 2 {
        return step(By::Itself, "recovery is done", 0, &|w| {
            api(w).phase = Phase::Serving;
            pump(w);
        });
    }
    let Some(row) = world.rows[at].filter(|row| !row.state.is_terminal()) else {
        return step(By::Itself, "recovery passes over", at, &|w| api(w).phase = Phase::Recovering(at + 1, Ask::None));
    };
    match ask {
        Ask::None => {
            for boottime_ms in WAITED_MS {
                let booted_at_ms = u64::from(world.boot) * 10_000;
                let created_at_ms = u64::from(row.boot) * 10_000 + 1;
                let boot_id = boot_id(world.boot);
                let present = Present { boot_id, booted_at_ms, now_ms: booted_at_ms + boottime_ms, boottime_ms };
                let verdict = (d.at_start)(world.evidence(at), created_at_ms, &present);
                step(By::Itself, "recovery decides", at, &|w| carry_out(w, at, verdict.clone()));
            }
        }
        Ask::Answered(reply) => step(By::Itself, "recovery hears that it is cleaned up", at, &|w| match (d.lost)(
            w.evidence(at),
            (d.cleaned)(Some(outcome(reply))),
            9,
        ) {
            Some(change) => conclude(w, at, change),
            None => end_api(w),
        }),
        Ask::Unsent | Ask::Pending => {}
    }
}

fn carry_out(w: &mut World, at: usize, verdict: Verdict) {
    match verdict {
        Verdict::Import(exit) => conclude(w, at, Change::Ended(exit)),
        Verdict::End(state, reason) => conclude(w, at, Change::Aborted { state, reason, at_ms: 9 }),
        Verdict::CleanUp => {
            let ask = send(w, Request::Kill(at, Who::Recovery));
            api(w).phase = Phase::Recovering(at, ask);
        }
        Verdict::Running | Verdict::Queue(_) => {
            let start = verdict != Verdict::Running;
            let state = w.rows[at].map_or(State::Queued, |row| row.state);
            let api = api(w);
            api.live[at] = Some(Live { state, start, asked: false, ending: None });
            on_board(api, |board| {
                if start {
                    board.adopt_waiting(&id(at), claim());
                } else {
                    board.adopt_running(&id(at), claim(), 0);
                }
            });
            if start {
                api.queue.push(at);
            }
            api.phase = Phase::Recovering(at + 1, Ask::None);
        }
    }
}

/// `Exec::conclude`.
fn conclude(w: &mut World, at: usize, change: Change) {
    let by_us = matches!(change, Change::Aborted { .. });
    let mut record = execution(w.rows[at].map_or(State::Queued, |row| row.state));
    if advance(&mut record, change).is_ok() {
        if by_us {
            leave_exit(w, at, record.state);
        }
        write_row(w, at, record.state);
    }
    api(w).phase = Phase::Recovering(at + 1, Ask::None);
}

// Acceptance.

fn place(w: &mut World, at: usize) {
    let known = w.rows.iter().position(Option::is_some).filter(|_| w.keyed);
    if let Some(known) = known {
        w.clients[at] = Client::Accepted(known);
        return;
    }
    let waits = on_board(api(w), |board| board.admit(&id(at), claim(), 0).map(|_| !board.is_running(&id(at))));
    let Ok(waits) = waits else {
        w.clients[at] = Client::Refused;
        return;
    };
    if waits {
        api(w).queue.push(at);
    }
    api(w).taking[at] = Taking::Placed;
    w.dirs[at] = Some(Dir { boot: w.boot, lock: false, started: None, kill: false, exit: ExitFile::Absent });
    w.clients[at] = Client::Asked;
}

fn commit_row(w: &mut World, at: usize) {
    let known = w.rows.iter().position(Option::is_some).filter(|_| w.keyed);
    match known {
        Some(known) => {
            w.dirs[at] = None;
            w.clients[at] = Client::Accepted(known);
            api(w).taking[at] = Taking::None;
            release(w, at);
        }
        None => {
            w.rows[at] = Some(Row { state: State::Queued, boot: w.boot });
            api(w).taking[at] = Taking::Written;
        }
    }
}

fn accept(w: &mut World, at: usize) {
    w.clients[at] = Client::Accepted(at);
    let api = api(w);
    api.taking[at] = Taking::None;
    api.live[at] = Some(Live { state: State::Queued, start: true, asked: false, ending: None });
    if api.running[at] {
        launch(w, at);
    }
}

// A kill.

fn asks_to_kill(world: &World, d: &Decisions, at: usize, step: &mut Add<'_>) {
    let standing = world.api.as_ref().and_then(|api| api.live[at]).map(|live| live.standing());
    match (d.kill)(standing) {
        Kill::Ended => step(By::Choice, "a kill finds it ended", at, &|w| w.killers[at] = Killer::No),
        Kill::Tell => step(By::Choice, "a kill is taken note of", at, &|w| w.killers[at] = Killer::Marked),
        Kill::AtOnce => {
            let end = |w: &mut World| {
                if let Some(live) = &mut api(w).live[at] {
                    live.start = false;
                }
                settle(w, at, Change::Aborted { state: State::Killed, reason: String::new(), at_ms: 9 });
            };
            step(By::Choice, "a kill ends what waits, and is answered", at, &|w| {
                w.killers[at] = Killer::Marked;
                write_kill(w, at);
                end(w);
                answer_kill(w, at);
            });
            if world.faults.disk > 0 {
                step(By::Fault, "a kill ends what waits, BUT CANNOT BE WRITTEN", at, &|w| {
                    w.faults.disk -= 1;
                    w.killers[at] = Killer::Waits;
                    end(w);
                });
            }
        }
    }
}

fn killing(world: &World, d: &Decisions, at: usize, step: &mut Add<'_>) {
    let ask = |w: &mut World, written: bool| {
        let answer = send(w, Request::Kill(at, Who::Killer));
        w.killers[at] = Killer::Asked { written, answer };
    };
    match world.killers[at] {
        Killer::Marked => {
            step(By::Itself, "`kill` is written and the launcher asked", at, &|w| {
                write_kill(w, at);
                ask(w, true);
            });
            if world.faults.disk > 0 {
                step(By::Fault, "`kill` CANNOT BE WRITTEN; the launcher is asked", at, &|w| {
                    w.faults.disk -= 1;
                    ask(w, false);
                });
            }
        }
        Killer::Asked { written, answer: Ask::Answered(reply) } => {
            let there = world.dirs[at].is_some_and(|dir| dir.kill || dir.exit != ExitFile::Absent);
            let told = (d.told)(written || there, outcome(reply));
            step(By::Itself, "the kill is answered", at, &|w| match told {
                Told::Yes => answer_kill(w, at),
                Told::Refused(_) | Told::No(_) | Told::Unwritten => w.killers[at] = Killer::No,
            });
        }
        Killer::Waits if world.api.as_ref().is_some_and(|api| api.live[at].is_none()) => {
            step(By::Itself, "the kill is answered, as its end is written", at, &|w| answer_kill(w, at));
        }
        Killer::Idle | Killer::Asked { .. } | Killer::Waits | Killer::Yes | Killer::No => {}
    }
}

fn write_kill(w: &mut World, at: usize) {
    if let Some(dir) = &mut w.dirs[at] {
        dir.kill = true;
    }
}

fn answer_kill(w: &mut World, at: usize) {
    w.killers[at] = Killer::Yes;
    if w.dirs[at].is_none_or(|dir| dir.started.is_none()) {
        w.actions[at].forbidden = true;
    }
}

// What is on its way.

fn asked(api_now: &Api, d: &Decisions, at: usize, step: &mut Add<'_>) {
    match api_now.launch[at] {
        Ask::None | Ask::Pending => {}
        Ask::Unsent => step(By::Itself, "the launcher is asked to start it", at, &|w| {
            api(w).launch[at] = send(w, Request::Start(at));
        }),
        Ask::Answered(reply) => step(By::Itself, "the launcher's answer is heard", at, &|w| {
            api(w).launch[at] = Ask::None;
            let answer = (d.answered)(outcome(reply));
            if let Some(live) = &mut api(w).live[at] {
                live.asked = answer == Answered::Nobody;
            }
            if let Answered::Refused(reason) = answer {
                settle(w, at, Change::Aborted { state: State::Error, reason, at_ms: 9 });
            }
        }),
    }
    match api_now.bury[at] {
        Bury::None | Bury::LeftAlone | Bury::Asked(Ask::None | Ask::Unsent | Ask::Pending) => {}
        Bury::Look => step(By::Itself, "a second look at a shim that has gone", at, &|w| {
            api(w).bury[at] = Bury::None;
            match (d.burial)(w.evidence(at)) {
                Burial::Leave => {}
                Burial::Take(exit) => settle(w, at, Change::Ended(exit)),
                Burial::CleanUp => {
                    let ask = send(w, Request::Kill(at, Who::Bury));
                    api(w).bury[at] = Bury::Asked(ask);
                }
            }
        }),
        Bury::Asked(Ask::Answered(reply)) => step(By::Itself, "what was left is cleaned up", at, &|w| {
            api(w).bury[at] = Bury::None;
            match (d.lost)(w.evidence(at), (d.cleaned)(Some(outcome(reply))), 9) {
                Some(change) => settle(w, at, change),
                None => api(w).bury[at] = Bury::LeftAlone,
            }
        }),
    }
}

fn living(world: &World, d: &Decisions, at: usize, live: Live, step: &mut Add<'_>) {
    if let Some(ending) = live.ending {
        return step(By::Itself, "an end of it is written", at, &|w| {
            if ending.leave_exit {
                leave_exit(w, at, ending.state);
                if let Some(live) = &mut api(w).live[at] {
                    live.ending = Some(Ending { leave_exit: false, ..ending });
                }
            } else {
                write_row(w, at, ending.state);
                api(w).live[at] = None;
                release(w, at);
            }
        });
    }
    if (d.expires)(Some(live.standing())) {
        step(By::Choice, "its start deadline passes", at, &|w| {
            if let Some(live) = &mut api(w).live[at] {
                live.start = false;
            }
            settle(w, at, Change::Aborted { state: State::Expired, reason: String::new(), at_ms: 9 });
        });
    }
    let seen = (d.look)(world.evidence(at), live.state, live.standing());
    let bury = seen.bury && world.api.as_ref().is_some_and(|api| api.bury[at] == Bury::None);
    if seen.change.is_some() || bury {
        step(By::Itself, "its directory is looked at", at, &|w| {
            if let Some(change) = seen.change.clone() {
                settle(w, at, change);
            }
            if bury {
                api(w).bury[at] = Bury::Look;
            }
        });
    }
}

/// `Exec::settle`, up to where the history is written.
fn settle(w: &mut World, at: usize, change: Change) {
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
        live.ending = Some(Ending { state: record.state, leave_exit: by_us });
    } else {
        live.state = record.state;
        write_row(w, at, record.state);
    }
}

/// What the history does: a row that has ended stays as it is.
fn write_row(w: &mut World, at: usize, state: State) {
    match &mut w.rows[at] {
        Some(row) if !row.state.is_terminal() => row.state = state,
        Some(row) if row.state == state => {}
        Some(_) | None => w.wrong = Some("an end was shown that is not in the history"),
    }
}

fn leave_exit(w: &mut World, at: usize, state: State) {
    let Some(dir) = &mut w.dirs[at] else { return };
    if let ExitFile::Good(_) = dir.exit {
        w.wrong = Some("an exit record was written over");
    }
    dir.exit = ExitFile::Good(state);
}

// Places, and the line to the launcher.

/// Does something with the real board: one may run, two may wait.
fn on_board<T>(api: &mut Api, work: impl FnOnce(&mut Board) -> T) -> T {
    let mut board = Board::new(1, 2);
    for at in 0..2 {
        if api.running[at] {
            board.adopt_running(&id(at), claim(), 0);
        }
    }
    for at in &api.queue {
        board.adopt_waiting(&id(*at), claim());
    }
    let done = work(&mut board);
    api.running = [board.is_running(&id(0)), board.is_running(&id(1))];
    done
}

fn release(w: &mut World, at: usize) {
    let api = api(w);
    on_board(api, |board| board.release(&id(at)));
    api.queue.retain(|waiting| *waiting != at);
    pump(w);
}

fn pump(w: &mut World) {
    let api = api(w);
    let next = on_board(api, |board| board.next(0));
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

fn launch(w: &mut World, at: usize) {
    let api = api(w);
    if let Some(live) = &mut api.live[at]
        && live.standing() == super::Standing::Waits
    {
        live.start = false;
        live.asked = true;
        api.launch[at] = Ask::Unsent;
    }
}

fn send(w: &mut World, request: Request) -> Ask {
    match &mut w.launcher {
        Some(launcher) if launcher.line == Line::Open && w.api.as_ref().is_some_and(|api| api.line) => {
            launcher.requests.push(request);
            Ask::Pending
        }
        _ => Ask::Answered(Reply::Gone),
    }
}

fn outcome(reply: Reply) -> Result<Outcome, LauncherError> {
    let refused = |code| Ok(Outcome::Refused { code, message: String::new() });
    match reply {
        Reply::Done => Ok(Outcome::Done),
        Reply::Already => refused(Refusal::AlreadyStarted),
        Reply::Refused => refused(Refusal::Resources),
        Reply::Gone => Err(LauncherError::Gone),
    }
}
