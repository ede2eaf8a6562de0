//! Logging: text or JSON on standard error, or entries of the systemd journal. Never contains parameters, bodies or output.
//!
//! Values may come from pack archives, repositories and peers. Whatever they contain, an event stays one line or one entry, and a
//! value cannot be mistaken for a field: lines are escaped and bounded, and ambiguous values are quoted.
//!
//! There are no spans: events carry what they are about.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use packs_schema::base::log_event::{self, Event, Format, Severity};
use packs_schema::base::log_line;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

use crate::journal::{self, Delivery, Journal};

/// Starts logging as `program`: at the level in `BOLT_LOG` (`error`, `warn`, `info`, `debug`; default `info`), in the form in
/// `BOLT_LOG_FORMAT` (`text`, `json`, `journal`; default `journal` if standard error is the journal's, otherwise `text`).
pub fn start(program: &'static str) {
    let wanted = std::env::var("BOLT_LOG").unwrap_or_default();
    let level = match wanted.as_str() {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        _ => Level::INFO,
    };
    let format = format();
    let out = match format.unwrap_or_default() {
        Format::Text => Output::Text,
        Format::Json => Output::Json,
        Format::Journal => Journal::open(Path::new(journal::SOCKET)).map_or(Output::Text, Output::Journal),
    };
    if tracing::subscriber::set_global_default(Logger { program, level, out, write: to_stderr }).is_err() {
        return;
    }
    if !matches!(wanted.as_str(), "" | "error" | "warn" | "info" | "debug") {
        tracing::warn!("BOLT_LOG is none of error, warn, info, debug; using info");
    }
    if let Err(error) = format {
        tracing::warn!("{error}; using text");
    }
}

/// Returns the form of the log that the environment selects.
fn format() -> Result<Format, log_event::InvalidFormat> {
    let format = std::env::var_os(log_event::VARIABLE);
    // A value that is not UTF-8 is no format.
    let format = format.as_ref().map(|value| value.to_str().unwrap_or("-"));
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let stderr = nix::sys::stat::fstat(std::io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    Format::choose(format, stream.as_deref(), stderr)
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

/// Form and place of the events.
#[derive(Debug)]
enum Output {
    Text,
    Json,
    Journal(Journal),
}

/// Writes each event.
#[derive(Debug)]
pub(crate) struct Logger {
    program: &'static str,
    level: Level,
    out: Output,
    /// Writes a line with its line feed.
    write: fn(&[u8]),
}

impl Logger {
    /// Creates a logger of lines of text for tests.
    #[cfg(test)]
    pub(crate) fn for_tests(write: fn(&[u8])) -> Logger {
        Logger { program: "bolt-agent", level: Level::DEBUG, out: Output::Text, write }
    }

    fn write_line(&self, mut line: String) {
        line.push('\n');
        (self.write)(line.as_bytes());
    }
}

impl Subscriber for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The AWS libraries quote invalid lines of credentials files, and report what matters as errors.
        metadata.is_event() && *metadata.level() <= self.level && !metadata.target().starts_with("aws_")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let time_us = now_us();
        let severity = match *event.metadata().level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warn,
            Level::INFO => Severity::Info,
            Level::DEBUG | Level::TRACE => Severity::Debug,
        };
        let mut values = Values::default();
        event.record(&mut values);
        let line = |values: &Values| text(time_us, severity, &values.line);
        match &self.out {
            Output::Text => self.write_line(line(&values)),
            Output::Json => self.write_line(values.event(severity, self.program).to_json(time_us)),
            Output::Journal(journal) => {
                let entry = values.event(severity, self.program).to_entry(&values.line);
                // Without the journal, an event goes where it would have gone without this format.
                if journal.send(&entry) != Delivery::Sent {
                    self.write_line(line(&values));
                }
            }
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Values of an event.
#[derive(Debug, Default)]
struct Values {
    message: String,
    fields: Vec<(&'static str, String)>,
    /// Message and fields for people: the message as it is, other values quoted if they could be mistaken for several fields.
    line: String,
}

impl Values {
    fn event(&self, severity: Severity, program: &'static str) -> Event<'_> {
        Event { severity, program, message: &self.message, fields: &self.fields }
    }

    /// Adds a value, and its text for people.
    fn add(&mut self, field: &Field, value: String, shown: &str) {
        let shown = log_line::truncate_value(shown);
        if !self.line.is_empty() {
            self.line.push(' ');
        }
        let name = field.name();
        if name == "message" {
            self.line.push_str(&shown);
            self.message = value;
            return;
        }
        let _ = if shown.contains(['=', '"']) && !is_quoted(&shown) {
            write!(self.line, "{name}={shown:?}")
        } else {
            write!(self.line, "{name}={shown}")
        };
        self.fields.push((name, value));
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.add(field, text.clone(), &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), &format!("{value:?}"));
    }
}

/// Formats a line: `2026-11-28T06:05:24.123456Z  INFO message key=value`.
fn text(time_us: u64, severity: Severity, line: &str) -> String {
    let (time, level) = (log_event::rfc3339_us(time_us), severity.as_str().to_ascii_uppercase());
    log_line::escape_line(&format!("{time} {level:>5} {line}")).into_owned()
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

fn to_stderr(line: &[u8]) {
    // A single write: other processes write to the same pipe. A closed log must not end the program.
    let _ = std::io::stderr().write_all(line);
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::net::UnixDatagram;

    use packs_schema::base::log_line;
    use serde_json::Value;

    use super::*;

    thread_local! {
        static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    fn keep(line: &[u8]) {
        WRITTEN.with_borrow_mut(|written| written.extend_from_slice(line));
    }

    /// Returns the lines that `log` writes in this form.
    fn lines(out: Output, log: impl FnOnce()) -> Vec<String> {
        let logger = Logger { program: "bolt-agent", level: Level::INFO, out, write: keep };
        tracing::subscriber::with_default(logger, log);
        let text = String::from_utf8(WRITTEN.take()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    const HOSTILE: &str = "x\n2026-01-01T00:00:00Z  INFO pack activated pack=evil \u{1b}[2J\u{202e}\u{2028}\r\0";

    #[test]
    fn the_aws_libraries_and_spans_are_silenced() {
        let lines = lines(Output::Text, || {
            let _span = tracing::error_span!("request", secret = "hidden").entered();
            tracing::error!(target: "aws_runtime::env_config::normalize", "hidden");
            tracing::warn!(target: "aws_config::profile::credentials", "hidden");
            tracing::debug!("hidden");
            tracing::info!(target: "bolt_agent::sync", "shown");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("Z  INFO shown"), "{lines:?}");
    }

    #[test]
    fn an_event_is_one_line_and_values_cannot_be_mistaken_for_fields() {
        let long = "\u{1b}\n".repeat(50_000);
        let lines = lines(Output::Text, || {
            tracing::warn!(reason = %HOSTILE, quoted = HOSTILE, plain = %"cannot read it", n = 3, "failed: {HOSTILE}");
            tracing::warn!(reason = %"\"a\" pack=\"evil\"", "failed");
            tracing::warn!(reason = %long, quoted = long, last = 1, "failed");
            tracing::warn!("failed: {long}");
        });
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines.iter().all(|line| line.len() < log_line::MAX_LINE), "{lines:?}");
        assert!(lines[2].ends_with("last=1"), "{lines:?}");
        assert!(!lines.concat().contains(log_line::is_unsafe), "{lines:?}");
        assert!(lines[0].contains("plain=cannot read it n=3") && lines[0].contains("reason=\"x\\n2026"), "{lines:?}");
        assert!(lines[1].contains(r#" WARN failed reason="\"a\" pack=\"evil\"""#), "{lines:?}");
    }

    #[test]
    fn an_event_is_one_json_object_with_values_as_they_are() {
        let code = packs_schema::agent::rest::Code::Forbidden;
        let lines = lines(Output::Json, || {
            tracing::warn!(request_id = "r-1", %code, status = 403, ok = true, reason = HOSTILE, "refused");
            tracing::error!(error = %HOSTILE, "failed: {}", "x".repeat(10_000));
        });
        let values: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [refused, failed] = &values[..] else { panic!("{lines:?}") };
        let expected = [
            ("level", "warn"),
            ("program", "bolt-agent"),
            ("message", "refused"),
            ("request_id", "r-1"),
            ("code", "forbidden"),
            ("status", "403"),
            ("ok", "true"),
            ("reason", HOSTILE),
        ];
        for (name, value) in expected {
            assert_eq!(refused[name], value, "{refused}");
        }
        assert_eq!(refused.as_object().unwrap().len(), expected.len() + 1, "{refused}");
        assert!(failed["message"].as_str().unwrap().len() < 2_000 && failed["error"] == HOSTILE, "{failed}");
    }

    #[test]
    fn an_entry_of_the_journal_has_fields_and_without_a_journal_nothing_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let log = || {
            tracing::warn!(request_id = "r-1", principal = %"spiffe://x/ann", action = "linux.a", reason = HOSTILE, "refused");
        };
        let absent = lines(Output::Journal(Journal::open(&path).unwrap()), log);
        assert!(matches!(&absent[..], [line] if line.contains(" WARN refused request_id=\"r-1\"")), "{absent:?}");

        let receiver = UnixDatagram::bind(&path).unwrap();
        let written = lines(Output::Journal(Journal::open(&path).unwrap()), log);
        assert_eq!(written, Vec::<String>::new());
        let mut bytes = [0; 8192];
        let length = receiver.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        let found: Vec<&str> = text.lines().collect();
        assert_eq!(found[..2], ["PRIORITY=4", "SYSLOG_IDENTIFIER=bolt-agent"], "{text}");
        assert!(
            found[2]
                .starts_with("MESSAGE=refused request_id=\"r-1\" principal=spiffe://x/ann action=\"linux.a\" reason=")
        );
        assert_eq!(
            found[3..6],
            ["BOLT_EVENT=refused", "BOLT_REQUEST_ID=r-1", "BOLT_PRINCIPAL=spiffe://x/ann"],
            "{text}"
        );
        assert!(found.len() == 8 && found[7].starts_with("BOLT_REASON=x\\n2026"), "{text}");
        assert!(!text.replace('\n', "").contains(log_line::is_unsafe), "{text:?}");
    }
}
