//! Requests in the bytes of a connection.

use super::{MAX_FRAME, Request, RequestError, read_request};

/// Length of a frame that is zero, or above [`MAX_FRAME`]: the rest of the stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLength(pub usize);

/// Bytes that were received and not read as requests yet: less than a frame, once [`RequestStream::next_request`] returned `None`.
#[derive(Default)]
pub struct RequestStream {
    buffer: Vec<u8>,
}

impl RequestStream {
    /// Adds bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the first request; `None` until it is complete. Leaves nothing of it in the buffer: parameters may be secret.
    pub fn next_request(&mut self) -> Result<Option<Result<Request, RequestError>>, InvalidLength> {
        let Some(header) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length == 0 || length > MAX_FRAME {
            return Err(InvalidLength(length));
        }
        let end = 4 + length;
        let Some(json) = self.buffer.get(4..end) else { return Ok(None) };
        let request = read_request(json);
        let rest = self.buffer.len() - end;
        self.buffer.copy_within(end.., 0);
        self.buffer[rest..].fill(0);
        self.buffer.truncate(rest);
        Ok(Some(request))
    }

    /// Returns the number of bytes that wait for the rest of their frame.
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Frees the buffer if it is empty and larger than `keep` bytes.
    pub fn shrink(&mut self, keep: usize) {
        if self.buffer.is_empty() && self.buffer.capacity() > keep {
            self.buffer = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(json: &str) -> Vec<u8> {
        [&u32::try_from(json.len()).unwrap().to_le_bytes(), json.as_bytes()].concat()
    }

    #[test]
    fn a_request_is_read_once_its_last_byte_is_there() {
        let bytes = [frame(r#"{"seq":1,"ask":"sync"}"#), frame(r#"{"seq":2,"ask":"sync"}"#)].concat();
        let mut stream = RequestStream::default();
        let mut seen = Vec::new();
        for (index, byte) in bytes.iter().enumerate() {
            stream.push(&[*byte]);
            while let Some(request) = stream.next_request().unwrap() {
                seen.push((index + 1, request.unwrap().seq));
            }
        }
        assert_eq!(seen, [(bytes.len() / 2, 1), (bytes.len(), 2)]);
        assert_eq!(stream.waiting(), 0);
    }

    #[test]
    fn an_invalid_request_takes_nothing_of_the_next_one() {
        let mut stream = RequestStream::default();
        stream.push(&[frame("{}"), frame(r#"{"seq":2,"ask":"sync"}"#), b"\x01".to_vec()].concat());
        assert!(matches!(stream.next_request(), Ok(Some(Err(RequestError::Broken { .. })))));
        assert!(matches!(stream.next_request(), Ok(Some(Ok(Request { seq: 2, .. })))));
        assert!(matches!(stream.next_request(), Ok(None)));
        assert_eq!(stream.waiting(), 1);
    }

    #[test]
    fn a_length_outside_the_bounds_ends_the_stream() {
        for length in [0, MAX_FRAME + 1, u32::MAX as usize] {
            let mut stream = RequestStream::default();
            stream.push(&u32::try_from(length).unwrap().to_le_bytes());
            assert_eq!(stream.next_request().err(), Some(InvalidLength(length)));
        }
    }
}
