//! `Range: bytes=` (RFC 9110, section 14): a single one.

/// What part of a representation is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// From the first to before the last, within the length, not empty.
    Part(u64, u64),
    /// A part that it does not have.
    NotThere,
}

/// Reads the header's value for a representation of `length` bytes. What is not a single range of bytes is passed
/// over, as the RFC has it.
pub(super) fn parse(value: &str, length: u64) -> Wanted {
    let Some(spec) = value.trim().strip_prefix("bytes=").map(str::trim) else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first, last) {
        ("", last) => match number(last) {
            None => Wanted::Whole,
            Some(0) => Wanted::NotThere,
            Some(_) if length == 0 => Wanted::NotThere,
            Some(suffix) => Wanted::Part(length.saturating_sub(suffix), length),
        },
        (first, last) => {
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            let (Some(first), Some(last)) = (number(first), last) else { return Wanted::Whole };
            if last < first {
                Wanted::Whole
            } else if first >= length {
                Wanted::NotThere
            } else {
                Wanted::Part(first, last.saturating_add(1).min(length))
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
            ("bytes=0-", Wanted::Part(0, 10)),
            ("bytes=0-3", Wanted::Part(0, 4)),
            ("bytes=9-99", Wanted::Part(9, 10)),
            ("bytes=-4", Wanted::Part(6, 10)),
            ("bytes=-40", Wanted::Part(0, 10)),
            ("bytes=5-18446744073709551615", Wanted::Part(5, 10)),
            ("bytes=10-", Wanted::NotThere),
            ("bytes=99999999999999999999-", Wanted::NotThere),
            ("bytes=-0", Wanted::NotThere),
            ("bytes=3-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(parse(value, 10), want, "{value}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::NotThere);
        assert_eq!(parse("bytes=-1", 0), Wanted::NotThere);
    }
}
