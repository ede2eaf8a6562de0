//! The log: key=value lines on standard error, for journald or a file. Never parameters, bodies or output.
//!
//! Values come from archives, indexes, repositories and peers as well. Whatever they hold, an event stays one line, and no
//! value passes for a field: every line goes through `OneLine`, and values that could be mistaken are quoted.

use std::fmt;
use std::io::{self, Write};

use packs_schema::base::log_line;
use tracing::Level;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;

/// Starts logging at the level that `BOLT_LOG` names (`error`, `warn`, `info`, `debug`), by default `info`.
pub fn start() {
    let wanted = std::env::var("BOLT_LOG").unwrap_or_default();
    let level = match wanted.as_str() {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        _ => Level::INFO,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(|| OneLine(io::stderr()))
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .with_ansi(false)
        .with_target(false)
        .with_max_level(LevelFilter::from_level(level))
        .finish()
        .with(ours(level));
    if tracing::subscriber::set_global_default(subscriber).is_ok()
        && !matches!(wanted.as_str(), "" | "error" | "warn" | "info" | "debug")
    {
        tracing::warn!("BOLT_LOG is none of error, warn, info, debug; using info");
    }
}

/// The AWS libraries quote lines of credentials files that they do not understand; what matters of theirs comes back as
/// an error.
fn ours(level: Level) -> Targets {
    Targets::new().with_default(level).with_target("aws_", LevelFilter::OFF)
}

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Writes a field: the message as it is, other values quoted where they could pass for more than one field.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    let text = log_line::truncate_value(&text);
    match field.name() {
        "message" => write!(writer, "{text}"),
        name if text.contains(['=', '"']) && !is_quoted(&text) => write!(writer, "{name}={text:?}"),
        name => write!(writer, "{name}={text}"),
    }
}

/// True if the whole text is one quoted string.
fn is_quoted(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut escaped = false;
    !inner.chars().any(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    }) && !escaped
}

/// Passes each event on as one line of bounded length. The subscriber writes an event at once.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = log_line::escape_line(text.strip_suffix('\n').unwrap_or(&text));
        // In one write: other processes write to the same pipe.
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_aws_libraries_write_no_line() {
        let ours = ours(Level::INFO);
        assert!(ours.would_enable("bolt_agent::sync", &Level::INFO));
        assert!(!ours.would_enable("aws_runtime::env_config::normalize", &Level::ERROR));
        assert!(!ours.would_enable("aws_config::profile::credentials", &Level::WARN));
    }

    #[test]
    fn an_event_is_one_line_and_no_value_passes_for_a_field() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || OneLine(writer.clone()))
            .with_ansi(false)
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .finish();
        let long = "\u{1b}\n".repeat(50_000);
        let hostile = "x\n2026-01-01T00:00:00Z  INFO pack activated pack=evil \u{1b}[2J\u{202e}\u{2028}\r\0";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(reason = %hostile, quoted = hostile, plain = %"cannot read it", n = 3, "failed: {hostile}");
            tracing::warn!(reason = %"\"a\" pack=\"evil\"", "failed");
            tracing::warn!(reason = %long, quoted = long, last = 1, "failed");
            tracing::warn!("failed: {long}");
        });
        let bytes = kept.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines.iter().all(|line| line.len() < log_line::MAX_LINE), "{text}");
        assert!(lines[2].ends_with("last=1"), "{text}");
        assert!(!text.replace('\n', "").contains(log_line::is_unsafe), "{text:?}");
        assert!(lines[0].contains("plain=cannot read it n=3") && lines[0].contains("reason=\"x\\n2026"), "{text}");
        assert!(lines[1].contains(r#"reason="\"a\" pack=\"evil\"""#), "{text}");
    }
}
