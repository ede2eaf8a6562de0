//! Output of an execution: as lines of JSON, or as the bytes of one stream.
//!
//! Archived output is sent as it is stored, compressed, to callers that accept gzip. Otherwise it makes no difference where
//! output is stored. All reading is done in blocking threads, so that no reader delays another.

use std::io::Read;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use hyper::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, HeaderName, HeaderValue, RANGE, VARY};
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{DROPPED_BYTES, Execution, OutputChunk};

use super::{Call, content, visible};
use crate::api::body::{Body, until_stop};
use crate::api::encoding;
use crate::api::problem::ApiError;
use crate::api::range::{self, Requested};
use crate::exec::output::{Output, OutputError, StoredOutput};
use crate::exec::tail::Tail;
use crate::exec::{Archive, Piece};

const LINES: &str = "application/x-ndjson";
const BYTES: &str = "application/octet-stream";
/// Bytes that one step in a blocking thread reads.
const STEP: usize = 64 << 10;

pub(in crate::api) async fn chunks(call: &Call) -> Result<Response<Body>, ApiError> {
    let stdout_from = call.query.number("stdout_from")?.unwrap_or(0);
    let stderr_from = call.query.number("stderr_from")?.unwrap_or(0);
    let follow = call.query.flag("follow")?;
    let record = visible(call).await?;
    let output = call.app.exec.output(&record.id).await?.open([Some(stdout_from), Some(stderr_from)]);
    let tail = tail(call, record, output, follow).await?;
    let lines = stream::try_unfold(tail, |mut tail| async move {
        let pieces = tail.next().await?;
        Ok::<_, OutputError>(pieces.map(|pieces| (lines(pieces), tail)))
    });
    Ok(content(200, LINES, Body::stream(until_stop(lines, call.app.stopping.clone()), None)))
}

pub(in crate::api) async fn bytes(call: &Call, stream: Stream) -> Result<Response<Body>, ApiError> {
    let follow = call.query.flag("follow")?;
    let offset = call.query.number("offset")?;
    let record = visible(call).await?;
    let range = call.headers.get(RANGE).and_then(|value| value.to_str().ok());
    if follow {
        if range.is_some() {
            return Err(ApiError::BadRequest("follow=true takes offset, not the header Range".to_owned()));
        }
        let output = call.app.exec.output(&record.id).await?.open(only(stream, offset.unwrap_or(0)));
        let tail = tail(call, record, output, true).await?;
        let parts = stream::try_unfold(tail, |mut tail| async move {
            let pieces = tail.next().await?;
            Ok::<_, OutputError>(pieces.map(|pieces| (joined(pieces), tail)))
        });
        return Ok(content(200, BYTES, Body::stream(until_stop(parts, call.app.stopping.clone()), None)));
    }
    if offset.is_some() {
        return Err(ApiError::BadRequest("offset goes with follow=true; else use the header Range".to_owned()));
    }
    let stored_output = call.app.exec.output(&record.id).await?;
    let mut response = match &stored_output {
        StoredOutput::Archived(archive)
            if range.is_none() && archive.totals(stream).1 == 0 && encoding::accepts_gzip(&call.headers) =>
        {
            stored(archive, stream)
        }
        _ => {
            let written = match stream {
                Stream::Stdout => record.stdout,
                Stream::Stderr => record.stderr,
            };
            whole_or_part(stored_output, stream, written.map(|totals| totals.written_bytes), range).await?
        }
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

/// Responds with the bytes stored so far, or a range of them, with a content length.
async fn whole_or_part(
    stored_output: StoredOutput,
    stream: Stream,
    written: Option<u64>,
    range: Option<&str>,
) -> Result<Response<Body>, ApiError> {
    let measured = tokio::task::spawn_blocking(move || {
        measure(&stored_output, stream, written).map(|found| (found, stored_output))
    });
    let ((length, dropped), stored_output) = measured.await.map_err(|_| OutputError::Task)??;
    let (from, to, status) = match range.map_or(Requested::Whole, |value| range::parse(value, length)) {
        Requested::Whole => (0, length, 200),
        Requested::Part(from, to) => (from, to, 206),
        Requested::NotSatisfiable => return Err(ApiError::RangeNotSatisfiable(length)),
    };
    let part = Part { output: stored_output.open(only(stream, 0)), stream, written, skip: from, left: to - from };
    let parts = stream::try_unfold(part, |mut part| async move {
        let read = tokio::task::spawn_blocking(move || part.next().map(|bytes| bytes.map(|bytes| (bytes, part))));
        read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    });
    let mut response = content(status, BYTES, Body::stream(parts, Some(to - from)));
    set_dropped(&mut response, dropped);
    if status == 206
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{length}", to - 1))
    {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    Ok(response)
}

/// Responds with the bytes as they are stored, compressed.
fn stored(archive: &Archive, stream: Stream) -> Response<Body> {
    let (section, length) = archive.stored(stream);
    let parts = stream::try_unfold(section, |mut section| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; STEP];
            let read = section.read(&mut bytes)?;
            bytes.truncate(read);
            Ok((read > 0).then(|| (Bytes::from(bytes), section)))
        });
        read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    });
    let mut response = content(200, BYTES, Body::stream(parts, Some(length)));
    set_dropped(&mut response, 0);
    if length > 0 {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn set_dropped(response: &mut Response<Body>, dropped: u64) {
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(HeaderName::from_static(DROPPED_BYTES), HeaderValue::from(dropped));
}

/// Part of the representation: the bytes that were kept, with a line in place of bytes that were dropped.
struct Part {
    output: Output,
    stream: Stream,
    written: Option<u64>,
    skip: u64,
    left: u64,
}

impl Part {
    /// Reads the next bytes, around [`STEP`] of them.
    fn next(&mut self) -> Result<Option<Bytes>, std::io::Error> {
        let mut some = Vec::new();
        while self.left > 0 && some.len() < STEP {
            let Some(mut bytes) =
                next_shown(&mut self.output, self.stream, self.written).map_err(std::io::Error::other)?
            else {
                return Err(std::io::Error::other("output was dropped while it was read: read it again"));
            };
            let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            let rest = bytes.split_off(skipped);
            self.skip -= skipped as u64;
            let taken = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= taken as u64;
            some.extend_from_slice(&rest[..taken]);
        }
        Ok((!some.is_empty()).then(|| some.into()))
    }
}

fn next_shown(output: &mut Output, stream: Stream, written: Option<u64>) -> Result<Option<Bytes>, OutputError> {
    let piece = match output.read()? {
        Some(piece) => Some(piece),
        None => written.and_then(|written| output.missing(stream, written)),
    };
    Ok(piece.map(shown))
}

/// Returns the length of the representation, and the number of dropped bytes.
fn measure(stored_output: &StoredOutput, stream: Stream, written: Option<u64>) -> Result<(u64, u64), OutputError> {
    let (mut length, mut dropped) = (0, 0);
    if let StoredOutput::Archived(archive) = stored_output {
        let kept;
        (kept, dropped) = archive.totals(stream);
        length += kept;
        if dropped > 0 {
            archive.lengths(stream, |dropped, bytes| {
                if dropped {
                    length += gap(bytes).len() as u64;
                }
            })?;
        }
        return Ok((length, dropped));
    }
    let mut output = stored_output.open(only(stream, 0));
    loop {
        let piece = match output.read()? {
            Some(piece) => Some(piece),
            None => written.and_then(|written| output.missing(stream, written)),
        };
        let Some(piece) = piece else { return Ok((length, dropped)) };
        if let Piece::Dropped { bytes, .. } = &piece {
            dropped += bytes;
        }
        length += shown(piece).len() as u64;
    }
}

/// Selects one stream from an offset on.
fn only(stream: Stream, from: u64) -> [Option<u64>; 2] {
    match stream {
        Stream::Stdout => [Some(from), None],
        Stream::Stderr => [None, Some(from)],
    }
}

/// Returns the line that replaces bytes that were not kept.
fn gap(bytes: u64) -> String {
    format!("\n[bolt: {bytes} bytes dropped]\n")
}

/// Converts a piece to bytes of its stream.
pub(super) fn shown(piece: Piece) -> Bytes {
    match piece {
        Piece::Data { bytes, .. } => bytes.into(),
        Piece::Dropped { bytes, .. } => gap(bytes).into(),
    }
}

/// Converts pieces to bytes of their stream.
fn joined(pieces: Vec<Piece>) -> Bytes {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(&shown(piece));
    }
    bytes.into()
}

/// Converts pieces to lines of JSON.
fn lines(pieces: Vec<Piece>) -> Bytes {
    let mut lines = Vec::new();
    for piece in pieces {
        line(piece, &mut lines);
    }
    lines.into()
}

fn line(piece: Piece, lines: &mut Vec<u8>) {
    let chunk = match piece {
        Piece::Data { stream, offset, at_us, bytes } => {
            let (text, base64) = match String::from_utf8(bytes) {
                Ok(text) => (Some(text), None),
                Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
            };
            OutputChunk { stream, offset, at_us, text, base64, dropped_bytes: None }
        }
        Piece::Dropped { stream, offset, at_us, bytes } => {
            OutputChunk { stream, offset, at_us, text: None, base64: None, dropped_bytes: Some(bytes) }
        }
    };
    serde_json::to_writer(&mut *lines, &chunk).expect("a chunk serialises");
    lines.push(b'\n');
}

/// Follows output to the end of the execution.
async fn tail(call: &Call, record: Execution, output: Output, follow: bool) -> Result<Tail, ApiError> {
    let following = if follow { call.app.exec.follow(&record.id) } else { None };
    if following.is_some() {
        return Ok(Tail::new(output, following, None));
    }
    // The execution may have ended since it was read.
    let now = call.app.exec.view(&record.id).await?.unwrap_or(record);
    let ended = now.state.is_terminal().then(|| Arc::new(now));
    Ok(Tail::new(output, None, ended))
}
