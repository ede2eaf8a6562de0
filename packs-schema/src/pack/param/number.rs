//! Comparison of JSON numbers and values by the rules of JSON Schema: exact, so that 2^53 + 1 differs from 2^53.
//!
//! Integers are compared as integers and floats by their binary value, except for `multipleOf`, which reads floats as
//! the decimals that were written (`0.3` is three times `0.1`).

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

/// Returns the number if it is an integer.
fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    // Adding zero makes -0.0 the 0.0 that it equals.
    number.as_f64().unwrap_or(f64::MAX) + 0.0
}

/// Compares two numbers.
pub(super) fn compare(a: &Number, b: &Number) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_mixed(a, float(b)),
        (None, Some(b)) => compare_mixed(b, float(a)).reverse(),
        (None, None) => float(a).total_cmp(&float(b)),
    }
}

/// Compares an integer with a float: by sign if the float exceeds all integers, otherwise by its floor and the
/// remainder.
fn compare_mixed(integer: i128, float: f64) -> Ordering {
    if float.abs() >= 1e30 {
        return 0.0_f64.total_cmp(&float);
    }
    let floor = float.floor();
    integer.cmp(&(floor as i128)).then(if float > floor { Ordering::Less } else { Ordering::Equal })
}

/// True if `number` is a multiple of `step`, both read as decimals. Nothing is a multiple of 0.
pub(super) fn is_multiple(number: &Number, step: &Number) -> bool {
    let ((value, value_exponent), (step, step_exponent)) = (decimal(number), decimal(step));
    if step == 0 || value == 0 {
        return step != 0;
    }
    let shift = value_exponent - step_exponent;
    match u32::try_from(shift) {
        Ok(tens) => (0..tens).fold(value % step, |left, _| left * 10 % step) == 0,
        // A divisor that does not fit is larger than any value, of which none is 0 here.
        Err(_) => 10_u128
            .checked_pow(shift.unsigned_abs())
            .and_then(|power| step.checked_mul(power))
            .is_some_and(|divisor| value % divisor == 0),
    }
}

/// A number without its sign as `(digits, exponent)`: digits × 10^exponent, digits below 2^64.
fn decimal(number: &Number) -> (u128, i32) {
    let text = number.to_string();
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digit = |sum: u128, byte: u8| sum.saturating_mul(10).saturating_add(u128::from(byte - b'0'));
    let mut digits = whole.bytes().chain(fraction.bytes()).filter(u8::is_ascii_digit).fold(0, digit);
    let mut exponent = exponent.parse::<i32>().unwrap_or(0) - fraction.len() as i32;
    while digits != 0 && digits.is_multiple_of(10) {
        digits /= 10;
        exponent += 1;
    }
    (digits, exponent)
}

/// Equality by JSON Schema: `1` and `1.0` are equal.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// Returns the index of the first item that equals an earlier one. Sorts, because comparing all pairs would take
/// seconds for a request body full of small numbers.
pub(super) fn repeated(items: &[Value]) -> Option<usize> {
    let mut sorted: Vec<(usize, &Value)> = items.iter().enumerate().collect();
    sorted.sort_by(|(_, a), (_, b)| order(a, b));
    let repeats = sorted.windows(2).filter(|pair| order(pair[0].1, pair[1].1).is_eq());
    repeats.map(|pair| pair[1].0).min()
}

/// Total order in which two values are equal exactly if [`equal`] says so.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => compare(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => a.len().cmp(&b.len()).then_with(|| order_all(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len().cmp(&b.len()).then_with(|| order_maps(a, b)),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn order_all<'v>(a: impl IntoIterator<Item = &'v Value>, b: impl IntoIterator<Item = &'v Value>) -> Ordering {
    a.into_iter().zip(b).map(|(a, b)| order(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

fn order_maps(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_by_key(|(key, _)| *key);
        entries
    }
    let (a, b) = (sorted(a), sorted(b));
    let keys = a.iter().map(|(key, _)| key).cmp(b.iter().map(|(key, _)| key));
    keys.then_with(|| order_all(a.iter().map(|(_, value)| *value), b.iter().map(|(_, value)| *value)))
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn large_integers_are_not_rounded() {
        for (a, b, wanted) in [
            ("9007199254740993", "9007199254740992", Ordering::Greater),
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("18446744073709551615", "18446744073709551616.0", Ordering::Less),
            ("-9223372036854775808", "-9223372036854775808.0", Ordering::Equal),
            ("-9223372036854775808", "1e300", Ordering::Less),
            ("1", "-1e300", Ordering::Greater),
            ("0", "-0.0", Ordering::Equal),
            ("0.0", "-0.0", Ordering::Equal),
            ("-1", "-0.5", Ordering::Less),
            ("-0.5", "0", Ordering::Less),
        ] {
            assert_eq!(compare(&number(a), &number(b)), wanted, "{a} {b}");
            assert_eq!(compare(&number(b), &number(a)), wanted.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn multiples_are_those_of_the_decimals() {
        for (value, step, wanted) in [
            ("0.3", "0.1", true),
            ("0.35", "0.1", false),
            ("1.1", "0.1", true),
            ("0", "0.7", true),
            ("-6", "3", true),
            ("4.5", "1.5", true),
            ("1e300", "7", false),
            ("1e300", "0.5", true),
            ("1e-300", "1", false),
            ("18446744073709551615", "5", true),
            ("9007199254740993", "2", false),
            ("3", "0", false),
            ("0", "0", false),
            ("10", "1e-300", true),
        ] {
            assert_eq!(is_multiple(&number(value), &number(step)), wanted, "{value} {step}");
        }
    }

    #[test]
    fn the_first_repeat_is_found_among_many() {
        assert_eq!(repeated(&[json!(1), json!("1"), json!([1]), json!({"a": 1}), json!(true), json!(null)]), None);
        assert_eq!(repeated(&[json!(2), json!(1), json!(1.0), json!(2)]), Some(2));
        assert_eq!(repeated(&[json!({"a": 1, "b": [0]}), json!({"b": [-0.0], "a": 1.0})]), Some(1));
        let many: Vec<Value> = (0..30_000).map(|i| json!(i)).collect();
        assert_eq!(repeated(&many), None);
    }
}
