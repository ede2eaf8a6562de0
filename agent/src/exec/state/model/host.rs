//! The steps of everything but the api: launcher, shims, the supervisor that starts what is down, and the faults. Written
//! after `agent/launcher/src/{start,kill,shim}.rs` and `serve/`; what a call to the system does at once is one step.

use packs_schema::agent::execution::State;

use super::explore::{By, Step};
use super::world::{
    Api, Ask, Bury, Client, Dir, ExitFile, Killer, Launcher, Line, Phase, Reply, Request, Shim, Stage, Taking, Who,
    World,
};

pub(super) fn steps(world: &World, out: &mut Vec<Step>) {
    let mut step = |by: By, what: &'static str, at: usize, change: &dyn Fn(&mut World)| {
        let mut to = world.clone();
        change(&mut to);
        out.push(Step { by, what, at, to });
    };
    match &world.launcher {
        None => step(By::Itself, "the launcher starts", 0, &|w| {
            w.launcher = Some(Launcher { line: Line::None, requests: Vec::new(), stage: Stage::Idle });
        }),
        Some(launcher) => {
            if launcher.line == Line::Dead && launcher.stage == Stage::Idle {
                step(By::Itself, "the launcher sees that the api has gone", 0, &|w| hang_up(w));
            }
            if launcher.line == Line::None && world.api.is_none() {
                step(By::Itself, "the launcher starts the api", 0, &|w| start_api(w));
            }
            serve(world, launcher, &mut step);
        }
    }
    if world.api.as_ref().is_some_and(|api| !api.line) {
        step(By::Itself, "the api ends without a launcher", 0, &|w| end_api(w));
    }
    for at in 0..2 {
        shim(world, at, &mut step);
    }
    faults(world, &mut step);
}

/// One step: who takes it, what it is, for which execution, and what it changes.
type Add<'a> = dyn FnMut(By, &'static str, usize, &dyn Fn(&mut World)) + 'a;

fn hang_up(w: &mut World) {
    if let Some(launcher) = &mut w.launcher {
        launcher.requests.clear();
        launcher.line = Line::None;
    }
}

/// It starts, and looks first for directories that no row knows.
fn start_api(w: &mut World) {
    if let Some(launcher) = &mut w.launcher {
        launcher.line = Line::Open;
    }
    w.api = Some(Api {
        line: true,
        phase: Phase::Recovering(0, Ask::None),
        live: [None; 2],
        taking: [Taking::None; 2],
        running: [false; 2],
        queue: Vec::new(),
        launch: [Ask::None; 2],
        bury: [Bury::None; 2],
    });
    for at in 0..2 {
        if w.rows[at].is_none() && w.dirs[at].is_some() {
            w.dirs[at] = None;
        }
    }
}

/// However it ended, what was only in its memory is gone.
pub(super) fn end_api(w: &mut World) {
    w.api = None;
    if let Some(launcher) = &mut w.launcher
        && launcher.line == Line::Open
    {
        launcher.line = Line::Dead;
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
    let Some(api) = &mut w.api else { return };
    api.line = false;
    let gone = |ask: &mut Ask| {
        if *ask == Ask::Pending {
            *ask = Ask::Answered(Reply::Gone);
        }
    };
    api.launch.iter_mut().for_each(gone);
    for bury in &mut api.bury {
        if let Bury::Asked(ask) = bury {
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
        if launcher.line != Line::Open {
            return;
        }
    }
    let Some(api) = &mut w.api else { return };
    let answer = Ask::Answered(reply);
    match request {
        Request::Start(at) => api.launch[at] = answer,
        Request::Kill(at, Who::Bury) => api.bury[at] = Bury::Asked(answer),
        Request::Kill(at, Who::Recovery) => api.phase = Phase::Recovering(at, answer),
        Request::Kill(at, Who::Killer) => {
            if let Killer::Asked { answer: asked, .. } = &mut w.killers[at] {
                *asked = answer;
            }
        }
    }
}

fn serve(world: &World, launcher: &Launcher, step: &mut Add<'_>) {
    let set = |w: &mut World, stage: Stage| {
        if let Some(launcher) = &mut w.launcher {
            launcher.stage = stage;
        }
    };
    match launcher.stage {
        Stage::Idle => match launcher.requests.first().copied() {
            None => {}
            Some(request @ Request::Start(at)) => step(By::Itself, "the launcher takes a start", at, &|w| {
                next(w);
                match &mut w.dirs[at] {
                    None => reply(w, request, Reply::Refused),
                    Some(dir) if dir.lock => reply(w, request, Reply::Already),
                    Some(dir) => {
                        dir.lock = true;
                        set(w, Stage::Claimed(at));
                    }
                }
            }),
            Some(request @ Request::Kill(at, who)) => step(By::Itself, "the launcher takes a kill", at, &|w| {
                next(w);
                match &w.dirs[at] {
                    None => reply(w, request, Reply::Refused),
                    Some(dir) if dir.exit != ExitFile::Absent => reply(w, request, Reply::Done),
                    Some(_) => set(w, Stage::Looking(at, who)),
                }
            }),
        },
        Stage::Claimed(at) => step(By::Itself, "the launcher holds the lock", at, &|w| set(w, Stage::Locked(at))),
        Stage::Locked(at) => {
            step(By::Itself, "the launcher forks a shim", at, &|w| {
                w.shims[at] = Some(Shim::Born);
                reply(w, Request::Start(at), Reply::Done);
            });
            if world.faults.room > 0 {
                step(By::Fault, "the launcher has no room and takes its claim back", at, &|w| {
                    w.faults.room -= 1;
                    if let Some(dir) = &mut w.dirs[at] {
                        dir.lock = false;
                    }
                    reply(w, Request::Start(at), Reply::Refused);
                });
            }
        }
        Stage::Looking(at, who) => step(By::Itself, "the launcher sees to a kill", at, &|w| {
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

fn shim(world: &World, at: usize, step: &mut Add<'_>) {
    let Some(shim) = world.shims[at] else { return };
    let kill = world.dirs[at].is_some_and(|dir| dir.kill);
    match shim {
        Shim::Born => step(By::Itself, "the shim writes `started`", at, &|w| {
            w.shims[at] = Some(Shim::Started);
            let boot = w.boot;
            if let Some(dir) = &mut w.dirs[at] {
                dir.started = Some(boot);
            }
        }),
        Shim::Started => step(By::Itself, "the shim looks for `kill`", at, &|w| {
            w.shims[at] = Some(if kill { Shim::Ending(State::Killed) } else { Shim::Checked });
        }),
        Shim::Checked => step(By::Itself, "the shim starts the action", at, &|w| {
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
            step(By::Itself, "the action ends", at, &ended(State::Succeeded));
            step(By::Choice, "the action is timed out", at, &ended(State::TimedOut));
            if kill {
                step(By::Itself, "the shim sees `kill` and stops the action", at, &ended(State::Killed));
            }
        }
        Shim::Ending(state) => step(By::Itself, "the shim writes `exit`", at, &|w| {
            w.shims[at] = Some(Shim::Wrote);
            if let Some(dir) = &mut w.dirs[at] {
                dir.exit = ExitFile::Good(state);
            }
        }),
        Shim::Wrote => step(By::Itself, "the shim ends", at, &|w| w.shims[at] = None),
    }
}

fn faults(world: &World, step: &mut Add<'_>) {
    if world.faults.api > 0 && world.api.is_some() {
        step(By::Fault, "THE API CRASHES", 0, &|w| {
            w.faults.api -= 1;
            end_api(w);
        });
    }
    if world.faults.launcher > 0 && world.launcher.is_some() {
        step(By::Fault, "THE LAUNCHER CRASHES", 0, &|w| {
            w.faults.launcher -= 1;
            end_launcher(w);
        });
    }
    for at in 0..2 {
        if world.faults.shim > 0 && world.shims[at].is_some() {
            step(By::Fault, "THE SHIM CRASHES", at, &|w| {
                w.faults.shim -= 1;
                w.shims[at] = None;
            });
        }
    }
    if world.faults.reboot > 0 {
        for first in after_power_cut(world, 0) {
            for second in after_power_cut(world, 1) {
                for forgetful in [false, true] {
                    step(By::Fault, "THE POWER GOES", 0, &|w| reboot(w, [first, second], forgetful));
                }
            }
        }
    }
}

/// Processes are gone, what was not synced may be; so may what the history committed without waiting.
fn reboot(w: &mut World, dirs: [Option<Dir>; 2], forgetful: bool) {
    w.faults.reboot -= 1;
    w.boot += 1;
    end_launcher(w);
    end_api(w);
    w.shims = [None; 2];
    w.dirs = dirs;
    for action in &mut w.actions {
        action.alive = false;
    }
    for row in w.rows.iter_mut().flatten() {
        if forgetful && row.state == State::Running {
            row.state = State::Queued;
        }
    }
}

/// What may be left of a directory.
fn after_power_cut(world: &World, at: usize) -> Vec<Option<Dir>> {
    let Some(dir) = world.dirs[at] else { return vec![None] };
    if world.rows[at].is_none_or(|row| row.state.is_terminal()) {
        // Nobody looks into it any more.
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
