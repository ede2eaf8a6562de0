//! Text in a log line: always one line, and short enough to be read in one piece.
//!
//! Values come from archives, repositories, peers and file names. A longer line would be split: pipes keep [`MAX_LINE`]
//! bytes of a write together, and journald starts a new entry after 48 KiB. A peer could then choose where the next
//! line starts, and write it.

use std::borrow::Cow;

/// Maximum length of a line with its line feed, in bytes: `PIPE_BUF` of Linux.
pub const MAX_LINE: usize = 4096;
/// Maximum length of a value in a line, escapes included, in bytes.
pub const MAX_VALUE: usize = 1536;
/// Marks a place where text was cut off.
const CUT: char = '…';

/// True for characters that end a line, move the cursor or reorder text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Shortens a value to [`MAX_VALUE`] bytes, counted with its characters escaped.
pub fn truncate_value(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_VALUE / 10 {
        return Cow::Borrowed(text);
    }
    let written = |c: char| c.escape_debug().map(char::len_utf8).sum::<usize>();
    let mut length = 0;
    let end = text.char_indices().find(|(_, c)| {
        length += written(*c);
        length > MAX_VALUE
    });
    match end {
        Some((end, _)) => Cow::Owned(format!("{}{CUT}", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Returns `text` as one line without line feed: unsafe characters are escaped, and the end is cut off if it is too
/// long.
pub fn escape_line(text: &str) -> Cow<'_, str> {
    if text.len() < MAX_LINE && !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(MAX_LINE);
    for c in text.chars() {
        let before = line.len();
        match c {
            '\n' | '\t' | '\r' => line.extend(c.escape_default()),
            c if is_unsafe(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
        if line.len() + CUT.len_utf8() >= MAX_LINE {
            line.truncate(before);
            line.push(CUT);
            break;
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(c: char) -> String {
        match c {
            '\n' => "\\n".to_owned(),
            c if is_unsafe(c) => c.escape_unicode().to_string(),
            c => c.to_string(),
        }
    }

    #[test]
    fn a_line_is_bounded_and_unsafe_characters_are_escaped() {
        let hostile = "x\n\u{1b}[2J\u{202e}\u{2028}\r\0é";
        assert_eq!(escape_line(hostile), "x\\n\\u{1b}[2J\\u{202e}\\u{2028}\\r\\u{0}é");
        assert!(matches!(escape_line("plain é"), Cow::Borrowed("plain é")));
        for part in ["x", "é", "\n", "\u{1b}", "😀", "\u{202e}"] {
            for times in [1, 100, MAX_LINE / part.len() - 1, MAX_LINE / part.len(), MAX_LINE, 100_000] {
                let text = part.repeat(times);
                let line = escape_line(&text);
                assert!(line.len() < MAX_LINE && !line.contains(is_unsafe), "{part:?} {times}");
                let whole: String = text.chars().map(written).collect();
                let cut = line.ends_with(CUT) && line.len() > MAX_LINE - 20;
                assert!(cut || line == whole, "{part:?} {times}");
            }
        }
    }

    #[test]
    fn a_value_is_shortened_so_that_others_fit() {
        for part in ["x", "é", "\n", "\u{1b}", "😀", "\"", "\\"] {
            for times in [1, 100, MAX_VALUE, 100_000] {
                let text = part.repeat(times);
                let said = truncate_value(&text);
                assert!(format!("{said:?}").len() <= MAX_VALUE + 5, "{part:?} {times}");
                assert!(said.ends_with(CUT) || said == text.as_str());
                assert!(said == text.as_str() || said.len() > 100, "{part:?} {times}");
            }
        }
    }
}
