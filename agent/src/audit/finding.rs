//! Findings about the files of a chain, which are recorded in it.

use std::path::PathBuf;

use packs_schema::agent::audit::Outcome;

/// Finding about the newest file of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// The last line had no end and was removed.
    Torn { file: PathBuf, bytes: u64 },
    /// The file has a line that does not continue the chain; it is left as it is, and a new file begins.
    Broken { file: PathBuf, line: u64 },
    /// The file has no entry and does not follow the entry before it, so that no crash has left it; it is left as it is, and a
    /// new file begins.
    Emptied { file: PathBuf },
    /// The file was removed while the agent ran, with this entry as its last; a new file begins behind it.
    Removed { last: u64 },
}

impl Finding {
    /// Returns outcome and detail of its entry: done if nothing is lost that a call was answered for.
    pub(super) fn describe(&self) -> (Outcome, String) {
        match self {
            Finding::Torn { file, bytes } => {
                (Outcome::Done, format!("removed an incomplete last line of {bytes} bytes from {}", file.display()))
            }
            Finding::Broken { file, line } => {
                (Outcome::Failed, format!("{} line {line} does not continue the chain: left as it is", file.display()))
            }
            Finding::Emptied { file } => {
                (Outcome::Failed, format!("{} has no entry any more: they are lost; left as it is", file.display()))
            }
            Finding::Removed { last } => {
                (Outcome::Failed, format!("someone removed the file with entry {last} while the agent ran: it is lost"))
            }
        }
    }
}
