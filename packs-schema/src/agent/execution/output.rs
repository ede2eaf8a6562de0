//! Output log: time-stamped frames of both streams, written by the shim and read by the api.
//!
//! A segment is a file: [`MAGIC`], then frames. A frame is a header of [`HEADER`] bytes and its data:
//!
//! ```text
//! offset 0   stream    u8    1 stdout, 2 stderr
//!        1   zero      3 bytes
//!        4   length    u32   bytes of data, 1 to MAX_CHUNK
//!        8   at        u64   microseconds since 1970: the wall clock at the start plus monotonic time
//!       16   offset    u64   bytes of this stream before this chunk, dropped ones included
//! ```
//!
//! Numbers are little endian. The first half of each stream's budget goes to `output.log`, with both streams in the
//! order of arrival. Beyond it a stream continues in segments of its own, `tail.<stream>.<n>`; the oldest is removed
//! when the others hold the second half of the budget, so that a gap in the offsets means dropped output. Segments are
//! append-only; an incomplete frame at the end of a segment is still being written.

use serde::{Deserialize, Serialize};

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"BOLTOUT1";
/// Size of a frame's header, in bytes.
pub const HEADER: usize = 24;
/// Maximum size of the data in a frame, in bytes.
pub const MAX_CHUNK: usize = 64 << 10;

/// Maximum number of bytes that a stream can have: no action writes as many, and archives can hold no more.
pub const MAX_OFFSET: u64 = u64::MAX >> 2;

/// Output stream of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both streams.
    pub const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    fn number(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }
}

/// Header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Stream.
    pub stream: Stream,
    /// Size of the data in bytes, 1 to [`MAX_CHUNK`].
    pub length: u32,
    /// Time when it was read from the action, in microseconds since 1970.
    pub at_us: u64,
    /// Offset in the stream, in bytes.
    pub offset: u64,
}

/// Error returned for an invalid header: the segment is damaged from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the output log is damaged: {0}")]
pub struct DamagedFrame(&'static str);

impl Frame {
    /// Encodes the header.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.stream.number();
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at_us.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// Decodes a header.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Frame, DamagedFrame> {
        let u64_at = |i: usize| u64::from_le_bytes(bytes[i..i + 8].try_into().expect("eight bytes"));
        let stream = match bytes[..4] {
            [1, 0, 0, 0] => Stream::Stdout,
            [2, 0, 0, 0] => Stream::Stderr,
            _ => return Err(DamagedFrame("unknown stream")),
        };
        let length = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"));
        if length == 0 || length as usize > MAX_CHUNK {
            return Err(DamagedFrame("impossible length"));
        }
        let frame = Frame { stream, length, at_us: u64_at(8), offset: u64_at(16) };
        let end = frame.offset.checked_add(u64::from(length));
        end.filter(|end| *end <= MAX_OFFSET).ok_or(DamagedFrame("impossible offset"))?;
        Ok(frame)
    }
}

/// Returns the name of the nth tail segment of a stream.
pub fn tail_name(stream: Stream, n: u64) -> String {
    format!("tail.{}.{n}", stream.number())
}

/// Parses a name from [`tail_name`].
pub fn parse_tail_name(name: &str) -> Option<(Stream, u64)> {
    let (stream, n) = name.strip_prefix("tail.")?.split_once('.')?;
    let stream = Stream::ALL.into_iter().find(|s| s.number().to_string() == stream)?;
    n.parse().ok().filter(|parsed: &u64| parsed.to_string() == n).map(|n| (stream, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back() {
        let frame = Frame { stream: Stream::Stderr, length: 17, at_us: u64::MAX, offset: 1 << 40 };
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn damage_is_detected() {
        let good = Frame { stream: Stream::Stdout, length: 1, at_us: 0, offset: 0 }.encode();
        for (at, byte) in [(0, 0), (0, 3), (1, 1), (4, 0), (7, 255), (6, 2)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(Frame::decode(&bad).is_err(), "{at}");
        }
        let mut bad = good;
        bad[16..].fill(255);
        assert!(Frame::decode(&bad).is_err());
    }

    #[test]
    fn tail_names_parse_back() {
        assert_eq!(parse_tail_name(&tail_name(Stream::Stderr, 12)), Some((Stream::Stderr, 12)));
        for wrong in ["tail.3.1", "tail.1", "tail.1.x", "tail.1.01", "output.log", "tail.1.-1"] {
            assert_eq!(parse_tail_name(wrong), None, "{wrong}");
        }
    }
}
