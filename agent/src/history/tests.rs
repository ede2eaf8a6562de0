//! The history as its users see it: rows read back, in pages, also after damage.

mod damage;
mod epoch;
mod pages;
mod retention;
mod size;
mod skewed;

use super::*;
use packs_schema::agent::execution::{StreamTotals, Usage};

use serde_json::json;

fn instance() -> InstanceId {
    InstanceId::new("i-1").unwrap()
}

fn record(n: u64, action: &str, who: &str) -> Execution {
    crate::records::record(json!({
        "id": format!("01932c07-1f4e-7c61-b4b0-{n:012x}"),
        "action": action,
        "parameters": {"days": 7, "token": "[secret]"},
        "principal": who,
        "run": if n.is_multiple_of(2) { json!("run-1") } else { json!(null) },
        "created_at_ms": 1_000 + n / 2,
    }))
}

fn open() -> (tempfile::TempDir, History) {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(&dir.path().join("history.db"), &instance()).unwrap();
    (dir, history)
}

fn ended(mut record: Execution) -> Execution {
    record.state = State::Succeeded;
    record.started_at_ms = Some(2_000);
    record.ended_at_ms = Some(2_010);
    record.duration_ms = Some(10);
    record.exit_status = Some(0);
    record.usage = Some(Usage { user_us: 5, ..Usage::default() });
    record.stdout = Some(StreamTotals { written_bytes: 3, dropped_bytes: 0 });
    record.stderr = Some(StreamTotals::default());
    record.unenforced = vec!["cpu limit".to_owned()];
    record.result = json!({"freed": 1}).as_object().cloned();
    record
}

#[tokio::test]
async fn a_record_reads_back_before_and_after_reopening() {
    let (dir, history) = open();
    let first = record(1, "linux.a", "spiffe://x/ann");
    assert_eq!(history.insert(first.clone(), None, None).await.unwrap(), WriteOutcome::Written);
    assert_eq!(history.get(&first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(history.unfinished().await.unwrap(), std::slice::from_ref(&first));
    let mut end = ended(first.clone());
    end.killed_by = Some(Principal::new("spiffe://x/bob").unwrap());
    end.kill_note = Some("wrong host".to_owned());
    let changes = vec![(State::Running, 2_000), (State::Succeeded, 2_010)];
    assert_eq!(history.update(end.clone(), changes.clone()).await.unwrap(), WriteOutcome::Written);
    history.close().await;
    let again = History::open(&dir.path().join("history.db"), &instance()).unwrap();
    assert!(!again.needs_import());
    assert_eq!(again.get(&first.id).await.unwrap(), Some(end.clone()));
    assert!(again.unfinished().await.unwrap().is_empty());
    let mut killed = end;
    killed.state = State::Killed;
    assert_eq!(
        again.update(killed, changes).await.unwrap(),
        WriteOutcome::Unchanged,
        "an ended execution never changes"
    );
    let events = again.events(0, 10).await.unwrap();
    let states: Vec<State> = events.iter().map(|event| event.state).collect();
    assert_eq!(states, [State::Queued, State::Running, State::Succeeded]);
    assert_eq!(*again.newest_event().borrow(), events[2].event);
    again.close().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_execution_of_its_caller() {
    let (_dir, history) = open();
    let key = |mac: &str| Some(Key { key: IdempotencyKey::new("k1").unwrap(), fingerprint: mac.to_owned() });
    let first = record(1, "linux.a", "spiffe://x/ann");
    assert_eq!(history.insert(first.clone(), key("m1"), None).await.unwrap(), WriteOutcome::Written);
    let again = history.insert(record(2, "linux.a", "spiffe://x/ann"), key("m2"), None).await.unwrap();
    assert_eq!(again, WriteOutcome::KeyExists(Box::new(first.clone()), "m1".to_owned()));
    assert_eq!(
        history.insert(record(3, "linux.a", "spiffe://x/bob"), key("m1"), None).await.unwrap(),
        WriteOutcome::Written
    );
    let found = history.by_key(&first.principal, &IdempotencyKey::new("k1").unwrap()).await.unwrap();
    assert_eq!(found, Some((first, "m1".to_owned())));
    history.close().await;
}

#[tokio::test]
async fn pages_list_every_visible_execution_once() {
    let (_dir, history) = open();
    for n in 0..10 {
        let action = if n < 5 { "linux.a" } else { "cassandra.b" };
        history.insert(record(n, action, "spiffe://x/ann"), None, None).await.unwrap();
    }
    let mut wanted = Filter { limit: 3, ..Filter::default() };
    let mut seen = Vec::new();
    loop {
        let (items, next) = history.list(wanted.clone(), |_| true).await.unwrap();
        seen.extend(items.into_iter().map(|e| e.id.to_string()));
        // The cursor is sent as text.
        let Some(next) = next else { break };
        wanted.after = Some(next.to_string().parse().unwrap());
    }
    let want: Vec<String> = (0..10).rev().map(|n| record(n, "linux.a", "spiffe://x/ann").id.to_string()).collect();
    assert_eq!(seen, want);
    let all = |wanted: Filter| Filter { limit: 100, ..wanted };
    let count = async |wanted: Filter, visible: fn(&ActionRef) -> bool| {
        history.list(all(wanted), visible).await.unwrap().0.len()
    };
    let linux: fn(&ActionRef) -> bool = |action| action.pack().as_str() == "linux";
    assert_eq!(count(Filter::default(), linux).await, 5);
    assert_eq!(count(Filter::default(), |_| false).await, 0);
    let action = Some(ActionRef::new("cassandra.b").unwrap());
    assert_eq!(count(Filter { action: action.clone(), ..Filter::default() }, |_| true).await, 5);
    assert_eq!(count(Filter { action, ..Filter::default() }, linux).await, 0);
    let run = Some(packs_schema::base::name::RunId::new("run-1").unwrap());
    assert_eq!(count(Filter { run, ..Filter::default() }, |_| true).await, 5);
    assert_eq!(count(Filter { state: Some(State::Queued), ..Filter::default() }, |_| true).await, 10);
    assert_eq!(count(Filter { state: Some(State::Lost), ..Filter::default() }, |_| true).await, 0);
    let principal = Some(Principal::new("spiffe://x/bob").unwrap());
    assert_eq!(count(Filter { principal, ..Filter::default() }, |_| true).await, 0);
    let (since_ms, until_ms) = (Some(1_001), Some(1_003));
    assert_eq!(count(Filter { since_ms, until_ms, ..Filter::default() }, |_| true).await, 4);
    history.close().await;
}

#[tokio::test]
async fn acceptances_are_found_by_wall_clock_or_boot_clock() {
    let (_dir, history) = open();
    let boot_time = |boot_id: &str, boottime_ms| BootTime { boot_id: boot_id.to_owned(), boottime_ms };
    let at = |n: u64, at_ms: u64| Execution { created_at_ms: at_ms, ..record(n, "linux.a", "spiffe://x/ann") };
    let years = 10 * 365 * 86_400_000;
    // In this boot, before and after the clock was set ten years forward; in the previous boot; of another action.
    history.insert(at(1, 5_000), None, Some(boot_time("this", 60_000))).await.unwrap();
    history.insert(at(2, years), None, Some(boot_time("this", 70_000))).await.unwrap();
    history.insert(at(3, years - 10), None, Some(boot_time("other", 71_000))).await.unwrap();
    history.insert(at(4, 4_000), None, Some(boot_time("this", 1_000))).await.unwrap();
    history.insert(at(5, years), None, None).await.unwrap();
    let elsewhere = Execution { created_at_ms: years, ..record(6, "linux.b", "spiffe://x/ann") };
    history.insert(elsewhere, None, Some(boot_time("this", 70_000))).await.unwrap();
    let action = ActionRef::new("linux.a").unwrap();
    let found = history.accepted_since(&action, years - 1_000, boot_time("this", 50_000)).await.unwrap();
    let mut times: Vec<u64> = found.iter().map(|accepted| accepted.at_ms).collect();
    times.sort_unstable();
    assert_eq!(
        times,
        [5_000, years - 10, years, years],
        "also one from before the jump, but none that is too old by both"
    );
    assert!(found.contains(&Accepted { at_ms: 5_000, boot_time: Some(boot_time("this", 60_000)) }));
    history.close().await;
}
