//! Unquoted YAML scalars: decides their values, or why a value is ambiguous.
//!
//! Parsers of YAML 1.1 (PyYAML, and so StackStorm) and of YAML 1.2 differ. Values on which they agree are read that
//! way. `yes`, `no`, `on` and `off` are booleans, as in StackStorm; `y`, `n` and dates are text. A number on which they
//! disagree, or that would lose digits, is an error: no value is changed silently.

use serde_json::Number;

/// Value of an unquoted scalar.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Resolved {
    Null,
    Bool(bool),
    Number(Number),
    Text,
}

const LEADING_ZERO: &str = "a number that begins with 0 is read differently by different readers of YAML: quote it if it is \
                            text (a mode, an account, a code), or write it without the zero";
const OTHER_BASE: &str =
    "0o and 0b numbers are read differently by different readers of YAML: write the decimal number, or quote it";
const UNDERSCORES: &str =
    "a number with underscores is read differently by different readers of YAML: write it without them, or quote it";
const BASE_60: &str = "some readers of YAML take this for a number in base 60: quote it";
const EXPONENT: &str = "a number with an exponent and no decimal point is read differently by different readers of YAML: quote it \
                        if it is text, or write it like 1.0e+3";
const TOO_LARGE: &str = "the number is too large to be kept exactly: quote it if it is text";
const TOO_PRECISE: &str = "the number has more digits than can be kept (17): quote it if it is text, or round it";
const NOT_FINITE: &str = "infinity and not-a-number cannot be passed on: give a number, or quote it if it is text";

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Resolves `text`; the error says why it is ambiguous and what to write instead.
pub(super) fn resolve(text: &str) -> Result<Resolved, &'static str> {
    if is_null(text) {
        return Ok(Resolved::Null);
    }
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Ok(Resolved::Bool(true)),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Ok(Resolved::Bool(false)),
        _ => {}
    }
    Ok(number(text)?.map_or(Resolved::Text, Resolved::Number))
}

fn number(text: &str) -> Result<Option<Number>, &'static str> {
    let negative = text.starts_with('-');
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(body, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err(NOT_FINITE);
    }
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(None);
    }
    if let Some((based, radix)) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| body.strip_prefix(prefix).map(|digits| (digits, radix)))
    {
        let digits = based.replace('_', "");
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Ok(None);
        }
        return match (radix, digits.len() == based.len()) {
            (16, true) => whole(&digits, 16, negative).map(Some),
            (16, false) => Err(UNDERSCORES),
            _ => Err(OTHER_BASE),
        };
    }
    if body.contains('_') {
        let shape = body.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | '.')) && body.matches('.').count() < 2;
        return if shape && body.starts_with(|c: char| c.is_ascii_digit()) { Err(UNDERSCORES) } else { Ok(None) };
    }
    if is_base_60(body) {
        return Err(BASE_60);
    }
    decimal(body, negative)
}

fn decimal(body: &str, negative: bool) -> Result<Option<Number>, &'static str> {
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (body, None),
    };
    let (before, after) = mantissa.split_once('.').map_or((mantissa, None), |(before, after)| (before, Some(after)));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    let fraction = after.unwrap_or_default();
    if !digits(before) || !digits(fraction) || before.len() + fraction.len() == 0 || !exponent_fits {
        return Ok(None);
    }
    if before.len() > 1 && before.starts_with('0') {
        return Err(LEADING_ZERO);
    }
    match (after, exponent) {
        (None, None) => return whole(before, 10, negative).map(Some),
        (None, Some(_)) => return Err(EXPONENT),
        _ => {}
    }
    let all = format!("{before}{fraction}");
    if all.trim_matches('0').len() > 17 {
        return Err(TOO_PRECISE);
    }
    // Rust, unlike YAML, wants digits on one side only, which was checked.
    let float: f64 = body.parse().map_err(|_| TOO_LARGE)?;
    Number::from_f64(if negative { -float } else { float }).map(Some).ok_or(TOO_LARGE)
}

fn whole(digits: &str, radix: u32, negative: bool) -> Result<Number, &'static str> {
    let number = if negative {
        i64::from_str_radix(&format!("-{digits}"), radix).map(Number::from)
    } else {
        u64::from_str_radix(digits, radix).map(Number::from)
    };
    number.map_err(|_| TOO_LARGE)
}

/// `1:30`, `190:20:30.15`: YAML 1.1's numbers in base 60.
fn is_base_60(body: &str) -> bool {
    let (body, fraction) = body.split_once('.').unwrap_or((body, ""));
    let mut parts = body.split(':');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let first = parts.next().is_some_and(digits);
    let mut rest = parts.peekable();
    let any = rest.peek().is_some();
    first
        && any
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && rest.all(|part| digits(part) && part.len() <= 2 && part.parse::<u8>().is_ok_and(|n| n < 60))
}
