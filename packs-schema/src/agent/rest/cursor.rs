//! Cursors into the events of an instance.
//!
//! Event numbers increase by one within a history file. A file that replaces a damaged one starts its numbers again, so
//! a cursor also contains the file's epoch.

use std::fmt;
use std::str::FromStr;

/// Position in the events of a history file: `<epoch>.<event>`, or the number alone for any file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCursor {
    /// Epoch of the history file: up to 32 letters and digits.
    pub epoch: Option<String>,
    /// Number of the last known event.
    pub event: u64,
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.epoch {
            Some(epoch) => write!(f, "{epoch}.{}", self.event),
            None => write!(f, "{}", self.event),
        }
    }
}

impl FromStr for EventCursor {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<EventCursor, &'static str> {
        const WRONG: &str = "it is not an event cursor such as 5f1c0a9be3d27846.120";
        let (epoch, event) = match text.rsplit_once('.') {
            Some((epoch, event)) => (Some(epoch), event),
            None => (None, text),
        };
        if epoch.is_some_and(|epoch| !is_epoch(epoch)) || !event.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WRONG);
        }
        Ok(EventCursor { epoch: epoch.map(str::to_owned), event: event.parse().map_err(|_| WRONG)? })
    }
}

/// True if `text` is a valid epoch.
pub fn is_epoch(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_parse_back() {
        for text in ["5f1c.120", "0", "120", "a.0"] {
            assert_eq!(text.parse::<EventCursor>().unwrap().to_string(), text);
        }
        for wrong in ["", ".", "a.", ".1", "a.b", "1.-1", "+1", "a b.1", "a.1.2", "99999999999999999999"] {
            assert!(wrong.parse::<EventCursor>().is_err(), "{wrong}");
        }
    }
}
