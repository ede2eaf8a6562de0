//! Builds certificates as DER with any dates and names, without a key or a valid signature.

use std::time::{SystemTime, UNIX_EPOCH};

/// Builds a certificate that is valid from `from` to `to` days from now.
pub(crate) fn certificate(name: &str, from: i64, to: i64) -> Vec<u8> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    // Half an hour more, so that a slow test does not lose a day.
    with_times(name, &time(now + from * 86_400 + 1800), &time(now + to * 86_400 + 1800))
}

/// Builds a certificate with these two times, encoded as DER.
pub(crate) fn with_times(name: &str, not_before: &[u8], not_after: &[u8]) -> Vec<u8> {
    let algorithm = tlv(0x30, &tlv(0x06, &[0x2b, 0x65, 0x70])); // Ed25519
    let subject = tlv(0x30, &tlv(0x31, &tlv(0x30, &[tlv(0x06, &[0x55, 4, 3]), tlv(0x0c, name.as_bytes())].concat())));
    let names = tlv(0x30, &tlv(0x82, b"www.example.com"));
    let extension = tlv(0x30, &[tlv(0x06, &[0x55, 0x1d, 0x11]), tlv(0x04, &names)].concat());
    let body = [
        tlv(0xa0, &tlv(0x02, &[2])),
        tlv(0x02, &[0x12, 0x34]),
        algorithm.clone(),
        subject.clone(),
        tlv(0x30, &[not_before, not_after].concat()),
        subject,
        tlv(0x30, &[algorithm.clone(), tlv(0x03, &[0; 33])].concat()),
        tlv(0xa3, &tlv(0x30, &extension)),
    ]
    .concat();
    tlv(0x30, &[tlv(0x30, &body), algorithm, tlv(0x03, &[0; 65])].concat())
}

/// Encodes a certificate as PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(der))
}

/// Encodes tag, length and value.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        short @ 0..=0x7f => out.push(u8::try_from(short).unwrap()),
        long => {
            out.push(0x82);
            out.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    out.extend(value);
    out
}

/// Encodes a Unix time as GeneralizedTime.
fn time(seconds: i64) -> Vec<u8> {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Converts days to a date: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let text = format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60);
    tlv(0x18, text.as_bytes())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}
