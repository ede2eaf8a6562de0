//! The output of an execution: as lines of JSON, or as the bytes of one stream.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderName, HeaderValue, RANGE};
use packs_schema::rest::{DROPPED_BYTES, Execution, OutputChunk};
use packs_schema::run::output::Stream;

use super::{Call, content, visible};
use crate::api::body::Body;
use crate::api::problem::ApiError;
use crate::api::range::{self, Wanted};
use crate::exec::output::{Output, OutputError, Piece};
use crate::exec::tail::Tail;

const LINES: &str = "application/x-ndjson";
const BYTES: &str = "application/octet-stream";

pub(in crate::api) async fn chunks(call: &Call) -> Result<Response<Body>, ApiError> {
    let stdout_from = call.query.get::<u64>("stdout_from")?.unwrap_or(0);
    let stderr_from = call.query.get::<u64>("stderr_from")?.unwrap_or(0);
    let follow = call.query.flag("follow")?;
    let record = visible(call).await?;
    let output = Output::open(&call.app.exec.directory(&record.id), Some(stdout_from), Some(stderr_from));
    let tail = tail(call, record, output, follow).await?;
    let lines = stream::try_unfold(tail, |mut tail| async move {
        let piece = tail.next().await?;
        Ok::<_, OutputError>(piece.map(|piece| (line(piece), tail)))
    });
    Ok(content(200, LINES, Body::stream(lines, None)))
}

pub(in crate::api) async fn bytes(call: &Call, stream: Stream) -> Result<Response<Body>, ApiError> {
    let follow = call.query.flag("follow")?;
    let offset = call.query.get::<u64>("offset")?;
    let record = visible(call).await?;
    let range = call.headers.get(RANGE).and_then(|value| value.to_str().ok());
    let directory = call.app.exec.directory(&record.id);
    if follow {
        if range.is_some() {
            return Err(ApiError::BadRequest("follow=true takes offset, not the header Range".to_owned()));
        }
        let output = open(&directory, stream, offset.unwrap_or(0));
        let tail = tail(call, record, output, true).await?;
        let parts = stream::try_unfold(tail, |mut tail| async move {
            let piece = tail.next().await?;
            Ok::<_, OutputError>(piece.map(|piece| (shown(piece), tail)))
        });
        return Ok(content(200, BYTES, Body::stream(parts, None)));
    }
    if offset.is_some() {
        return Err(ApiError::BadRequest("offset goes with follow=true; else use the header Range".to_owned()));
    }
    whole_or_part(&directory, stream, &record, range)
}

/// What is there now, or a range of it, with its length.
fn whole_or_part(
    directory: &Path,
    stream: Stream,
    record: &Execution,
    range: Option<&str>,
) -> Result<Response<Body>, ApiError> {
    let written = match stream {
        Stream::Stdout => record.stdout,
        Stream::Stderr => record.stderr,
    };
    let (length, dropped) = measure(directory, stream, written.map(|totals| totals.written_bytes))?;
    let (from, to, status) = match range.map_or(Wanted::Whole, |value| range::parse(value, length)) {
        Wanted::Whole => (0, length, 200),
        Wanted::Part(from, to) => (from, to, 206),
        Wanted::NotThere => return Err(ApiError::RangeNotSatisfiable(length)),
    };
    let part = Part {
        output: open(directory, stream, 0),
        stream,
        written: written.map(|totals| totals.written_bytes),
        skip: from,
        left: to - from,
    };
    let parts =
        stream::try_unfold(
            part,
            |mut part| async move { Ok::<_, std::io::Error>(part.next()?.map(|bytes| (bytes, part))) },
        );
    let mut response = content(status, BYTES, Body::stream(parts, Some(to - from)));
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(HeaderName::from_static(DROPPED_BYTES), HeaderValue::from(dropped));
    if status == 206
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{length}", to - 1))
    {
        headers.insert(CONTENT_RANGE, value);
    }
    Ok(response)
}

/// A part of the representation: what was kept, with a line in place of what was not.
struct Part {
    output: Output,
    stream: Stream,
    written: Option<u64>,
    skip: u64,
    left: u64,
}

impl Part {
    fn next(&mut self) -> Result<Option<Bytes>, std::io::Error> {
        while self.left > 0 {
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
            if taken > 0 {
                return Ok(Some(rest.slice(..taken)));
            }
        }
        Ok(None)
    }
}

fn next_shown(output: &mut Output, stream: Stream, written: Option<u64>) -> Result<Option<Bytes>, OutputError> {
    let piece = match output.read()? {
        Some(piece) => Some(piece),
        None => written.and_then(|written| output.missing(stream, written)),
    };
    Ok(piece.map(shown))
}

/// The length of the representation, and how many bytes were dropped.
fn measure(directory: &Path, stream: Stream, written: Option<u64>) -> Result<(u64, u64), OutputError> {
    let mut output = open(directory, stream, 0);
    let (mut length, mut dropped) = (0, 0);
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

fn open(directory: &Path, stream: Stream, from: u64) -> Output {
    match stream {
        Stream::Stdout => Output::open(directory, Some(from), None),
        Stream::Stderr => Output::open(directory, None, Some(from)),
    }
}

/// A piece as it stands among the bytes of its stream.
fn shown(piece: Piece) -> Bytes {
    match piece {
        Piece::Data { bytes, .. } => bytes.into(),
        Piece::Dropped { bytes, .. } => format!("\n[bolt: {bytes} bytes dropped]\n").into(),
    }
}

/// A piece as a line of JSON.
fn line(piece: Piece) -> Bytes {
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
    let mut line = serde_json::to_vec(&chunk).expect("a chunk serialises");
    line.push(b'\n');
    line.into()
}

/// Output to its end, whether the execution goes on or has ended.
async fn tail(call: &Call, record: Execution, output: Output, follow: bool) -> Result<Tail, ApiError> {
    let following = if follow { call.app.exec.follow(&record.id) } else { None };
    if following.is_some() {
        return Ok(Tail::new(output, following, None));
    }
    // It may have ended since it was looked up.
    let now = call.app.exec.view(&record.id).await?.unwrap_or(record);
    let ended = now.state.is_terminal().then(|| Arc::new(now));
    Ok(Tail::new(output, None, ended))
}
