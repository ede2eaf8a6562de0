//! Log of the launcher, one event at a time: text or JSON on standard error, or entries of the systemd journal. Never
//! parameters, output, environment or secrets. Values may come from a compromised api: they are escaped and truncated.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use packs_schema::base::journal_entry::{Entry, SOCKET};
use packs_schema::base::log_event::{Event, Format, InvalidFormat, Severity, VARIABLE};
use packs_schema::base::log_line;

/// Name of this program in its events.
const PROGRAM: &str = "bolt-launch";

/// Form of the log, once it is known; shims inherit it by their fork.
static FORMAT: OnceLock<Format> = OnceLock::new();

/// Chooses the form of the log by the environment and by standard error.
pub(crate) fn start() -> Result<(), InvalidFormat> {
    let variable = |name: &str| std::env::var_os(name);
    let format = variable(VARIABLE);
    // A value that is not UTF-8 is no format.
    let format = format.as_ref().map(|value| value.to_str().unwrap_or("-"));
    let stream = variable("JOURNAL_STREAM").and_then(|value| value.into_string().ok());
    let stderr = nix::sys::stat::fstat(std::io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let _ = FORMAT.set(Format::choose(format, stream.as_deref(), stderr)?);
    Ok(())
}

/// Returns the form of the log.
pub(crate) fn format() -> Format {
    FORMAT.get().copied().unwrap_or_default()
}

/// Logs a completed operation.
pub(crate) fn info(event: &str, fields: &[(&str, &dyn Display)]) {
    log(Severity::Info, event, fields);
}

/// Logs a failure or a refusal.
pub(crate) fn warn(event: &str, fields: &[(&str, &dyn Display)]) {
    log(Severity::Warn, event, fields);
}

/// Logs a failure that needs an operator.
pub(crate) fn error(event: &str, fields: &[(&str, &dyn Display)]) {
    log(Severity::Error, event, fields);
}

/// Logs why the launcher ends.
pub(crate) fn exit(message: &str) {
    match format() {
        Format::Text => write_line(log_line::escape_line(&format!("bolt-launch: {message}")).into_owned()),
        Format::Json | Format::Journal => error("cannot go on", &[("reason", &message)]),
    }
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

fn log(severity: Severity, message: &str, fields: &[(&str, &dyn Display)]) {
    let fields: Vec<(&str, String)> = fields.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let event = Event { severity, program: PROGRAM, message, fields: &fields };
    match format() {
        Format::Text => write_line(text(&event)),
        Format::Json => write_line(event.to_json(now_us())),
        Format::Journal => {
            // Without the journal, an event goes where it would have gone without this format.
            if !send(&event.to_entry(&for_people(&event)), Path::new(SOCKET)) {
                write_line(text(&event));
            }
        }
    }
}

/// Formats an event as a line: `level=info program=bolt-launch event="…" key=value`.
fn text(event: &Event<'_>) -> String {
    let mut text = format!("level={} program={PROGRAM} event={:?}", event.severity.as_str(), event.message);
    add_fields(&mut text, event);
    log_line::escape_line(&text).into_owned()
}

/// Formats an event as people read it in the journal, which has level and program in fields: `event key=value`.
fn for_people(event: &Event<'_>) -> String {
    let mut text = event.message.to_owned();
    add_fields(&mut text, event);
    text
}

fn add_fields(text: &mut String, event: &Event<'_>) {
    for (key, value) in event.fields {
        let value = log_line::truncate_value(value);
        let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
        let _ = if plain { write!(text, " {key}={value}") } else { write!(text, " {key}={value:?}") };
    }
}

fn write_line(mut line: String) {
    line.push('\n');
    // A closed log must not end the launcher.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Sends an entry; false if the journal does not take it at once. The socket is made for each, so that no child inherits it.
fn send(entry: &Entry, journal: &Path) -> bool {
    let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    socket.is_ok_and(|socket| socket.send_to(entry.bytes(), journal).is_ok())
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reaches_the_journal_with_its_fields_and_none_is_lost_without_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let fields = [("pid", "7".to_owned()), ("reason", "a b\nPRIORITY=0".to_owned())];
        let event = Event { severity: Severity::Warn, program: PROGRAM, message: "refused", fields: &fields };
        let entry = event.to_entry(&for_people(&event));
        assert!(!send(&entry, &path), "there is no journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        assert!(send(&entry, &path));
        let mut received = [0; 4096];
        let length = journal.recv(&mut received).unwrap();
        let text = std::str::from_utf8(&received[..length]).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "PRIORITY=4",
                "SYSLOG_IDENTIFIER=bolt-launch",
                "MESSAGE=refused pid=7 reason=\"a b\\nPRIORITY=0\"",
                "BOLT_EVENT=refused",
                "BOLT_PID=7",
                "BOLT_REASON=a b\\nPRIORITY=0",
            ]
        );
        assert_eq!(
            super::text(&event),
            "level=warn program=bolt-launch event=\"refused\" pid=7 reason=\"a b\\nPRIORITY=0\""
        );
    }
}
