//! Log lines on standard error: one `key=value` line per event. Never parameters, output, environment or secrets. Values may
//! come from a compromised api: they are quoted, escaped and truncated.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::Write as _;

use packs_schema::base::log_line;

/// Logs a completed operation.
pub(crate) fn info(event: &str, fields: &[(&str, &dyn Display)]) {
    line("info", event, fields);
}

/// Logs a failure or a refusal.
pub(crate) fn warn(event: &str, fields: &[(&str, &dyn Display)]) {
    line("warn", event, fields);
}

/// Logs a failure that needs an operator.
pub(crate) fn error(event: &str, fields: &[(&str, &dyn Display)]) {
    line("error", event, fields);
}

/// Returns the message of an error and of all its sources, joined by `: `.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

fn line(level: &str, event: &str, fields: &[(&str, &dyn Display)]) {
    let mut text = format!("level={level} program=bolt-launch event={event:?}");
    for (key, value) in fields {
        let value = value.to_string();
        let value = log_line::truncate_value(&value);
        let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
        let _ = if plain { write!(text, " {key}={value}") } else { write!(text, " {key}={value:?}") };
    }
    let mut text = log_line::escape_line(&text).into_owned();
    text.push('\n');
    // A closed log must not end the launcher.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
