//! Every interleaving: a hand-written explorer of small worlds, over the real decisions, the real [`advance`] and the real
//! `Board`. Everything around these is modelled: two clients, the history, the directories, the launcher with its socket,
//! the shims, and faults (crashes of each process, a power cut that loses what was not synced, a disk that takes no file,
//! a launcher that has no room).
//!
//! ```text
//!  world ──every step that is possible──▶ worlds, breadth first, each once ──▶ checked; the first that is wrong is told
//!                                                                             with the shortest way there
//! ```
//!
//! In every world: an action has been started at most once, and never after a kill that was answered before; a row that is
//! terminal stays as it is; a 202 has a row; nothing lives of what has ended; only who was asked to is killed; no end of a
//! shim's is written over. And once no more faults come, every way leads to a world at rest (the steps between make no
//! circle), in which every row is terminal and no lock, place or task is held.
//!
//! The last tests put one wrong decision in each: the explorer must find it.

mod api;
mod explore;
mod host;
mod world;

use super::{
    Answered, Burial, Change, Cleaned, Kill, Look, Present, Standing, Told, Verdict, answered, at_start, burial,
    cleaned, expires, kill, look, lost, told,
};
use crate::exec::LauncherError;
use crate::exec::directory::{Evidence, Found, Lock};
use explore::explore;
use packs_schema::agent::execution::State;
use packs_schema::agent::launch::Outcome;
use world::{Faults, Killer, World};

/// The decisions, exchangeable one by one.
#[derive(Clone, Copy)]
struct Decisions {
    at_start: fn(Evidence, u64, &Present) -> Verdict,
    look: fn(Evidence, State, Standing) -> Look,
    burial: fn(Evidence) -> Burial,
    cleaned: fn(Option<Result<Outcome, LauncherError>>) -> Cleaned,
    lost: fn(Evidence, Cleaned, u64) -> Option<Change>,
    answered: fn(Result<Outcome, LauncherError>) -> Answered,
    kill: fn(Option<Standing>) -> Kill,
    told: fn(bool, Result<Outcome, LauncherError>) -> Told,
    expires: fn(Option<Standing>) -> bool,
}

const REAL: Decisions = Decisions { at_start, look, burial, cleaned, lost, answered, kill, told, expires };

const NONE: Faults = Faults { api: 0, launcher: 0, shim: 0, reboot: 0, disk: 0, room: 0 };

#[track_caller]
fn holds(name: &str, begin: World) {
    let since = std::time::Instant::now();
    match explore(begin, &REAL) {
        Ok(seen) => println!("{name}: {seen}, {:?}", since.elapsed()),
        Err(wrong) => panic!("{name}: {wrong}"),
    }
}

/// Two clients with the same idempotency key: one execution, and the most faults.
#[test]
fn one_execution_holds_under_every_fault() {
    for (name, faults) in [
        ("the api crashes twice", Faults { api: 2, ..NONE }),
        ("api and launcher crash", Faults { api: 1, launcher: 1, ..NONE }),
        ("launcher and shim crash", Faults { launcher: 1, shim: 1, ..NONE }),
        ("the api crashes, the power goes", Faults { api: 1, reboot: 1, ..NONE }),
        ("no file, no room, the api crashes", Faults { disk: 1, room: 1, api: 1, ..NONE }),
    ] {
        holds(name, World::new(true, faults));
    }
}

/// Two clients without a key: two executions, of which one waits for the other; the second has a secret.
#[test]
fn two_executions_hold_under_each_fault() {
    for (name, faults) in [
        ("the api crashes", Faults { api: 1, ..NONE }),
        ("the launcher crashes", Faults { launcher: 1, ..NONE }),
        ("a shim crashes", Faults { shim: 1, ..NONE }),
        ("the power goes", Faults { reboot: 1, ..NONE }),
        ("no file, no room", Faults { disk: 1, room: 1, ..NONE }),
    ] {
        let mut begin = World::new(false, faults);
        // Only the one that waits is killed: the other's kills are looked at above.
        begin.killers[0] = Killer::No;
        holds(name, begin);
    }
}

/// The explorer must find what is wrong with these decisions.
#[track_caller]
fn finds(wrong: &Decisions, begin: World, what: &str) {
    match explore(begin, wrong) {
        Ok(seen) => panic!("not found: {what} ({seen})"),
        Err(found) => {
            println!("{found}");
            assert!(found.to_string().contains(what), "{found}");
        }
    }
}

#[test]
fn to_ignore_the_boot_id_is_found() {
    fn wrong(evidence: Evidence, created_at_ms: u64, present: &Present) -> Verdict {
        let spec = evidence.spec.clone().good();
        let boot_id = spec.map_or_else(|| present.boot_id.clone(), |spec| spec.boot_id);
        at_start(evidence, created_at_ms, &Present { boot_id, booted_at_ms: 0, ..present.clone() })
    }
    let begin = World::new(true, Faults { reboot: 1, ..NONE });
    finds(&Decisions { at_start: wrong, ..REAL }, begin, "THE POWER GOES");
}

#[test]
fn to_take_every_free_lock_for_a_dead_shim_is_found() {
    fn blind(evidence: Evidence) -> Evidence {
        if evidence.lock == Lock::Free { Evidence { exit: Found::Absent, ..evidence } } else { evidence }
    }
    let wrong = Decisions {
        look: |evidence, state, standing| look(blind(evidence), state, standing),
        burial: |evidence| burial(blind(evidence)),
        lost: |evidence, cleaned, at_ms| lost(blind(evidence), cleaned, at_ms),
        ..REAL
    };
    finds(&wrong, World::new(true, NONE), "written over");
}

#[test]
fn to_bury_before_the_launcher_has_answered_is_found() {
    fn wrong(evidence: Evidence, state: State, standing: Standing) -> Look {
        let standing = if standing == Standing::Asked { Standing::Handed } else { standing };
        look(evidence, state, standing)
    }
    finds(&Decisions { look: wrong, ..REAL }, World::new(true, NONE), "killed without being asked");
}

#[test]
fn to_take_a_silent_launcher_for_an_answer_is_found() {
    fn wrong(answer: Option<Result<Outcome, LauncherError>>) -> Cleaned {
        match cleaned(answer) {
            Cleaned::Nobody => Cleaned::Failed("nobody cleaned up".to_owned()),
            other => other,
        }
    }
    let begin = World::new(true, Faults { launcher: 1, shim: 1, ..NONE });
    finds(&Decisions { cleaned: wrong, ..REAL }, begin, "lives on");
}

#[test]
fn to_answer_a_kill_that_is_written_nowhere_is_found() {
    fn wrong(_: bool, answer: Result<Outcome, LauncherError>) -> Told {
        told(true, answer)
    }
    let begin = World::new(true, Faults { disk: 1, ..NONE });
    finds(&Decisions { told: wrong, ..REAL }, begin, "started after a kill");
}

#[test]
fn to_expire_what_the_launcher_has_is_found() {
    fn wrong(standing: Option<Standing>) -> bool {
        standing.is_some_and(|standing| standing != Standing::Ending)
    }
    finds(&Decisions { expires: wrong, ..REAL }, World::new(true, NONE), "lives on");
}

#[test]
fn to_take_a_held_lock_for_a_dead_shim_is_found() {
    fn wrong(mut evidence: Evidence, created_at_ms: u64, present: &Present) -> Verdict {
        if evidence.lock == Lock::Held {
            evidence.lock = Lock::Free;
        }
        at_start(evidence, created_at_ms, present)
    }
    let begin = World::new(true, Faults { api: 1, ..NONE });
    finds(&Decisions { at_start: wrong, ..REAL }, begin, "killed without being asked");
}
