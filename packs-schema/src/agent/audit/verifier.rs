//! Verification of a chain, line by line. Reads no file.

use serde::Deserialize;

use super::chain::{Chain, ChainHash, Head, MAX_SEQUENCE, split};
use super::entry::{Outcome, RECOVER};

/// Fault of a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is no entry: not JSON, without a hash at its end, too long, or numbered beyond [`MAX_SEQUENCE`].
    #[error("it is not an entry of an audit log")]
    NotAnEntry,
    /// The hash is not that of the line.
    #[error("its content does not have its hash: the line was changed")]
    Altered,
    /// The sequence number does not follow that of the line before.
    #[error(
        "its sequence number is {found}, and {expected} follows the entry before: entries were removed, added or moved"
    )]
    OutOfSequence {
        /// Number that follows.
        expected: u64,
        /// Number of the line.
        found: u64,
    },
    /// The entry is of the other chain: changes are never refused, and refusals always are.
    #[error("it does not belong to the chain of {0}: files or entries of the two chains were exchanged")]
    OtherChain(Chain),
    /// The line names another predecessor.
    #[error("it does not follow the entry before: the hash that it names is another one")]
    OtherPredecessor,
    /// The first entry of a file does not have the number in the file's name.
    #[error("its sequence number is {found}, and the name of its file says {named}")]
    OtherName {
        /// Number in the name.
        named: u64,
        /// Number of the line.
        found: u64,
    },
}

impl Fault {
    /// Returns a word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Fault::NotAnEntry => "not_an_entry",
            Fault::Altered => "altered",
            Fault::OutOfSequence { .. } => "out_of_sequence",
            Fault::OtherChain(_) => "other_chain",
            Fault::OtherPredecessor => "other_predecessor",
            Fault::OtherName { .. } => "other_name",
        }
    }
}

/// First entry that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Its sequence number.
    pub sequence: u64,
    /// Hash of its predecessor, which is not there; zeros for the first entry of the chain.
    pub previous: ChainHash,
}

/// Checks lines of one chain in their order.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    /// Chain whose entries they are; `None` if that is not known.
    chain: Option<Chain>,
    start: Option<Start>,
    head: Option<Head>,
}

/// Part of a line that binds it to the one before, and to its chain.
#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: ChainHash,
    #[serde(default)]
    verb: String,
    #[serde(default)]
    outcome: Outcome,
}

impl Link {
    /// True if the entry may be in the chain; one with an outcome of a later version may be in both.
    fn may_be_in(&self, chain: Chain) -> bool {
        match (self.outcome, chain) {
            (Outcome::Unknown, _) => true,
            (Outcome::Refused, Chain::Changes) => false,
            (Outcome::Refused, Chain::Refusals) | (_, Chain::Changes) => true,
            // The only entries of the agent itself there: what it found about the files.
            (_, Chain::Refusals) => self.verb == RECOVER,
        }
    }
}

impl Verifier {
    /// Makes a verifier of entries of `chain`; `None` for those of a file whose name does not tell.
    pub fn of(chain: Option<Chain>) -> Verifier {
        Verifier { chain, ..Verifier::default() }
    }

    /// Checks the next line, given without its line feed, and returns the head after it. After a fault the verifier is unchanged.
    pub fn check(&mut self, line: &[u8]) -> Result<Head, Fault> {
        let (hashed, hash) = split(line).ok_or(Fault::NotAnEntry)?;
        let link: Link = serde_json::from_slice(line).map_err(|_| Fault::NotAnEntry)?;
        if ChainHash::of(hashed) != hash {
            return Err(Fault::Altered);
        }
        if link.seq > MAX_SEQUENCE {
            return Err(Fault::NotAnEntry);
        }
        if let Some(chain) = self.chain.filter(|chain| !link.may_be_in(*chain)) {
            return Err(Fault::OtherChain(chain));
        }
        let before = self.head.or_else(|| (link.seq == 1).then_some(Head::EMPTY));
        if let Some(before) = before {
            let expected = before.sequence + 1;
            if link.seq != expected {
                return Err(Fault::OutOfSequence { expected, found: link.seq });
            }
            if link.prev != before.hash {
                return Err(Fault::OtherPredecessor);
            }
        } else if link.seq == 0 {
            return Err(Fault::OutOfSequence { expected: 1, found: 0 });
        }
        self.start.get_or_insert(Start { sequence: link.seq, previous: link.prev });
        let head = Head { sequence: link.seq, hash };
        self.head = Some(head);
        Ok(head)
    }

    /// Checks the first line of a file whose name says that it begins with the entry `named`.
    pub fn check_first(&mut self, named: u64, line: &[u8]) -> Result<Head, Fault> {
        let mut next = self.clone();
        let head = next.check(line)?;
        if head.sequence != named {
            return Err(Fault::OtherName { named, found: head.sequence });
        }
        *self = next;
        Ok(head)
    }

    /// Returns the first entry that was verified.
    pub fn start(&self) -> Option<Start> {
        self.start
    }

    /// Returns the last entry that was verified.
    pub fn head(&self) -> Option<Head> {
        self.head
    }
}
