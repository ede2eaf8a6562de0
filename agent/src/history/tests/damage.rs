//! Damage of every kind: the history opens, and says when rows may be missing.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use super::*;

const ROWS: u64 = 150;

/// A history with rows whose outputs are in it, closed.
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
    let outputs = all.iter().map(|e| (e.id.clone(), Place::Table(format!("blob of {}", e.id).into_bytes().into())));
    history.archive(outputs.collect()).await.unwrap();
    history.close().await;
    all
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// New executions can be written, and what is there can be listed.
async fn works(history: &History) {
    let new = record(9_999, "linux.new", "spiffe://x/ann");
    assert_eq!(history.insert(new.clone(), None, None).await.unwrap(), Inserted::New);
    history.update(ended(new.clone()), vec![(State::Succeeded, 1)]).await.unwrap();
    assert_eq!(history.get(&new.id).await.unwrap().unwrap().state, State::Succeeded);
    history.list(Wanted { limit: 500, ..Wanted::default() }, |_| true).await.unwrap();
    history.tally(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_none_is_set_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    for _ in 0..4 {
        // With its log, which may be left behind and alone would be enough to read everything.
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("history.db{suffix}")));
        }
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let history = History::open(&path, &instance()).unwrap();
        assert!(history.is_fresh());
        works(&history).await;
        history.close().await;
    }
    let aside = History::open(&path, &instance()).unwrap().set_aside();
    assert_eq!(aside.len(), 2, "the newest two are kept: {aside:?}");
}

#[tokio::test]
async fn pages_that_were_overwritten_are_found_at_the_start_and_the_rest_is_saved() {
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
        works(&history).await;
        if history.is_fresh() {
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
async fn what_is_salvaged_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let all = populated(&path).await;
    // The mark of a run that met damage somewhere; all rows are good.
    std::fs::write(dir.path().join("history.db.damaged"), "a test").unwrap();
    let history = History::open(&path, &instance()).unwrap();
    assert!(history.is_fresh() && !dir.path().join("history.db.damaged").exists());
    for (n, execution) in all.iter().enumerate() {
        assert_eq!(history.get(&execution.id).await.unwrap().as_ref(), Some(execution));
        let key = IdempotencyKey::new(format!("key-{n}")).unwrap();
        let found = history.by_key(&execution.principal, &key).await.unwrap().unwrap();
        assert_eq!((found.0.id, found.1), (execution.id.clone(), format!("{n:032x}")));
        let blob = format!("blob of {}", execution.id).into_bytes();
        assert_eq!(history.place(&execution.id).await.unwrap(), Some(Place::Table(blob.into())));
    }
    let oldest = history.oldest(None, 1).await.unwrap();
    assert_eq!(oldest[0].id, all[0].id, "the oldest is still the oldest");
    works(&history).await;
    assert_eq!(history.oldest(None, 1000).await.unwrap().last().unwrap().seq, i64::try_from(ROWS).unwrap() * 2 + 1);
    history.close().await;
}

#[tokio::test]
async fn a_damaged_history_of_before_is_salvaged_as_well() {
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
    assert!(history.is_fresh());
    for execution in &all {
        assert_eq!(history.get(&execution.id).await.unwrap().as_ref(), Some(execution));
    }
    history.close().await;
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_found() {
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
        assert!(history.is_fresh(), "cut to {length} of {}", whole.len());
        works(&history).await;
        history.close().await;
    }
}

#[tokio::test]
async fn a_log_that_was_overwritten_means_that_rows_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    let history = History::open(&path, &instance()).unwrap();
    for n in 0..40 {
        history.insert(record(n, "linux.a", "spiffe://x/ann"), None, None).await.unwrap();
    }
    // As a crash leaves them: the log is not written back.
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
        assert!(history.is_fresh(), "{at} {length}");
        works(&history).await;
        history.close().await;
    }
    let _ = std::fs::remove_file(dir.path().join("history.db-shm"));
    std::fs::write(&path, &database).unwrap();
    std::fs::write(dir.path().join("history.db-wal"), &log).unwrap();
    let history = History::open(&path, &instance()).unwrap();
    assert!(!history.is_fresh(), "a log as a crash leaves it is none that is damaged");
    assert_eq!(history.unfinished().await.unwrap().len(), 40);
    history.close().await;
}

#[tokio::test]
async fn damage_that_is_met_while_running_is_told_and_the_next_start_begins_anew() {
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
    assert!(again.is_fresh());
    works(&again).await;
    again.close().await;
}

#[tokio::test]
async fn a_row_that_makes_no_sense_and_has_not_ended_is_read_in_again() {
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
    assert!(history.is_fresh());
    assert_eq!(history.unfinished().await.unwrap(), [good]);
    assert!(!history.knows(&bad.id).await.unwrap());
    history.close().await;
}
