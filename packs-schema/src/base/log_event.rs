//! Log events in forms for programs: one JSON object in a line, or an entry of the systemd journal. Which form is used.
//!
//! Values may come from peers. Each is shortened and escaped as in a line of text, is one string, and cannot be mistaken for
//! another field. Text for people is written by the programs themselves.

use std::fmt::Write as _;

use super::environment::PREFIX;
use super::journal_entry::{Entry, Priority};
use super::log_line::{self, MAX_LINE, is_unsafe};

/// Variable that selects the form of the log.
pub const VARIABLE: &str = "BOLT_LOG_FORMAT";

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `key=value` lines for people, on standard error.
    #[default]
    Text,
    /// JSON objects, one in a line, on standard error.
    Json,
    /// Entries of the systemd journal with fields, over its socket.
    Journal,
}

/// Error returned for an unknown format. Its message has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("environment variable BOLT_LOG_FORMAT is invalid: must be one of text, json, journal")]
pub struct InvalidFormat;

impl Format {
    /// Returns the value of the variable that selects this format.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Journal => "journal",
        }
    }

    /// Chooses the format. Without a value of the variable it is `journal` if `JOURNAL_STREAM` names standard error, whose
    /// device and inode are given, and otherwise `text` (systemd.exec(5)).
    ///
    /// # Errors
    /// The variable has an unknown value.
    pub fn choose(
        variable: Option<&str>,
        journal_stream: Option<&str>,
        stderr: Option<(u64, u64)>,
    ) -> Result<Format, InvalidFormat> {
        match variable {
            Some("text") => Ok(Format::Text),
            Some("json") => Ok(Format::Json),
            Some("journal") => Ok(Format::Journal),
            None | Some("") => {
                let named = journal_stream.and_then(|text| text.split_once(':'));
                let named = named.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
                Ok(if named.is_some() && named == stderr { Format::Journal } else { Format::Text })
            }
            Some(_) => Err(InvalidFormat),
        }
    }
}

/// Severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A failure that needs an operator.
    Error,
    /// A failure or a refusal.
    Warn,
    /// A completed operation.
    Info,
    /// For debugging.
    Debug,
}

impl Severity {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warn => "warn",
            Severity::Info => "info",
            Severity::Debug => "debug",
        }
    }

    fn priority(self) -> Priority {
        match self {
            Severity::Error => Priority::Error,
            Severity::Warn => Priority::Warning,
            Severity::Info => Priority::Info,
            Severity::Debug => Priority::Debug,
        }
    }
}

/// Log event. Values are as they are, neither escaped nor shortened.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Severity.
    pub severity: Severity,
    /// Name of the program.
    pub program: &'a str,
    /// Description of the event, without values.
    pub message: &'a str,
    /// Names and values.
    pub fields: &'a [(&'a str, String)],
}

/// Names of the properties that each JSON object has.
const COMMON: [&str; 4] = ["time", "level", "program", "message"];
/// Last property of an object from which some were left out for its length.
const TRUNCATED: &str = ",\"truncated\":\"true\"}";

impl Event<'_> {
    /// Formats the event as one JSON object without a line feed, shorter than [`MAX_LINE`]. `time_us` is in microseconds since
    /// 1970. Every value is a string; no name occurs twice.
    pub fn to_json(&self, time_us: u64) -> String {
        let mut text = String::with_capacity(256);
        let (level, program) = (self.severity.as_str(), self.program);
        let _ = write!(text, "{{\"time\":\"{}\",\"level\":\"{level}\",\"program\":\"{program}\"", rfc3339_us(time_us));
        let mut names: Vec<&str> = COMMON.to_vec();
        let mut truncated = !push(&mut text, "message", self.message);
        for (name, value) in self.fields {
            if names.contains(name) {
                continue;
            }
            names.push(name);
            truncated |= !push(&mut text, name, value);
        }
        text.push_str(if truncated { TRUNCATED } else { "}" });
        text
    }

    /// Builds the entry of the journal. `line` is its message, for people: the event with its fields. Each field is sent as
    /// [`PREFIX`] and its name besides, and the event without them as field `EVENT`.
    pub fn to_entry(&self, line: &str) -> Entry {
        let mut entry = Entry::new(self.severity.priority(), self.program, &log_line::escape_line(line));
        let mut add = |name: &str, value: &str| {
            let value = log_line::truncate_value(value);
            entry.field(&format!("{PREFIX}{name}"), &log_line::escape_line(&value));
        };
        add("EVENT", self.message);
        for (name, value) in self.fields {
            add(name, value);
        }
        entry
    }
}

/// Appends a property; false if it does not fit.
fn push(text: &mut String, name: &str, value: &str) -> bool {
    let before = text.len();
    let _ = write!(text, ",\"{name}\":\"");
    escape(text, &log_line::truncate_value(value));
    text.push('"');
    let fits = text.len() + TRUNCATED.len() < MAX_LINE;
    if !fits {
        text.truncate(before);
    }
    fits
}

/// Appends the content of a JSON string (RFC 8259, section 7), with characters escaped that end a line, move the cursor or
/// reorder text.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            // All of them are in the basic multilingual plane.
            c if is_unsafe(c) => _ = write!(text, "\\u{:04x}", u32::from(c)),
            c => text.push(c),
        }
    }
}

/// Formats a time in microseconds since 1970 in UTC (RFC 3339), such as `2026-11-28T06:05:24.123456Z`.
pub fn rfc3339_us(time_us: u64) -> String {
    let (seconds, us) = (time_us / 1_000_000, time_us % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that a leap day is the last day of its year: 146,097 days in 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next_year;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const HOSTILE: &str = "x\",\"level\":\"error\n\u{1b}[2J\u{202e}\u{2028}\r\0é😀\\";

    #[test]
    fn the_format_is_chosen_by_the_variable_and_by_the_journal_s_stream() {
        let choose = |variable, stream| Format::choose(variable, stream, Some((64, 17)));
        assert_eq!(choose(None, None), Ok(Format::Text));
        assert_eq!(choose(None, Some("64:17")), Ok(Format::Journal));
        for other in ["64:18", "65:17", "64", "64:17:1", ":", "x:17", ""] {
            assert_eq!(choose(None, Some(other)), Ok(Format::Text), "{other}");
        }
        assert_eq!(Format::choose(None, Some("x"), None), Ok(Format::Text));
        for format in [Format::Text, Format::Json, Format::Journal] {
            assert_eq!(choose(Some(format.as_str()), Some("64:17")), Ok(format));
        }
        for wrong in ["JSON", "logfmt", " text"] {
            assert_eq!(choose(Some(wrong), None), Err(InvalidFormat), "{wrong}");
            assert!(InvalidFormat.to_string().contains(VARIABLE));
        }
    }

    #[test]
    fn a_json_line_holds_hostile_values_as_they_are_and_no_name_twice() {
        let fields = [("reason", HOSTILE.to_owned()), ("level", "error".to_owned()), ("reason", "again".to_owned())];
        let event = Event { severity: Severity::Warn, program: "bolt-agent", message: HOSTILE, fields: &fields };
        let line = event.to_json(1_795_759_524_123_456);
        assert!(!line.contains(is_unsafe), "{line:?}");
        let value: Value = crate::base::strict::parse(line.as_bytes()).unwrap();
        assert_eq!(value["reason"], HOSTILE);
        assert_eq!(value["message"], HOSTILE);
        let common = ["time", "level", "program"].map(|name| value[name].as_str().unwrap().to_owned());
        assert_eq!(common, ["2026-11-27T06:05:24.123456Z", "warn", "bolt-agent"]);
        assert_eq!(value.as_object().unwrap().len(), 5);
    }

    #[test]
    fn a_json_line_is_bounded_and_stays_json() {
        for part in ["x", "é", "\n", "\u{1b}", "😀", "\"", "\u{202e}"] {
            for times in [1, 100, 700, 100_000] {
                let fields: Vec<(&str, String)> = ["a", "b", "c", "d"].map(|name| (name, part.repeat(times))).to_vec();
                let message = part.repeat(times);
                let event =
                    Event { severity: Severity::Info, program: "bolt-agent", message: &message, fields: &fields };
                let line = event.to_json(0);
                assert!(line.len() < MAX_LINE, "{part:?} {times}");
                let value: Value = crate::base::strict::parse(line.as_bytes()).unwrap();
                assert!(value["d"].is_string() || value["truncated"] == "true", "{part:?} {times}: {line}");
                assert_eq!(value["truncated"].is_string(), value.as_object().unwrap().len() < 8, "{line}");
            }
        }
    }

    #[test]
    fn an_entry_has_a_line_for_people_and_each_field() {
        let fields = [("execution", "e-1".to_owned()), ("reason", HOSTILE.to_owned())];
        let event = Event { severity: Severity::Error, program: "bolt-launch", message: "refused", fields: &fields };
        let entry = event.to_entry("refused execution=e-1\nPRIORITY=0");
        let text = String::from_utf8(entry.bytes().to_vec()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "PRIORITY=3",
                "SYSLOG_IDENTIFIER=bolt-launch",
                "MESSAGE=refused execution=e-1\\nPRIORITY=0",
                "BOLT_EVENT=refused",
                "BOLT_EXECUTION=e-1",
                "BOLT_REASON=x\",\"level\":\"error\\n\\u{1b}[2J\\u{202e}\\u{2028}\\r\\u{0}é😀\\",
            ]
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(rfc3339_us(seconds * 1_000_000), text);
        }
    }
}
