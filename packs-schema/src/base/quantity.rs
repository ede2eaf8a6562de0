//! Quantities as people write them: `256MiB`, `50%`, `10m`. In code they are a `u64` of bytes or per mille, and a
//! `Duration`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Error returned when a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {what}: write it like {example}")]
pub struct QuantityError {
    given: String,
    what: &'static str,
    example: &'static str,
}

/// Maximum duration: a hundred years, which can be added to any clock without overflow.
const MAX_DURATION: Duration = Duration::from_secs(36_525 * 86_400);

fn wrong(given: &str, what: &'static str, example: &'static str) -> QuantityError {
    QuantityError { given: given.chars().take(40).collect(), what, example }
}

fn split(text: &str) -> (Option<u64>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (text[..digits].parse().ok(), text[digits..].trim_start())
}

/// Parses a size in bytes: a number, optionally followed by `B`, `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `MB` or `GB`.
pub fn parse_bytes(text: &str) -> Result<u64, QuantityError> {
    let fail = || wrong(text, "a size", "256MiB");
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(fail()),
    };
    number.and_then(|n| n.checked_mul(factor)).ok_or_else(fail)
}

/// Parses a duration: numbers with `ms`, `s`, `m`, `h` or `d`, largest unit first, such as `90s` or `1h30m`. At most a
/// hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let fail = || wrong(text, "a duration", "90s, 10m or 1h30m");
    let (mut rest, mut total, mut below) = (text, Duration::ZERO, u64::MAX);
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let (number, tail) = split(rest);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_ms: u64 = match &tail[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fail()),
        };
        if unit_ms >= below {
            return Err(fail());
        }
        below = unit_ms;
        let part = number.and_then(|n| n.checked_mul(unit_ms)).ok_or_else(fail)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(fail)?;
        rest = tail[letters..].trim_start();
    }
    at_most_a_century(total).ok_or_else(fail)
}

fn at_most_a_century(duration: Duration) -> Option<Duration> {
    (duration <= MAX_DURATION).then_some(duration)
}

/// Formats a duration so that [`parse_duration`] reads it back. Fractions of a millisecond are dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
        if left / unit > 0 {
            text += &format!("{}{name}", left / unit);
            left %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Formats a size in the largest binary unit, with at most one decimal: `1.5GiB`, `17B`.
pub fn format_bytes(bytes: u64) -> String {
    for (unit, name) in [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return if tenths.is_multiple_of(10) {
                format!("{}{name}", tenths / 10)
            } else {
                format!("{}.{}{name}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes}B")
}

/// Size in bytes, written `256MiB` or as a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Duration, written `10m` or as a plain number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Share of one processor in per mille, written `50%`, `1.5` or `2` (processors).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuShare(pub u32);

impl CpuShare {
    /// Parses `50%`, `150%`, `0.5` or `2`. Valid from 1 % to 1024 processors.
    pub fn parse(text: &str) -> Result<CpuShare, QuantityError> {
        let fail = || wrong(text, "a share of a processor", "50% (or 150%, or 1.5)");
        let (number, scale) = match text.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 10.0),
            None => (text, 1000.0),
        };
        let value: f64 = number.parse().map_err(|_| fail())?;
        let per_mille = (value * scale).round();
        if (10.0..=1_024_000.0).contains(&per_mille) { Ok(CpuShare(per_mille as u32)) } else { Err(fail()) }
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(10) {
            write!(f, "{}%", self.0 / 10)
        } else {
            write!(f, "{}.{}%", self.0 / 10, self.0 % 10)
        }
    }
}

/// Quantity as written: text or a number.
pub(crate) enum TextOrNumber {
    Number(u64),
    Float(f64),
    Text(String),
}

impl TextOrNumber {
    /// Reads either; `takes` describes valid values in errors.
    pub(crate) fn read<'de, D: Deserializer<'de>>(from: D, takes: &'static str) -> Result<TextOrNumber, D::Error> {
        from.deserialize_any(TextOrNumberVisitor(takes))
    }
}

struct TextOrNumberVisitor(&'static str);

impl de::Visitor<'_> for TextOrNumberVisitor {
    type Value = TextOrNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<TextOrNumber, E> {
        Ok(TextOrNumber::Number(number))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<TextOrNumber, E> {
        let number = u64::try_from(number);
        number.map(TextOrNumber::Number).map_err(|_| E::custom(format_args!("must be {}, and not negative", self.0)))
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<TextOrNumber, E> {
        Ok(TextOrNumber::Float(number))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOrNumber, E> {
        Ok(TextOrNumber::Text(text.to_owned()))
    }
}

macro_rules! quantity_serde {
    ($name:ident, $takes:literal, $parse:expr, $number:expr, $show:expr, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                let parsed: Result<$name, QuantityError> = match TextOrNumber::read(from, $takes)? {
                    TextOrNumber::Text(text) => $parse(&text),
                    TextOrNumber::Number(number) => $number(number),
                    TextOrNumber::Float(number) => $parse(&number.to_string()),
                };
                parsed.map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&$show(self))
            }
        }

        #[cfg(feature = "schemas")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "anyOf": [{"type": "string", "pattern": $pattern}, {"type": "number", "minimum": 0}]
                })
            }
        }
    };
}

quantity_serde!(
    Bytes,
    "a size such as 256MiB",
    |t: &str| parse_bytes(t).map(Bytes),
    |n| Ok(Bytes(n)),
    |b: &Bytes| exact_bytes(b.0),
    "^[0-9]+ *(B|kB|KB|MB|GB|K|M|G|KiB|MiB|GiB|TiB)?$"
);
quantity_serde!(
    Span,
    "a duration such as 90s, 10m or 1h30m",
    |t: &str| parse_duration(t).map(Span),
    |n: u64| at_most_a_century(Duration::from_secs(n)).map(Span).ok_or_else(|| wrong(
        &n.to_string(),
        "a duration",
        "90s, 10m or 1h30m"
    )),
    |s: &Span| format_duration(s.0),
    "^([0-9]+ *(ms|s|m|h|d) *)+$"
);
quantity_serde!(
    CpuShare,
    "a share of a processor such as 50%",
    CpuShare::parse,
    |n: u64| CpuShare::parse(&n.to_string()),
    |c: &CpuShare| c.to_string(),
    "^[0-9]+(\\.[0-9]+)? *%?$"
);

/// Formats a size exactly, unlike [`format_bytes`], because stored definitions must read back unchanged.
fn exact_bytes(bytes: u64) -> String {
    for (unit, name) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("256MiB"), Ok(256 << 20));
        assert_eq!(parse_bytes("1 GB"), Ok(1_000_000_000));
        for bad in ["", "MiB", "-1", "1.5GiB", "1XB", "99999999999999999999", "18446744073709551615KiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad:?}");
        }
        assert_eq!((format_bytes(1536), format_bytes(17)), ("1.5KiB".into(), "17B".into()));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "10", "m", "30m1h", "1s1s", "-1s", "1.5s", "99999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(format_duration(Duration::from_millis(5_400_250)), "1h30m250ms");
    }

    #[test]
    fn cpu_shares() {
        assert_eq!(CpuShare::parse("50%"), Ok(CpuShare(500)));
        assert_eq!(CpuShare::parse("1.5"), Ok(CpuShare(1500)));
        for bad in ["", "%", "0", "-5%", "nan", "inf", "1e9"] {
            assert!(CpuShare::parse(bad).is_err(), "{bad:?}");
        }
    }
}
