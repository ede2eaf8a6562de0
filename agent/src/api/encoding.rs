//! `Accept-Encoding` (RFC 9110, section 12.5.3): decides whether a response is sent with gzip.

use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;

/// True if gzip is named with a weight at least as high as that of `identity`; or if `identity` is refused and gzip is not.
/// Without the header, and when it cannot be parsed, the answer is `identity`.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for item in values.flat_map(|value| value.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(weight_of).unwrap_or(Some(1000));
        let Some(weight) = weight else { continue };
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = Some(weight),
            "identity" => identity = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    // `*` applies to `identity` only when it refuses it.
    let plain = identity.or(any.filter(|weight| *weight == 0));
    match gzip {
        Some(weight) => weight > 0 && weight >= plain.unwrap_or(0),
        None => plain == Some(0) && any.is_some_and(|weight| weight > 0),
    }
}

/// Parses `q=0.5` into thousandths; `Some(None)` for an invalid weight.
fn weight_of(part: &str) -> Option<Option<u16>> {
    let (name, value) = part.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let thousandths = || format!("{fraction:0<3}").parse::<u16>().ok();
    Some(match whole {
        "0" if digits => thousandths(),
        "1" if digits && fraction.bytes().all(|b| b == b'0') => Some(1000),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_chosen_by_its_weight() {
        for (value, takes) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("deflate, gzip, br", true),
            ("gzip;q=0.001", true),
            ("gzip ; q = 0.5, identity;q=0.4", true),
            ("identity;q=0, *", true),
            ("identity;q=0, *;q=0.2", true),
            ("*;q=0, gzip", true),
            ("gzip;q=1.000", true),
            ("", false),
            ("identity", false),
            ("br", false),
            ("*", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0.4, identity;q=0.5", false),
            ("gzip;q=0.3, identity", false),
            ("*;q=0", false),
            ("identity;q=0", false),
            ("gzip;q=0, identity;q=0, *", false),
            ("gzip;q=2", false),
            ("gzip;q=0.1234", false),
            ("gzip;q=x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), takes, "{value:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
        let mut twice = HeaderMap::new();
        twice.append(ACCEPT_ENCODING, "br".parse().unwrap());
        twice.append(ACCEPT_ENCODING, "gzip".parse().unwrap());
        assert!(accepts_gzip(&twice));
    }
}
