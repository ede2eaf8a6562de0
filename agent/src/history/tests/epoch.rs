//! Cursors of a replaced history are refused, and never answered with other events.

use packs_schema::agent::rest::EventCursor;

use super::*;

async fn fill(history: &History, rows: u64) {
    for n in 0..rows {
        history.insert(record(n, "linux.a", "spiffe://x/ann"), None, None).await.unwrap();
    }
}

fn reopen(dir: &tempfile::TempDir) -> History {
    History::open(&dir.path().join("history.db"), &instance()).unwrap()
}

#[tokio::test]
async fn an_event_cursor_is_valid_after_a_restart_but_not_after_a_replacement() {
    let (dir, history) = open();
    fill(&history, 3).await;
    let events = history.events(0, 10).await.unwrap();
    let cursor: EventCursor = events[1].cursor.as_ref().unwrap().parse().unwrap();
    assert_eq!((cursor.event, history.check_cursor(&cursor).await.unwrap()), (2, CursorCheck::Valid));
    let beyond = EventCursor { event: 4, ..cursor.clone() };
    assert_eq!(history.check_cursor(&beyond).await.unwrap(), CursorCheck::Beyond(3));
    // A cursor without an epoch matches every history, unless it is beyond the newest event.
    let number = |event| EventCursor { epoch: None, event };
    assert_eq!(history.check_cursor(&number(3)).await.unwrap(), CursorCheck::Valid);
    assert_eq!(history.check_cursor(&number(9)).await.unwrap(), CursorCheck::Beyond(3));
    history.close().await;
    let history = reopen(&dir);
    assert_eq!(history.check_cursor(&cursor).await.unwrap(), CursorCheck::Valid);
    history.close().await;
    // Replaced, and with more events than the cursor's number: without the epoch it would refer to other events.
    std::fs::write(dir.path().join("history.db"), b"no database").unwrap();
    let history = reopen(&dir);
    fill(&history, 9).await;
    assert_eq!(history.check_cursor(&cursor).await.unwrap(), CursorCheck::OtherHistory);
    history.close().await;
}

#[tokio::test]
async fn losing_the_end_of_the_log_renews_the_epoch() {
    let (dir, history) = open();
    fill(&history, 3).await;
    let cursor = history.event_cursor(3);
    // As after a crash: the log is beside the file, and a page in its middle is damaged.
    let (copy, log) = (tempfile::tempdir().unwrap(), dir.path().join("history.db-wal"));
    std::fs::copy(dir.path().join("history.db"), copy.path().join("history.db")).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(copy.path().join("history.db-wal"), bytes).unwrap();
    history.close().await;
    let history = reopen(&copy);
    assert_ne!(history.check_cursor(&cursor).await.unwrap(), CursorCheck::Valid);
    let other = history.event_cursor(0);
    assert_ne!(other.epoch, cursor.epoch);
    history.close().await;
}

#[tokio::test]
async fn a_page_cursor_of_a_replaced_history_is_refused() {
    let (dir, history) = open();
    fill(&history, 5).await;
    let (_, next) = history.list(Filter { limit: 2, ..Filter::default() }, |_| true).await.unwrap();
    let next: Cursor = next.unwrap().to_string().parse().unwrap();
    assert!(history.owns_cursor(&next));
    // A cursor of an earlier version names no history.
    assert!(history.owns_cursor(&format!("{}.{}", next.created_at_ms, next.seq).parse().unwrap()));
    history.close().await;
    std::fs::write(dir.path().join("history.db"), b"no database").unwrap();
    let history = reopen(&dir);
    assert!(!history.owns_cursor(&next));
    history.close().await;
}

#[tokio::test]
async fn a_listing_of_ended_executions_omits_the_others() {
    let (_dir, history) = open();
    fill(&history, 40).await;
    let old = record(41, "linux.a", "spiffe://x/ann");
    history.insert(old.clone(), None, None).await.unwrap();
    history.update(ended(old.clone()), vec![(State::Succeeded, 1)]).await.unwrap();
    let wanted = Filter { limit: 2, ended: true, ..Filter::default() };
    let (items, next) = history.list(wanted, |_| true).await.unwrap();
    assert_eq!((items.len(), next), (1, None));
    assert_eq!(items[0].id, old.id);
    history.close().await;
}
