//! Questions for signs of life, which the launcher writes to the socket pair of [`ALIVE_FD`](super::ALIVE_FD).
//!
//! ```text
//!  question:  0x01 [ open descriptors of the launcher, decimal, newline ]
//! ```
//!
//! A launcher of an earlier release writes the first byte only, and an api of an earlier release answers whatever it reads. The
//! socket is a stream of which the api reads a part at a time: a number that is cut at either end of it says nothing, and the
//! next question has another.

/// First byte of a question.
const BEGIN: u8 = 1;
/// Last byte of a question with a number.
const END: u8 = b'\n';

/// Maximum size of a question, in bytes.
pub const MAX_QUESTION: usize = 12;

/// Returns a question from a launcher with that many open descriptors, if it knows their number.
pub fn question(open_fds: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![BEGIN];
    if let Some(open) = open_fds {
        bytes.extend_from_slice(open.to_string().as_bytes());
        bytes.push(END);
    }
    bytes
}

/// Returns the number of open descriptors in the last whole question that has one.
pub fn open_fds(read: &[u8]) -> Option<u32> {
    let end = read.iter().rposition(|byte| *byte == END)?;
    let begin = read[..end].iter().rposition(|byte| *byte == BEGIN)?;
    std::str::from_utf8(&read[begin + 1..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_question_tells_the_number() {
        for open in [0, 7, 65_536, u32::MAX] {
            let question = question(Some(open));
            assert!(question.len() <= MAX_QUESTION);
            assert_eq!(open_fds(&question), Some(open));
        }
        let several = [question(Some(21)), question(None), question(Some(22)), question(None)].concat();
        assert_eq!(open_fds(&several), Some(22));
    }

    #[test]
    fn a_number_that_is_cut_says_nothing() {
        let question = question(Some(217));
        for at in 1..question.len() {
            assert_eq!(open_fds(&question[at..]), None, "begins at {at}");
            assert_eq!(open_fds(&question[..at]), None, "ends at {at}");
        }
        // The rest of one, and a whole one; and the other way round.
        assert_eq!(open_fds(b"17\n\x0142\n"), Some(42));
        assert_eq!(open_fds(b"\x0142\n\x0121"), Some(42));
    }

    #[test]
    fn an_earlier_launcher_tells_none_and_neither_does_anything_else() {
        for read in
            [&[1_u8; 64][..], b"", b"\n", b"\x01\n", b"\x01x\n", b"\x01-1\n", b"\x014294967296\n", b"\x01\xff\n"]
        {
            assert_eq!(open_fds(read), None, "{read:?}");
        }
    }
}
