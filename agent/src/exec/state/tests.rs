//! The decisions as tables: what each evidence leads to.

use super::*;
use crate::exec::LauncherError;
use crate::exec::directory::{Evidence, Found, Lock};
use packs_schema::agent::execution::{Exit, FORMAT, Spec, Started, State, StreamTotals, Usage};
use packs_schema::agent::launch::{Outcome, Refusal};
use packs_schema::base::name::ExecutionId;
use packs_schema::base::name::{ActionRef, Digest, PackVersion, Principal};

fn id() -> ExecutionId {
    ExecutionId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa").unwrap()
}

fn present() -> Present {
    Present { boot_id: "this".to_owned(), booted_at_ms: 500, now_ms: 2_000, boottime_ms: 1_500 }
}

fn spec() -> Spec {
    Spec {
        format: FORMAT,
        id: id(),
        action: ActionRef::new("linux.a").unwrap(),
        version: PackVersion::new("1.0.0").unwrap(),
        digest: Digest::new("a".repeat(64)).unwrap(),
        dev: None,
        parameters: serde_json::Map::new(),
        has_secrets: false,
        noop: false,
        timeout_ms: None,
        principal: Principal::new("spiffe://x/ann").unwrap(),
        note: None,
        run: None,
        idempotency_key: None,
        fingerprint: None,
        traceparent: None,
        created_at_ms: 1_000,
        created_boottime_ms: None,
        start_within_ms: 5_000,
        boot_id: "this".to_owned(),
    }
}

fn started(boot: &str) -> Found<Started> {
    Found::Good(Started {
        format: FORMAT,
        boot_id: boot.to_owned(),
        started_at_ms: 1_100,
        timeout_ms: 1,
        unenforced: Vec::new(),
    })
}

fn exit() -> Exit {
    Exit {
        format: FORMAT,
        id: id(),
        state: State::Succeeded,
        reason: None,
        exit_status: Some(0),
        signal: None,
        started_at_ms: 1_100,
        ended_at_ms: 1_200,
        duration_ms: 100,
        usage: Usage::default(),
        stdout: StreamTotals::default(),
        stderr: StreamTotals::default(),
        leftovers: None,
        unenforced: Vec::new(),
        result: None,
        result_error: None,
    }
}

fn evidence() -> Evidence {
    let (started, exit) = (Found::Absent, Found::Absent);
    Evidence { spec: Found::Good(spec()), lock: Lock::Absent, started, exit, kill: false }
}

#[track_caller]
fn expect(evidence: Evidence, state: State) {
    match at_start(evidence, 1_000, &present()) {
        Verdict::End(s, _) => assert_eq!(s, state),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_has_an_exit_record_is_imported_whatever_else_is_there() {
    for lock in [Lock::Absent, Lock::Held, Lock::Free] {
        let found = Evidence { exit: Found::Good(exit()), started: started("other"), lock, ..evidence() };
        assert_eq!(at_start(found, 0, &present()), Verdict::Import(Box::new(exit())));
    }
}

#[test]
fn a_held_lock_means_running() {
    let found = Evidence { lock: Lock::Held, started: started("this"), ..evidence() };
    assert_eq!(at_start(found, 1_000, &present()), Verdict::Running);
    let before_started = Evidence { lock: Lock::Held, ..evidence() };
    assert_eq!(at_start(before_started, 1_000, &present()), Verdict::Running);
}

#[test]
fn another_boot_means_interrupted() {
    let other = || Spec { boot_id: "other".to_owned(), ..spec() };
    expect(Evidence { spec: Found::Good(other()), ..evidence() }, State::Interrupted);
    expect(Evidence { started: started("other"), lock: Lock::Free, ..evidence() }, State::Interrupted);
    let nothing = Evidence { spec: Found::Absent, ..evidence() };
    let verdict = at_start(nothing, 400, &present());
    assert!(matches!(verdict, Verdict::End(State::Interrupted, _)), "{verdict:?}");
}

#[test]
fn a_shim_that_is_gone_is_cleaned_up_after_and_lost() {
    for found in [
        Evidence { started: started("this"), lock: Lock::Free, ..evidence() },
        Evidence { lock: Lock::Free, ..evidence() },
        Evidence { started: started("this"), ..evidence() },
        Evidence { exit: Found::Damaged(String::new()), lock: Lock::Free, ..evidence() },
    ] {
        assert_eq!(at_start(found, 1_000, &present()), Verdict::CleanUp);
    }
    let aborted = |exit, cleaned| match lost(Evidence { exit, lock: Lock::Free, ..evidence() }, cleaned, 7) {
        Some(Change::Aborted { state: State::Lost, reason, at_ms: 7 }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(aborted(Found::Absent, Cleaned::Done), "its shim was killed");
    assert_eq!(aborted(Found::Absent, Cleaned::Failed("two live".to_owned())), "its shim was killed; two live");
    let damaged = Found::Damaged("it is in format 9".to_owned());
    assert_eq!(aborted(damaged, Cleaned::Done), "its exit record cannot be read: it is in format 9");
    assert_eq!(lost(evidence(), Cleaned::Nobody, 7), None, "the successor's to say");
    assert_eq!(lost(Evidence { lock: Lock::Held, ..evidence() }, Cleaned::Done, 7), None, "it lives after all");
    let ended = Evidence { exit: Found::Good(exit()), ..evidence() };
    assert_eq!(lost(ended, Cleaned::Nobody, 7), Some(Change::Ended(Box::new(exit()))));
}

#[test]
fn a_live_execution_is_buried_only_when_its_lock_is_free() {
    let seen =
        look(Evidence { started: started("this"), lock: Lock::Held, ..evidence() }, State::Queued, Standing::Handed);
    assert!(matches!(seen, Look { change: Some(Change::Started(_)), bury: false }));
    let seen =
        look(Evidence { started: started("this"), lock: Lock::Free, ..evidence() }, State::Running, Standing::Handed);
    assert_eq!(seen, Look { change: None, bury: true });
    let seen =
        look(Evidence { exit: Found::Good(exit()), lock: Lock::Free, ..evidence() }, State::Running, Standing::Handed);
    assert_eq!(seen, Look { change: Some(Change::Ended(Box::new(exit()))), bury: false });
    let claimed = || Evidence { lock: Lock::Free, ..evidence() };
    assert!(!look(claimed(), State::Queued, Standing::Asked).bury, "the launcher is only about to hold it");
    assert!(look(claimed(), State::Queued, Standing::Handed).bury);
    assert_eq!(burial(Evidence { lock: Lock::Free, ..evidence() }), Burial::CleanUp);
    assert_eq!(burial(Evidence { lock: Lock::Held, ..evidence() }), Burial::Leave);
    assert_eq!(burial(evidence()), Burial::Leave, "the launcher has taken its claim back");
}

#[test]
fn nobody_there_is_no_answer() {
    let refused = |code| Ok(Outcome::Refused { code, message: "why".to_owned() });
    assert_eq!(answered(Ok(Outcome::Done)), Answered::HasShim);
    assert_eq!(answered(refused(Refusal::AlreadyStarted)), Answered::LookAgain);
    assert_eq!(answered(refused(Refusal::Resources)), Answered::Refused("why".to_owned()));
    assert_eq!(answered(Err(LauncherError::Gone)), Answered::Nobody);
    assert_eq!(cleaned(Some(Err(LauncherError::Gone))), Cleaned::Nobody);
    assert!(matches!(cleaned(None), Cleaned::Failed(_)));
    assert_eq!(told(true, Err(LauncherError::Gone)), Told::Yes);
    assert_eq!(told(false, Err(LauncherError::Gone)), Told::No(LauncherError::Gone));
    assert_eq!(told(false, Ok(Outcome::Done)), Told::Unwritten, "a shim that comes later would not know");
}

#[test]
fn only_what_waits_here_ends_here() {
    assert_eq!(kill(Some(Standing::Waits)), Kill::AtOnce);
    assert_eq!([Standing::Asked, Standing::Handed].map(|standing| kill(Some(standing))), [Kill::Tell; 2]);
    assert_eq!((kill(Some(Standing::Ending)), kill(None)), (Kill::Ended, Kill::Ended));
    let expiring = [Some(Standing::Waits), Some(Standing::Handed), Some(Standing::Ending), None].map(expires);
    assert_eq!(expiring, [true, false, false, false]);
}

#[test]
fn a_start_deadline_goes_by_the_clock_of_the_boot() {
    let left = |spec: Spec, present: Present| present.left_ms(&spec);
    let timed = || Spec { created_boottime_ms: Some(1_000), ..spec() };
    assert_eq!(left(timed(), present()), 4_500);
    let ten_years = 10 * 365 * 86_400_000;
    let far = Present { now_ms: 2_000 + ten_years, ..present() };
    assert_eq!(left(timed(), far.clone()), 4_500, "a clock that jumps expires nothing");
    assert_eq!(left(timed(), Present { now_ms: 0, ..present() }), 4_500, "nor does it keep it waiting");
    assert_eq!(left(spec(), far), 0, "an older api's spec has only the wall clock");
}

#[test]
fn what_was_not_started_waits_again_or_says_why_not() {
    assert_eq!(at_start(evidence(), 1_000, &present()), Verdict::Queue(Box::new(spec())));
    expect(Evidence { kill: true, ..evidence() }, State::Killed);
    let late = Spec { start_within_ms: 1_000, ..spec() };
    expect(Evidence { spec: Found::Good(late), ..evidence() }, State::Expired);
    let secret = Spec { has_secrets: true, ..spec() };
    expect(Evidence { spec: Found::Good(secret), ..evidence() }, State::Error);
    expect(Evidence { spec: Found::Damaged(String::new()), ..evidence() }, State::Error);
    expect(Evidence { spec: Found::Absent, ..evidence() }, State::Error);
}
