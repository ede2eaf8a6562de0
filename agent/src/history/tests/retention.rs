//! Retention with simulated clocks.

use std::sync::Arc;

use super::*;

const DAY: u64 = 86_400_000;
const KEEP: Duration = Duration::from_secs(180 * 86_400);
const NOW: u64 = 1_800_000_000_000;
const TEN_YEARS: u64 = 3_652 * DAY;

/// Clocks that a test sets.
#[derive(Clone)]
struct FakeClocks(Arc<Mutex<ClockReading>>);

impl FakeClocks {
    fn new() -> FakeClocks {
        FakeClocks(Arc::new(Mutex::new(ClockReading { boot_id: "one".to_owned(), boot_ms: 5_000, wall_ms: NOW })))
    }

    fn clock(&self) -> ReadClocks {
        let clocks = self.0.clone();
        Box::new(move || lock(&clocks).clone())
    }

    fn set(&self, change: impl FnOnce(&mut ClockReading)) {
        change(&mut lock(&self.0));
    }

    /// Advances all clocks.
    fn advance(&self, ms: u64) {
        self.set(|now| {
            now.boot_ms += ms;
            now.wall_ms += ms;
        });
    }
}

async fn add(history: &History, n: u64) -> Execution {
    let new = record(n, "linux.a", "spiffe://x/ann");
    history.insert(new.clone(), None, None).await.unwrap();
    let changes = vec![(State::Running, 2_000), (State::Succeeded, 2_010)];
    history.update(ended(new.clone()), changes).await.unwrap();
    new
}

/// Prunes what is too old, as the agent does; returns how many rows.
async fn prune(history: &History) -> usize {
    let tally = history.tally(KEEP).await.unwrap();
    if tally.horizon.is_none() {
        return 0;
    }
    let old = history.oldest(tally.horizon, 1000).await.unwrap();
    history.prune(old.iter().map(|stored| stored.seq).collect()).await.unwrap()
}

#[tokio::test]
async fn with_correct_clocks_a_row_is_pruned_after_its_time_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let clocks = FakeClocks::new();
    let history = History::open_with(&dir.path().join("history.db"), &instance(), clocks.clock()).unwrap();
    let old = add(&history, 1).await;
    let live = record(2, "linux.a", "spiffe://x/ann");
    history.insert(live.clone(), None, None).await.unwrap();
    for day in 0..179 {
        assert_eq!(prune(&history).await, 0, "day {day}");
        clocks.advance(DAY);
    }
    let young = add(&history, 3).await;
    assert_eq!(prune(&history).await, 0);
    clocks.advance(DAY + 1);
    assert_eq!(prune(&history).await, 1);
    assert!(!history.knows(&old.id).await.unwrap());
    assert!(history.knows(&live.id).await.unwrap(), "the execution has not ended");
    assert!(history.knows(&young.id).await.unwrap());
    let marks = history.read(|c| Ok(c.query_row("SELECT count(*) FROM marks", [], |row| row.get::<_, u64>(0))?)).await;
    assert!((1..=182).contains(&marks.unwrap()));
    history.close().await;
}

#[tokio::test]
async fn a_leap_of_the_wall_clock_neither_prunes_rows_nor_keeps_them_for_ever() {
    for leap in [TEN_YEARS as i64, -(TEN_YEARS as i64)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let clocks = FakeClocks::new();
        let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
        let old = add(&history, 1).await;
        prune(&history).await;
        // While the agent runs …
        clocks.set(|now| now.wall_ms = now.wall_ms.saturating_add_signed(leap));
        assert_eq!(prune(&history).await, 0);
        history.close().await;
        // … while it is stopped …
        clocks.set(|now| now.wall_ms = now.wall_ms.saturating_add_signed(-leap));
        let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
        assert_eq!(prune(&history).await, 0);
        history.close().await;
        // … and across reboots, back and forth.
        for boot in 0..20 {
            clocks.set(|now| {
                now.boot_id = format!("boot {boot}");
                now.boot_ms = 1_000;
                now.wall_ms = now.wall_ms.saturating_add_signed(if boot % 2 == 0 { leap } else { -leap });
            });
            let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
            assert_eq!(prune(&history).await, 0, "boot {boot}");
            history.close().await;
        }
        let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
        assert!(history.knows(&old.id).await.unwrap());
        let age_ms = history.tally(KEEP).await.unwrap().age_ms;
        assert!(age_ms <= 7 * DAY, "{age_ms}: a leap forward counts once, and as one week");
        for _ in 0..180 {
            prune(&history).await;
            clocks.advance(DAY + 1);
        }
        prune(&history).await;
        assert!(!history.knows(&old.id).await.unwrap());
        history.close().await;
    }
}

#[tokio::test]
async fn a_boot_with_the_clock_ten_years_ahead_prunes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let clocks = FakeClocks::new();
    let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
    let old = add(&history, 1).await;
    prune(&history).await;
    history.close().await;
    clocks.set(|now| {
        now.boot_id = "two".to_owned();
        now.boot_ms = 1;
        now.wall_ms += TEN_YEARS;
    });
    let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
    assert_eq!(prune(&history).await, 0);
    assert!(history.knows(&old.id).await.unwrap());
    history.close().await;
}

#[tokio::test]
async fn time_that_the_host_was_off_counts_up_to_a_week() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let clocks = FakeClocks::new();
    let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
    history.tally(KEEP).await.unwrap();
    history.close().await;
    for (days, counted) in [(2, 2), (30, 9)] {
        clocks.set(|now| {
            now.boot_id += "x";
            now.boot_ms = 1;
            now.wall_ms += days * DAY;
        });
        let history = History::open_with(&path, &instance(), clocks.clock()).unwrap();
        assert_eq!(history.tally(KEEP).await.unwrap().age_ms, counted * DAY);
        history.close().await;
    }
}

#[tokio::test]
async fn outputs_are_archived_by_the_history_clock_in_the_order_of_ends() {
    let dir = tempfile::tempdir().unwrap();
    let clocks = FakeClocks::new();
    let history = History::open_with(&dir.path().join("history.db"), &instance(), clocks.clock()).unwrap();
    let first = record(1, "linux.a", "spiffe://x/ann");
    history.insert(first.clone(), None, None).await.unwrap();
    let second = add(&history, 2).await;
    clocks.advance(DAY);
    history.update(ended(first.clone()), vec![(State::Succeeded, 1)]).await.unwrap();
    let ids = async |until: Option<u64>| -> Vec<ExecutionId> {
        history.to_archive(until, 10).await.unwrap().into_iter().map(|stored| stored.id).collect()
    };
    assert_eq!(ids(Some(0)).await, std::slice::from_ref(&second.id));
    assert_eq!(ids(None).await, [second.id.clone(), first.id.clone()]);
    let place = OutputLocation::Database(b"blob".to_vec().into());
    assert_eq!(
        history
            .archive(vec![(second.id.clone(), place.clone()), (first.id.clone(), OutputLocation::File)])
            .await
            .unwrap(),
        2
    );
    assert_eq!(history.archive(vec![(second.id.clone(), OutputLocation::Empty)]).await.unwrap(), 0, "once");
    assert!(ids(None).await.is_empty());
    assert_eq!(history.output_location(&second.id).await.unwrap(), Some(place));
    assert_eq!(history.output_location(&first.id).await.unwrap(), Some(OutputLocation::File));
    let seqs = |stored: Vec<Stored>| stored.into_iter().map(|stored| stored.seq).collect::<Vec<_>>();
    assert_eq!(seqs(history.oldest_outputs(true, 10).await.unwrap()), [1]);
    assert_eq!(seqs(history.oldest_outputs(false, 10).await.unwrap()), [1, 2]);
    assert_eq!(history.evict_outputs(vec![1, 2]).await.unwrap(), 2);
    assert_eq!(history.output_location(&second.id).await.unwrap(), Some(OutputLocation::Removed));
    assert!(history.oldest_outputs(false, 10).await.unwrap().is_empty());
    // Row numbers are never used again.
    assert_eq!(history.prune(vec![1, 2]).await.unwrap(), 2);
    let third = add(&history, 3).await;
    assert_eq!(history.oldest(None, 1).await.unwrap()[0].seq, 3);
    let events = history.events(0, 100).await.unwrap();
    assert!(events.iter().all(|event| event.execution == third.id), "events are pruned with their rows");
    history.close().await;
}

#[tokio::test]
async fn the_file_shrinks_when_rows_are_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(&dir.path().join("history.db"), &instance()).unwrap();
    let mut rows = Vec::new();
    for n in 0..300 {
        let mut new = record(n, "linux.a", "spiffe://x/ann");
        new.note = Some("x".repeat(2_000));
        history.insert(new.clone(), None, None).await.unwrap();
        history.update(ended(new), vec![(State::Succeeded, 1)]).await.unwrap();
        rows.push(i64::try_from(n).unwrap() + 1);
    }
    let before = history.tally(KEEP).await.unwrap();
    history.prune(rows).await.unwrap();
    let after = history.tally(KEEP).await.unwrap();
    assert!(after.used_bytes * 3 < before.used_bytes && after.free_bytes > 300_000, "{before:?} {after:?}");
    for _ in 0..after.free_bytes / (1 << 20) + 1 {
        history.shrink().await.unwrap();
    }
    assert_eq!(history.tally(KEEP).await.unwrap().free_bytes, 0);
    history.close().await;
}
