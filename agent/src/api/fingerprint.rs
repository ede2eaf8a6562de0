//! Keyed hashes of request bodies, which distinguish a repeated request from another one with the same idempotency key.
//!
//! Bodies may hold secrets: only a MAC under a random key of this instance is stored, so that values cannot be guessed from a
//! copy of the history.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::{hmac, rand};
use nix::fcntl::OFlag;
use serde_json::Value;

/// File of the key, in the state directory.
const FILE: &str = "idempotency.key";
const LENGTH: usize = 32;

/// Key of the hashes.
pub(crate) struct Fingerprints {
    key: hmac::Key,
}

impl Fingerprints {
    /// Reads the key, or creates one (durable before this returns).
    pub(crate) fn load(state: &Path) -> io::Result<Fingerprints> {
        let path = state.join(FILE);
        let mut bytes = Vec::new();
        match OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path) {
            Ok(file) => {
                file.take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        if bytes.len() != LENGTH {
            bytes = make(state)?;
        }
        Ok(Fingerprints { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// Returns the fingerprint of a body: half of an HMAC (RFC 2104 allows truncation) over canonical JSON.
    pub(crate) fn of(&self, body: &Value) -> String {
        let mut text = String::new();
        canonical(body, &mut text);
        hmac::sign(&self.key, text.as_bytes()).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn make(state: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let temporary = state.join(format!("{FILE}.new"));
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, state.join(FILE))?;
    std::fs::File::open(state)?.sync_all()?;
    Ok(bytes)
}

/// Writes JSON with sorted keys and without spaces.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_same_body_has_the_same_fingerprint_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let one = Fingerprints::load(dir.path()).unwrap();
        let body = |text| packs_schema::base::strict::parse(text).unwrap();
        let seen = one.of(&body(br#"{"a": 1, "b": {"x": [1, "2"], "y": null}}"#));
        let again = Fingerprints::load(dir.path()).unwrap();
        assert_eq!(seen, again.of(&body(br#"{"b":{"y":null,"x":[1,"2"]},"a":1}"#)));
        assert_ne!(seen, again.of(&body(br#"{"b":{"y":null,"x":[1,2]},"a":1}"#)));
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = Fingerprints::load(tempfile::tempdir().unwrap().path()).unwrap();
        assert_ne!(seen, other.of(&body(br#"{"a": 1, "b": {"x": [1, "2"], "y": null}}"#)));
    }
}
