//! Replaces what differs between equal instances by placeholders: numbers, times, ids, addresses, and the instance's own names.
//!
//! A replaced piece is made of whole words: it begins and ends with a letter or digit, and none is beside it. The text around it
//! therefore has the same words afterwards, and normalizing again changes nothing. Each word is read a fixed number of times.

use std::str::FromStr;

/// Placeholders, which are left as they are.
const PLACEHOLDERS: [&str; 6] = ["<number>", "<duration>", "<time>", "<id>", "<address>", "<instance>"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Units of durations and of sizes, as far as they follow a number without a space.
const DURATIONS: [&str; 9] = ["ns", "us", "µs", "ms", "s", "m", "h", "d", "min"];
const SIZES: [&str; 22] = [
    "", "B", "b", "k", "K", "M", "G", "T", "P", "kB", "KB", "MB", "GB", "TB", "PB", "Ki", "Mi", "Gi", "KiB", "MiB",
    "GiB", "TiB",
];
/// Maximum number of groups of a number (`1,234,567.8`), and of numbers of a duration.
const MAX_GROUPS: usize = 6;
/// Lengths of the longest IPv6 address, and of a UUID.
const MAX_IPV6: usize = 39;
const UUID: usize = 36;
/// Seconds since 1970 that are taken for a time: 2001 to 2065.
const EPOCH: std::ops::Range<u64> = 1_000_000_000..3_000_000_000;

/// Kinds of text that are replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Normalize {
    /// Numbers, with a unit of size: `<number>`.
    pub numbers: bool,
    /// Times (RFC 3339, syslog, of day, seconds since 1970): `<time>`; durations: `<duration>`.
    pub times: bool,
    /// Hexadecimal ids of 8 digits or more, and UUIDs: `<id>`.
    pub ids: bool,
    /// IP addresses, with port or prefix: `<address>`.
    pub addresses: bool,
    /// The instance's own names: `<instance>`.
    pub names: bool,
}

/// True if it is wanted, the length of what begins a text, and the placeholder.
type Rule<'a> = (bool, &'a dyn Fn(&str) -> Option<usize>, &'static str);

/// Error returned for a name that is no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use numbers, times, ids, addresses, names or all")]
pub struct KindError;

impl FromStr for Normalize {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Normalize, KindError> {
        let none = Normalize::default();
        match text {
            "all" => Ok(Normalize::ALL),
            "numbers" => Ok(Normalize { numbers: true, ..none }),
            "times" => Ok(Normalize { times: true, ..none }),
            "ids" => Ok(Normalize { ids: true, ..none }),
            "addresses" => Ok(Normalize { addresses: true, ..none }),
            "names" => Ok(Normalize { names: true, ..none }),
            _ => Err(KindError),
        }
    }
}

impl Normalize {
    /// All kinds.
    pub const ALL: Normalize = Normalize { numbers: true, times: true, ids: true, addresses: true, names: true };

    /// Returns the kinds of both.
    pub fn or(self, other: Normalize) -> Normalize {
        Normalize {
            numbers: self.numbers || other.numbers,
            times: self.times || other.times,
            ids: self.ids || other.ids,
            addresses: self.addresses || other.addresses,
            names: self.names || other.names,
        }
    }

    /// Returns `text` with placeholders; `own` are the names of the instance that printed it.
    pub fn apply(self, text: &str, own: &[&str]) -> String {
        let mut normal = String::with_capacity(text.len());
        let mut at = 0;
        let mut is_inside = false;
        while let Some(next) = text[at..].chars().next() {
            let rest = &text[at..];
            if next == '<'
                && let Some(placeholder) = PLACEHOLDERS.iter().find(|placeholder| rest.starts_with(**placeholder))
            {
                normal.push_str(placeholder);
                at += placeholder.len();
                is_inside = false;
                continue;
            }
            match (!is_inside && next.is_alphanumeric()).then(|| self.piece(rest, own)).flatten() {
                Some((length, placeholder)) => {
                    normal.push_str(placeholder);
                    at += length;
                    is_inside = false;
                }
                None => {
                    normal.push(next);
                    at += next.len_utf8();
                    is_inside = is_word(next);
                }
            }
        }
        normal
    }

    /// Returns the length of what begins here, at the beginning of a word, and its placeholder.
    fn piece(self, text: &str, own: &[&str]) -> Option<(usize, &'static str)> {
        let name = |text: &str| {
            let here = own.iter().filter(|name| name.len() > 1 && text.starts_with(**name));
            here.map(|name| name.len()).filter(|length| is_end(text, *length)).max()
        };
        let rules: [Rule<'_>; 6] = [
            (self.names, &name, "<instance>"),
            (self.times, &time, "<time>"),
            (self.addresses, &address, "<address>"),
            (self.ids, &id, "<id>"),
            (self.times, &duration, "<duration>"),
            (self.numbers, &number, "<number>"),
        ];
        let mut wanted = rules.iter().filter(|(is_wanted, ..)| *is_wanted);
        wanted.find_map(|(_, length, placeholder)| length(text).map(|length| (length, *placeholder)))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// True if a word ends after the first `length` bytes. Each rule returns the longest piece for which this holds: a piece that is
/// refused because of the words after it would be found the next time, when these have been replaced.
fn is_end(text: &str, length: usize) -> bool {
    text[..length].ends_with(char::is_alphanumeric) && text[length..].chars().next().is_none_or(|next| !is_word(next))
}

/// Returns the number of leading bytes that `accept` accepts.
fn span(text: &str, accept: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| accept(*byte)).count()
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// Returns the rest after exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<&str> {
    let is_count =
        text.len() >= count && text.bytes().take(count + 1).take_while(|byte| is_digit(*byte)).count() == count;
    is_count.then(|| &text[count..])
}

/// Returns the lengths of an integer and of the decimal numbers that it begins (`1`, `1,234`, `1,234.5`), the longest last.
fn decimals(text: &str) -> Vec<usize> {
    let mut length = span(text, is_digit);
    let mut lengths = Vec::new();
    while length > 0 && lengths.len() < MAX_GROUPS {
        lengths.push(length);
        let more = text[length..].strip_prefix(['.', ',']).map_or(0, |after| span(after, is_digit));
        if more == 0 {
            break;
        }
        length += 1 + more;
    }
    lengths
}

fn number(text: &str) -> Option<usize> {
    let with_unit = |length: usize| {
        let unit = span(&text[length..], |byte| byte.is_ascii_alphabetic());
        (SIZES.contains(&&text[length..length + unit]) && is_end(text, length + unit)).then_some(length + unit)
    };
    decimals(text).into_iter().rev().find_map(with_unit)
}

/// `250ms`, `1m30s`, `1.5h`.
fn duration(text: &str) -> Option<usize> {
    let mut length = 0;
    for _ in 0..MAX_GROUPS {
        let number = decimals(&text[length..]).pop()?;
        let after = &text[length + number..];
        let unit = DURATIONS.iter().filter(|unit| after.starts_with(**unit)).find(|unit| {
            after[unit.len()..].chars().next().is_none_or(|next| next.is_ascii_digit() || !is_word(next))
        })?;
        length += number + unit.len();
        if is_end(text, length) {
            return Some(length);
        }
    }
    None
}

fn time(text: &str) -> Option<usize> {
    date_time(text).or_else(|| syslog(text)).or_else(|| of_day(text)).or_else(|| epoch(text))
}

/// `2026-11-28`, with a time of day and a zone if there are any.
fn date_time(text: &str) -> Option<usize> {
    let rest = digits(text, 4)?.strip_prefix(['-', '/'])?;
    let rest = digits(rest, 2)?.strip_prefix(['-', '/'])?;
    let rest = digits(rest, 2)?;
    let date = text.len() - rest.len();
    match rest.strip_prefix(['T', 't', ' ']).and_then(of_day) {
        Some(length) => Some(date + 1 + length),
        None => is_end(text, date).then_some(date),
    }
}

/// `10:00:00`, with a fraction and a zone if there are any.
fn of_day(text: &str) -> Option<usize> {
    let rest = digits(text, 2)?.strip_prefix(':')?;
    let rest = digits(rest, 2)?.strip_prefix(':')?;
    let whole = digits(rest, 2)?;
    let fraction = whole.strip_prefix(['.', ',']).map(|after| &after[span(after, is_digit)..]);
    let zone = |rest: &'_ str| -> Option<usize> {
        let after = rest.strip_prefix(['Z', 'z']).or_else(|| {
            let hours = rest.strip_prefix(['+', '-'])?;
            digits(hours, 4).or_else(|| digits(digits(hours, 2)?.strip_prefix(':')?, 2))
        });
        after.map(str::len)
    };
    let ends = [fraction.and_then(zone), fraction.map(str::len), zone(whole), Some(whole.len())];
    ends.into_iter().flatten().map(|rest| text.len() - rest).find(|length| is_end(text, *length))
}

/// `Nov 28 10:00:00`, `Nov  8 10:00:00`.
fn syslog(text: &str) -> Option<usize> {
    let rest = text.get(..3).filter(|month| MONTHS.contains(month)).map(|_| &text[3..])?.strip_prefix(' ')?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let rest = digits(rest, 1).or_else(|| digits(rest, 2))?.strip_prefix(' ')?;
    Some(text.len() - rest.len() + of_day(rest)?)
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970.
fn epoch(text: &str) -> Option<usize> {
    let length = text.bytes().take(20).take_while(|byte| is_digit(*byte)).count();
    let seconds: u64 = matches!(length, 10 | 13 | 16 | 19).then(|| text[..10].parse().ok()).flatten()?;
    let fraction = text[length..].strip_prefix('.').map_or(0, |after| span(after, is_digit));
    let lengths = [length + 1 + fraction, length];
    let is_there = |at: &usize| *at == length || (length == 10 && fraction > 0);
    lengths.into_iter().filter(|_| EPOCH.contains(&seconds)).filter(is_there).find(|at| is_end(text, *at))
}

/// An IPv4 or IPv6 address, with a port or the length of a prefix if there is one.
fn address(text: &str) -> Option<usize> {
    let (length, separators): (usize, &[char]) =
        ipv4(text).map(|length| (length, &[':', '/'][..])).or_else(|| Some((ipv6(text)?, &['/'][..])))?;
    let after = text[length..]
        .strip_prefix(separators)
        .map_or(0, |after| after.bytes().take(6).take_while(|byte| is_digit(*byte)).count());
    let long = length + 1 + after;
    Some(if (1..=5).contains(&after) && is_end(text, long) { long } else { length })
}

fn ipv4(text: &str) -> Option<usize> {
    let mut length = 0;
    for part in 0..4 {
        length += usize::from(part > 0 && text[length..].starts_with('.'));
        let count = text[length..].bytes().take(4).take_while(|byte| is_digit(*byte)).count();
        length += count;
        if !(1..=3).contains(&count) {
            return None;
        }
    }
    (is_end(text, length) && text[..length].parse::<std::net::Ipv4Addr>().is_ok()).then_some(length)
}

fn ipv6(text: &str) -> Option<usize> {
    let mut length = text.bytes().take(MAX_IPV6).take_while(|byte| byte.is_ascii_hexdigit() || *byte == b':').count();
    // The first field has at most four digits: most words are none.
    if !text[..length.min(5)].contains(':') {
        return None;
    }
    while length > 2 {
        let is_address = is_end(text, length) && text[..length].parse::<std::net::Ipv6Addr>().is_ok();
        if is_address {
            return Some(length);
        }
        length = text[..length].rfind(':')?;
    }
    None
}

/// A UUID, or 8 hexadecimal digits or more of which one at least is a letter and one a decimal digit.
fn id(text: &str) -> Option<usize> {
    let hex = |text: &str| span(text, |byte| byte.is_ascii_hexdigit());
    let uuid = || {
        let mut rest = text;
        for (at, wanted) in [8, 4, 4, 4, 12].into_iter().enumerate() {
            rest = if at == 0 { rest } else { rest.strip_prefix('-')? };
            let is_wanted = rest.bytes().take(wanted + 1).take_while(u8::is_ascii_hexdigit).count() == wanted;
            rest = is_wanted.then(|| &rest[wanted..])?;
        }
        is_end(text, UUID).then_some(UUID)
    };
    let number = || text.strip_prefix("0x").map(hex).filter(|length| *length > 0).map(|length| length + 2);
    let word = || {
        let word = &text.as_bytes()[..hex(text)];
        let is_id = word.len() >= 8 && word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic);
        is_id.then_some(word.len())
    };
    uuid().or_else(|| number().or_else(word).filter(|length| is_end(text, *length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> String {
        Normalize::ALL.apply(text, &["i-0a11", "10.1.2.3"])
    }

    #[test]
    fn what_differs_between_equal_instances_is_replaced() {
        for (text, wanted) in [
            ("used 12.5% of 1,234 MiB, 8k", "used <number>% of <number> MiB, <number>"),
            ("took 250ms, then 1m30s and 1.5h", "took <duration>, then <duration> and <duration>"),
            ("2026-11-28T10:00:00.123Z start", "<time> start"),
            ("2026-11-28 10:00:00+01:00: x", "<time>: x"),
            ("on 2026-11-28", "on <time>"),
            ("Nov  8 10:00:00 i-0a11 sshd[42]: ok", "<time> <instance> sshd[<number>]: ok"),
            ("at 1764324000 or 1764324000123 or 1764324000.5", "at <time> or <time> or <time>"),
            ("id 6e1d4cf1b2aa 0xff", "id <id> <id>"),
            ("01a22191-147d-7019-ae16-ba80c609b8b6", "<id>"),
            ("from 192.0.2.7:8443 and 192.0.2.0/24", "from <address> and <address>"),
            ("2001:db8::1 fe80::1.", "<address> <address>."),
            ("host i-0a11, ip 10.1.2.3.", "host <instance>, ip <instance>."),
            // Words with digits are names.
            ("eth0 sda1 v1.2-rc1 xi-0a11 i-0a11x utf8", "eth0 sda1 v1.<number>-rc1 xi-0a11 i-0a11x utf8"),
            ("deadbeef feedface", "deadbeef feedface"),
            ("<number> <time>", "<number> <time>"),
            ("é1 ünder_9", "é1 ünder_9"),
        ] {
            assert_eq!(all(text), wanted, "{text}");
        }
    }

    #[test]
    fn only_the_kinds_that_were_asked_for_are_replaced() {
        let text = "10:00:00 5 items on 192.0.2.1";
        assert_eq!("times".parse::<Normalize>().unwrap().apply(text, &[]), "<time> 5 items on 192.0.2.1");
        assert_eq!("addresses".parse::<Normalize>().unwrap().apply(text, &[]), "10:00:00 5 items on <address>");
        assert_eq!(
            "dates".parse::<Normalize>().unwrap_err().to_string(),
            "use numbers, times, ids, addresses, names or all"
        );
        assert_eq!(Normalize::default().apply(text, &["5"]), text);
    }

    #[test]
    fn time_is_linear_in_the_length() {
        // Each of these makes a reader that looks ahead without bound quadratic. A megabyte takes milliseconds, or minutes.
        for piece in ["1", "1,", "1.", "a:", "1:", "f", "1s", "0x", "12:34:", "<", "<number", "Nov ", "1-", "_", "é"] {
            let text = piece.repeat((1 << 20) / piece.len());
            assert!(!all(&text).is_empty());
        }
    }

    fn kinds() -> impl Strategy<Value = Normalize> {
        any::<[bool; 5]>().prop_map(|[numbers, times, ids, addresses, names]| Normalize {
            numbers,
            times,
            ids,
            addresses,
            names,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn normalizing_again_changes_nothing(
            pieces in prop::collection::vec(prop_oneof![
                "[0-9a-f]{1,12}", "[ .,:/<>_+-]", "\\PC{1,3}", "[0-9]{2}:[0-9]{2}:[0-9]{2}", "(Nov|May) {1,2}[0-9]{1,2} ",
                "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?", "[0-9]{1,3}(ms|s|m|MiB)", "<(number|time|id)>?", "number|instance|id",
                "[0-9]{10}", "([0-9]{1,3}\\.){3}[0-9]{1,3}", "[0-9a-f:]{3,20}",
            ], 0..12),
            own in prop_oneof!["number", "id", "[a-z0-9-]{1,8}", "<time>"], kinds in kinds(),
        ) {
            let once = kinds.apply(&pieces.concat(), &[&own]);
            prop_assert_eq!(kinds.apply(&once, &[&own]), once);
        }
    }
}
