//! Compact forms of columns: a text that is a number (a run id with a UUID, a fingerprint) is stored as its bytes, and a hash is
//! stored instead of a caller's idempotency key.
//!
//! Each text has exactly one stored form, so that it can be looked up by it. Other texts are stored as they are.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Prefix that the client puts before the UUID of a run.
const RUN: &str = "r-";

const HEX: u8 = 1;
const UUID: u8 = 2;
const RUN_UUID: u8 = 3;

/// Bytes of a key's hash: with a million keys, a collision occurs in one of 2^56 histories.
const KEY_HASH: usize = 12;
/// Hexadecimal digits of a fingerprint that are kept, 128 bits.
const FINGERPRINT: usize = 32;

/// Hashes a caller's key: truncated SHA-256 of principal and key.
pub(super) fn key_hash(principal: &str, key: &str) -> Vec<u8> {
    let mut hash = Sha256::new();
    // A principal contains no NUL.
    hash.update(principal);
    hash.update([0]);
    hash.update(key);
    hash.finalize()[..KEY_HASH].to_vec()
}

/// Returns the stored form of a fingerprint; those of earlier versions were longer.
pub(super) fn fingerprint(text: &str) -> Compact {
    Compact(text.get(..FINGERPRINT).unwrap_or(text).to_owned())
}

/// Text in its stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compact(pub(super) String);

impl Compact {
    pub(super) fn value(&self) -> Value {
        match pack(&self.0) {
            Some(bytes) => Value::Blob(bytes),
            None => Value::Text(self.0.clone()),
        }
    }
}

impl ToSql for Compact {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(self.value()))
    }
}

impl FromSql for Compact {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Compact> {
        match value {
            ValueRef::Text(text) => {
                String::from_utf8(text.to_vec()).map(Compact).map_err(|e| FromSqlError::Other(e.into()))
            }
            ValueRef::Blob(bytes) => unpack(bytes).map(Compact).ok_or(FromSqlError::InvalidType),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let uuid = Uuid::parse_str(text).ok()?;
    (uuid.hyphenated().to_string() == text).then(|| *uuid.as_bytes())
}

fn pack(text: &str) -> Option<Vec<u8>> {
    if let Some(bytes) = uuid(text) {
        return Some([&[UUID][..], &bytes].concat());
    }
    if let Some(bytes) = text.strip_prefix(RUN).and_then(uuid) {
        return Some([&[RUN_UUID][..], &bytes].concat());
    }
    let digit = |b: u8| char::from(b).to_digit(16).filter(|_| !b.is_ascii_uppercase());
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let [high, low] = pair else { return None };
        u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
    });
    let bytes: Option<Vec<u8>> = std::iter::once(Some(HEX)).chain(pairs).collect();
    bytes.filter(|bytes| bytes.len() > 1)
}

fn unpack(bytes: &[u8]) -> Option<String> {
    let (kind, rest) = bytes.split_first()?;
    let uuid = || Some(Uuid::from_bytes(rest.try_into().ok()?).hyphenated().to_string());
    match *kind {
        UUID => uuid(),
        RUN_UUID => uuid().map(|text| format!("{RUN}{text}")),
        HEX => Some(rest.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_reads_back_as_it_was() {
        for (text, stored) in [
            ("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", Some(17)),
            ("r-01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", Some(17)),
            ("00ff", Some(3)),
            ("R-01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", None),
            ("01932C07-1f4e-7c61-b4b0-6e1d4cf1b2aa", None),
            ("00FF", None),
            ("abc", None),
            ("m1", None),
            ("", None),
        ] {
            let packed = pack(text);
            assert_eq!(packed.as_ref().map(Vec::len), stored, "{text}");
            assert_eq!(packed.map_or(Some(text.to_owned()), |bytes| unpack(&bytes)).as_deref(), Some(text));
        }
    }
}
