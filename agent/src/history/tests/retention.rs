//! What is kept and what goes, with clocks that are played.

use std::sync::Arc;

use super::*;

const DAY: u64 = 86_400_000;
const KEEP: Duration = Duration::from_secs(180 * 86_400);
const NOW: u64 = 1_800_000_000_000;
const TEN_YEARS: u64 = 3_652 * DAY;

/// Clocks that a test sets.
#[derive(Clone)]
struct Played(Arc<Mutex<Reading>>);

impl Played {
    fn new() -> Played {
        Played(Arc::new(Mutex::new(Reading { boot_id: "one".to_owned(), boot_ms: 5_000, wall_ms: NOW })))
    }

    fn clock(&self) -> Clock {
        let played = self.0.clone();
        Box::new(move || lock(&played).clone())
    }

    fn set(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut lock(&self.0));
    }

    /// The host runs for so long.
    fn run(&self, ms: u64) {
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

/// What the sweep does; answers how many went.
async fn forget(history: &History) -> usize {
    let tally = history.tally(KEEP).await.unwrap();
    if tally.horizon.is_none() {
        return 0;
    }
    let old = history.oldest(tally.horizon, 1000).await.unwrap();
    history.forget(old.iter().map(|stored| stored.seq).collect()).await.unwrap()
}

#[tokio::test]
async fn with_a_clock_that_goes_right_a_row_goes_after_its_time_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let played = Played::new();
    let history = History::open_with(&dir.path().join("history.db"), &instance(), played.clock()).unwrap();
    let old = add(&history, 1).await;
    let live = record(2, "linux.a", "spiffe://x/ann");
    history.insert(live.clone(), None, None).await.unwrap();
    for day in 0..179 {
        assert_eq!(forget(&history).await, 0, "day {day}");
        played.run(DAY);
    }
    let young = add(&history, 3).await;
    assert_eq!(forget(&history).await, 0);
    played.run(DAY + 1);
    assert_eq!(forget(&history).await, 1);
    assert!(!history.knows(&old.id).await.unwrap());
    assert!(history.knows(&live.id).await.unwrap(), "it has not ended");
    assert!(history.knows(&young.id).await.unwrap());
    let marks = history.read(|c| Ok(c.query_row("SELECT count(*) FROM marks", [], |row| row.get::<_, u64>(0))?)).await;
    assert!((1..=182).contains(&marks.unwrap()));
    history.close().await;
}

#[tokio::test]
async fn a_wall_clock_that_leaps_forgets_nothing_and_keeps_nothing_for_ever() {
    for leap in [TEN_YEARS as i64, -(TEN_YEARS as i64)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let played = Played::new();
        let history = History::open_with(&path, &instance(), played.clock()).unwrap();
        let old = add(&history, 1).await;
        forget(&history).await;
        // While it runs …
        played.set(|now| now.wall_ms = now.wall_ms.saturating_add_signed(leap));
        assert_eq!(forget(&history).await, 0);
        history.close().await;
        // … while it is down …
        played.set(|now| now.wall_ms = now.wall_ms.saturating_add_signed(-leap));
        let history = History::open_with(&path, &instance(), played.clock()).unwrap();
        assert_eq!(forget(&history).await, 0);
        history.close().await;
        // … and over reboots, back and forth.
        for boot in 0..20 {
            played.set(|now| {
                now.boot_id = format!("boot {boot}");
                now.boot_ms = 1_000;
                now.wall_ms = now.wall_ms.saturating_add_signed(if boot % 2 == 0 { leap } else { -leap });
            });
            let history = History::open_with(&path, &instance(), played.clock()).unwrap();
            assert_eq!(forget(&history).await, 0, "boot {boot}");
            history.close().await;
        }
        let history = History::open_with(&path, &instance(), played.clock()).unwrap();
        assert!(history.knows(&old.id).await.unwrap());
        let life_ms = history.tally(KEEP).await.unwrap().life_ms;
        assert!(life_ms <= 7 * DAY, "{life_ms}: one leap ahead counts once, and as a week");
        for _ in 0..180 {
            forget(&history).await;
            played.run(DAY + 1);
        }
        forget(&history).await;
        assert!(!history.knows(&old.id).await.unwrap());
        history.close().await;
    }
}

#[tokio::test]
async fn a_host_that_comes_up_ten_years_ahead_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let played = Played::new();
    let history = History::open_with(&path, &instance(), played.clock()).unwrap();
    let old = add(&history, 1).await;
    forget(&history).await;
    history.close().await;
    played.set(|now| {
        now.boot_id = "two".to_owned();
        now.boot_ms = 1;
        now.wall_ms += TEN_YEARS;
    });
    let history = History::open_with(&path, &instance(), played.clock()).unwrap();
    assert_eq!(forget(&history).await, 0);
    assert!(history.knows(&old.id).await.unwrap());
    history.close().await;
}

#[tokio::test]
async fn time_that_the_host_was_off_counts_when_the_clock_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let played = Played::new();
    let history = History::open_with(&path, &instance(), played.clock()).unwrap();
    history.tally(KEEP).await.unwrap();
    history.close().await;
    for (days, counted) in [(2, 2), (30, 9)] {
        played.set(|now| {
            now.boot_id += "x";
            now.boot_ms = 1;
            now.wall_ms += days * DAY;
        });
        let history = History::open_with(&path, &instance(), played.clock()).unwrap();
        assert_eq!(history.tally(KEEP).await.unwrap().life_ms, counted * DAY);
        history.close().await;
    }
}

#[tokio::test]
async fn an_output_is_archived_by_the_life_clock_in_the_order_of_ends() {
    let dir = tempfile::tempdir().unwrap();
    let played = Played::new();
    let history = History::open_with(&dir.path().join("history.db"), &instance(), played.clock()).unwrap();
    let first = record(1, "linux.a", "spiffe://x/ann");
    history.insert(first.clone(), None, None).await.unwrap();
    let second = add(&history, 2).await;
    played.run(DAY);
    history.update(ended(first.clone()), vec![(State::Succeeded, 1)]).await.unwrap();
    let ids = async |until: Option<u64>| -> Vec<ExecutionId> {
        history.to_archive(until, 10).await.unwrap().into_iter().map(|stored| stored.id).collect()
    };
    assert_eq!(ids(Some(0)).await, std::slice::from_ref(&second.id));
    assert_eq!(ids(None).await, [second.id.clone(), first.id.clone()]);
    let place = Place::Table(b"blob".to_vec().into());
    assert_eq!(
        history.archive(vec![(second.id.clone(), place.clone()), (first.id.clone(), Place::File)]).await.unwrap(),
        2
    );
    assert_eq!(history.archive(vec![(second.id.clone(), Place::Nothing)]).await.unwrap(), 0, "once");
    assert!(ids(None).await.is_empty());
    assert_eq!(history.place(&second.id).await.unwrap(), Some(place));
    assert_eq!(history.place(&first.id).await.unwrap(), Some(Place::File));
    let seqs = |stored: Vec<Stored>| stored.into_iter().map(|stored| stored.seq).collect::<Vec<_>>();
    assert_eq!(seqs(history.oldest_outputs(true, 10).await.unwrap()), [1]);
    assert_eq!(seqs(history.oldest_outputs(false, 10).await.unwrap()), [1, 2]);
    assert_eq!(history.drop_outputs(vec![1, 2]).await.unwrap(), 2);
    assert_eq!(history.place(&second.id).await.unwrap(), Some(Place::Gone));
    assert!(history.oldest_outputs(false, 10).await.unwrap().is_empty());
    // A number of a row is never used again.
    assert_eq!(history.forget(vec![1, 2]).await.unwrap(), 2);
    let third = add(&history, 3).await;
    assert_eq!(history.oldest(None, 1).await.unwrap()[0].seq, 3);
    let events = history.events(0, 100).await.unwrap();
    assert!(events.iter().all(|event| event.execution == third.id), "events go with their rows");
    history.close().await;
}

#[tokio::test]
async fn the_file_shrinks_when_rows_go() {
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
    history.forget(rows).await.unwrap();
    let after = history.tally(KEEP).await.unwrap();
    assert!(after.used_bytes * 3 < before.used_bytes && after.free_bytes > 300_000, "{before:?} {after:?}");
    for _ in 0..after.free_bytes / (1 << 20) + 1 {
        history.shrink().await.unwrap();
    }
    assert_eq!(history.tally(KEEP).await.unwrap().free_bytes, 0);
    history.close().await;
}
