//! Files of the audit log, damaged or tampered with: the agent continues them, and `bolt audit verify` judges them.

use std::fs;
use std::path::Path;

use bolt_agent::fuzz::continue_chain;
use bolt_client::audit::{self, Problem, Report};
use packs_schema::agent::audit::{Chain, Entry, Head, Outcome, seal};

use crate::scratch::with_directory;
use crate::{join, parts};

/// Number in the name of the second file: that of its first entry in the seeds.
const SECOND: u64 = 3;

pub(super) fn run(data: &[u8]) {
    let [first, second] = parts::<2>(data);
    with_directory(|directory| {
        let path = |number| directory.join(Chain::Changes.file_name(number));
        fs::write(path(1), first).expect("a file is written");
        if !second.is_empty() {
            fs::write(path(SECOND), second).expect("a file is written");
        }
        let before = verify(directory);
        let entry = Entry { at_ms: 9, verb: "start".to_owned(), outcome: Outcome::Done, ..Entry::default() };
        let sequence = continue_chain(directory, &entry).expect("any chain is continued");
        let after = verify(directory);
        if before.broken.is_none() {
            assert!(after.broken.is_none(), "the agent broke a chain that was whole: {:?}", after.broken);
            assert_eq!(after.entries, before.entries + 1);
            assert_eq!(after.head.map(|head| head.sequence), Some(sequence));
        } else if second.is_empty() && before.broken.is_some_and(|broken| broken.problem == Problem::NoEntry) {
            assert!(after.broken.is_none() && after.entries == 1, "a file without an entry is taken away, and begun again");
        } else if second.is_empty() || second.contains(&b'\n') {
            // Without a complete line in the newest file it is taken away, and the line without an end before it as well.
            assert!(after.broken.is_some(), "the agent hid a break");
            assert!(after.entries >= before.entries, "{} entries, then {}", before.entries, after.entries);
        }
        assert!(after.incomplete.is_none(), "the agent left a line without an end");
        // Complete lines are evidence, whatever they hold.
        let kept = |number, bytes: &[u8]| {
            let lines = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            lines == 0 || fs::read(path(number)).is_ok_and(|now| now.starts_with(&bytes[..lines]))
        };
        assert!(kept(1, first) && kept(SECOND, second), "the agent changed lines that were complete");
    });
}

fn verify(directory: &Path) -> Report {
    let chains = audit::find(directory).expect("there is a file");
    let report = audit::verify(&chains[0], &[]).expect("the files can be read");
    assert!(report.broken.as_ref().is_none_or(|broken| broken.problem.to_string().len() <= 512));
    report
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (mut head, mut lines) = (Head::EMPTY, Vec::new());
    for (verb, detail) in [("start", None), ("run", Some("a \u{202e} text".to_owned())), ("kill", None), ("reload", None)] {
        let entry = Entry { at_ms: 7, verb: verb.to_owned(), outcome: Outcome::Accepted, detail, ..Entry::default() };
        let (line, next) = seal(&head, &entry);
        lines.push(line.into_bytes());
        head = next;
    }
    let whole = lines.concat();
    let (first, second) = (lines[..2].concat(), lines[2..].concat());
    let mut changed = first.clone();
    changed[8] ^= 1;
    vec![
        whole.clone(),
        whole[..whole.len() - 9].to_vec(),
        join(&[&first, &second]),
        join(&[&first, &second[..second.len() - 1]]),
        join(&[&changed, &second]),
        join(&[&second, &first]),
        join(&[&first, &lines[3]]),
    ]
}
