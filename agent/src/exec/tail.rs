//! Output to its end: as far as it has been written, or on and on until the execution has ended.

use std::sync::Arc;

use packs_schema::rest::Execution;
use packs_schema::run::output::Stream;

use super::Follow;
use super::output::{Output, OutputError, Piece};

/// Hands out pieces; waits for more only while it follows.
pub struct Tail {
    output: Output,
    follow: Option<Follow>,
    ended: Option<Arc<Execution>>,
}

impl Tail {
    /// Of an execution that has `ended`, or that is followed, or (neither) as far as it is now.
    pub fn new(output: Output, follow: Option<Follow>, ended: Option<Arc<Execution>>) -> Tail {
        Tail { output, follow, ended }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Piece>, OutputError> {
        loop {
            // Looked at before reading: what has ended writes no more.
            if let Some(follow) = &mut self.follow {
                self.ended = follow.progress.borrow_and_update().ended.clone();
            }
            if let Some(piece) = self.output.read()? {
                return Ok(Some(piece));
            }
            if let Some(ended) = &self.ended {
                let totals = [(Stream::Stdout, ended.stdout), (Stream::Stderr, ended.stderr)];
                let missing = totals
                    .into_iter()
                    .filter_map(|(stream, totals)| self.output.missing(stream, totals?.written_bytes))
                    .next();
                return Ok(missing);
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
