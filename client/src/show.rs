//! Makes what agents answer safe and readable for people. Text from an instance is hostile until it went through [`visible`]
//! or [`visible_lines`]; [`mask`] removes secrets that the user gave.

mod json;
pub mod mask;
mod print;
mod stream;
mod table;
pub mod when;
mod wrap;

use std::fmt::Write as _;
use std::path::Path;

pub use json::{json, json_fitted, json_line};
pub use mask::Mask;
pub use print::{Escaped, stderr, stdout, style, try_stderr, try_stdout};
pub use stream::Visible;
pub use table::{counted, listed, table, tallied};
pub use wrap::{excerpt, wrapped};

/// Returns `text` on one line, with every control character escaped, line breaks included.
pub fn visible(text: &str) -> String {
    clean(text, false)
}

/// Returns `text` with its line breaks and tabs; every other control character is escaped.
pub fn visible_lines(text: &str) -> String {
    clean(text, true)
}

/// Returns `text` for a cell of a table: its lines are joined by spaces.
pub fn cell(text: &str) -> String {
    visible(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Returns a path on one line, for messages.
pub fn path(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

/// Returns bytes as [`visible_lines`] does; bytes that are not UTF-8 become `\xNN`.
pub fn visible_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&visible_lines(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

fn clean(text: &str, lines: bool) -> String {
    if !text.chars().any(is_active) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\n' | '\t' if lines => shown.push(c),
            // CR LF is a line break; a CR alone would return to the start of the line.
            '\r' if lines && characters.peek() == Some(&'\n') => {}
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if (c as u32) < 0x80 && is_active(c) => {
                let _ = write!(shown, "\\x{:02x}", c as u32);
            }
            c if is_active(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", c as u32);
            }
            c => shown.push(c),
        }
    }
    shown
}

/// True for characters that move the cursor, change the terminal's state, or hide or reorder text.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn controls_are_shown() {
        assert_eq!(visible("\x1b[2Jhi\x07\u{9b}x\u{202e}y"), "\\x1b[2Jhi\\x07\\u{9b}x\\u{202e}y");
        assert_eq!(visible("a\nb"), "a\\nb");
        assert_eq!(cell("a:\n    b\x1b"), "a: b\\x1b");
        assert_eq!(visible_lines("a\r\nb\rc\td"), "a\nb\\rc\td");
        assert_eq!(visible_bytes(b"\xff\xc3\xa9\x1b"), "\\xff\u{e9}\\x1b");
    }

    proptest! {
        #[test]
        fn nothing_active_comes_through(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let shown = visible_bytes(&bytes);
            prop_assert!(shown.chars().all(|c| c == '\n' || c == '\t' || !is_active(c)), "{shown:?}");
        }

        #[test]
        fn one_line_stays_one(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(is_active));
        }
    }
}
