use std::fs;
use std::os::unix::net::UnixDatagram;

use packs_schema::agent::audit::lines::Piece;
use packs_schema::agent::audit::{Head, Outcome, RECOVER, Record, Verifier, seal};
use packs_schema::base::quantity::Bytes;

use super::chain_file::{ChainFile, files, read};
use super::finding::Finding;
use super::owed::{Owed, OwedEntries};
use super::*;

const SMALL: Bounds = Bounds { file_bytes: 2_000, max_files: 3 };

fn entry(n: u64) -> Entry {
    Entry::new(1_800_000_000_000 + n, "kill", Outcome::Accepted).by("spiffe://example/ann")
}

fn execution(n: u64) -> ExecutionId {
    ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-{n:012x}")).unwrap()
}

/// Verifies a chain; returns its entries.
fn verified(directory: &Path, chain: Chain) -> Vec<Record> {
    let (mut verifier, mut records) = (Verifier::default(), Vec::new());
    for (first, path) in files(directory, chain).unwrap() {
        let (mut lines, mut named) = (read(&path).unwrap(), Some(first));
        while let Some(piece) = lines.next_piece().unwrap() {
            let Piece::Line(text) = piece else { panic!("{piece:?}") };
            match named.take() {
                Some(first) => verifier.check_first(first, text).unwrap(),
                None => verifier.check(text).unwrap(),
            };
            records.push(serde_json::from_slice(text).unwrap());
        }
    }
    records
}

fn open(directory: &Path, bounds: Bounds) -> (ChainFile, Option<Finding>) {
    ChainFile::open(directory, Chain::Changes, bounds).unwrap()
}

fn settings(directory: &Path) -> Settings {
    let config = AuditConfig {
        file_bytes: Bytes(AuditConfig::MIN_FILE_BYTES),
        max_files: 4,
        max_refusal_files: 2,
        journal_socket: directory.join("journal"),
    };
    Settings { directory: directory.join("audit"), config }
}

fn start(directory: &Path) -> (Arc<Audit>, Settled) {
    Audit::open(&settings(directory), Arc::default()).unwrap()
}

#[test]
fn a_chain_whose_file_is_removed_goes_on_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path(), SMALL);
    let remove =
        || files(dir.path(), Chain::Changes).unwrap().iter().for_each(|(_, path)| fs::remove_file(path).unwrap());
    file.append(&entry(1)).unwrap();
    file.sync().unwrap();
    assert_eq!(file.leave_removed().unwrap(), None);
    remove();
    assert_eq!(file.leave_removed().unwrap(), Some(Finding::Removed { last: 1 }));
    assert_eq!(file.leave_removed().unwrap(), None, "it is told once");
    assert_eq!(file.append(&entry(2)).unwrap().sequence, 2);
    // Removed before it is durable: no caller may be told that it is.
    remove();
    assert!(file.sync().is_err());
    assert_eq!(file.append(&entry(3)).unwrap().sequence, 2);
    file.sync().unwrap();
    assert_eq!(file.leave_removed().unwrap(), Some(Finding::Removed { last: 1 }));
    let records = verified(dir.path(), Chain::Changes);
    assert_eq!(records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_chain_whose_file_is_moved_or_has_another_name_goes_on_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit");
    fs::create_dir(&log).unwrap();
    let (mut file, _) = open(&log, SMALL);
    let path = |first| log.join(Chain::Changes.file_name(first));
    let mut append = |n: u64, last: u64| {
        assert_eq!(file.leave_removed().unwrap(), (last > 0).then_some(Finding::Removed { last }), "{n}");
        assert_eq!(file.append(&entry(n)).unwrap().sequence, n);
        file.sync().unwrap();
    };
    append(1, 0);
    fs::rename(path(1), log.join("taken")).unwrap();
    append(2, 1);
    // A second name keeps the number of links above zero.
    fs::hard_link(path(2), log.join("kept")).unwrap();
    fs::remove_file(path(2)).unwrap();
    append(3, 2);
    // Another file in its place.
    fs::copy(path(3), log.join("copy")).unwrap();
    fs::rename(log.join("copy"), path(3)).unwrap();
    append(4, 3);
    // The directory.
    fs::rename(&log, dir.path().join("elsewhere")).unwrap();
    append(5, 4);
    assert_eq!(files(&log, Chain::Changes).unwrap(), [(5, path(5))]);
}

#[tokio::test]
async fn a_directory_that_is_removed_while_the_agent_runs_does_not_begin_the_chain_again() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _settled) = start(dir.path());
    audit.record(entry(1)).await.unwrap();
    let log = settings(dir.path()).directory;
    fs::remove_dir_all(&log).unwrap();
    audit.record(entry(2)).await.unwrap();
    let records = verified(&log, Chain::Changes);
    let told = records.iter().map(|record| (record.sequence, &*record.entry.verb)).collect::<Vec<_>>();
    assert_eq!(told, [(2, RECOVER), (3, "kill")]);
    audit.close().await;
}

#[test]
fn a_file_that_was_emptied_is_left_for_verification_to_find() {
    let dir = tempfile::tempdir().unwrap();
    let all = || files(dir.path(), Chain::Changes).unwrap().iter().map(|(first, _)| *first).collect::<Vec<_>>();
    let (mut file, _) = open(dir.path(), Bounds { file_bytes: 1, max_files: 1 });
    for n in 1..=3 {
        file.append(&entry(n)).unwrap();
        file.sync().unwrap();
    }
    drop(file);
    assert_eq!(all(), [3]);
    let path = |first| dir.path().join(Chain::Changes.file_name(first));
    for (number, rest) in [(3, ""), (4, "{\"seq\":4,")] {
        fs::write(path(number), rest).unwrap();
        let (mut file, finding) = open(dir.path(), SMALL);
        assert_eq!(finding, Some(Finding::Emptied { file: path(number) }));
        // A full disk leaves the next one without an entry: it is taken away, and not one more is left by each attempt.
        drop(file);
        fs::write(path(number + 1), "").unwrap();
        (file, _) = open(dir.path(), SMALL);
        assert_eq!(file.append(&entry(9)).unwrap().sequence, number + 1);
        file.sync().unwrap();
        assert_eq!(fs::read_to_string(path(number)).unwrap(), rest, "evidence is left");
        fs::remove_file(path(number)).unwrap();
    }
}

#[test]
fn the_name_of_a_new_file_is_made_durable_also_after_a_write_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { file_bytes: 1, max_files: 1 };
    let (mut file, _) = open(dir.path(), bounds);
    file.append(&entry(1)).unwrap();
    file.sync().unwrap();
    // A full disk leaves the second file without its entry.
    file.append(&entry(2)).unwrap();
    file.roll_back().unwrap();
    file.sync().unwrap();
    file.append(&entry(2)).unwrap();
    file.sync().unwrap();
    // The first one is removed once the second one and its name are durable.
    assert_eq!(files(dir.path(), Chain::Changes).unwrap().len(), 1);
}

#[test]
fn what_a_full_file_holds_is_not_written_again_when_the_next_one_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path(), SMALL);
    let mut owed = OwedEntries::default();
    for n in 1..=20 {
        owed.add_waiting(Owed { entry: entry(n), execution: Some(execution(n)) });
    }
    // The name of the second file is taken.
    let per_file = SMALL.file_bytes / seal(&Head::EMPTY, &entry(1)).0.len() as u64;
    let taken = dir.path().join(Chain::Changes.file_name(per_file + 1));
    fs::write(&taken, "").unwrap();
    let (published, written) = owed.append_waiting(&mut file);
    assert!(written.is_err() && published.len() as u64 == per_file, "{written:?}, {}", published.len());
    file.roll_back().unwrap();
    assert_eq!(owed.settle(file.durable()), (1..=per_file).map(execution).collect::<Vec<_>>());
    owed.take_back();
    fs::remove_file(&taken).unwrap();
    owed.append_waiting(&mut file).1.unwrap();
    let times: Vec<u64> = verified(dir.path(), Chain::Changes).iter().map(|r| r.entry.at_ms % 100).collect();
    assert_eq!(times, (1..=20).collect::<Vec<_>>(), "in their order, each once");
    // Appended by calls, and rolled back.
    let mut owed = OwedEntries::default();
    for n in 21..=23 {
        let head = file.append(&entry(n)).unwrap();
        owed.add_appended(head.sequence, Owed { entry: entry(n), execution: Some(execution(n)) });
    }
    file.roll_back().unwrap();
    // A full file that was made durable meanwhile is not rolled back.
    assert!(owed.settle(file.durable()).len() < 3);
    owed.take_back();
    owed.append_waiting(&mut file).1.unwrap();
    assert_eq!(verified(dir.path(), Chain::Changes).last().unwrap().sequence, 23);
}

#[tokio::test]
async fn a_file_that_is_removed_while_the_agent_runs_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _settled) = start(dir.path());
    audit.record(entry(1)).await.unwrap();
    let log = settings(dir.path()).directory;
    let written = files(&log, Chain::Changes).unwrap();
    assert_eq!(written.len(), 1);
    fs::remove_file(&written[0].1).unwrap();
    audit.record(entry(2)).await.unwrap();
    let records = verified(&log, Chain::Changes);
    let told = records.iter().map(|record| (record.sequence, &*record.entry.verb)).collect::<Vec<_>>();
    assert_eq!(told, [(2, RECOVER), (3, "kill")]);
    let detail = records[0].entry.detail.as_deref().unwrap_or_default();
    assert!(detail.contains("removed the file with entry 1"), "{detail}");
    audit.close().await;
}

#[test]
fn files_are_rotated_and_bounded_and_the_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    for begin in [1, 26, 51] {
        let (mut file, finding) = open(dir.path(), SMALL);
        assert_eq!(finding, None);
        for n in begin..begin + 25 {
            assert_eq!(file.append(&entry(n)).unwrap().sequence, n);
        }
        file.sync().unwrap();
    }
    let all = files(dir.path(), Chain::Changes).unwrap();
    assert_eq!(all.len(), SMALL.max_files);
    assert!(all.iter().all(|(_, path)| path.metadata().unwrap().len() <= SMALL.file_bytes));
    let records = verified(dir.path(), Chain::Changes);
    assert_eq!(records.last().unwrap().sequence, 75);
    assert!(records[0].sequence > 40, "the oldest are gone");
}

#[test]
fn a_torn_last_line_is_removed_wherever_it_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path(), SMALL);
    let heads: Vec<Head> = (1..=3).map(|n| file.append(&entry(n)).unwrap()).collect();
    file.sync().unwrap();
    let path = dir.path().join(Chain::Changes.file_name(1));
    let whole = fs::read(&path).unwrap();
    let line = whole.len() / 3;
    for cut in [1, 2, 40, 80, line - 1] {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let (mut file, finding) = open(dir.path(), SMALL);
        let bytes = (line - cut) as u64;
        assert_eq!(finding, Some(Finding::Torn { file: path.clone(), bytes }), "{cut}");
        assert_eq!(file.head(), heads[1]);
        file.append(&entry(4)).unwrap();
        assert_eq!(verified(dir.path(), Chain::Changes).len(), 3);
    }
    // The first line of a new file: the chain goes on from the file before.
    fs::write(&path, &whole).unwrap();
    fs::write(dir.path().join(Chain::Changes.file_name(4)), "{\"seq\":4,").unwrap();
    let (mut file, _) = open(dir.path(), SMALL);
    file.append(&entry(4)).unwrap();
    assert_eq!(verified(dir.path(), Chain::Changes).last().unwrap().sequence, 4);
}

#[test]
fn a_line_that_was_changed_is_left_for_verification_to_find() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path(), SMALL);
    for n in 1..=3 {
        file.append(&entry(n)).unwrap();
    }
    file.sync().unwrap();
    let path = dir.path().join(Chain::Changes.file_name(1));
    let changed = fs::read_to_string(&path).unwrap().replacen("ann", "bob", 1);
    fs::write(&path, &changed).unwrap();
    let (mut file, finding) = open(dir.path(), SMALL);
    assert_eq!(finding, Some(Finding::Broken { file: path.clone(), line: 1 }));
    assert_eq!(file.append(&entry(4)).unwrap().sequence, 4, "after what the broken file claims");
    assert_eq!(fs::read_to_string(&path).unwrap(), changed, "nothing is repaired away");
    assert_eq!(open(dir.path(), SMALL).1, None, "reported once");
}

#[test]
fn a_file_of_which_nothing_is_readable_does_not_start_the_chain_again() {
    let dir = tempfile::tempdir().unwrap();
    let all = || files(dir.path(), Chain::Changes).unwrap();
    let (mut file, _) = open(dir.path(), SMALL);
    let mut n = 0;
    while all().len() < SMALL.max_files {
        n += 1;
        file.append(&entry(n)).unwrap();
        file.sync().unwrap();
    }
    let (first, newest) = all().pop().unwrap();
    for damage in
        ["no entry\n".to_owned(), format!("{{\"seq\":{},\"hash\":\"x\"}}\n", u64::MAX), "x".repeat(20_000) + "\n"]
    {
        fs::write(&newest, damage).unwrap();
        let (mut file, finding) = open(dir.path(), SMALL);
        assert_eq!(finding, Some(Finding::Broken { file: newest.clone(), line: 1 }));
        let next = file.append(&entry(n)).unwrap().sequence;
        file.sync().unwrap();
        assert!(next > first && all().last().unwrap().0 == next, "it is the newest, and not pruned");
        fs::remove_file(all().pop().unwrap().1).unwrap();
    }
}

#[test]
fn files_with_exchanged_names_are_continued_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path(), Bounds { file_bytes: 1, max_files: 8 });
    for n in 1..=3 {
        file.append(&entry(n)).unwrap();
    }
    file.sync().unwrap();
    let path = |first| dir.path().join(Chain::Changes.file_name(first));
    fs::rename(path(1), path(9)).unwrap();
    let (mut file, finding) = open(dir.path(), SMALL);
    assert_eq!(finding, Some(Finding::Broken { file: path(9), line: 1 }));
    assert_eq!(file.append(&entry(4)).unwrap().sequence, 10, "after the number in the name");
    file.sync().unwrap();
    assert!(path(9).exists() && path(10).exists());
}

#[test]
fn the_only_durable_entries_are_not_pruned_before_new_ones_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path(), Bounds { file_bytes: 1, max_files: 1 });
    file.append(&entry(1)).unwrap();
    file.sync().unwrap();
    file.append(&entry(2)).unwrap();
    let names = || files(dir.path(), Chain::Changes).unwrap().iter().map(|(first, _)| *first).collect::<Vec<_>>();
    assert_eq!(names(), [1, 2], "the second may be lost with the power");
    file.sync().unwrap();
    assert_eq!(names(), [2]);
}

#[test]
fn a_roll_back_leaves_neither_half_a_line_nor_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, _) = open(dir.path(), SMALL);
    file.append(&entry(1)).unwrap();
    file.sync().unwrap();
    file.append(&entry(2)).unwrap();
    file.append(&entry(3)).unwrap();
    file.roll_back().unwrap();
    assert!(!file.is_unsynced());
    assert_eq!(file.append(&entry(4)).unwrap().sequence, 2);
    file.sync().unwrap();
    let times: Vec<u64> = verified(dir.path(), Chain::Changes).iter().map(|r| r.entry.at_ms % 10).collect();
    assert_eq!(times, [1, 4]);
}

#[tokio::test]
async fn changes_are_on_disk_when_they_are_answered_and_the_journal_has_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let journal = UnixDatagram::bind(dir.path().join("journal")).unwrap();
    let (audit, _settled) = start(dir.path());
    let all = futures_util::future::join_all((1..=20).map(|n| audit.record(entry(n)))).await;
    assert!(all.iter().all(Result::is_ok));
    let records = verified(&dir.path().join("audit"), Chain::Changes);
    assert_eq!(records.len(), 20);
    let mut received = [0; 4096];
    let length = journal.recv(&mut received).unwrap();
    let text = String::from_utf8_lossy(&received[..length]).into_owned();
    for field in [
        "SYSLOG_IDENTIFIER=bolt-audit".to_owned(),
        "BOLT_PRINCIPAL=spiffe://example/ann".to_owned(),
        "BOLT_VERB=kill".to_owned(),
        "BOLT_OUTCOME=accepted".to_owned(),
        "BOLT_SEQUENCE=1".to_owned(),
        format!("BOLT_HASH={}", records[0].hash),
    ] {
        assert!(text.lines().any(|line| line == field), "{field}: {text}");
    }
    // A journal that takes nothing more: counted, and no call waits for it.
    for n in 0..2_000 {
        audit.committed(execution(n), entry(n)).await;
    }
    audit.close().await;
    assert!(audit.counts().journal_dropped > 0);
    assert_eq!(audit.counts().changes, 2_020);
    let mode = std::os::unix::fs::PermissionsExt::mode(&dir.path().join("audit").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn what_a_crash_kept_from_the_log_is_found_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, mut settled) = start(dir.path());
    audit.record(entry(1)).await.unwrap();
    assert_eq!(audit.position(), 1);
    let run = |n| Entry { execution: Some(execution(n)), ..Entry::new(n, RUN, Outcome::Accepted) };
    audit.committed(execution(1), run(1)).await;
    // A kill of an execution is no entry of its start.
    audit.record(Entry { execution: Some(execution(2)), ..entry(2) }).await.unwrap();
    assert_eq!(settled.recv().await.unwrap(), [execution(1)], "durable with the next change");
    let marked = || (1..=3).map(execution).collect::<HashSet<_>>();
    let missing = audit.find_missing(marked(), 0).unwrap();
    assert_eq!(missing, HashSet::from([execution(2), execution(3)]));
    // Over several files, from a position in the middle.
    for n in 10..800 {
        audit.committed(execution(n), run(n)).await;
    }
    audit.record(entry(3)).await.unwrap();
    assert!(files(&dir.path().join("audit"), Chain::Changes).unwrap().len() > 2);
    let marked = || (700..900).map(execution).collect::<HashSet<_>>();
    assert_eq!(audit.find_missing(marked(), 3).unwrap(), (800..900).map(execution).collect());
    assert_eq!(audit.find_missing(marked(), 600).unwrap(), (800..900).map(execution).collect());
    audit.close().await;
    assert!(matches!(audit.record(entry(4)).await, Err(AuditError::Closed)));
}

#[tokio::test]
async fn executions_reach_the_log_by_themselves_and_together() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, mut settled) = start(dir.path());
    for n in 1..=3 {
        audit.committed(execution(n), entry(n)).await;
    }
    let mut all = Vec::new();
    while all.len() < 3 {
        all.extend(settled.recv().await.unwrap());
    }
    assert_eq!(all, [1, 2, 3].map(execution));
    assert_eq!(verified(&dir.path().join("audit"), Chain::Changes).len(), 3);
    audit.close().await;
}

#[tokio::test]
async fn a_flood_of_refusals_is_bounded_and_removes_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _settled) = start(dir.path());
    audit.record(entry(1)).await.unwrap();
    let refusal = |n: u64| {
        let who = format!("spiffe://example/{}", n % 500);
        Entry { code: Some("forbidden".to_owned()), ..Entry::new(n, "run", Outcome::Refused).by(&who) }
            .with_detail(&"x".repeat(500))
    };
    (0..100_000).for_each(|n| audit.refuse(refusal(n)));
    audit.close().await;
    let directory = dir.path().join("audit");
    let refusals = verified(&directory, Chain::Refusals);
    let all = files(&directory, Chain::Refusals).unwrap();
    let bytes: u64 = all.iter().map(|(_, path)| path.metadata().unwrap().len()).sum();
    assert!(all.len() <= 2 && bytes <= 2 * AuditConfig::MIN_FILE_BYTES, "{bytes}");
    assert!(!refusals.is_empty());
    assert!(audit.counts().refusals <= 2 * 256 + 1, "at most two entries for each kind: {:?}", audit.counts());
    assert_eq!(verified(&directory, Chain::Changes).len(), 1);
}

#[tokio::test]
async fn without_a_disk_changes_are_refused_and_kills_are_recorded_later() {
    let dir = tempfile::tempdir().unwrap();
    // Where the directory should be is a file.
    fs::write(dir.path().join("audit"), "").unwrap();
    let health = Arc::new(Health::default());
    let (audit, mut settled) = Audit::open(&settings(dir.path()), health.clone()).unwrap();
    assert!(matches!(audit.check(), Err(AuditError::Unavailable(_))));
    assert!(matches!(audit.record(entry(1)).await, Err(AuditError::Unavailable(_))));
    assert!(health.has(UNAVAILABLE));
    audit.refuse(entry(4));
    audit.record_urgent(entry(2)).await;
    audit.committed(execution(3), entry(3)).await;
    fs::remove_file(dir.path().join("audit")).unwrap();
    assert_eq!(settled.recv().await.unwrap(), [execution(3)], "written by a retry");
    audit.record(entry(5)).await.unwrap();
    assert!(!health.has(UNAVAILABLE));
    let (told, records): (Vec<_>, Vec<_>) = verified(&dir.path().join("audit"), Chain::Changes)
        .into_iter()
        .map(|record| record.entry)
        .partition(|entry| entry.verb == RECOVER);
    assert_eq!(records.iter().map(|entry| entry.at_ms % 10).collect::<Vec<_>>(), [2, 3, 5]);
    let detail = told[0].detail.as_deref().unwrap_or_default();
    assert!(told.len() == 1 && detail.contains("could not be written for"), "{told:?}");
    assert_eq!(audit.counts().lost_refusals, 1);
    audit.close().await;
}

#[tokio::test]
async fn a_directory_that_was_removed_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _settled) = start(dir.path());
    audit.record(entry(1)).await.unwrap();
    audit.close().await;
    fs::remove_dir_all(dir.path().join("audit")).unwrap();
    let (audit, _settled) = start(dir.path());
    audit.record(entry(2)).await.unwrap();
    assert_eq!(verified(&dir.path().join("audit"), Chain::Changes)[0].sequence, 1, "a head that was kept tells");
    audit.close().await;
}
