use proptest::prelude::*;

use super::lines::{Lines, Piece};
use super::*;
use crate::base::name::ActionRef;

fn entry(n: u64) -> Entry {
    let action = ActionRef::new("linux.uptime").unwrap();
    let entry = Entry::new(1_800_000_000_000 + n, "run", Outcome::Accepted).by("spiffe://example/ann").on(&action);
    Entry { count: n.is_multiple_of(3).then_some(n), ..entry }.with_detail(&format!("number {n}\n\u{1b}[2J"))
}

/// Returns lines of a chain, without line feeds, and its head.
fn chain(entries: u64) -> (Vec<Vec<u8>>, Head) {
    let (mut lines, mut head) = (Vec::new(), Head::EMPTY);
    for n in 1..=entries {
        let (line, next) = seal(&head, &entry(n));
        lines.push(line.trim_end().as_bytes().to_vec());
        head = next;
    }
    (lines, head)
}

/// Verifies lines; returns the head, or the index of the first broken line with its fault.
fn verify(lines: &[Vec<u8>]) -> Result<Option<Head>, (usize, Fault)> {
    let mut verifier = Verifier::default();
    for (index, line) in lines.iter().enumerate() {
        verifier.check(line).map_err(|fault| (index, fault))?;
    }
    Ok(verifier.head())
}

#[test]
fn a_chain_is_verified_from_its_beginning_and_from_any_later_entry() {
    let (lines, head) = chain(5);
    assert_eq!(verify(&lines), Ok(Some(head)));
    for from in 1..5 {
        let mut verifier = Verifier::default();
        for line in &lines[from..] {
            verifier.check(line).unwrap();
        }
        assert_eq!(verifier.head(), Some(head));
        let start = verifier.start().unwrap();
        let before: Record = serde_json::from_slice(&lines[from - 1]).unwrap();
        assert_eq!((start.sequence, start.previous), (from as u64 + 1, before.hash));
    }
    let record: Record = serde_json::from_slice(&lines[2]).unwrap();
    assert_eq!((record.sequence, record.entry), (3, entry(3)));
    assert_eq!(head.to_string().parse(), Ok(head));
}

#[test]
fn a_line_is_json_and_says_what_is_hashed() {
    let (line, head) = seal(&Head::EMPTY, &entry(1));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((value["seq"].as_u64(), value["hash"].as_str()), (Some(1), Some(head.hash.to_string().as_str())));
    assert_eq!(value["prev"].as_str(), Some("0".repeat(64).as_str()));
    // An attacker who rewrites the first entry as one with a predecessor is noticed.
    let later = Head { sequence: 0, hash: head.hash };
    let (line, _) = seal(&later, &entry(1));
    assert_eq!(verify(&[line.trim_end().as_bytes().to_vec()]), Err((0, Fault::OtherPredecessor)));
}

#[test]
fn an_entry_of_the_other_chain_is_found() {
    let line = |verb: &str, outcome| seal(&Head::EMPTY, &Entry::new(1, verb, outcome)).0.trim_end().as_bytes().to_vec();
    let check = |chain, line: &[u8]| Verifier::of(chain).check(line).map(|head| head.sequence);
    let (changes, refusals) = (Some(Chain::Changes), Some(Chain::Refusals));
    for (verb, outcome, in_changes, in_refusals) in [
        ("run", Outcome::Accepted, true, false),
        ("start", Outcome::Done, true, false),
        ("load", Outcome::Failed, true, false),
        ("run", Outcome::Refused, false, true),
        ("others", Outcome::Refused, false, true),
        // About the files of either chain.
        ("recover", Outcome::Done, true, true),
        ("recover", Outcome::Failed, true, true),
        // Of a later version.
        ("run", Outcome::Unknown, true, true),
    ] {
        let line = line(verb, outcome);
        for (chain, fits) in [(changes, in_changes), (refusals, in_refusals), (None, true)] {
            let expected = match chain {
                Some(chain) if !fits => Err(Fault::OtherChain(chain)),
                _ => Ok(1),
            };
            assert_eq!(check(chain, &line), expected, "{verb} {outcome:?}");
        }
    }
}

#[test]
fn a_file_must_begin_with_the_entry_in_its_name() {
    let (lines, _) = chain(2);
    let mut verifier = Verifier::default();
    assert_eq!(verifier.check_first(2, &lines[0]), Err(Fault::OtherName { named: 2, found: 1 }));
    verifier.check_first(1, &lines[0]).unwrap();
    verifier.check_first(2, &lines[1]).unwrap();
    for chain in Chain::ALL {
        assert_eq!(Chain::parse_file_name(&chain.file_name(17)), Some((chain, 17)));
    }
    for wrong in ["changes-1.jsonl", "changes-000000000001.jsonl.gz", "other-000000000001.jsonl", "changes", ""] {
        assert_eq!(Chain::parse_file_name(wrong), None, "{wrong}");
    }
}

#[test]
fn a_number_that_cannot_be_followed_is_no_entry() {
    let numbered = |sequence| seal(&Head { sequence, ..Head::EMPTY }, &entry(1)).0;
    let last = numbered(MAX_SEQUENCE - 1);
    let mut verifier = Verifier::default();
    assert_eq!(verifier.check(last.trim_end().as_bytes()).map(|head| head.sequence), Ok(MAX_SEQUENCE));
    for sequence in [MAX_SEQUENCE, u64::MAX - 1] {
        let line = numbered(sequence);
        assert_eq!(verifier.check(line.trim_end().as_bytes()), Err(Fault::NotAnEntry));
    }
    assert_eq!(Chain::parse_file_name(&Chain::Changes.file_name(MAX_SEQUENCE)), Some((Chain::Changes, MAX_SEQUENCE)));
    assert_eq!(Chain::parse_file_name(&Chain::Changes.file_name(MAX_SEQUENCE + 1)), None);
}

#[test]
fn text_of_callers_is_bounded_and_has_no_active_characters() {
    let hostile = "\u{1b}]0;x\u{7}\n\u{202e}\"\\".repeat(1000);
    let names: serde_json::Map<_, _> = (0..200).map(|n| (format!("{n}{hostile}"), serde_json::Value::Null)).collect();
    for hostile in [hostile, "\"".repeat(10_000)] {
        let entry = Entry {
            action: Some(text(&hostile)),
            version: Some(text(&hostile)),
            code: Some(text(&hostile)),
            request: Some(text(&hostile)),
            ..Entry::new(1, "run", Outcome::Refused).by(&hostile).with_detail(&hostile).with_note(Some(&hostile))
        };
        let (line, _) = seal(&Head::EMPTY, &entry);
        assert!(!line.trim_end().contains(crate::base::log_line::is_unsafe));
        assert!(line.len() > 3_500 && line.len() < MAX_LINE / 2, "{}", line.len());
    }
    assert_eq!(ParameterSummary::of(&names).names.len(), 64);
}

#[test]
fn lines_are_read_in_bounded_memory() {
    let pieces = |text: &[u8]| {
        let (mut lines, mut seen) = (Lines::new(text), Vec::new());
        while let Some(piece) = lines.next_piece().unwrap() {
            seen.push(match piece {
                Piece::Line(line) => format!("line {}", line.len()),
                Piece::TooLong => "too long".to_owned(),
                Piece::Incomplete(rest) => format!("incomplete {}", rest.len()),
            });
        }
        seen
    };
    assert_eq!(pieces(b""), Vec::<String>::new());
    assert_eq!(pieces(b"ab\n\nc"), ["line 2", "line 0", "incomplete 1"]);
    assert_eq!(pieces(&vec![b'x'; MAX_LINE - 1]), [format!("incomplete {}", MAX_LINE - 1)]);
    assert_eq!(pieces(&vec![b'x'; MAX_LINE * 3]), ["too long"]);
    let long = |length| [&vec![b'x'; length][..], b"\nab\nc"].concat();
    for length in [MAX_LINE, MAX_LINE + 1, MAX_LINE * 3 - 1, MAX_LINE * 3] {
        assert_eq!(pieces(&long(length)), ["too long", "line 2", "incomplete 1"], "what follows it is read: {length}");
    }
    assert_eq!(pieces(&long(MAX_LINE - 1)), [format!("line {}", MAX_LINE - 1).as_str(), "line 2", "incomplete 1"]);
}

/// Change of a chain by someone who can edit its files.
#[derive(Debug, Clone)]
enum Edit {
    Byte { line: usize, at: usize, xor: u8 },
    Remove(usize),
    Duplicate(usize),
    Swap(usize, usize),
    Insert(usize),
}

fn edits(lines: usize) -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..lines, any::<usize>(), 1..=255_u8).prop_map(|(line, at, xor)| Edit::Byte { line, at, xor }),
        // Without the last line, the chain is a shorter one: only a head that was kept elsewhere tells.
        1 => (1..lines - 1).prop_map(Edit::Remove),
        1 => (0..lines).prop_map(Edit::Duplicate),
        1 => (0..lines, 0..lines).prop_filter("two lines", |(a, b)| a != b).prop_map(|(a, b)| Edit::Swap(a, b)),
        1 => (0..=lines).prop_map(Edit::Insert),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_change_of_a_byte_removal_swap_or_copy_is_found(edit in edits(6)) {
        let (original, _) = chain(6);
        let mut lines = original.clone();
        match edit {
            Edit::Byte { line, at, xor } => {
                let at = at % lines[line].len();
                lines[line][at] ^= xor;
            }
            Edit::Remove(line) => drop(lines.remove(line)),
            Edit::Duplicate(line) => lines.insert(line, original[line].clone()),
            Edit::Swap(a, b) => lines.swap(a, b),
            Edit::Insert(at) => {
                // A line with a valid hash of its own.
                let before = Head { sequence: at as u64, hash: ChainHash::ZERO };
                lines.insert(at, seal(&before, &entry(99)).0.trim_end().as_bytes().to_vec());
            }
        }
        // A changed byte may be a line feed: as a file has it.
        let text = lines.join(&b'\n');
        let lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let verified = verify(&lines);
        prop_assert!(verified.is_err(), "{edit:?}: {verified:?}");
    }

    #[test]
    fn truncation_is_found_with_a_head_that_was_kept(keep in 0_usize..6) {
        let (lines, head) = chain(6);
        let verified = verify(&lines[..keep]).unwrap();
        prop_assert!(verified.is_none_or(|found| found.sequence < head.sequence));
    }
}
