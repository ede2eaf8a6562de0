//! First bytes of an execution's output, in the answer with the execution itself (`?output=`).
//!
//! They are the bytes that `GET …/stdout` and `GET …/stderr` return, so that a caller that gets a whole stream here needs no
//! second request. Both streams are read in one pass, in a blocking thread; memory is bounded by the limit for each stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{Code, Execution, OutputStart, StreamStart};

use super::App;
use super::output::shown;
use crate::access::Caller;
use crate::api::problem::ApiError;
use crate::api::visibility::class_of;
use crate::exec::Piece;
use crate::exec::output::{OutputError, StoredOutput};
use crate::log::chain;

/// Adds at most `limit` bytes of each stream to an execution that has ended, or the reason why they are absent. An error does
/// not change how the execution ended, and so is no error of the request.
pub(super) async fn attach(app: &App, caller: &Caller, record: &mut Execution, limit: usize) {
    if !record.state.is_terminal() {
        return;
    }
    // The verb run alone shows no output, not even of what the caller itself started: the routes of the output say the same.
    if !caller.is_granted(Verb::Read, &record.action, class_of(&app.registry, &record.action)) {
        record.output_error = Some(Code::Forbidden);
        return;
    }
    match read(app, record, limit).await {
        Ok(output) => record.output = Some(Box::new(output)),
        Err(error) => {
            let error = ApiError::from(error);
            if !matches!(error, ApiError::Output(OutputError::Gone)) {
                tracing::error!(execution = %record.id, error = chain(&error), "cannot read the output");
            }
            record.output_error = Some(error.code().0);
        }
    }
}

async fn read(app: &App, record: &Execution, limit: usize) -> Result<OutputStart, OutputError> {
    let written = [record.stdout, record.stderr].map(|totals| totals.map(|totals| totals.written_bytes));
    if written == [Some(0), Some(0)] {
        return Ok(pack(written.map(|written| Start::new(written, limit))));
    }
    let stored = app.exec.output(&record.id).await?;
    tokio::task::spawn_blocking(move || read_stored(&stored, written, limit)).await.unwrap_or(Err(OutputError::Task))
}

fn read_stored(stored: &StoredOutput, written: [Option<u64>; 2], limit: usize) -> Result<OutputStart, OutputError> {
    let mut starts = written.map(|written| Start::new(written, limit));
    let mut output = stored.open([Some(0), Some(0)]);
    while !starts.iter().all(Start::is_complete)
        && let Some(piece) = output.read()?
    {
        starts[index(piece_stream(&piece))].push(piece);
    }
    for stream in Stream::ALL {
        let start = &mut starts[index(stream)];
        if !start.is_complete()
            && let Some(written) = start.written
            && let Some(piece) = output.missing(stream, written)
        {
            start.push(piece);
        }
    }
    Ok(pack(starts))
}

/// Beginning of a stream, as far as it was read.
struct Start {
    bytes: Vec<u8>,
    limit: usize,
    truncated: bool,
    /// Number of bytes that the action wrote, where it is known.
    written: Option<u64>,
    /// Number of these that were read or are known as dropped.
    seen: u64,
}

impl Start {
    fn new(written: Option<u64>, limit: usize) -> Start {
        Start { bytes: Vec::new(), limit, truncated: false, written, seen: 0 }
    }

    fn is_complete(&self) -> bool {
        self.truncated || self.written.is_some_and(|written| self.seen >= written)
    }

    fn push(&mut self, piece: Piece) {
        self.seen += match &piece {
            Piece::Data { bytes, .. } => bytes.len() as u64,
            Piece::Dropped { bytes, .. } => *bytes,
        };
        let more = shown(piece);
        let taken = more.len().min(self.limit - self.bytes.len());
        self.bytes.extend_from_slice(&more[..taken]);
        self.truncated |= taken < more.len();
    }

    fn finish(mut self) -> StreamStart {
        // A character that the limit cuts in two does not make text into bytes.
        if self.truncated
            && let Err(error) = std::str::from_utf8(&self.bytes)
            && error.error_len().is_none()
        {
            self.bytes.truncate(error.valid_up_to());
        }
        match String::from_utf8(self.bytes) {
            Ok(text) => StreamStart { text: Some(text), base64: None, truncated: self.truncated },
            Err(error) => {
                let base64 = Some(STANDARD.encode(error.as_bytes()));
                StreamStart { text: None, base64, truncated: self.truncated }
            }
        }
    }
}

fn pack(starts: [Start; 2]) -> OutputStart {
    let [stdout, stderr] = starts.map(Start::finish);
    OutputStart { stdout, stderr }
}

fn piece_stream(piece: &Piece) -> Stream {
    match piece {
        Piece::Data { stream, .. } | Piece::Dropped { stream, .. } => *stream,
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(pieces: &[&[u8]], limit: usize) -> StreamStart {
        let mut start = Start::new(None, limit);
        for bytes in pieces {
            start.push(Piece::Data { stream: Stream::Stdout, offset: start.seen, at_us: 0, bytes: bytes.to_vec() });
        }
        start.finish()
    }

    fn text(text: &str, truncated: bool) -> StreamStart {
        StreamStart { text: Some(text.to_owned()), base64: None, truncated }
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(start(&[], 5), text("", false));
        assert_eq!(start(&[b"ab", b"cde"], 5), text("abcde", false));
        assert_eq!(start(&[b"ab", b"cdef"], 5), text("abcde", true));
        assert_eq!(start(&[b"abcde", b"f"], 5), text("abcde", true));
        // A character that is cut by the limit, and one that is cut by the action.
        assert_eq!(start(&["abcd\u{e9}".as_bytes()], 5), text("abcd", true));
        assert_eq!(start(&["\u{1f600}".as_bytes()], 3), text("", true));
        let cut = start(&[b"abcd\xc3"], 5);
        assert_eq!((cut.text, cut.base64.as_deref(), cut.truncated), (None, Some("YWJjZMM="), false));
        let cut = start(&[b"ab\xffd\xc3\xa9"], 5);
        assert_eq!((cut.text, cut.base64.as_deref(), cut.truncated), (None, Some("YWL/ZMM="), true));
    }

    #[test]
    fn dropped_bytes_are_shown_as_the_output_routes_show_them() {
        let mut start = Start::new(Some(7), 100);
        start.push(Piece::Data { stream: Stream::Stdout, offset: 0, at_us: 0, bytes: b"ab".to_vec() });
        assert!(!start.is_complete());
        start.push(Piece::Dropped { stream: Stream::Stdout, offset: 2, at_us: 0, bytes: 5 });
        assert!(start.is_complete());
        assert_eq!(start.finish(), text("ab\n[bolt: 5 bytes dropped]\n", false));
    }
}
