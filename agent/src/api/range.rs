//! `Range: bytes=` (RFC 9110, section 14): a single one.

/// Part of a representation that the header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requested {
    /// The whole representation.
    Whole,
    /// From the first offset to before the second one, within the length, not empty.
    Part(u64, u64),
    /// A part outside of the representation.
    NotSatisfiable,
}

/// Parses the header's value for a representation of `length` bytes. Anything but a single range of bytes is ignored, as the
/// RFC requires.
pub(super) fn parse(value: &str, length: u64) -> Requested {
    let Some(spec) = value.trim().strip_prefix("bytes=").map(str::trim) else { return Requested::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Requested::Whole };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first, last) {
        ("", last) => match number(last) {
            None => Requested::Whole,
            Some(0) => Requested::NotSatisfiable,
            Some(_) if length == 0 => Requested::NotSatisfiable,
            Some(suffix) => Requested::Part(length.saturating_sub(suffix), length),
        },
        (first, last) => {
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            let (Some(first), Some(last)) = (number(first), last) else { return Requested::Whole };
            if last < first {
                Requested::Whole
            } else if first >= length {
                Requested::NotSatisfiable
            } else {
                Requested::Part(first, last.saturating_add(1).min(length))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (value, want) in [
            ("bytes=0-", Requested::Part(0, 10)),
            ("bytes=0-3", Requested::Part(0, 4)),
            ("bytes=9-99", Requested::Part(9, 10)),
            ("bytes=-4", Requested::Part(6, 10)),
            ("bytes=-40", Requested::Part(0, 10)),
            ("bytes=5-18446744073709551615", Requested::Part(5, 10)),
            ("bytes=10-", Requested::NotSatisfiable),
            ("bytes=99999999999999999999-", Requested::NotSatisfiable),
            ("bytes=-0", Requested::NotSatisfiable),
            ("bytes=3-2", Requested::Whole),
            ("bytes=0-1,3-4", Requested::Whole),
            ("bytes=+1-2", Requested::Whole),
            ("bytes=", Requested::Whole),
            ("bytes=-", Requested::Whole),
            ("lines=1-2", Requested::Whole),
        ] {
            assert_eq!(parse(value, 10), want, "{value}");
        }
        assert_eq!(parse("bytes=0-", 0), Requested::NotSatisfiable);
        assert_eq!(parse("bytes=-1", 0), Requested::NotSatisfiable);
    }
}
