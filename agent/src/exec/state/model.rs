//! Model checker of the state machine: explores every interleaving of small worlds with the real decisions, the real [`advance`]
//! and the real `Slots`. Everything around them is modelled: two clients, the history, the directories, the launcher with its
//! socket, the shims, and faults (crashes of each process, a power cut that loses what was not synced, a disk that takes no
//! file, a launcher without resources).
//!
//! ```text
//!  world ──every possible step──▶ worlds, breadth first, each once ──▶ invariants; a violation is printed with the
//!                                                                      shortest path to it
//! ```
//!
//! Invariants of every world: an action is started at most once, never before its acceptance is on disk, although the launcher
//! prepares the start, and its process, before, and never after an answered kill; a terminal row never changes; a
//! 202 has a row; no process of an ended execution is alive; only executions with a kill request are killed; an exit record of a
//! shim is never overwritten. Once no more faults occur, every path leads to a world at rest (there are no cycles), in
//! which every row is terminal and no lock, slot or task is held.
//!
//! The last tests replace one decision by a wrong one each, which the explorer must find.

mod api;
mod effects;
mod explore;
mod host;
mod step;
mod world;

use super::{
    Change, CleanUpOutcome, HostTime, Inspection, KillOutcome, KillStep, LostCheck, Ownership, RecoveryAction,
    StartOutcome, decide_kill, decide_recovery, end_lost, inspect, interpret_clean_up, interpret_kill, interpret_start,
    may_expire, recheck_lost,
};
use crate::exec::LauncherError;
use crate::exec::directory::{Evidence, Lock, RecordFile};
use explore::explore;
use packs_schema::agent::execution::State;
use packs_schema::agent::launch::Outcome;
use world::{Faults, Killer, Preparing, World};

/// Decision functions; tests replace one by a wrong one.
#[derive(Clone, Copy)]
struct Decisions {
    decide_recovery: fn(Evidence, u64, &HostTime) -> RecoveryAction,
    inspect: fn(Evidence, State, Ownership) -> Inspection,
    recheck_lost: fn(Evidence) -> LostCheck,
    interpret_clean_up: fn(Option<Result<Outcome, LauncherError>>) -> CleanUpOutcome,
    end_lost: fn(Evidence, CleanUpOutcome, u64) -> Option<Change>,
    interpret_start: fn(Result<Outcome, LauncherError>) -> StartOutcome,
    decide_kill: fn(Option<Ownership>) -> KillStep,
    interpret_kill: fn(bool, Result<Outcome, LauncherError>) -> KillOutcome,
    may_expire: fn(Option<Ownership>) -> bool,
}

const REAL: Decisions = Decisions {
    decide_recovery,
    inspect,
    recheck_lost,
    interpret_clean_up,
    end_lost,
    interpret_start,
    decide_kill,
    interpret_kill,
    may_expire,
};

const NONE: Faults = Faults { api: 0, launcher: 0, shim: 0, reboot: 0, disk: 0, resources: 0 };

#[track_caller]
fn assert_holds(name: &str, begin: World) {
    let since = std::time::Instant::now();
    match explore(begin, &REAL) {
        Ok(seen) => println!("{name}: {seen}, {:?}", since.elapsed()),
        Err(wrong) => panic!("{name}: {wrong}"),
    }
}

/// Two clients with the same idempotency key: one execution, and most faults.
#[test]
fn invariants_hold_for_one_execution_under_every_fault() {
    for (name, faults) in [
        ("the api crashes twice", Faults { api: 2, ..NONE }),
        ("api and launcher crash", Faults { api: 1, launcher: 1, ..NONE }),
        ("launcher and shim crash", Faults { launcher: 1, shim: 1, ..NONE }),
        ("the api crashes, power cut", Faults { api: 1, reboot: 1, ..NONE }),
        ("no file, no resources, the api crashes", Faults { disk: 1, resources: 1, api: 1, ..NONE }),
    ] {
        assert_holds(name, World::new(true, faults));
    }
}

/// Two clients without a key: two executions, one waiting for the other; the second has a secret.
#[test]
fn invariants_hold_for_two_executions_under_each_fault() {
    for (name, faults) in [
        ("the api crashes", Faults { api: 1, ..NONE }),
        ("the launcher crashes", Faults { launcher: 1, ..NONE }),
        ("a shim crashes", Faults { shim: 1, ..NONE }),
        ("power cut", Faults { reboot: 1, ..NONE }),
        ("no file, no resources", Faults { disk: 1, resources: 1, ..NONE }),
    ] {
        let mut begin = World::new(false, faults);
        // Only the waiting one is killed: kills of the other are covered above.
        begin.killers[0] = Killer::No;
        assert_holds(name, begin);
    }
}

/// Explores one execution whose start is prepared while it is accepted.
#[test]
fn invariants_hold_for_a_prepared_start_under_each_fault() {
    for (name, faults) in [
        ("prepared, the api crashes", Faults { api: 1, ..NONE }),
        ("prepared, the launcher crashes twice", Faults { launcher: 2, ..NONE }),
        ("prepared, launcher and shim crash", Faults { launcher: 1, shim: 1, ..NONE }),
        ("prepared, power cut", Faults { reboot: 1, ..NONE }),
        ("prepared, no file, no resources", Faults { disk: 1, resources: 1, ..NONE }),
        ("prepared, a shim crashes twice", Faults { shim: 2, ..NONE }),
    ] {
        assert_holds(name, World { preparing: Preparing::Right, ..World::new(true, faults) });
    }
}

/// Asserts that the explorer finds a violation with these decisions.
#[track_caller]
fn assert_found(wrong: &Decisions, begin: World, what: &str) {
    match explore(begin, wrong) {
        Ok(seen) => panic!("not found: {what} ({seen})"),
        Err(found) => {
            println!("{found}");
            assert!(found.to_string().contains(what), "{found}");
        }
    }
}

#[test]
fn starting_what_should_be_prepared_is_found() {
    let begin = World { preparing: Preparing::StartsAtOnce, ..World::new(true, NONE) };
    assert_found(&REAL, begin, "an action was started before its acceptance was on disk");
}

#[test]
fn keeping_what_was_prepared_and_not_started_is_found() {
    let begin = World { preparing: Preparing::KeepsOwn, ..World::new(true, Faults { api: 1, ..NONE }) };
    assert_found(&REAL, begin, "at rest, and something is prepared");
    let begin = World { preparing: Preparing::KeepsOld, ..World::new(true, Faults { launcher: 1, ..NONE }) };
    assert_found(&REAL, begin, "at rest, and something is prepared");
}

#[test]
fn releasing_a_process_without_its_start_is_found() {
    let begin = World { preparing: Preparing::RunsWithoutLauncher, ..World::new(true, Faults { launcher: 1, ..NONE }) };
    assert_found(&REAL, begin, "an action was started before its acceptance was on disk");
}

#[test]
fn making_another_process_than_the_released_one_is_found() {
    let begin = World { preparing: Preparing::RunsAgain, ..World::new(true, Faults { launcher: 1, ..NONE }) };
    assert_found(&REAL, begin, "an action was started twice");
}

#[test]
fn ignoring_the_boot_id_is_found() {
    fn wrong(evidence: Evidence, created_at_ms: u64, host_time: &HostTime) -> RecoveryAction {
        let spec = evidence.spec.clone().valid();
        let boot_id = spec.map_or_else(|| host_time.boot_id.clone(), |spec| spec.boot_id);
        decide_recovery(evidence, created_at_ms, &HostTime { boot_id, booted_at_ms: 0, ..host_time.clone() })
    }
    let begin = World::new(true, Faults { reboot: 1, ..NONE });
    assert_found(&Decisions { decide_recovery: wrong, ..REAL }, begin, "POWER CUT");
}

#[test]
fn treating_every_free_lock_as_a_dead_shim_is_found() {
    fn without_exit(evidence: Evidence) -> Evidence {
        if evidence.lock == Lock::Free { Evidence { exit: RecordFile::Absent, ..evidence } } else { evidence }
    }
    let wrong = Decisions {
        inspect: |evidence, state, ownership| inspect(without_exit(evidence), state, ownership),
        recheck_lost: |evidence| recheck_lost(without_exit(evidence)),
        end_lost: |evidence, cleaned, at_ms| end_lost(without_exit(evidence), cleaned, at_ms),
        ..REAL
    };
    assert_found(&wrong, World::new(true, NONE), "overwritten");
}

#[test]
fn cleaning_up_before_the_launcher_has_answered_is_found() {
    fn wrong(evidence: Evidence, state: State, ownership: Ownership) -> Inspection {
        let ownership = if ownership == Ownership::StartRequested { Ownership::HandedOver } else { ownership };
        inspect(evidence, state, ownership)
    }
    assert_found(&Decisions { inspect: wrong, ..REAL }, World::new(true, NONE), "killed without a request");
}

#[test]
fn treating_a_missing_launcher_as_an_answer_is_found() {
    fn wrong(answer: Option<Result<Outcome, LauncherError>>) -> CleanUpOutcome {
        match interpret_clean_up(answer) {
            CleanUpOutcome::LauncherGone => CleanUpOutcome::Failed("not cleaned up".to_owned()),
            other => other,
        }
    }
    let begin = World::new(true, Faults { launcher: 1, shim: 1, ..NONE });
    assert_found(&Decisions { interpret_clean_up: wrong, ..REAL }, begin, "is alive although its execution has ended");
}

#[test]
fn answering_a_kill_that_is_not_recorded_is_found() {
    fn wrong(_: bool, answer: Result<Outcome, LauncherError>) -> KillOutcome {
        interpret_kill(true, answer)
    }
    let begin = World::new(true, Faults { disk: 1, ..NONE });
    assert_found(&Decisions { interpret_kill: wrong, ..REAL }, begin, "started after a kill");
}

#[test]
fn expiring_an_execution_that_was_handed_over_is_found() {
    fn wrong(ownership: Option<Ownership>) -> bool {
        ownership.is_some_and(|ownership| ownership != Ownership::Ending)
    }
    assert_found(
        &Decisions { may_expire: wrong, ..REAL },
        World::new(true, NONE),
        "is alive although its execution has ended",
    );
}

#[test]
fn treating_a_held_lock_as_a_dead_shim_is_found() {
    fn wrong(mut evidence: Evidence, created_at_ms: u64, host_time: &HostTime) -> RecoveryAction {
        if evidence.lock == Lock::Held {
            evidence.lock = Lock::Free;
        }
        decide_recovery(evidence, created_at_ms, host_time)
    }
    let begin = World::new(true, Faults { api: 1, ..NONE });
    assert_found(&Decisions { decide_recovery: wrong, ..REAL }, begin, "killed without a request");
}
