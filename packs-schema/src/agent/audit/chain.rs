//! Chain of hashes: heads, the line that continues a chain, and the names of its files.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Entry;

/// Maximum length of a line with its line feed, in bytes. Entries are bounded so that theirs are shorter.
pub const MAX_LINE: usize = 16 << 10;

/// Maximum sequence number: more entries are never written, and none has to be counted beyond it.
pub const MAX_SEQUENCE: u64 = u64::MAX >> 1;

/// Text between the hashed part of a line and its hash.
const HASH_FIELD: &str = ",\"hash\":\"";
/// Length of the end of a line that is not hashed: field, 64 digits, quote and brace.
const SUFFIX: usize = HASH_FIELD.len() + 64 + 2;
/// Extension of the files.
const EXTENSION: &str = ".jsonl";

/// Chain of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chain {
    /// Calls and events that changed something.
    Changes,
    /// Refused calls.
    Refusals,
}

impl Chain {
    /// Both chains.
    pub const ALL: [Chain; 2] = [Chain::Changes, Chain::Refusals];

    /// Returns the name, with which its files begin.
    pub fn as_str(self) -> &'static str {
        match self {
            Chain::Changes => "changes",
            Chain::Refusals => "refusals",
        }
    }

    /// Returns the name of the file whose first entry has this sequence number.
    pub fn file_name(self, first: u64) -> String {
        format!("{self}-{first:012}{EXTENSION}")
    }

    /// Parses the name of a file; `None` for a file that belongs to no chain.
    pub fn parse_file_name(name: &str) -> Option<(Chain, u64)> {
        let (chain, rest) = name.split_once('-')?;
        let chain = Chain::ALL.into_iter().find(|known| known.as_str() == chain)?;
        let first = rest.strip_suffix(EXTENSION)?.parse().ok()?;
        // Each number has one spelling.
        (first <= MAX_SEQUENCE && chain.file_name(first) == name).then_some((chain, first))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Hash of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// Predecessor of the first entry of a chain.
    pub const ZERO: ChainHash = ChainHash([0; 32]);

    /// Hashes the part of a line that is before its hash.
    pub(super) fn of(hashed: &[u8]) -> ChainHash {
        ChainHash(Sha256::digest(hashed).into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ChainHash {
    type Err = HeadError;
    fn from_str(text: &str) -> Result<ChainHash, HeadError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(HeadError);
        }
        for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or(HeadError)?;
        }
        Ok(ChainHash(hash))
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ChainHash, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// End of a chain: sequence number and hash of its last entry. Written as `42:9f86…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sequence number; 0 before the first entry.
    pub sequence: u64,
    /// Hash of the entry.
    pub hash: ChainHash,
}

impl Head {
    /// Head of a chain without entries.
    pub const EMPTY: Head = Head { sequence: 0, hash: ChainHash::ZERO };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

/// Error returned when a text is not a head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a head is a sequence number, a colon and 64 hexadecimal digits, as `bolt audit verify` prints it")]
pub struct HeadError;

impl FromStr for Head {
    type Err = HeadError;
    fn from_str(text: &str) -> Result<Head, HeadError> {
        let (sequence, hash) = text.split_once(':').ok_or(HeadError)?;
        Ok(Head { sequence: sequence.parse().map_err(|_| HeadError)?, hash: hash.parse()? })
    }
}

/// Returns the line that continues the chain, with its line feed, and the head after it.
pub fn seal(head: &Head, entry: &Entry) -> (String, Head) {
    let content = serde_json::to_string(entry).expect("an entry serialises");
    let fields = content.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default();
    let sequence = head.sequence + 1;
    let mut line = format!("{{\"seq\":{sequence},\"prev\":\"{}\",{fields}", head.hash);
    let hash = ChainHash::of(line.as_bytes());
    line.push_str(HASH_FIELD);
    line.push_str(&hash.to_string());
    line.push_str("\"}\n");
    (line, Head { sequence, hash })
}

/// Splits a line, without its line feed, into the part that is hashed and the hash.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], ChainHash)> {
    let (hashed, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX)?)?;
    let hash = suffix.strip_prefix(HASH_FIELD.as_bytes())?.strip_suffix(b"\"}")?;
    Some((hashed, std::str::from_utf8(hash).ok()?.parse().ok()?))
}

/// Line of a chain as it is read. Fields of later versions are ignored here; the hash covers them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    /// Sequence number.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Hash of the entry before.
    #[serde(rename = "prev")]
    pub previous: ChainHash,
    /// Hash of this entry.
    pub hash: ChainHash,
    /// Content.
    #[serde(flatten)]
    pub entry: Entry,
}
