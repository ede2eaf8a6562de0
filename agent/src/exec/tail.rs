//! Reading output to its end: as far as it has been written, or following until the execution has ended.

use std::sync::Arc;

use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::Execution;

use super::Follow;
use super::output::{Output, OutputError};
use super::segments::Piece;

/// Stream of pieces; waits for more only while it follows.
pub struct Tail {
    /// Taken while it is read, and not put back after an error.
    output: Option<Output>,
    follow: Option<Follow>,
    ended: Option<Arc<Execution>>,
}

impl Tail {
    /// Reads the output of an execution that has `ended`, that is followed, or (neither) as far as it is written now.
    pub fn new(output: Output, follow: Option<Follow>, ended: Option<Arc<Execution>>) -> Tail {
        Tail { output: Some(output), follow, ended }
    }

    /// Returns the next pieces, at least one; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Piece>>, OutputError> {
        loop {
            // Checked before reading: an execution that has ended writes no more.
            if let Some(follow) = &mut self.follow {
                self.ended = follow.progress.borrow_and_update().ended.clone();
            }
            let Some(output) = self.output.take() else { return Ok(None) };
            let (output, pieces) = output.read_batch().await?;
            let output = self.output.insert(output);
            if !pieces.is_empty() {
                return Ok(Some(pieces));
            }
            if let Some(ended) = &self.ended {
                let totals = [(Stream::Stdout, ended.stdout), (Stream::Stderr, ended.stderr)];
                let missing: Vec<Piece> = totals
                    .into_iter()
                    .filter_map(|(stream, totals)| output.missing(stream, totals?.written_bytes))
                    .collect();
                return Ok((!missing.is_empty()).then_some(missing));
            }
            match &mut self.follow {
                Some(follow) => {
                    if follow.progress.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}
