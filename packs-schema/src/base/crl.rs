//! Parts of a certificate revocation list that the TLS library checks but does not expose (RFC 5280, section 5.1): issuer,
//! times, number, and what its signature covers.
//!
//! The input is DER that a library has parsed before.

use std::cmp::Ordering;
use std::fmt;

use super::der::{
    BIT_STRING, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, UTC_TIME, element, time, whole,
};

/// Tag of the extensions of a list.
const EXTENSIONS: u8 = 0xa0;
/// Object identifiers of extensions (RFC 5280, sections 5.2.1 and 5.2.3): authorityKeyIdentifier and cRLNumber.
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const NUMBER: &[u8] = &[0x55, 0x1d, 0x14];

/// Number of a revocation list: each list of an authority has a higher one than the list before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlNumber {
    /// Big-endian, without leading zeros.
    bytes: Vec<u8>,
}

impl CrlNumber {
    fn new(content: &[u8]) -> CrlNumber {
        let bytes = content.iter().skip_while(|byte| **byte == 0).copied().collect();
        CrlNumber { bytes }
    }
}

impl Ord for CrlNumber {
    fn cmp(&self, other: &CrlNumber) -> Ordering {
        self.bytes.len().cmp(&other.bytes.len()).then_with(|| self.bytes.cmp(&other.bytes))
    }
}

impl PartialOrd for CrlNumber {
    fn partial_cmp(&self, other: &CrlNumber) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes.len() <= 8 {
            return self.bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)).fmt(f);
        }
        f.write_str("0x")?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Issuer, times and signature of a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlInfo {
    /// Distinguished name of the issuer: the content of its SEQUENCE.
    pub issuer: Vec<u8>,
    /// Time of issue, in seconds since 1970.
    pub this_update_s: i64,
    /// Time by which the next list is issued, in seconds since 1970; the list expires then.
    pub next_update_s: i64,
    /// Number among the lists of its signer; `None` if it has none.
    pub number: Option<CrlNumber>,
    /// Identifier of the key that signed it, as the list states it: the content of the extension.
    pub authority_key: Option<Vec<u8>>,
    /// Signed bytes.
    pub signed: Vec<u8>,
    /// Algorithm of the signature: the content of its SEQUENCE.
    pub algorithm: Vec<u8>,
    /// Signature.
    pub signature: Vec<u8>,
}

impl CrlInfo {
    /// Parses a revocation list in DER; `None` if it is not one, or does not say when it expires.
    pub fn parse(der: &[u8]) -> Option<CrlInfo> {
        let Signed { content: signed, algorithm, signature } = Signed::parse(der)?;
        let (SEQUENCE, mut rest, _) = element(signed)? else { return None };
        if rest.first() == Some(&INTEGER) {
            rest = element(rest)?.2;
        }
        // The algorithm again.
        rest = element(rest)?.2;
        let (SEQUENCE, issuer, rest) = element(rest)? else { return None };
        let (tag, this_update, rest) = element(rest)?;
        let this_update_s = time(tag, this_update)?;
        let (tag @ (UTC_TIME | GENERALIZED_TIME), next_update, rest) = element(rest)? else { return None };
        let number = extension(rest, NUMBER).and_then(|value| match element(value)? {
            (INTEGER, content, _) => Some(CrlNumber::new(content)),
            _ => None,
        });
        Some(CrlInfo {
            issuer: issuer.to_vec(),
            this_update_s,
            next_update_s: time(tag, next_update)?,
            number,
            authority_key: extension(rest, AUTHORITY_KEY).map(<[u8]>::to_vec),
            signed: signed.to_vec(),
            algorithm: algorithm.to_vec(),
            signature: signature.to_vec(),
        })
    }
}

/// True if this DER is a list of version 1, which has no extensions: its version is left out.
pub fn has_version_1(der: &[u8]) -> bool {
    let version = Signed::parse(der).and_then(|signed| Some(element(element(signed.content)?.1)?.0));
    version == Some(SEQUENCE) && CrlInfo::parse(der).is_some()
}

/// Finds the value of an extension of a list, in what follows its times.
fn extension<'a>(after_times: &'a [u8], identifier: &[u8]) -> Option<&'a [u8]> {
    let (mut tag, mut content, rest) = element(after_times)?;
    if tag == SEQUENCE {
        // Revoked certificates.
        (tag, content, _) = element(rest)?;
    }
    let (EXTENSIONS, (SEQUENCE, mut extensions, _)) = (tag, element(content)?) else { return None };
    while let Some((SEQUENCE, extension, rest)) = element(extensions) {
        let (OBJECT_IDENTIFIER, found, mut value) = element(extension)? else { return None };
        if found == identifier {
            // Between them may be whether the extension is critical.
            loop {
                match element(value)? {
                    (OCTET_STRING, value, _) => return Some(value),
                    (_, _, after) => value = after,
                }
            }
        }
        extensions = rest;
    }
    None
}

/// Parts of something signed in X.509: a revocation list or a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// Signed bytes.
    pub content: &'a [u8],
    /// Algorithm of the signature: the content of its SEQUENCE.
    pub algorithm: &'a [u8],
    /// Signature.
    pub signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Splits DER; `None` if it is nothing signed.
    pub fn parse(der: &'a [u8]) -> Option<Signed<'a>> {
        let (SEQUENCE, all, _) = element(der)? else { return None };
        let (content, rest) = whole(all)?;
        let (SEQUENCE, algorithm, rest) = element(rest)? else { return None };
        let (BIT_STRING, bits, _) = element(rest)? else { return None };
        let (0, signature) = bits.split_first()? else { return None };
        Some(Signed { content, algorithm, signature })
    }
}

/// Returns the content of a SubjectPublicKeyInfo in DER.
pub fn public_key_content(der: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, content, _) = element(der)? else { return None };
    Some(content)
}

/// Splits a public key (the content of its SubjectPublicKeyInfo) into the content of its algorithm and the key itself.
pub fn split_public_key(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let (SEQUENCE, algorithm, rest) = element(info)? else { return None };
    let (BIT_STRING, bits, _) = element(rest)? else { return None };
    let (0, key) = bits.split_first()? else { return None };
    Some((algorithm, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers() {
        let number = |bytes: &[u8]| CrlNumber::new(bytes);
        assert!(number(&[9]) < number(&[10]) && number(&[255]) < number(&[1, 0]) && number(&[]) < number(&[1]));
        assert_eq!(number(&[0, 200]), number(&[200]), "a leading zero keeps an integer positive");
        assert_eq!((number(&[]).to_string(), number(&[1, 0]).to_string()), ("0".to_owned(), "256".to_owned()));
        assert_eq!(number(&[1, 0, 0, 0, 0, 0, 0, 0, 2]).to_string(), "0x010000000000000002");
    }

    #[test]
    fn extensions_are_found_behind_the_times() {
        // cRLNumber 7, marked as critical, and authorityKeyIdentifier.
        let number = [0x30, 0x0d, 0x06, 3, 0x55, 0x1d, 0x14, 1, 1, 0xff, 4, 3, 2, 1, 7];
        let key = [0x30, 0x09, 0x06, 3, 0x55, 0x1d, 0x23, 4, 2, 0x30, 0];
        let of = |parts: &[&[u8]]| {
            let all = parts.concat();
            let length = |more: usize| u8::try_from(all.len() + more).unwrap();
            [&[EXTENSIONS, length(2), SEQUENCE, length(0)], &all[..]].concat()
        };
        let both = of(&[&key, &number]);
        for rest in [both.clone(), [&[SEQUENCE, 2, 5, 0][..], &both].concat()] {
            assert_eq!(extension(&rest, NUMBER), Some(&[2, 1, 7][..]));
            assert_eq!(extension(&rest, AUTHORITY_KEY), Some(&[0x30, 0][..]));
        }
        for rest in [&[][..], &of(&[]), &of(&[&number[..8]]), &[SEQUENCE, 0], &[EXTENSIONS, 2, 0x30, 9]] {
            assert_eq!(extension(rest, NUMBER), None, "{rest:?}");
        }
    }

    #[test]
    fn other_bytes_are_not_a_revocation_list() {
        for wrong in [&[][..], &[0x30], &[0x30, 0x02, 0x30, 0x00], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0xff; 40]] {
            assert_eq!(CrlInfo::parse(wrong), None, "{wrong:?}");
            assert_eq!(Signed::parse(wrong), None, "{wrong:?}");
            assert!(!has_version_1(wrong), "{wrong:?}");
        }
    }
}
