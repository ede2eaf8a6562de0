//! Text of instances, repositories and inventories on its way to a terminal: nothing in it acts there, and a secret that is cut by
//! the edges of pieces is masked as in one piece.

use bolt_client::compare::{Differ, Normalize};
use bolt_client::show::{Escaped, Mask, Visible, cell, excerpt, json_fitted, json_line, table, visible, visible_bytes, visible_lines};
use serde_json::Value;

use crate::{join, parts};

/// A secret, a number of bytes of a piece, and output.
pub(super) fn run(data: &[u8]) {
    let [secret, output] = parts(data);
    let text = String::from_utf8_lossy(output);
    sanitized(&visible(&text), false);
    sanitized(&cell(&text), false);
    sanitized(&visible_lines(&text), true);
    sanitized(&Escaped(format_args!("{text}")).to_string(), true);
    let whole = visible_bytes(output);
    sanitized(&whole, true);
    let piece = usize::from(secret.first().copied().unwrap_or(1)).max(1);
    let mut stream = Visible::default();
    let mut shown: String = output.chunks(piece).map(|piece| stream.push(piece)).collect();
    shown.push_str(&stream.finish());
    assert_eq!(shown, whole, "pieces of {piece}");
    masked(&String::from_utf8_lossy(secret), output, piece);
    composed(&text);
}

/// No character that is left acts on a terminal.
fn sanitized(text: &str, lines: bool) {
    let acts = |c: char| {
        let is_line = lines && matches!(c, '\n' | '\t');
        !is_line && (c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}'))
    };
    assert!(!text.contains(acts), "{text:?}");
}

fn masked(secret: &str, output: &[u8], piece: usize) {
    let mask = Mask::new(std::iter::once(secret));
    let whole = mask.bytes(output);
    let mut stream = mask.stream();
    let mut shown: Vec<u8> = output.chunks(piece).flat_map(|piece| stream.push(piece)).collect();
    shown.extend(stream.finish());
    assert_eq!(shown, whole, "masked in pieces of {piece}");
    let is_found = |text: &[u8]| !mask.is_empty() && text.windows(secret.len()).any(|at| at == secret.as_bytes());
    // The mask itself, with what is around it, may look like a value of asterisks.
    assert!(secret.contains('*') || !is_found(&whole), "{secret:?} is left in {whole:?}");
    // Nothing of a piece is held beyond a gap.
    let mut stream = mask.stream();
    for piece in output.chunks(piece) {
        stream.push(piece);
        stream.break_off();
        assert_eq!(stream.finish(), b"", "held beyond a gap");
    }
}

/// Tables, JSON, differences and placeholders.
fn composed(text: &str) {
    let rows: Vec<Vec<String>> = text.lines().take(8).map(|line| vec![visible(line), "x".to_owned()]).collect();
    for width in [None, Some(0), Some(20), Some(80)] {
        sanitized(&table(&["one", "two"], &rows, width), true);
    }
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    excerpt(&lines, 3, 1);
    let value = serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
    let line = json_line(&value);
    sanitized(&line, false);
    assert_eq!(serde_json::from_str::<Value>(&line).expect("it reads back"), value);
    let fitted = json_fitted(&value, 40);
    sanitized(&fitted, true);
    assert_eq!(serde_json::from_str::<Value>(&fitted).expect("it reads back"), value);
    let normal = Normalize::ALL.apply(text, &["i-0123", "10.0.0.1"]);
    assert_eq!(Normalize::ALL.apply(&normal, &["i-0123", "10.0.0.1"]), normal, "applied again");
    Differ::new(text).lines(&normal);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    vec![
        join(&[b"hunter2", b"password is hunter2\r\n\x1b[2J\x1b]0;title\x07 \xff\xfe \xe2\x80\xae text \xc2\x9b31m\n"]),
        join(&[b"line one\nline two is long\n", b"{\"a\": \"line one\\nline two is long\\n\", \"b\": [1, 2.5, null]}"]),
        join(&[b"s\xc3\xa4cret", b"s\\u00e4cret s\xc3\xa4cret 2026-11-29T05:47:00Z 10.0.0.1 i-0123 took 1.5s, 20% of 3GiB\n"]),
        join(&[b"abab", b"ababab abababab\n<time> 01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa fe80::1 0xdeadbeef\ta\n\n"]),
    ]
}
