//! Parts of a certificate revocation list that the TLS library checks but does not expose (RFC 5280, section 5.1): issuer,
//! times, and what its signature covers.
//!
//! The input is DER that a library has parsed before.

use super::der::{BIT_STRING, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME, element, time, whole};

/// Issuer, times and signature of a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlInfo {
    /// Distinguished name of the issuer: the content of its SEQUENCE.
    pub issuer: Vec<u8>,
    /// Time of issue, in seconds since 1970.
    pub this_update_s: i64,
    /// Time by which the next list is issued, in seconds since 1970; the list expires then.
    pub next_update_s: i64,
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
        let (tag @ (UTC_TIME | GENERALIZED_TIME), next_update, _) = element(rest)? else { return None };
        Some(CrlInfo {
            issuer: issuer.to_vec(),
            this_update_s,
            next_update_s: time(tag, next_update)?,
            signed: signed.to_vec(),
            algorithm: algorithm.to_vec(),
            signature: signature.to_vec(),
        })
    }
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
    fn other_bytes_are_not_a_revocation_list() {
        for wrong in [&[][..], &[0x30], &[0x30, 0x02, 0x30, 0x00], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0xff; 40]] {
            assert_eq!(CrlInfo::parse(wrong), None, "{wrong:?}");
            assert_eq!(Signed::parse(wrong), None, "{wrong:?}");
        }
    }
}
