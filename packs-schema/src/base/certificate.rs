//! Parts of an X.509 certificate that the TLS library checks but does not expose: validity, basic constraints and
//! extended key usages (RFC 5280, sections 4.1.2.5, 4.2.1.9 and 4.2.1.12).
//!
//! The input is DER that a library has parsed before. The values lead to refusals and warnings only; nothing is trusted
//! because of them.

use super::der::{BOOLEAN, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, element, time};

/// Prefix of the instance id in the URI name of its certificate.
pub const INSTANCE_URI: &str = "bolt://instance/";
/// `id-kp-serverAuth`: server certificates.
pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// `id-kp-clientAuth`: client certificates.
pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// `id-at-commonName`.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// `id-at-organizationName`.
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
/// `[0]`: the version.
const VERSION: u8 = 0xa0;
/// `[3]`: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `id-ce-basicConstraints`.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// `id-ce-extKeyUsage`.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// `id-ce-subjectAltName`.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// `[6]` of a general name: a URI.
const URI: u8 = 0x86;

/// Validity, basic constraints and extended key usages of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Start of the validity, in seconds since 1970.
    pub not_before_s: i64,
    /// Last second of the validity, in seconds since 1970.
    pub not_after_s: i64,
    /// True if the certificate may be an authority: it says so, or it is of a version without extensions.
    pub is_authority: bool,
    /// Number of URI names.
    pub uri_names: usize,
    /// Object identifiers of the extended key usages; empty if the extension is absent.
    usages: Vec<Vec<u8>>,
}

impl CertificateInfo {
    /// Parses a certificate in DER; `None` if it is not one.
    pub fn parse(der: &[u8]) -> Option<CertificateInfo> {
        let (tag, certificate, _) = element(der)?;
        let (inner, tbs, _) = element(certificate)?;
        if tag != SEQUENCE || inner != SEQUENCE {
            return None;
        }
        let mut rest = tbs;
        if rest.first() == Some(&VERSION) {
            rest = element(rest)?.2;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            rest = element(rest)?.2;
        }
        let (tag, validity, mut rest) = element(rest)?;
        if tag != SEQUENCE {
            return None;
        }
        let (tag, not_before, after) = element(validity)?;
        let not_before_s = time(tag, not_before)?;
        let (tag, not_after, _) = element(after)?;
        let not_after_s = time(tag, not_after)?;
        let (mut is_authority, mut usages, mut uri_names) = (true, Vec::new(), 0);
        while !rest.is_empty() {
            let (tag, content, next) = element(rest)?;
            if tag == EXTENSIONS {
                let (_, list, _) = element(content)?;
                usages = extension(list, EXTENDED_KEY_USAGE)?.map_or(Some(Vec::new()), object_identifiers)?;
                uri_names = extension(list, SUBJECT_ALT_NAME)?.map_or(Some(0), count_uris)?;
                is_authority = extension(list, BASIC_CONSTRAINTS)?.is_some_and(has_authority_flag);
            }
            rest = next;
        }
        Some(CertificateInfo { not_before_s, not_after_s, is_authority, uri_names, usages })
    }

    /// True if the certificate has this extended key usage. `anyExtendedKeyUsage` does not match.
    pub fn has_usage(&self, usage: &[u8]) -> bool {
        self.usages.iter().any(|found| found == usage)
    }
}

/// Returns the common name in a distinguished name (the content of its SEQUENCE) as `CN=…`, else its organization as `O=…`.
pub fn short_name(name: &[u8]) -> Option<String> {
    let find = |wanted: &[u8]| {
        let mut rest = name;
        while !rest.is_empty() {
            let (SET, attributes, next) = element(rest)? else { return None };
            rest = next;
            let (SEQUENCE, attribute, _) = element(attributes)? else { return None };
            let (OBJECT_IDENTIFIER, id, value) = element(attribute)? else { return None };
            if id == wanted {
                return std::str::from_utf8(element(value)?.1).ok();
            }
        }
        None
    };
    let common_name = find(COMMON_NAME).map(|name| format!("CN={name}"));
    common_name.or_else(|| find(ORGANIZATION).map(|name| format!("O={name}")))
}

/// Returns the value of an extension, `Some(None)` if it is absent, and `None` for damaged DER.
fn extension<'a>(mut list: &'a [u8], wanted: &[u8]) -> Option<Option<&'a [u8]>> {
    while !list.is_empty() {
        let (_, extension, next) = element(list)?;
        list = next;
        let (tag, id, mut rest) = element(extension)?;
        if tag != OBJECT_IDENTIFIER || id != wanted {
            continue;
        }
        // An optional BOOLEAN `critical`, then the value.
        loop {
            let (tag, content, next) = element(rest)?;
            rest = next;
            if tag == OCTET_STRING {
                return Some(Some(content));
            }
        }
    }
    Some(None)
}

/// Returns true if basic constraints say that the certificate is an authority.
fn has_authority_flag(value: &[u8]) -> bool {
    let Some((SEQUENCE, constraints, _)) = element(value) else { return false };
    matches!(element(constraints), Some((BOOLEAN, [flag], _)) if *flag != 0)
}

fn count_uris(value: &[u8]) -> Option<usize> {
    let (SEQUENCE, mut names, _) = element(value)? else { return None };
    let mut count = 0;
    while !names.is_empty() {
        let (tag, _, next) = element(names)?;
        count += usize::from(tag == URI);
        names = next;
    }
    Some(count)
}

fn object_identifiers(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (tag, mut list, _) = element(value)?;
    let mut found = Vec::new();
    while tag == SEQUENCE && !list.is_empty() {
        let (tag, id, next) = element(list)?;
        if tag == OBJECT_IDENTIFIER {
            found.push(id.to_vec());
        }
        list = next;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_by_its_common_name_or_organization() {
        // C=US, O=a, CN=b
        let name = b"\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02US\x31\x0a\x30\x08\x06\x03\x55\x04\x0a\x0c\x01a\
                     \x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01b";
        assert_eq!(short_name(name).as_deref(), Some("CN=b"));
        assert_eq!(short_name(&name[..25]).as_deref(), Some("O=a"));
        assert_eq!(short_name(&name[..13]), None);
        for damaged in [&name[..20], &[0x30, 0][..], &[0x31, 0x84, 0xff, 0xff, 0xff, 0xff][..]] {
            assert_eq!(short_name(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn other_bytes_are_not_a_certificate() {
        for wrong in [&[][..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x02, 0x30, 0x00], &[0xff; 40]] {
            assert_eq!(CertificateInfo::parse(wrong), None, "{wrong:?}");
        }
    }
}
