use std::fs;
use std::path::Path;

use packs_schema::agent::audit::{Chain, Entry, Fault, Head, Outcome, seal};

use super::*;

/// Writes files of a chain with the given numbers of entries; returns the heads after each entry, from 0.
fn write(dir: &Path, chain: Chain, files: &[u64]) -> Vec<Head> {
    let mut heads = vec![Head::EMPTY];
    for entries in files {
        let mut text = String::new();
        let first = heads.len() as u64;
        for _ in 0..*entries {
            let head = heads.last().unwrap();
            let outcome = if chain == Chain::Refusals { Outcome::Refused } else { Outcome::Accepted };
            let entry = Entry::new(1_000 * head.sequence, "run", outcome).by("spiffe://x/ann");
            let (line, next) = seal(head, &entry);
            text.push_str(&line);
            heads.push(next);
        }
        fs::write(dir.join(chain.file_name(first)), text).unwrap();
    }
    heads
}

fn report(dir: &Path, kept: &[Head]) -> Report {
    verify(&find(dir).unwrap()[0], kept).unwrap()
}

fn broken(dir: &Path, kept: &[Head]) -> (String, u64, u64, Problem) {
    let broken = report(dir, kept).broken.unwrap();
    let name = broken.file.file_name().unwrap().to_str().unwrap().to_owned();
    (name, broken.line, broken.sequence, broken.problem)
}

fn edit(path: &Path, change: impl FnOnce(Vec<&str>) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(text.lines().collect())).unwrap();
}

#[test]
fn a_chain_over_several_files_is_whole_and_older_files_may_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let heads = write(dir.path(), Chain::Changes, &[3, 4, 2]);
    let whole = report(dir.path(), &[heads[9], heads[5]]);
    assert_eq!((whole.broken, whole.entries, whole.head), (None, 9, Some(heads[9])));
    fs::remove_file(dir.path().join(Chain::Changes.file_name(1))).unwrap();
    let rest = report(dir.path(), &[heads[9], heads[3]]);
    let start = rest.start.unwrap();
    assert_eq!(
        (rest.broken, start.sequence, start.previous),
        (None, 4, heads[3].hash),
        "its predecessor's hash is known"
    );
    assert_eq!(broken(dir.path(), &[heads[2]]).3, Problem::Gone(heads[2]));
    let file = dir.path().join(Chain::Changes.file_name(4));
    assert_eq!(report(&file, &[]).entries, 4, "one file alone");
}

#[test]
fn the_first_broken_entry_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = || write(dir.path(), Chain::Changes, &[3, 4]);
    let name = Chain::Changes.file_name(4);
    let path = dir.path().join(&name);
    fresh();
    edit(&path, |lines| lines.join("\n").replacen("spiffe://x/ann", "spiffe://x/bob", 2) + "\n");
    assert_eq!(broken(dir.path(), &[]), (name.clone(), 1, 4, Problem::Fault(Fault::Altered)));
    fresh();
    edit(&path, |lines| [lines[0], lines[2], lines[3], ""].join("\n"));
    let missing = Fault::OutOfSequence { expected: 5, found: 6 };
    assert_eq!(broken(dir.path(), &[]), (name.clone(), 2, 6, Problem::Fault(missing)));
    fresh();
    edit(&path, |lines| [lines[1], lines[2], lines[3], ""].join("\n"));
    assert_eq!(broken(dir.path(), &[]).1, 1);
    fresh();
    fs::write(&path, "x".repeat(100_000)).unwrap();
    assert_eq!(broken(dir.path(), &[]), (name, 1, 4, Problem::Fault(Fault::NotAnEntry)));
    let heads = write(dir.path(), Chain::Changes, &[3, 4, 2]);
    fs::remove_file(path).unwrap();
    let (_, line, sequence, _) = broken(dir.path(), &[heads[9]]);
    assert_eq!((line, sequence), (1, 8), "a file in the middle is missing");
}

#[test]
fn truncation_and_a_chain_that_was_written_again_are_found_with_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let heads = write(dir.path(), Chain::Changes, &[3, 4]);
    edit(&dir.path().join(Chain::Changes.file_name(4)), |lines| [lines[0], lines[1], ""].join("\n"));
    assert_eq!(report(dir.path(), &[]).broken, None, "the chain itself does not tell");
    let name = Chain::Changes.file_name(4);
    assert_eq!(broken(dir.path(), &[heads[7]]), (name, 2, 5, Problem::Truncated(heads[7])));
    let text = fs::read_to_string(dir.path().join(Chain::Changes.file_name(1))).unwrap();
    let (line, other) = seal(&Head::EMPTY, &Entry::new(0, "kill", Outcome::Accepted));
    fs::write(dir.path().join(Chain::Changes.file_name(1)), line).unwrap();
    fs::remove_file(dir.path().join(Chain::Changes.file_name(4))).unwrap();
    assert_eq!(report(dir.path(), &[other]).broken, None);
    assert_eq!(broken(dir.path(), &[heads[1]]).3, Problem::OtherHead(heads[1]));
    drop(text);
}

#[test]
fn a_torn_last_line_is_no_tampering_and_only_there() {
    let dir = tempfile::tempdir().unwrap();
    let heads = write(dir.path(), Chain::Changes, &[3, 4]);
    for (first, cut) in [(4, 7), (4, 200)] {
        write(dir.path(), Chain::Changes, &[3, 4]);
        let path = dir.path().join(Chain::Changes.file_name(first));
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - cut]).unwrap();
        let torn = report(dir.path(), &[heads[6]]);
        assert_eq!((torn.broken, torn.head, torn.incomplete.map(|i| i.line)), (None, Some(heads[6]), Some(4)));
        assert_eq!(broken(dir.path(), &[heads[7]]).3, Problem::Truncated(heads[7]), "an entry that was answered");
    }
    write(dir.path(), Chain::Changes, &[3, 4]);
    let first = dir.path().join(Chain::Changes.file_name(1));
    let text = fs::read(&first).unwrap();
    fs::write(&first, &text[..text.len() - 7]).unwrap();
    assert_eq!(broken(dir.path(), &[]).3, Problem::Fault(Fault::NotAnEntry), "not in a file that others follow");
}

#[test]
fn a_file_without_an_entry_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = |first| dir.path().join(Chain::Changes.file_name(first));
    let no_entry = |first: u64| (Chain::Changes.file_name(first), 1, first, Problem::NoEntry);
    write(dir.path(), Chain::Changes, &[3, 4]);
    fs::write(file(1), "").unwrap();
    assert_eq!(broken(dir.path(), &[]), no_entry(1), "others follow it");
    // The newest one is made, and then written.
    let heads = write(dir.path(), Chain::Changes, &[3]);
    fs::write(file(4), "").unwrap();
    let made = report(dir.path(), &[heads[3]]);
    assert_eq!((made.broken, made.head, made.incomplete.map(|i| i.bytes)), (None, Some(heads[3]), Some(0)));
    fs::write(file(4), "{\"seq\":4").unwrap();
    let torn = report(dir.path(), &[heads[3]]);
    assert_eq!((torn.broken, torn.head, torn.incomplete.map(|i| i.bytes)), (None, Some(heads[3]), Some(8)));
    fs::rename(file(4), file(6)).unwrap();
    assert_eq!(broken(dir.path(), &[]), no_entry(6), "the entries 4 and 5 are missing");
    fs::write(file(6), "").unwrap();
    assert_eq!(broken(dir.path(), &[]), no_entry(6), "the entries 4 and 5 are missing");
    fs::remove_file(file(6)).unwrap();
    for rest in ["", "{\"seq\":1"] {
        fs::write(file(1), rest).unwrap();
        assert_eq!(broken(dir.path(), &[]), no_entry(1), "a chain without an entry: {rest:?}");
    }
    fs::remove_file(file(1)).unwrap();
    let refusals = |first| dir.path().join(Chain::Refusals.file_name(first));
    fs::write(refusals(1), "").unwrap();
    let begun = report(dir.path(), &[]);
    assert_eq!((begun.broken, begun.incomplete.map(|i| i.bytes)), (None, Some(0)), "a full disk leaves it");
    assert_eq!(broken(dir.path(), &[heads[3]]).3, Problem::Truncated(heads[3]));
    fs::rename(refusals(1), refusals(5)).unwrap();
    assert_eq!(broken(dir.path(), &[]), (Chain::Refusals.file_name(5), 1, 5, Problem::NoEntry));
    let missing = verify(&ChainFiles { chain: Some(Chain::Changes), files: vec![] }, &[]).unwrap();
    assert_eq!(missing.broken.unwrap().problem, Problem::NoFile);
    let never = verify(&ChainFiles { chain: Some(Chain::Refusals), files: vec![] }, &[]).unwrap();
    assert_eq!(never.broken, None, "nothing may have been refused");
}

#[test]
fn files_of_the_two_chains_that_exchanged_names_are_found() {
    let dir = tempfile::tempdir().unwrap();
    for chain in Chain::ALL {
        write(dir.path(), chain, &[3]);
    }
    let problems = || -> Vec<Option<Problem>> {
        let chains = find(dir.path()).unwrap();
        chains.iter().map(|files| verify(files, &[]).unwrap().broken.map(|broken| broken.problem)).collect()
    };
    assert_eq!(problems(), [None, None]);
    let [changes, refusals] = Chain::ALL.map(|chain| dir.path().join(chain.file_name(1)));
    let other = dir.path().join("other");
    fs::rename(&changes, &other).unwrap();
    fs::rename(&refusals, &changes).unwrap();
    fs::rename(&other, &refusals).unwrap();
    let exchanged = Chain::ALL.map(|chain| Some(Problem::Fault(Fault::OtherChain(chain))));
    assert_eq!(problems(), exchanged);
}

#[test]
fn files_that_root_must_not_follow_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let link = dir.path().join(Chain::Changes.file_name(1));
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    assert!(matches!(verify(&find(dir.path()).unwrap()[0], &[]), Err(AuditError::Read(..))));
    fs::remove_file(&link).unwrap();
    nix::unistd::mkfifo(&link, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(verify(&find(dir.path()).unwrap()[0], &[]), Err(AuditError::NotAFile(_))), "and never waited for");
    fs::remove_file(&link).unwrap();
    assert!(matches!(find(dir.path()), Err(AuditError::Nothing(_))));
}

#[test]
fn entries_of_both_chains_are_listed_by_time() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Chain::Changes, &[1, 2]);
    write(dir.path(), Chain::Refusals, &[2]);
    edit(&dir.path().join(Chain::Refusals.file_name(1)), |lines| format!("{}\nnot an entry\n{}\n", lines[0], lines[1]));
    let long = "x".repeat(100_000);
    edit(&dir.path().join(Chain::Changes.file_name(2)), |lines| format!("{}\n{long}\n{}\n", lines[0], lines[1]));
    let mut entries = Entries::new(find(dir.path()).unwrap());
    let (mut times, mut unreadable) = (Vec::new(), 0);
    while let Some(listed) = entries.next_entry().unwrap() {
        match listed {
            Listed::Entry(entry) => times.push((entry.1.entry.at_ms, entry.0.unwrap())),
            Listed::Unreadable(_, line) => {
                assert_eq!(line, 2);
                unreadable += 1;
            }
        }
    }
    let (c, r) = (Chain::Changes, Chain::Refusals);
    assert_eq!(
        (times, unreadable),
        (vec![(0, c), (0, r), (1_000, c), (1_000, r), (2_000, c)], 2),
        "also behind a long line"
    );
}
