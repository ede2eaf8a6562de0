//! Streamed answers: bytes, or lines of NDJSON.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answer::Answer;
use super::{Agent, MAX_LINE, wire};
use crate::error::{Error, Kind};
use crate::show::visible;

/// Stream of bytes. Dropping it closes the connection.
#[derive(Debug)]
pub struct ByteStream {
    body: Incoming,
    wire: wire::Wire,
    /// Names the instance in errors.
    agent: Agent,
    dropped_bytes: u64,
}

impl ByteStream {
    pub(super) fn new(body: Incoming, wire: wire::Wire, agent: &Agent, dropped_bytes: u64) -> ByteStream {
        let agent = Agent::by(agent.instance.clone(), agent.way.clone());
        ByteStream { body, wire, agent, dropped_bytes }
    }

    /// Returns the number of bytes that were not kept, as known when the answer started.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Returns the next bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(e) => return Some(Err(self.error(self.wire.broken(&e)))),
            }
        }
    }

    /// Returns the remaining bytes, at most `limit`, and true if there were more.
    pub async fn collect(mut self, limit: usize) -> Result<(Vec<u8>, bool), Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            let left = limit - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(left)]);
            if chunk.len() > left {
                return Ok((bytes, true));
            }
        }
        Ok((bytes, false))
    }

    fn error(&self, kind: Kind) -> Error {
        self.agent.error(kind)
    }
}

/// Stream of the lines of an NDJSON answer, each at most [`MAX_LINE`] bytes. Dropping it closes the connection.
#[derive(Debug)]
pub struct Lines<T> {
    bytes: ByteStream,
    buffer: BytesMut,
    scanned: usize,
    ended: bool,
    item: PhantomData<fn() -> T>,
}

// The lines name neither instance nor execution: only the peer can be checked.
impl<T> Lines<T>
where
    T: for<'a> Answer<Asked<'a> = ()>,
{
    pub(super) fn new(bytes: ByteStream) -> Lines<T> {
        Lines { bytes, buffer: BytesMut::new(), scanned: 0, ended: false, item: PhantomData }
    }

    /// Returns the next item; `None` at the end and after an error.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let item = self.parse(&line).map_err(|kind| self.bytes.error(kind));
                self.ended = item.is_err();
                return Some(item);
            }
            if self.buffer.len() > MAX_LINE {
                self.ended = true;
                return Some(Err(self.bytes.error(Kind::Protocol(format!("a line is longer than {MAX_LINE} bytes")))));
            }
            match self.bytes.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None if self.buffer.is_empty() => self.ended = true,
                None => {
                    self.ended = true;
                    return Some(Err(self.bytes.error(Kind::Broken("the last line is cut short".to_owned()))));
                }
            }
        }
    }

    fn parse(&self, line: &[u8]) -> Result<T, Kind> {
        let item: T = serde_json::from_slice(line).map_err(|e| {
            Kind::Protocol(format!("a line does not have the expected form: {}", visible(&e.to_string())))
        })?;
        item.check(self.bytes.agent.instance.id(), ())?;
        Ok(item)
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        match self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let line = self.buffer.split_to(self.scanned + at + 1);
                self.scanned = 0;
                Some(line)
            }
            None => {
                self.scanned = self.buffer.len();
                None
            }
        }
    }
}
