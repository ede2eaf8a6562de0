//! Steps of the api and its clients, modelled after `agent/src/exec/*.rs`: everything between two `.await` points is one step.
//! Decides nothing itself: the decisions, `advance` and `Slots` are the real ones.

use packs_schema::agent::execution::State;

use super::effects::{
    api, apply_change, launch, outcome, release, send, start_ready, with_slots, write_exit_record, write_row,
};
use super::host::end_api;
use super::step::{AddStep, Cause, Step};
use super::world::{
    Acceptance, Api, Ask, CleanUp, Client, Dir, Ending, ExitFile, Killer, Live, Phase, Preparing, Request, Row, Who,
    World, boot_id, execution, id, rules,
};
use super::{
    Change, Decisions, Evidence, HostTime, KillOutcome, KillStep, Lock, LostCheck, RecordFile, RecoveryAction,
    StartOutcome,
};
use crate::exec::state::advance;

/// Times that an execution may have waited at a restart: within and past its start deadline.
const WAITED_MS: [u64; 2] = [1_000, 6_000];

pub(super) fn steps(world: &World, d: &Decisions, out: &mut Vec<Step>) {
    let Some(api) = &world.api else { return };
    let mut step = |cause: Cause, what: &'static str, at: usize, change: &dyn Fn(&mut World)| {
        let mut to = world.clone();
        change(&mut to);
        out.push(Step { cause, what, at, to });
    };
    match api.phase {
        Phase::Recovering(at, ask) => recover(world, d, (at, ask), &mut step),
        Phase::Serving => {
            for at in 0..2 {
                let again = world.clients[at] == Client::Lost && world.keyed;
                let slot = world.keyed || (world.dirs[at].is_none() && world.rows[at].is_none());
                if (world.clients[at] == Client::Idle || again) && slot && api.acceptance[at] == Acceptance::None {
                    step(Cause::Choice, "a client submits; the execution is admitted and gets a directory", at, &|w| {
                        admit(w, at)
                    });
                }
                if world.killers[at] == Killer::Idle && world.rows[at].is_some() {
                    begin_kill(world, d, at, &mut step);
                }
            }
        }
    }
    for at in 0..2 {
        match api.acceptance[at] {
            Acceptance::None => {}
            Acceptance::Admitted => step(Cause::Itself, "the row is committed", at, &|w| commit_row(w, at)),
            Acceptance::Written => step(Cause::Itself, "it is tracked, and the 202 is sent", at, &|w| accept(w, at)),
        }
        continue_kill(world, d, at, &mut step);
        handle_answers(api, d, at, &mut step);
        if let Some(live) = api.live[at] {
            change_live(world, d, at, live, &mut step);
        }
    }
}

// Recovery.

fn recover(world: &World, d: &Decisions, (at, ask): (usize, Ask), step: &mut AddStep<'_>) {
    if at == 2 {
        return step(Cause::Itself, "recovery is done", 0, &|w| {
            api(w).phase = Phase::Serving;
            start_ready(w);
        });
    }
    let Some(row) = world.rows[at].filter(|row| !row.state.is_terminal()) else {
        return step(Cause::Itself, "recovery skips it", at, &|w| api(w).phase = Phase::Recovering(at + 1, Ask::None));
    };
    match ask {
        Ask::None => {
            for boottime_ms in WAITED_MS {
                let booted_at_ms = u64::from(world.boot) * 10_000;
                let created_at_ms = u64::from(row.boot) * 10_000 + 1;
                let boot_id = boot_id(world.boot);
                let host_time = HostTime { boot_id, booted_at_ms, now_ms: booted_at_ms + boottime_ms, boottime_ms };
                let action = (d.decide_recovery)(world.evidence(at), created_at_ms, &host_time);
                step(Cause::Itself, "recovery decides", at, &|w| carry_out(w, at, action.clone()));
            }
        }
        Ask::Answered(reply) => step(Cause::Itself, "recovery gets the answer to a clean-up", at, &|w| match (d
            .end_lost)(
            w.evidence(at),
            (d.interpret_clean_up)(Some(outcome(reply))),
            9,
        ) {
            Some(change) => record_end(w, at, change),
            None => end_api(w),
        }),
        Ask::Unsent | Ask::Pending => {}
    }
}

fn carry_out(w: &mut World, at: usize, action: RecoveryAction) {
    match action {
        RecoveryAction::Import(exit) => record_end(w, at, Change::Ended(exit)),
        RecoveryAction::End(state, reason) => record_end(w, at, Change::Aborted { state, reason, at_ms: 9 }),
        RecoveryAction::CleanUp => {
            let ask = send(w, Request::Kill(at, Who::Recovery));
            api(w).phase = Phase::Recovering(at, ask);
        }
        RecoveryAction::Resume | RecoveryAction::Requeue(_) => {
            let start = action != RecoveryAction::Resume;
            let state = w.rows[at].map_or(State::Queued, |row| row.state);
            let api = api(w);
            api.live[at] = Some(Live { state, start, asked: false, unwritten: false, ending: None });
            with_slots(api, |slots| {
                if start {
                    slots.requeue(&id(at), rules());
                } else {
                    slots.resume_running(&id(at), rules(), 0);
                }
            });
            if start {
                api.queue.push(at);
            }
            api.phase = Phase::Recovering(at + 1, Ask::None);
        }
    }
}

/// Models `Exec::record_end`.
fn record_end(w: &mut World, at: usize, change: Change) {
    let by_us = matches!(change, Change::Aborted { .. });
    let mut record = execution(w.rows[at].map_or(State::Queued, |row| row.state));
    if advance(&mut record, change).is_ok() {
        if by_us {
            write_exit_record(w, at, record.state);
        }
        write_row(w, at, record.state);
    }
    api(w).phase = Phase::Recovering(at + 1, Ask::None);
}

// Acceptance.

fn admit(w: &mut World, at: usize) {
    let known = w.rows.iter().position(Option::is_some).filter(|_| w.keyed);
    if let Some(known) = known {
        w.clients[at] = Client::Accepted(known);
        return;
    }
    let waits = with_slots(api(w), |slots| slots.admit(&id(at), rules(), 0).map(|_| !slots.is_running(&id(at))));
    let Ok(waits) = waits else {
        w.clients[at] = Client::Refused;
        return;
    };
    if waits {
        api(w).queue.push(at);
    } else if w.preparing != Preparing::No {
        // The answer is not waited for.
        let _ = send(w, Request::Prepare(at));
    }
    api(w).acceptance[at] = Acceptance::Admitted;
    w.dirs[at] = Some(Dir { boot: w.boot, lock: false, started: None, kill: false, exit: ExitFile::Absent });
    w.clients[at] = Client::Asked;
}

fn commit_row(w: &mut World, at: usize) {
    let known = w.rows.iter().position(Option::is_some).filter(|_| w.keyed);
    match known {
        Some(known) => {
            w.dirs[at] = None;
            w.clients[at] = Client::Accepted(known);
            api(w).acceptance[at] = Acceptance::None;
            release(w, at);
        }
        None => {
            w.rows[at] = Some(Row { state: State::Queued, boot: w.boot });
            api(w).acceptance[at] = Acceptance::Written;
        }
    }
}

fn accept(w: &mut World, at: usize) {
    w.clients[at] = Client::Accepted(at);
    let api = api(w);
    api.acceptance[at] = Acceptance::None;
    api.live[at] = Some(Live { state: State::Queued, start: true, asked: false, unwritten: false, ending: None });
    if api.running[at] {
        launch(w, at);
    }
}

// Kills.

fn begin_kill(world: &World, d: &Decisions, at: usize, step: &mut AddStep<'_>) {
    let ownership = world.api.as_ref().and_then(|api| api.live[at]).map(|live| live.ownership());
    match (d.decide_kill)(ownership) {
        KillStep::AlreadyEnded => {
            step(Cause::Choice, "a kill finds that it has ended", at, &|w| w.killers[at] = Killer::No)
        }
        KillStep::Forward => step(Cause::Choice, "a kill is accepted", at, &|w| w.killers[at] = Killer::Marked),
        KillStep::EndNow => {
            let end = |w: &mut World| {
                if let Some(live) = &mut api(w).live[at] {
                    live.start = false;
                }
                apply_change(w, at, Change::Aborted { state: State::Killed, reason: String::new(), at_ms: 9 });
            };
            step(Cause::Choice, "a kill ends a waiting execution, and is answered", at, &|w| {
                w.killers[at] = Killer::Marked;
                write_kill(w, at);
                end(w);
                answer_kill(w, at);
            });
            if world.faults.disk > 0 {
                step(Cause::Fault, "a kill ends a waiting execution, BUT CANNOT BE WRITTEN", at, &|w| {
                    w.faults.disk -= 1;
                    w.killers[at] = Killer::Waits;
                    end(w);
                });
            }
        }
    }
}

fn continue_kill(world: &World, d: &Decisions, at: usize, step: &mut AddStep<'_>) {
    let ask = |w: &mut World, written: bool| {
        let answer = send(w, Request::Kill(at, Who::Killer));
        w.killers[at] = Killer::Asked { written, answer };
    };
    match world.killers[at] {
        Killer::Marked => {
            step(Cause::Itself, "`kill` is written and the launcher is asked", at, &|w| {
                write_kill(w, at);
                ask(w, true);
            });
            if world.faults.disk > 0 {
                step(Cause::Fault, "`kill` CANNOT BE WRITTEN; the launcher is asked", at, &|w| {
                    w.faults.disk -= 1;
                    ask(w, false);
                });
            }
        }
        Killer::Asked { written, answer: Ask::Answered(reply) } => {
            let there = world.dirs[at].is_some_and(|dir| dir.kill || dir.exit != ExitFile::Absent);
            let kill = (d.interpret_kill)(written || there, outcome(reply));
            step(Cause::Itself, "the kill is answered", at, &|w| match kill {
                KillOutcome::Recorded => answer_kill(w, at),
                KillOutcome::Refused(_) | KillOutcome::Unreachable(_) | KillOutcome::NotRecorded => {
                    w.killers[at] = Killer::No
                }
            });
        }
        Killer::Waits if world.api.as_ref().is_some_and(|api| api.live[at].is_none()) => {
            step(Cause::Itself, "the kill is answered once the end is written", at, &|w| answer_kill(w, at));
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

// Answers of the launcher.

fn handle_answers(api_now: &Api, d: &Decisions, at: usize, step: &mut AddStep<'_>) {
    match api_now.launch[at] {
        Ask::None | Ask::Pending => {}
        Ask::Unsent => step(Cause::Itself, "the launcher is asked to start it", at, &|w| {
            api(w).launch[at] = send(w, Request::Start(at));
        }),
        Ask::Answered(reply) => step(Cause::Itself, "the launcher's answer arrives", at, &|w| {
            api(w).launch[at] = Ask::None;
            let answer = (d.interpret_start)(outcome(reply));
            if let Some(live) = &mut api(w).live[at] {
                live.asked = answer == StartOutcome::Unknown;
            }
            if let StartOutcome::Refused(reason) = answer {
                apply_change(w, at, Change::Aborted { state: State::Error, reason, at_ms: 9 });
            }
        }),
    }
    match api_now.clean_up[at] {
        CleanUp::None | CleanUp::LeftAlone | CleanUp::Asked(Ask::None | Ask::Unsent | Ask::Pending) => {}
        CleanUp::Recheck => step(Cause::Itself, "a lost shim is checked again", at, &|w| {
            api(w).clean_up[at] = CleanUp::None;
            match (d.recheck_lost)(w.evidence(at)) {
                LostCheck::Leave => {}
                LostCheck::TakeOver(exit) => apply_change(w, at, Change::Ended(exit)),
                LostCheck::CleanUp => {
                    let ask = send(w, Request::Kill(at, Who::CleanUp));
                    api(w).clean_up[at] = CleanUp::Asked(ask);
                }
            }
        }),
        CleanUp::Asked(Ask::Answered(reply)) => step(Cause::Itself, "the launcher has cleaned up", at, &|w| {
            api(w).clean_up[at] = CleanUp::None;
            match (d.end_lost)(w.evidence(at), (d.interpret_clean_up)(Some(outcome(reply))), 9) {
                Some(change) => apply_change(w, at, change),
                None => api(w).clean_up[at] = CleanUp::LeftAlone,
            }
        }),
    }
}

fn change_live(world: &World, d: &Decisions, at: usize, live: Live, step: &mut AddStep<'_>) {
    if let Some(ending) = live.ending {
        return step(Cause::Itself, "its end is written", at, &|w| {
            if ending.write_exit_record {
                write_exit_record(w, at, ending.state);
                if let Some(live) = &mut api(w).live[at] {
                    live.ending = Some(Ending { write_exit_record: false, ..ending });
                }
            } else {
                write_row(w, at, ending.state);
                api(w).live[at] = None;
                release(w, at);
            }
        });
    }
    if (d.may_expire)(Some(live.ownership())) {
        step(Cause::Choice, "its start deadline passes", at, &|w| {
            if let Some(live) = &mut api(w).live[at] {
                live.start = false;
            }
            apply_change(w, at, Change::Aborted { state: State::Expired, reason: String::new(), at_ms: 9 });
        });
    }
    if live.unwritten {
        step(Cause::Choice, "`running` is written", at, &|w| {
            if let Some(live) = &mut api(w).live[at] {
                live.unwritten = false;
            }
            write_row(w, at, State::Running);
        });
    }
    // The event of `started` is handled late, when the directory has more.
    let started = Evidence { exit: RecordFile::Absent, lock: Lock::Held, ..world.evidence(at) };
    if let Some(change) = (d.inspect)(started, live.state, live.ownership()).change {
        step(Cause::Itself, "only `started` is read", at, &|w| apply_change(w, at, change.clone()));
    }
    let seen = (d.inspect)(world.evidence(at), live.state, live.ownership());
    let clean_up = seen.shim_lost && world.api.as_ref().is_some_and(|api| api.clean_up[at] == CleanUp::None);
    if seen.change.is_some() || clean_up {
        step(Cause::Itself, "its directory is inspected", at, &|w| {
            if let Some(change) = seen.change.clone() {
                apply_change(w, at, change);
            }
            if clean_up {
                api(w).clean_up[at] = CleanUp::Recheck;
            }
        });
    }
}
