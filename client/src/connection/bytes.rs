//! Bytes of output in JSON: text, or base64 where they are not UTF-8.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packs_schema::agent::rest::{OutputChunk, StreamStart};

/// Returns the bytes of `chunk`; `None` if it has neither text nor valid base64.
pub fn chunk_bytes(chunk: &OutputChunk) -> Option<Vec<u8>> {
    match (&chunk.text, &chunk.base64) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(base64)) => decode(base64),
        (None, None) => None,
    }
}

/// Returns the bytes of `start`; `None` if it has neither text nor valid base64.
pub fn start_bytes(start: &StreamStart) -> Option<Vec<u8>> {
    match (&start.text, &start.base64) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(base64)) => decode(base64),
        (None, None) => None,
    }
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    STANDARD.decode(base64).ok()
}
