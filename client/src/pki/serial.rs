//! Serial numbers of certificates.

use serde::{Deserialize, Serialize};

/// Serial number: hexadecimal digits, two for each byte, without leading zero bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(String);

/// Error returned for a text that is no serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a serial number has 1 to 40 hexadecimal digits, with or without colons, as `bolt pki list` shows them")]
pub struct SerialError;

impl Serial {
    /// Returns the serial number with these bytes, the most significant first.
    pub(super) fn of_bytes(bytes: &[u8]) -> Serial {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
        Serial(bytes[first..].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns its bytes, the most significant first.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let digits = self.0.as_bytes().chunks(2);
        digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }
}

impl std::str::FromStr for Serial {
    type Err = SerialError;
    fn from_str(text: &str) -> Result<Serial, SerialError> {
        let mut digits: String = text.chars().filter(|c| *c != ':').collect();
        if digits.is_empty() || digits.len() > 40 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(SerialError);
        }
        if digits.len() % 2 == 1 {
            digits.insert(0, '0');
        }
        Ok(Serial::of_bytes(&Serial(digits).bytes()))
    }
}

impl TryFrom<String> for Serial {
    type Error = SerialError;
    fn try_from(text: String) -> Result<Serial, SerialError> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> String {
        serial.0
    }
}

impl std::fmt::Display for Serial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_compared_without_leading_zeros_and_colons() {
        let serial: Serial = "00:0A:ff".parse().unwrap();
        assert_eq!((serial.to_string().as_str(), serial.bytes()), ("0aff", vec![0x0a, 0xff]));
        assert_eq!(Serial::of_bytes(&[0, 0x0a, 0xff]), serial);
        assert_eq!("aff".parse(), Ok(serial));
        assert_eq!(Serial::of_bytes(&[0, 0]).to_string(), "00");
        for wrong in ["", "0x1", "spiffe://x", &"a".repeat(41)] {
            assert!(wrong.parse::<Serial>().is_err(), "{wrong}");
        }
    }
}
