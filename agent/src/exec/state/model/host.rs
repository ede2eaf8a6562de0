//! Steps of everything but the api: launcher, shims, the supervisor that restarts processes, and faults. Modelled after
//! `agent/launcher/src/{start,kill,shim}.rs` and `serve/`; each system call is one step.

use packs_schema::agent::execution::State;

use super::step::{AddStep, Cause, Step};
use super::world::{
    Acceptance, Api, Ask, CleanUp, Client, Connection, Dir, ExitFile, Killer, Launcher, Phase, Prepared, Preparing,
    Reply, Request, Shim, Stage, Who, World,
};

pub(super) fn steps(world: &World, out: &mut Vec<Step>) {
    let mut step = |cause: Cause, what: &'static str, at: usize, change: &dyn Fn(&mut World)| {
        let mut to = world.clone();
        change(&mut to);
        out.push(Step { cause, what, at, to });
    };
    match &world.launcher {
        None => step(Cause::Itself, "the launcher starts", 0, &|w| {
            if w.preparing != Preparing::KeepsOld {
                w.prepared = [Prepared::No; 2];
            }
            w.launcher = Some(Launcher { connection: Connection::None, requests: Vec::new(), stage: Stage::Idle });
        }),
        Some(launcher) => {
            if launcher.connection == Connection::Dead && launcher.stage == Stage::Idle {
                step(Cause::Itself, "the launcher sees that the api has exited", 0, &|w| hang_up(w));
            }
            if launcher.connection == Connection::None && world.api.is_none() {
                step(Cause::Itself, "the launcher starts the api", 0, &|w| start_api(w));
            }
            serve(world, launcher, &mut step);
        }
    }
    if world.api.as_ref().is_some_and(|api| !api.connection) {
        step(Cause::Itself, "the api exits without a launcher", 0, &|w| end_api(w));
    }
    for at in 0..2 {
        if world.prepared[at] == Prepared::Open {
            if world.preparing != Preparing::KeepsOwn {
                step(Cause::Itself, "the launcher discards what is not started", at, &|w| {
                    w.prepared[at] = Prepared::No;
                    w.waiting[at] = false;
                });
            }
            if !world.waiting[at] {
                // Only if one is idle: everything must be right without it, too.
                step(Cause::Choice, "an idle shim makes the process, which waits", at, &|w| w.waiting[at] = true);
            }
        }
        shim(world, at, &mut step);
    }
    faults(world, &mut step);
}

fn hang_up(w: &mut World) {
    if let Some(launcher) = &mut w.launcher {
        launcher.requests.clear();
        launcher.connection = Connection::None;
    }
}

/// Starts the api, which first removes directories without a row.
fn start_api(w: &mut World) {
    if let Some(launcher) = &mut w.launcher {
        launcher.connection = Connection::Open;
    }
    w.api = Some(Api {
        connection: true,
        phase: Phase::Recovering(0, Ask::None),
        live: [None; 2],
        acceptance: [Acceptance::None; 2],
        running: [false; 2],
        queue: Vec::new(),
        launch: [Ask::None; 2],
        clean_up: [CleanUp::None; 2],
    });
    for at in 0..2 {
        if w.rows[at].is_none() && w.dirs[at].is_some() {
            w.dirs[at] = None;
        }
    }
}

/// Ends the api; the content of its memory is lost.
pub(super) fn end_api(w: &mut World) {
    w.api = None;
    if let Some(launcher) = &mut w.launcher
        && launcher.connection == Connection::Open
    {
        launcher.connection = Connection::Dead;
    }
    for client in w.clients.iter_mut().filter(|client| **client == Client::Asked) {
        *client = Client::Lost;
    }
    for killer in &mut w.killers {
        if matches!(killer, Killer::Marked | Killer::Asked { .. } | Killer::Waits) {
            *killer = Killer::No;
        }
    }
}

fn end_launcher(w: &mut World) {
    w.launcher = None;
    for prepared in w.prepared.iter_mut().filter(|prepared| **prepared == Prepared::Open) {
        *prepared = Prepared::Left;
    }
    for at in 0..2 {
        if std::mem::take(&mut w.waiting[at]) && w.preparing == Preparing::RunsWithoutLauncher {
            w.actions[at].starts += 1;
        }
    }
    let Some(api) = &mut w.api else { return };
    api.connection = false;
    let gone = |ask: &mut Ask| {
        if *ask == Ask::Pending {
            *ask = Ask::Answered(Reply::Gone);
        }
    };
    api.launch.iter_mut().for_each(gone);
    for clean_up in &mut api.clean_up {
        if let CleanUp::Asked(ask) = clean_up {
            gone(ask);
        }
    }
    if let Phase::Recovering(_, ask) = &mut api.phase {
        gone(ask);
    }
    for killer in &mut w.killers {
        if let Killer::Asked { answer, .. } = killer {
            gone(answer);
        }
    }
}

fn reply(w: &mut World, request: Request, reply: Reply) {
    if let Some(launcher) = &mut w.launcher {
        launcher.stage = Stage::Idle;
        if launcher.connection != Connection::Open {
            return;
        }
    }
    let Some(api) = &mut w.api else { return };
    let answer = Ask::Answered(reply);
    match request {
        Request::Prepare(_) => {}
        Request::Start(at) => api.launch[at] = answer,
        Request::Kill(at, Who::CleanUp) => api.clean_up[at] = CleanUp::Asked(answer),
        Request::Kill(at, Who::Recovery) => api.phase = Phase::Recovering(at, answer),
        Request::Kill(at, Who::Killer) => {
            if let Killer::Asked { answer: asked, .. } = &mut w.killers[at] {
                *asked = answer;
            }
        }
    }
}

fn serve(world: &World, launcher: &Launcher, step: &mut AddStep<'_>) {
    let set = |w: &mut World, stage: Stage| {
        if let Some(launcher) = &mut w.launcher {
            launcher.stage = stage;
        }
    };
    match launcher.stage {
        Stage::Idle => match launcher.requests.first().copied() {
            None => {}
            Some(Request::Prepare(at)) => step(Cause::Itself, "the launcher prepares a start", at, &|w| {
                next(w);
                // Whatever the api has by now: its answer decides nothing.
                w.prepared[at] = Prepared::Open;
                if w.preparing == Preparing::StartsAtOnce {
                    w.shims[at] = Some(Shim::Forked);
                }
            }),
            Some(request @ Request::Start(at)) => step(Cause::Itself, "the launcher takes a start", at, &|w| {
                next(w);
                w.prepared[at] = Prepared::No;
                match &mut w.dirs[at] {
                    None => {
                        w.waiting[at] = false;
                        reply(w, request, Reply::Refused);
                    }
                    Some(dir) if dir.lock => {
                        w.waiting[at] = false;
                        reply(w, request, Reply::Already);
                    }
                    Some(dir) => {
                        dir.lock = true;
                        set(w, Stage::Claimed(at));
                    }
                }
            }),
            Some(request @ Request::Kill(at, who)) => step(Cause::Itself, "the launcher takes a kill", at, &|w| {
                next(w);
                match &w.dirs[at] {
                    None => reply(w, request, Reply::Refused),
                    Some(dir) if dir.exit != ExitFile::Absent => reply(w, request, Reply::Done),
                    Some(_) => set(w, Stage::Looking(at, who)),
                }
            }),
        },
        Stage::Claimed(at) => step(Cause::Itself, "the launcher holds the lock", at, &|w| set(w, Stage::Locked(at))),
        Stage::Locked(at) if world.waiting[at] => {
            step(Cause::Itself, "the launcher gives the claim to the shim of the process", at, &|w| {
                w.shims[at] = Some(Shim::Given);
                set(w, Stage::Given(at));
            });
        }
        Stage::Given(at) => {
            step(Cause::Itself, "the launcher writes `started`", at, &|w| {
                let boot = w.boot;
                if let Some(dir) = &mut w.dirs[at] {
                    dir.started = Some(boot);
                }
                set(w, Stage::Recorded(at));
            });
            if world.faults.resources > 0 {
                step(Cause::Fault, "the launcher cannot write `started` and ends the process", at, &|w| {
                    w.faults.resources -= 1;
                    w.waiting[at] = false;
                    reply(w, Request::Start(at), Reply::Done);
                });
            }
        }
        Stage::Recorded(at) if world.dirs[at].is_some_and(|dir| dir.kill) => {
            step(Cause::Itself, "the launcher sees `kill` and ends the process", at, &|w| {
                w.waiting[at] = false;
                reply(w, Request::Start(at), Reply::Done);
            });
        }
        Stage::Recorded(at) => step(Cause::Itself, "the launcher releases the process", at, &|w| {
            w.waiting[at] = false;
            w.actions[at].starts += 1;
            w.actions[at].alive = true;
            // A shim that has died leaves it to the launcher, once the api finds the lock released.
            if w.shims[at] == Some(Shim::Given) && w.preparing != Preparing::RunsAgain {
                w.shims[at] = Some(Shim::Watching);
            }
            reply(w, Request::Start(at), Reply::Done);
        }),
        Stage::Locked(at) => {
            step(Cause::Itself, "the launcher forks a shim", at, &|w| {
                w.shims[at] = Some(Shim::Forked);
                reply(w, Request::Start(at), Reply::Done);
            });
            if world.faults.resources > 0 {
                step(Cause::Fault, "the launcher lacks resources and removes the lock again", at, &|w| {
                    w.faults.resources -= 1;
                    if let Some(dir) = &mut w.dirs[at] {
                        dir.lock = false;
                    }
                    reply(w, Request::Start(at), Reply::Refused);
                });
            }
        }
        Stage::Looking(at, who) => step(Cause::Itself, "the launcher carries out a kill", at, &|w| {
            let held = w.holds_lock(at);
            if let Some(dir) = &mut w.dirs[at] {
                match (dir.lock, held) {
                    (false, _) => {}
                    (true, true) => dir.kill = true,
                    (true, false) => w.actions[at].alive = false,
                }
            }
            reply(w, Request::Kill(at, who), Reply::Done);
        }),
    }
}

fn next(w: &mut World) {
    if let Some(launcher) = &mut w.launcher {
        launcher.requests.remove(0);
    }
}

fn shim(world: &World, at: usize, step: &mut AddStep<'_>) {
    let Some(shim) = world.shims[at] else { return };
    let kill = world.dirs[at].is_some_and(|dir| dir.kill);
    match shim {
        Shim::Given => {
            let stage = world.launcher.as_ref().map(|launcher| launcher.stage);
            if stage != Some(Stage::Given(at)) && stage != Some(Stage::Recorded(at)) {
                step(Cause::Itself, "the process has ended with its launcher, the shim makes another", at, &|w| {
                    w.shims[at] = Some(Shim::Forked);
                });
            }
        }
        Shim::Forked => step(Cause::Itself, "the shim writes `started`", at, &|w| {
            w.shims[at] = Some(Shim::Started);
            let boot = w.boot;
            if let Some(dir) = &mut w.dirs[at] {
                dir.started = Some(boot);
            }
        }),
        Shim::Started => step(Cause::Itself, "the shim checks for `kill`", at, &|w| {
            w.shims[at] = Some(if kill { Shim::Ending(State::Killed) } else { Shim::Checked });
        }),
        Shim::Checked => step(Cause::Itself, "the shim starts the action", at, &|w| {
            w.shims[at] = Some(Shim::Watching);
            w.actions[at].starts += 1;
            w.actions[at].alive = true;
        }),
        Shim::Watching => {
            let ended = |state: State| {
                move |w: &mut World| {
                    w.actions[at].alive = false;
                    w.shims[at] = Some(Shim::Ending(state));
                }
            };
            step(Cause::Itself, "the action ends", at, &ended(State::Succeeded));
            step(Cause::Choice, "the action is timed out", at, &ended(State::TimedOut));
            if kill {
                step(Cause::Itself, "the shim sees `kill` and stops the action", at, &ended(State::Killed));
            }
        }
        Shim::Ending(state) => step(Cause::Itself, "the shim writes `exit`", at, &|w| {
            w.shims[at] = Some(Shim::Wrote);
            if let Some(dir) = &mut w.dirs[at] {
                dir.exit = ExitFile::Good(state);
            }
        }),
        Shim::Wrote => step(Cause::Itself, "the shim ends", at, &|w| w.shims[at] = None),
    }
}

fn faults(world: &World, step: &mut AddStep<'_>) {
    if world.faults.api > 0 && world.api.is_some() {
        step(Cause::Fault, "THE API CRASHES", 0, &|w| {
            w.faults.api -= 1;
            end_api(w);
        });
    }
    if world.faults.launcher > 0 && world.launcher.is_some() {
        step(Cause::Fault, "THE LAUNCHER CRASHES", 0, &|w| {
            w.faults.launcher -= 1;
            end_launcher(w);
        });
    }
    for at in 0..2 {
        if world.faults.shim > 0 && world.waiting[at] && world.shims[at].is_none() {
            step(Cause::Fault, "THE SHIM OF A PROCESS THAT WAITS CRASHES", at, &|w| {
                w.faults.shim -= 1;
                w.waiting[at] = false;
            });
        }
        if world.faults.shim > 0 && world.shims[at].is_some() {
            step(Cause::Fault, "THE SHIM CRASHES", at, &|w| {
                w.faults.shim -= 1;
                w.shims[at] = None;
            });
        }
    }
    if world.faults.reboot > 0 {
        for first in after_power_cut(world, 0) {
            for second in after_power_cut(world, 1) {
                for commits_lost in [false, true] {
                    step(Cause::Fault, "POWER CUT", 0, &|w| reboot(w, [first, second], commits_lost));
                }
            }
        }
    }
}

/// Reboots: processes are gone; files that were not synced, and commits of the history without fsync, may be lost.
fn reboot(w: &mut World, dirs: [Option<Dir>; 2], commits_lost: bool) {
    w.faults.reboot -= 1;
    w.boot += 1;
    end_launcher(w);
    end_api(w);
    w.shims = [None; 2];
    w.prepared = [Prepared::No; 2];
    w.waiting = [false; 2];
    w.dirs = dirs;
    for action in &mut w.actions {
        action.alive = false;
    }
    for row in w.rows.iter_mut().flatten() {
        if commits_lost && row.state == State::Running {
            row.state = State::Queued;
        }
    }
}

/// Lists what may be left of a directory.
fn after_power_cut(world: &World, at: usize) -> Vec<Option<Dir>> {
    let Some(dir) = world.dirs[at] else { return vec![None] };
    if world.rows[at].is_none_or(|row| row.state.is_terminal()) {
        // The directory is not read again.
        return vec![Some(dir)];
    }
    let mut left = vec![None];
    for bits in 0..16_u8 {
        let lost = |bit: u8| bits & (1 << bit) != 0;
        let mut dir = dir;
        dir.lock &= !lost(0);
        dir.started = dir.started.filter(|_| !lost(1));
        dir.kill &= !lost(2);
        if lost(3) {
            dir.exit = ExitFile::Absent;
        }
        left.push(Some(dir));
        if matches!(dir.exit, ExitFile::Good(_)) {
            left.push(Some(Dir { exit: ExitFile::Damaged, ..dir }));
        }
    }
    let mut once = Vec::new();
    for dir in left {
        if !once.contains(&dir) {
            once.push(dir);
        }
    }
    once
}
