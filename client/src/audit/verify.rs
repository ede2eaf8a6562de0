//! Verification of the files of a chain, and of heads that were kept elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};

use packs_schema::agent::audit::lines::Piece;
use packs_schema::agent::audit::{Chain, Fault, Head, Record, Start, Verifier};

use super::{AuditError, ChainFiles, open};

/// First broken entry of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// File; empty if the chain has none.
    pub file: PathBuf,
    /// Line, from 1; 0 without a file.
    pub line: u64,
    /// Sequence number that the line has, or should have.
    pub sequence: u64,
    /// Problem.
    pub problem: Problem,
}

/// Problem of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The line does not continue the chain.
    Fault(Fault),
    /// The chain continues, and the entry is not the one that was kept.
    OtherHead(Head),
    /// The chain ends before the entry that was kept.
    Truncated(Head),
    /// The entry that was kept is older than the first one that is there.
    Gone(Head),
    /// The chain of changes has no file, beside a chain of refusals.
    NoFile,
    /// A file has no entry.
    NoEntry,
}

impl Problem {
    /// Returns a word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Problem::Fault(fault) => fault.as_str(),
            Problem::OtherHead(_) => "other_head",
            Problem::Truncated(_) => "truncated",
            Problem::Gone(_) => "gone",
            Problem::NoFile => "no_file",
            Problem::NoEntry => "no_entry",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Fault(fault) => fault.fmt(f),
            Problem::OtherHead(kept) => {
                write!(f, "it is not the entry of the head {kept}: the chain was written again")
            }
            Problem::Truncated(kept) => {
                write!(f, "it is the last one, and the head {kept} is later: entries were removed from the end")
            }
            Problem::Gone(kept) => {
                write!(f, "it is the first one, and the head {kept} is earlier: that entry is not there to be compared")
            }
            Problem::NoFile => f.write_str(
                "none of its files is there, and an agent writes one before it refuses a call: they were removed",
            ),
            Problem::NoEntry => {
                f.write_str("the file has no entry: all were removed, or the first one was never written (a power cut)")
            }
        }
    }
}

/// Line without an end, as a power cut leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// File.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u64,
    /// Number of its bytes; 0 if the newest file has no line yet.
    pub bytes: usize,
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Chain; `None` for a file with a name of its own.
    pub chain: Option<Chain>,
    /// Number of files.
    pub files: usize,
    /// Number of entries that were verified.
    pub entries: u64,
    /// First entry.
    pub start: Option<Start>,
    /// Last entry that was verified.
    pub head: Option<Head>,
    /// First broken entry.
    pub broken: Option<Broken>,
    /// Last line, if it has no end.
    pub incomplete: Option<Incomplete>,
}

/// Verifies a chain up to its first broken entry; `kept` are heads of it that were kept elsewhere.
pub fn verify(chain: &ChainFiles, kept: &[Head]) -> Result<Report, AuditError> {
    let mut report = Report {
        chain: chain.chain,
        files: chain.files.len(),
        entries: 0,
        start: None,
        head: None,
        broken: None,
        incomplete: None,
    };
    let mut verifier = Verifier::of(chain.chain);
    let mut last = (PathBuf::new(), 0);
    for (index, (named, path)) in chain.files.iter().enumerate() {
        let mut lines = open(path)?;
        let mut line = 0;
        while let Some(piece) = lines.next_piece().map_err(|e| AuditError::Read(path.clone(), e))? {
            line += 1;
            last = (path.clone(), line);
            let checked = match piece {
                Piece::Line(text) => check(&mut verifier, named.filter(|_| line == 1), text),
                Piece::Incomplete(rest) if index + 1 == chain.files.len() => {
                    report.incomplete = Some(Incomplete { file: path.clone(), line, bytes: rest.len() });
                    break;
                }
                Piece::TooLong | Piece::Incomplete(_) => Err((None, Fault::NotAnEntry)),
            };
            let head = match checked {
                Ok(head) => head,
                Err((found, fault)) => {
                    let sequence = found.unwrap_or_else(|| verifier.head().map_or(1, |head| head.sequence + 1));
                    report.broken = Some(Broken { file: path.clone(), line, sequence, problem: Problem::Fault(fault) });
                    break;
                }
            };
            report.entries += 1;
            if let Some(other) = kept.iter().find(|kept| kept.sequence == head.sequence && kept.hash != head.hash) {
                let problem = Problem::OtherHead(*other);
                report.broken = Some(Broken { file: path.clone(), line, sequence: head.sequence, problem });
                break;
            }
        }
        // Of a file without a name of the agent's, an incomplete line is all that can be said.
        let is_begun = line == 1 && report.incomplete.is_some() && named.is_some();
        if report.broken.is_none() && (line == 0 || is_begun) {
            last = (path.clone(), 1);
            let first = (chain.chain == Some(Chain::Refusals)).then_some(1);
            let next = verifier.head().map(|head| head.sequence + 1).or(first);
            // The newest one is what a crash or a full disk leaves, right after it was made. The first one of changes is not:
            // an agent that cannot write its own start accepts nothing.
            if index + 1 == chain.files.len() && next.is_some() && *named == next {
                report.incomplete.get_or_insert(Incomplete { file: path.clone(), line: 1, bytes: 0 });
            } else {
                report.incomplete = None;
                let sequence = named.or(next).unwrap_or(1);
                report.broken = Some(Broken { file: path.clone(), line: 1, sequence, problem: Problem::NoEntry });
            }
        }
        if report.broken.is_some() {
            break;
        }
    }
    (report.start, report.head) = (verifier.start(), verifier.head());
    if report.broken.is_none() {
        report.broken = check_ends(&report, kept, chain, &last).or_else(|| check_begun(&report, chain, last));
    }
    Ok(report)
}

/// Checks a line; of a broken one returns the sequence number that it claims as well.
fn check(verifier: &mut Verifier, named: Option<u64>, text: &[u8]) -> Result<Head, (Option<u64>, Fault)> {
    let checked = match named {
        Some(named) => verifier.check_first(named, text),
        None => verifier.check(text),
    };
    checked.map_err(|fault| (serde_json::from_slice::<Record>(text).ok().map(|record| record.sequence), fault))
}

/// Finds a chain without any entry: a chain begins with its first file.
fn check_begun(report: &Report, chain: &ChainFiles, (file, line): (PathBuf, u64)) -> Option<Broken> {
    match (report.entries, chain.files.first(), chain.chain) {
        // The first refusal may not have been written.
        (0, Some((Some(1), _)), Some(Chain::Refusals)) if report.incomplete.is_some() => None,
        (0, Some((named, _)), _) => {
            Some(Broken { file, line, sequence: named.unwrap_or(1), problem: Problem::NoEntry })
        }
        // Refusals may never have happened.
        (0, None, Some(Chain::Changes)) => Some(Broken { file, line, sequence: 0, problem: Problem::NoFile }),
        _ => None,
    }
}

/// Finds a head that was kept and is outside of the chain.
fn check_ends(report: &Report, kept: &[Head], chain: &ChainFiles, last: &(PathBuf, u64)) -> Option<Broken> {
    let newest = report.head.unwrap_or(Head::EMPTY);
    let (file, line) = last.clone();
    if let Some(later) = kept.iter().find(|kept| kept.sequence > newest.sequence) {
        return Some(Broken { file, line, sequence: newest.sequence, problem: Problem::Truncated(*later) });
    }
    let start = report.start?;
    let first: &Path = &chain.files.first()?.1;
    let earlier = kept.iter().find(|kept| {
        // The predecessor of the first entry is not there, and its hash is.
        kept.sequence < start.sequence && !(kept.sequence + 1 == start.sequence && kept.hash == start.previous)
    })?;
    Some(Broken { file: first.to_owned(), line: 1, sequence: start.sequence, problem: Problem::Gone(*earlier) })
}
