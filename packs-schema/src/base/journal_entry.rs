//! Entry for the systemd journal, with fields, in its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): the bytes
//! of one datagram. Whoever has a socket sends it.
//!
//! Values may come from peers: they are bounded, and none can be mistaken for another field.

/// Socket of the journal on a host with systemd.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Maximum size of an entry in bytes; fields that do not fit are left out. Smaller than the send buffer of a socket.
const MAX_ENTRY: usize = 48 << 10;
/// Maximum size of a value in bytes; the rest is cut off.
const MAX_VALUE: usize = 16 << 10;
/// Maximum length of the name of a field; the journal ignores longer ones.
const MAX_NAME: usize = 64;

/// Priority of an entry (syslog(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// Normal, and worth a look.
    Notice,
    /// Informational.
    Info,
    /// For debugging.
    Debug,
}

impl Priority {
    fn digit(self) -> &'static str {
        match self {
            Priority::Error => "3",
            Priority::Warning => "4",
            Priority::Notice => "5",
            Priority::Info => "6",
            Priority::Debug => "7",
        }
    }
}

/// Entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    bytes: Vec<u8>,
}

impl Entry {
    /// Begins an entry of the program `identifier`.
    pub fn new(priority: Priority, identifier: &str, message: &str) -> Entry {
        let mut entry = Entry { bytes: Vec::with_capacity(512) };
        entry.field("PRIORITY", priority.digit());
        entry.field("SYSLOG_IDENTIFIER", identifier);
        entry.field("MESSAGE", message);
        entry
    }

    /// Returns the bytes of the datagram.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a field. The name becomes one that the journal accepts: `request.id` is sent as `REQUEST_ID`.
    pub fn field(&mut self, name: &str, value: &str) {
        let name = accepted_name(name);
        let value = &value[..value.floor_char_boundary(MAX_VALUE)];
        if name.is_empty() || self.bytes.len() + name.len() + value.len() + 10 > MAX_ENTRY {
            return;
        }
        self.bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // A value with line feeds has its length before it, so that no part of it is read as a field.
            self.bytes.push(b'\n');
            self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.bytes.push(b'=');
        }
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

/// Returns the name as the journal accepts it: capital letters, digits and underscores, beginning with a letter. Names that begin
/// with an underscore are the journal's own.
fn accepted_name(name: &str) -> String {
    let accepted = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let begins = name.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    begins.chars().take(MAX_NAME).map(accepted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads fields as the journal does.
    fn parse(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let line = bytes.iter().position(|b| *b == b'\n').unwrap();
            let (name, value) = match bytes[..line].iter().position(|b| *b == b'=') {
                Some(equals) => {
                    let (name, value) = (&bytes[..equals], &bytes[equals + 1..line]);
                    bytes = &bytes[line + 1..];
                    (name, value)
                }
                None => {
                    let name = &bytes[..line];
                    let length = u64::from_le_bytes(bytes[line + 1..line + 9].try_into().unwrap());
                    let end = line + 9 + usize::try_from(length).unwrap();
                    let value = &bytes[line + 9..end];
                    assert_eq!(bytes[end], b'\n');
                    bytes = &bytes[end + 1..];
                    (name, value)
                }
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.push((text(name), text(value)));
        }
        fields
    }

    #[test]
    fn a_value_cannot_be_mistaken_for_another_field() {
        let mut entry = Entry::new(Priority::Notice, "bolt-audit", "ran it");
        entry.field("bolt.principal", "x\nPRIORITY=0\n_UID=0");
        entry.field("_HOSTNAME", "a=b");
        entry.field("é", "never sent");
        let expected = [
            ("PRIORITY", "5"),
            ("SYSLOG_IDENTIFIER", "bolt-audit"),
            ("MESSAGE", "ran it"),
            ("BOLT_PRINCIPAL", "x\nPRIORITY=0\n_UID=0"),
            ("HOSTNAME", "a=b"),
        ];
        assert_eq!(parse(&entry.bytes), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_entry_is_bounded() {
        let mut entry = Entry::new(Priority::Info, "bolt-agent", &"é".repeat(20_000));
        for _ in 0..20 {
            entry.field(&"N".repeat(500), &"\n".repeat(30_000));
        }
        assert!(entry.bytes.len() <= MAX_ENTRY, "{}", entry.bytes.len());
        let fields = parse(&entry.bytes);
        assert_eq!(fields[2].1.len(), MAX_VALUE);
        assert_eq!(fields[3].0.len(), MAX_NAME);
    }
}
