//! Parts of an X.509 certificate that the TLS library checks but does not expose: validity, basic constraints and
//! extended key usages (RFC 5280, sections 4.1.2.5, 4.2.1.9 and 4.2.1.12).
//!
//! The input is DER that a library has parsed before. The values lead to refusals and warnings only; nothing is trusted
//! because of them.

/// Prefix of the instance id in the URI name of its certificate.
pub const INSTANCE_URI: &str = "bolt://instance/";
/// `id-kp-serverAuth`: server certificates.
pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// `id-kp-clientAuth`: client certificates.
pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`: the version.
const VERSION: u8 = 0xa0;
/// `[3]`: the extensions.
const EXTENSIONS: u8 = 0xa3;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
/// `id-ce-basicConstraints`.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// `id-ce-extKeyUsage`.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// Validity, basic constraints and extended key usages of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Start of the validity, in seconds since 1970.
    pub not_before_s: i64,
    /// Last second of the validity, in seconds since 1970.
    pub not_after_s: i64,
    /// True if the certificate may be an authority: it says so, or it is of a version without extensions.
    pub is_authority: bool,
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
        let (mut is_authority, mut usages) = (true, Vec::new());
        while !rest.is_empty() {
            let (tag, content, next) = element(rest)?;
            if tag == EXTENSIONS {
                let (_, list, _) = element(content)?;
                usages = extension(list, EXTENDED_KEY_USAGE)?.map_or(Some(Vec::new()), object_identifiers)?;
                is_authority = extension(list, BASIC_CONSTRAINTS)?.is_some_and(has_authority_flag);
            }
            rest = next;
        }
        Some(CertificateInfo { not_before_s, not_after_s, is_authority, usages })
    }

    /// True if the certificate has this extended key usage. `anyExtendedKeyUsage` does not match.
    pub fn has_usage(&self, usage: &[u8]) -> bool {
        self.usages.iter().any(|found| found == usage)
    }
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

/// Splits DER into tag and content of the first element, and the remaining bytes.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let bytes = usize::from(first & 0x7f);
        if !(1..=4).contains(&bytes) {
            return None;
        }
        let (length, rest) = rest.split_at_checked(bytes)?;
        (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Parses `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` to seconds since 1970.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, length: usize| -> Option<i64> {
        let digits = digits.get(from..from + length)?;
        Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    };
    let (year, at) = match (tag, digits.len()) {
        // RFC 5280: 50 and more is 19YY.
        (UTC_TIME, 12) => (number(0, 2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        (GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let part = |index: usize| number(at + 2 * index, 2);
    let (month, day, hour, minute, second) = (part(0)?, part(1)?, part(2)?, part(3)?, part(4)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20241301000000Z", None),
            (UTC_TIME, "20240229120000Z", None),
            (UTC_TIME, "7001010000Z", None),
        ] {
            assert_eq!(time(tag, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn other_bytes_are_not_a_certificate() {
        for wrong in [&[][..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x02, 0x30, 0x00], &[0xff; 40]] {
            assert_eq!(CertificateInfo::parse(wrong), None, "{wrong:?}");
        }
    }
}
