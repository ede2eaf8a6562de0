//! Logging: key=value lines on standard error, for journald or a file. Never contains parameters, bodies or output.
//!
//! Values may come from pack archives, repositories and peers. Whatever they contain, an event stays one line and a value cannot
//! be mistaken for a field: every line is written by `LineWriter`, and ambiguous values are quoted.

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

/// Starts logging at the level in `BOLT_LOG` (`error`, `warn`, `info`, `debug`; default `info`).
pub fn start() {
    let wanted = std::env::var("BOLT_LOG").unwrap_or_default();
    let level = match wanted.as_str() {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        _ => Level::INFO,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(|| LineWriter(io::stderr()))
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .with_ansi(false)
        .with_target(false)
        .with_max_level(LevelFilter::from_level(level))
        .finish()
        .with(own_targets(level));
    if tracing::subscriber::set_global_default(subscriber).is_ok()
        && !matches!(wanted.as_str(), "" | "error" | "warn" | "info" | "debug")
    {
        tracing::warn!("BOLT_LOG is none of error, warn, info, debug; using info");
    }
}

/// Returns a filter that silences the AWS libraries: they quote invalid lines of credentials files, and report what matters as
/// errors.
fn own_targets(level: Level) -> Targets {
    Targets::new().with_default(level).with_target("aws_", LevelFilter::OFF)
}

/// Formats an error and its sources as one line.
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

/// Writes a field: the message as it is, other values quoted if they could be mistaken for several fields.
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

/// Writes each event as one line of bounded length. The subscriber passes an event in a single write.
struct LineWriter<W>(W);

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = log_line::escape_line(text.strip_suffix('\n').unwrap_or(&text));
        // A single write: other processes write to the same pipe.
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
    fn the_aws_libraries_are_silenced() {
        let own = own_targets(Level::INFO);
        assert!(own.would_enable("bolt_agent::sync", &Level::INFO));
        assert!(!own.would_enable("aws_runtime::env_config::normalize", &Level::ERROR));
        assert!(!own.would_enable("aws_config::profile::credentials", &Level::WARN));
    }

    #[test]
    fn an_event_is_one_line_and_values_cannot_be_mistaken_for_fields() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || LineWriter(writer.clone()))
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
