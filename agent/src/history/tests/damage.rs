//! Every kind of damage: the history opens, and tells when rows may be missing.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use super::*;

const ROWS: u64 = 150;

/// Creates a history with rows and archived outputs, and closes it.
async fn populated(path: &Path) -> Vec<Execution> {
    let history = History::open(path, &instance()).unwrap();
    let mut all = Vec::new();
    for n in 0..ROWS {
        let mut new = record(n, "linux.a", "spiffe://x/ann");
        new.note = Some(format!("note {n} {}", "x".repeat(300)));
        let key = Key { key: IdempotencyKey::new(format!("key-{n}")).unwrap(), fingerprint: format!("{n:032x}") };
        history.insert(new.clone(), Some(key), None).await.unwrap();
        let end = ended(new);
        history.update(end.clone(), vec![(State::Running, 2_000), (State::Succeeded, 2_010)]).await.unwrap();
        all.push(end);
    }
    let outputs =
        all.iter().map(|e| (e.id.clone(), OutputLocation::Database(format!("blob of {}", e.id).into_bytes().into())));
    history.archive(outputs.collect()).await.unwrap();
    history.close().await;
    all
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Asserts that executions can be written and listed.
async fn assert_works(history: &History) {
    let new = record(9_999, "linux.new", "spiffe://x/ann");
    assert_eq!(history.insert(new.clone(), None, None).await.unwrap(), WriteOutcome::Written);
    history.update(ended(new.clone()), vec![(State::Succeeded, 1)]).await.unwrap();
    assert_eq!(history.get(&new.id).await.unwrap().unwrap().state, State::Succeeded);
    history.list(Filter { limit: 500, ..Filter::default() }, |_| true).await.unwrap();
    history.tally(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_quarantined_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    for _ in 0..4 {
        // With its log, which alone would be enough to read everything.
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("history.db{suffix}")));
        }
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let history = History::open(&path, &instance()).unwrap();
        assert!(history.needs_import());
        assert_works(&history).await;
        history.close().await;
    }
    let quarantined = History::open(&path, &instance()).unwrap().quarantined();
    assert_eq!(quarantined.len(), 2, "the newest two are kept: {quarantined:?}");
}

#[tokio::test]
async fn overwritten_pages_are_found_at_the_start_and_the_rest_is_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let all = populated(&path).await;
    let pages = path.metadata().unwrap().len() / 4096;
    assert!(pages > 25, "{pages}");
    let whole = std::fs::read(&path).unwrap();
    let mut saved_at_best = 0;
    for page in (1..pages).step_by(5) {
        std::fs::write(&path, &whole).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("history.db{suffix}")));
        }
        overwrite(&path, page * 4096 + 5, &[0xa5; 1_500]);
        let history = History::open(&path, &instance()).unwrap();
        assert_works(&history).await;
        if history.needs_import() {
            let mut saved = 0;
            for execution in &all {
                if let Some(found) = history.get(&execution.id).await.unwrap() {
                    assert_eq!(found.state, State::Succeeded);
                    saved += 1;
                }
            }
            saved_at_best = saved_at_best.max(saved);
        }
        assert!(!*history.damaged().borrow());
        history.close().await;
    }
    assert!(saved_at_best > ROWS / 2, "{saved_at_best}");
}

#[tokio::test]
async fn salvaged_rows_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let all = populated(&path).await;
    // The mark of a run that found damage; all rows are intact.
    std::fs::write(dir.path().join("history.db.damaged"), "a test").unwrap();
    let history = History::open(&path, &instance()).unwrap();
    assert!(history.needs_import() && !dir.path().join("history.db.damaged").exists());
    for (n, execution) in all.iter().enumerate() {
        assert_eq!(history.get(&execution.id).await.unwrap().as_ref(), Some(execution));
        let key = IdempotencyKey::new(format!("key-{n}")).unwrap();
        let found = history.by_key(&execution.principal, &key).await.unwrap().unwrap();
        assert_eq!((found.0.id, found.1), (execution.id.clone(), format!("{n:032x}")));
        let blob = format!("blob of {}", execution.id).into_bytes();
        assert_eq!(history.output_location(&execution.id).await.unwrap(), Some(OutputLocation::Database(blob.into())));
    }
    let oldest = history.oldest(None, 1).await.unwrap();
    assert_eq!(oldest[0].id, all[0].id, "the oldest is still the oldest");
    assert_works(&history).await;
    assert_eq!(history.oldest(None, 1000).await.unwrap().last().unwrap().seq, i64::try_from(ROWS).unwrap() * 2 + 1);
    history.close().await;
}

#[tokio::test]
async fn a_damaged_history_of_an_earlier_version_is_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let all = populated(&path).await;
    // As earlier versions left it, without the columns for pushed packs and for notes of kills.
    let connection = rusqlite::Connection::open(&path).unwrap();
    let older = "ALTER TABLE executions DROP COLUMN dev; ALTER TABLE executions DROP COLUMN kill_note;
        PRAGMA user_version = 3;";
    connection.execute_batch(older).unwrap();
    drop(connection);
    std::fs::write(dir.path().join("history.db.damaged"), "a test").unwrap();
    let history = History::open(&path, &instance()).unwrap();
    assert!(history.needs_import());
    for execution in &all {
        assert_eq!(history.get(&execution.id).await.unwrap().as_ref(), Some(execution));
    }
    history.close().await;
}

#[tokio::test]
async fn a_truncated_file_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    populated(&path).await;
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 1, 99, 100, 4095, 4096, 4097, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("history.db{suffix}")));
        }
        let history = History::open(&path, &instance()).unwrap();
        assert!(history.needs_import(), "cut to {length} of {}", whole.len());
        assert_works(&history).await;
        history.close().await;
    }
}

#[tokio::test]
async fn an_overwritten_log_means_that_rows_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let history = History::open(&path, &instance()).unwrap();
    for n in 0..40 {
        history.insert(record(n, "linux.a", "spiffe://x/ann"), None, None).await.unwrap();
    }
    // As after a crash: without a checkpoint of the log.
    let log = std::fs::read(dir.path().join("history.db-wal")).unwrap();
    let database = std::fs::read(&path).unwrap();
    history.close().await;
    for (at, length) in [(0, log.len()), (0, 8), (log.len() / 2, 64), (log.len() / 2, 20_000)] {
        let _ = std::fs::remove_file(dir.path().join("history.db-shm"));
        std::fs::write(&path, &database).unwrap();
        let mut bad = log.clone();
        let until = (at + length).min(bad.len());
        bad[at..until].fill(0x5a);
        std::fs::write(dir.path().join("history.db-wal"), bad).unwrap();
        let history = History::open(&path, &instance()).unwrap();
        assert!(history.needs_import(), "{at} {length}");
        assert_works(&history).await;
        history.close().await;
    }
    let _ = std::fs::remove_file(dir.path().join("history.db-shm"));
    std::fs::write(&path, &database).unwrap();
    std::fs::write(dir.path().join("history.db-wal"), &log).unwrap();
    let history = History::open(&path, &instance()).unwrap();
    assert!(!history.needs_import(), "a log as a crash leaves it is not damaged");
    assert_eq!(history.unfinished().await.unwrap().len(), 40);
    history.close().await;
}

#[tokio::test]
async fn damage_found_while_running_is_reported_and_the_next_start_replaces_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let all = populated(&path).await;
    let history = History::open(&path, &instance()).unwrap();
    let mut damaged = history.damaged();
    let pages = path.metadata().unwrap().len() / 4096;
    for page in 1..pages {
        overwrite(&path, page * 4096, &[0xff; 64]);
    }
    let mut failed = 0;
    for execution in &all {
        failed += usize::from(matches!(history.get(&execution.id).await, Err(HistoryError::Damaged(_))));
    }
    assert!(failed > 0);
    damaged.wait_for(|damaged| *damaged).await.unwrap();
    assert!(dir.path().join("history.db.damaged").exists());
    history.close().await;
    let again = History::open(&path, &instance()).unwrap();
    assert!(again.needs_import());
    assert_works(&again).await;
    again.close().await;
}

#[tokio::test]
async fn a_damaged_row_that_has_not_ended_is_imported_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let history = History::open(&path, &instance()).unwrap();
    let (good, bad) = (record(1, "linux.a", "spiffe://x/ann"), record(2, "linux.a", "spiffe://x/ann"));
    history.insert(good.clone(), None, None).await.unwrap();
    history.insert(bad.clone(), None, None).await.unwrap();
    history.close().await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("UPDATE executions SET parameters = '{\"da\u{1}' WHERE seq = 2").unwrap();
    drop(connection);
    let history = History::open(&path, &instance()).unwrap();
    assert!(history.needs_import());
    assert_eq!(history.unfinished().await.unwrap(), [good]);
    assert!(!history.knows(&bad.id).await.unwrap());
    history.close().await;
}
