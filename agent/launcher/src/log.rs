//! One `key=value` line per event on standard error. Never parameters, output, environment or secrets. Values may hold what
//! an api that was taken over wrote: they are quoted, escaped and bounded.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

use packs_schema::base::log_line;

/// Something that was done.
pub(crate) fn info(event: &str, fields: &[(&str, &dyn Display)]) {
    line("info", event, fields);
}

/// Something that went wrong, or was refused.
pub(crate) fn warn(event: &str, fields: &[(&str, &dyn Display)]) {
    line("warn", event, fields);
}

/// Something that does not work and that somebody has to see to.
pub(crate) fn error(event: &str, fields: &[(&str, &dyn Display)]) {
    line("error", event, fields);
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
    // A log that nobody reads must not end the launcher.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
