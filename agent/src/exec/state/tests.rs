//! Tables of decisions: evidence and the expected result.

use super::*;
use crate::exec::LauncherError;
use crate::exec::directory::{Evidence, Lock, RecordFile};
use crate::records::record;
use packs_schema::agent::execution::{Exit, Spec, Started, State};
use packs_schema::agent::launch::{Outcome, Refusal};
use serde_json::json;

fn host_time() -> HostTime {
    HostTime { boot_id: "this".to_owned(), booted_at_ms: 500, now_ms: 2_000, boottime_ms: 1_500 }
}

fn spec() -> Spec {
    record(json!({}))
}

fn started(boot: &str) -> RecordFile<Started> {
    RecordFile::Valid(record(json!({ "boot_id": boot })))
}

fn exit() -> Exit {
    record(json!({}))
}

fn evidence() -> Evidence {
    let (started, exit) = (RecordFile::Absent, RecordFile::Absent);
    Evidence { spec: RecordFile::Valid(spec()), lock: Lock::Absent, started, exit, kill: false }
}

#[track_caller]
fn expect(evidence: Evidence, state: State) {
    match decide_recovery(evidence, 1_000, &host_time()) {
        RecoveryAction::End(s, _) => assert_eq!(s, state),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exit_record_is_imported_whatever_else_exists() {
    for lock in [Lock::Absent, Lock::Held, Lock::Free] {
        let found = Evidence { exit: RecordFile::Valid(exit()), started: started("other"), lock, ..evidence() };
        assert_eq!(decide_recovery(found, 0, &host_time()), RecoveryAction::Import(Box::new(exit())));
    }
}

#[test]
fn an_execution_with_a_held_lock_is_resumed() {
    let found = Evidence { lock: Lock::Held, started: started("this"), ..evidence() };
    assert_eq!(decide_recovery(found, 1_000, &host_time()), RecoveryAction::Resume);
    let before_started = Evidence { lock: Lock::Held, ..evidence() };
    assert_eq!(decide_recovery(before_started, 1_000, &host_time()), RecoveryAction::Resume);
}

#[test]
fn an_execution_of_another_boot_is_interrupted() {
    let other = || Spec { boot_id: "other".to_owned(), ..spec() };
    expect(Evidence { spec: RecordFile::Valid(other()), ..evidence() }, State::Interrupted);
    expect(Evidence { started: started("other"), lock: Lock::Free, ..evidence() }, State::Interrupted);
    let nothing = Evidence { spec: RecordFile::Absent, ..evidence() };
    let action = decide_recovery(nothing, 400, &host_time());
    assert!(matches!(action, RecoveryAction::End(State::Interrupted, _)), "{action:?}");
}

#[test]
fn an_execution_without_its_shim_is_cleaned_up_and_lost() {
    for found in [
        Evidence { started: started("this"), lock: Lock::Free, ..evidence() },
        Evidence { lock: Lock::Free, ..evidence() },
        Evidence { started: started("this"), ..evidence() },
        Evidence { exit: RecordFile::Damaged(String::new()), lock: Lock::Free, ..evidence() },
    ] {
        assert_eq!(decide_recovery(found, 1_000, &host_time()), RecoveryAction::CleanUp);
    }
    let aborted = |exit, cleaned| match end_lost(Evidence { exit, lock: Lock::Free, ..evidence() }, cleaned, 7) {
        Some(Change::Aborted { state: State::Lost, reason, at_ms: 7 }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(aborted(RecordFile::Absent, CleanUpOutcome::Done), "its shim was killed");
    assert_eq!(
        aborted(RecordFile::Absent, CleanUpOutcome::Failed("two live".to_owned())),
        "its shim was killed; two live"
    );
    let damaged = RecordFile::Damaged("it is in format 9".to_owned());
    assert_eq!(aborted(damaged, CleanUpOutcome::Done), "its exit record cannot be read: it is in format 9");
    assert_eq!(end_lost(evidence(), CleanUpOutcome::LauncherGone, 7), None, "the successor decides");
    assert_eq!(
        end_lost(Evidence { lock: Lock::Held, ..evidence() }, CleanUpOutcome::Done, 7),
        None,
        "the shim is alive after all"
    );
    let ended = Evidence { exit: RecordFile::Valid(exit()), ..evidence() };
    assert_eq!(end_lost(ended, CleanUpOutcome::LauncherGone, 7), Some(Change::Ended(Box::new(exit()))));
}

#[test]
fn a_live_execution_is_cleaned_up_only_when_its_lock_is_free() {
    let seen = inspect(
        Evidence { started: started("this"), lock: Lock::Held, ..evidence() },
        State::Queued,
        Ownership::HandedOver,
    );
    assert!(matches!(seen, Inspection { change: Some(Change::Started(_)), shim_lost: false }));
    let seen = inspect(
        Evidence { started: started("this"), lock: Lock::Free, ..evidence() },
        State::Running,
        Ownership::HandedOver,
    );
    assert_eq!(seen, Inspection { change: None, shim_lost: true });
    let seen = inspect(
        Evidence { exit: RecordFile::Valid(exit()), lock: Lock::Free, ..evidence() },
        State::Running,
        Ownership::HandedOver,
    );
    assert_eq!(seen, Inspection { change: Some(Change::Ended(Box::new(exit()))), shim_lost: false });
    let claimed = || Evidence { lock: Lock::Free, ..evidence() };
    assert!(
        !inspect(claimed(), State::Queued, Ownership::StartRequested).shim_lost,
        "the launcher is about to lock it"
    );
    assert!(inspect(claimed(), State::Queued, Ownership::HandedOver).shim_lost);
    assert_eq!(recheck_lost(Evidence { lock: Lock::Free, ..evidence() }), LostCheck::CleanUp);
    assert_eq!(recheck_lost(Evidence { lock: Lock::Held, ..evidence() }), LostCheck::Leave);
    assert_eq!(recheck_lost(evidence()), LostCheck::Leave, "the launcher has removed the lock again");
}

#[test]
fn a_missing_launcher_is_not_an_answer() {
    let refused = |code| Ok(Outcome::Refused { code, message: "why".to_owned() });
    assert_eq!(interpret_start(Ok(Outcome::Done)), StartOutcome::Started);
    assert_eq!(interpret_start(refused(Refusal::AlreadyStarted)), StartOutcome::AlreadyStarted);
    assert_eq!(interpret_start(refused(Refusal::Resources)), StartOutcome::Refused("why".to_owned()));
    assert_eq!(interpret_start(Err(LauncherError::Gone)), StartOutcome::Unknown);
    assert_eq!(interpret_clean_up(Some(Err(LauncherError::Gone))), CleanUpOutcome::LauncherGone);
    assert!(matches!(interpret_clean_up(None), CleanUpOutcome::Failed(_)));
    assert_eq!(interpret_kill(true, Err(LauncherError::Gone)), KillOutcome::Recorded);
    assert_eq!(interpret_kill(false, Err(LauncherError::Gone)), KillOutcome::Unreachable(LauncherError::Gone));
    assert_eq!(
        interpret_kill(false, Ok(Outcome::Done)),
        KillOutcome::NotRecorded,
        "a shim that starts later would not know"
    );
}

#[test]
fn only_waiting_executions_are_ended_by_the_api() {
    assert_eq!(decide_kill(Some(Ownership::Ours)), KillStep::EndNow);
    assert_eq!(
        [Ownership::StartRequested, Ownership::HandedOver].map(|ownership| decide_kill(Some(ownership))),
        [KillStep::Forward; 2]
    );
    assert_eq!(
        (decide_kill(Some(Ownership::Ending)), decide_kill(None)),
        (KillStep::AlreadyEnded, KillStep::AlreadyEnded)
    );
    let expiring = [Some(Ownership::Ours), Some(Ownership::HandedOver), Some(Ownership::Ending), None].map(may_expire);
    assert_eq!(expiring, [true, false, false, false]);
}

#[test]
fn a_start_deadline_uses_the_clock_of_the_boot() {
    let left = |spec: Spec, host_time: HostTime| host_time.remaining_ms(&spec);
    let timed = || Spec { created_boottime_ms: Some(1_000), ..spec() };
    assert_eq!(left(timed(), host_time()), 4_500);
    let ten_years = 10 * 365 * 86_400_000;
    let far = HostTime { now_ms: 2_000 + ten_years, ..host_time() };
    assert_eq!(left(timed(), far.clone()), 4_500, "a leap of the clock expires nothing");
    assert_eq!(left(timed(), HostTime { now_ms: 0, ..host_time() }), 4_500, "nor does it extend the wait");
    assert_eq!(left(spec(), far), 0, "a spec of an older api has only the wall clock");
}

#[test]
fn an_execution_that_was_not_started_is_queued_again_or_ended_with_a_reason() {
    assert_eq!(decide_recovery(evidence(), 1_000, &host_time()), RecoveryAction::Requeue(Box::new(spec())));
    expect(Evidence { kill: true, ..evidence() }, State::Killed);
    let late = Spec { start_within_ms: 1_000, ..spec() };
    expect(Evidence { spec: RecordFile::Valid(late), ..evidence() }, State::Expired);
    let secret = Spec { has_secrets: true, ..spec() };
    expect(Evidence { spec: RecordFile::Valid(secret), ..evidence() }, State::Error);
    expect(Evidence { spec: RecordFile::Damaged(String::new()), ..evidence() }, State::Error);
    expect(Evidence { spec: RecordFile::Absent, ..evidence() }, State::Error);
}
