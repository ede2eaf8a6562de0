//! Entries of the audit log in the order of time, without verification.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use packs_schema::agent::audit::lines::{Lines, Piece};
use packs_schema::agent::audit::{Chain, Record};
use serde_json::Value;

use super::{AuditError, ChainFiles, open};

/// Entry, or a line that is none.
#[derive(Debug)]
pub enum Listed {
    /// Entry, with all that its line says.
    Entry(Box<(Option<Chain>, Record, Value)>),
    /// Line that is not an entry.
    Unreadable(PathBuf, u64),
}

/// Entries of several chains, merged by their times.
pub struct Entries {
    chains: Vec<ChainEntries>,
}

impl Entries {
    /// Lists the entries of these chains.
    pub fn new(chains: Vec<ChainFiles>) -> Entries {
        let chains = chains.into_iter().map(|chain| ChainEntries {
            chain: chain.chain,
            files: chain.files.into_iter().map(|(_, path)| path).collect(),
            open: None,
            next: None,
        });
        Entries { chains: chains.collect() }
    }

    /// Returns the next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Listed>, AuditError> {
        let mut earliest: Option<(u64, usize)> = None;
        for (index, chain) in self.chains.iter_mut().enumerate() {
            let at_ms = match chain.peek()? {
                None => continue,
                Some(Listed::Unreadable(..)) => 0,
                Some(Listed::Entry(entry)) => entry.1.entry.at_ms,
            };
            if earliest.is_none_or(|(least, _)| at_ms < least) {
                earliest = Some((at_ms, index));
            }
        }
        Ok(earliest.and_then(|(_, index)| self.chains[index].next.take()))
    }
}

struct ChainEntries {
    chain: Option<Chain>,
    files: VecDeque<PathBuf>,
    /// File that is being read, with the number of the last line.
    open: Option<(PathBuf, Lines<BufReader<File>>, u64)>,
    next: Option<Listed>,
}

impl ChainEntries {
    fn peek(&mut self) -> Result<Option<&Listed>, AuditError> {
        while self.next.is_none() {
            let Some((path, lines, line)) = &mut self.open else {
                let Some(path) = self.files.pop_front() else { return Ok(None) };
                let lines = open(&path)?;
                self.open = Some((path, lines, 0));
                continue;
            };
            let piece = lines.next_piece().map_err(|e| AuditError::Read(path.clone(), e))?;
            *line += 1;
            let record = match piece {
                None => {
                    self.open = None;
                    continue;
                }
                Some(Piece::Line(text)) => {
                    serde_json::from_slice(text).and_then(|record| Ok((record, serde_json::from_slice(text)?))).ok()
                }
                Some(Piece::TooLong | Piece::Incomplete(_)) => None,
            };
            let unreadable = || Listed::Unreadable(path.clone(), *line);
            self.next = Some(record.map_or_else(unreadable, |(record, value): (Record, Value)| {
                Listed::Entry(Box::new((self.chain, record, value)))
            }));
        }
        Ok(self.next.as_ref())
    }
}
