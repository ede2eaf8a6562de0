//! Escapes output that comes in pieces: a character may be cut by the edge of a piece.

use super::visible_bytes;

/// Escapes the pieces of one stream, in order.
#[derive(Debug, Default)]
pub struct Visible {
    held: Vec<u8>,
}

impl Visible {
    /// Returns what can be shown now that `piece` has come.
    pub fn push(&mut self, piece: &[u8]) -> String {
        self.held.extend_from_slice(piece);
        let ready = self.held.len() - incomplete(&self.held);
        let shown = visible_bytes(&self.held[..ready]);
        self.held.drain(..ready);
        shown
    }

    /// Returns the rest, at the end or before a gap.
    pub fn finish(&mut self) -> String {
        let shown = visible_bytes(&self.held);
        self.held.clear();
        shown
    }
}

/// Returns how many bytes at the end may be the beginning of a character or of a CR LF.
fn incomplete(bytes: &[u8]) -> usize {
    if bytes.last() == Some(&b'\r') {
        return 1;
    }
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    (0..tail.len())
        .find_map(|from| match std::str::from_utf8(&tail[from..]) {
            Err(e) if e.error_len().is_none() && e.valid_up_to() == 0 => Some(tail.len() - from),
            _ => None,
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_show_what_the_whole_shows(text in any::<String>(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let mut stream = Visible::default();
            let mut shown: String = at.windows(2).map(|pair| stream.push(&bytes[pair[0]..pair[1]])).collect();
            shown.push_str(&stream.finish());
            prop_assert_eq!(shown, visible_bytes(bytes));
        }
    }
}
