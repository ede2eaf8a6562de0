//! Whole lines out of chunks, so that lines of several instances do not mix.

/// Maximum length of a line in bytes: a longer one is printed in several.
const MAX_LINE: usize = 64 << 10;

/// Collects the bytes of one stream until a line is complete.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    held: Vec<u8>,
}

impl LineBuffer {
    /// Adds `bytes` and returns the lines that are complete now, without their line breaks.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(piece);
            while self.held.len() > MAX_LINE {
                let rest = self.held.split_off(MAX_LINE);
                lines.push(std::mem::replace(&mut self.held, rest));
            }
            if self.held.last() == Some(&b'\n') {
                self.held.pop();
                if self.held.last() == Some(&b'\r') {
                    self.held.pop();
                }
                lines.push(std::mem::take(&mut self.held));
            }
        }
        lines
    }

    /// Returns what is left at the end, or before a gap.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_given_when_it_is_complete() {
        let mut buffer = LineBuffer::default();
        assert_eq!(buffer.push(b"one\ntw"), [b"one"]);
        assert_eq!(buffer.push(b"o\r\n\nthr"), [&b"two"[..], b""]);
        assert_eq!((buffer.finish(), buffer.finish()), (Some(b"thr".to_vec()), None));
        let long = buffer.push(&[b'x'; MAX_LINE + 1]);
        assert_eq!(long.len(), 1, "what does not end is printed all the same");
        assert_eq!(buffer.finish(), Some(b"x".to_vec()));
    }

    proptest! {
        #[test]
        fn pieces_give_the_lines_of_the_whole(text in "[a\n]{0,40}", cut in 0_usize..41) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut buffer = LineBuffer::default();
            let mut lines = buffer.push(&bytes[..cut]);
            lines.extend(buffer.push(&bytes[cut..]));
            lines.extend(buffer.finish());
            let wanted: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(lines, wanted);
        }
    }
}
