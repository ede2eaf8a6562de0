//! Numbers on the command line: one reader for all options, with messages that say which numbers fit.

use std::ops::RangeInclusive;

/// Reads a whole number within `range`.
pub(super) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = digits(text).filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| match (*range.start(), *range.end()) {
            (0, u64::MAX) => "use a whole number, such as 5".to_owned(),
            (least, most) => format!("use a whole number from {least} to {most}"),
        })
    }
}

/// Reads a share of the instances in percent, with or without the sign.
pub(super) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let percent = digits(number).filter(|percent| *percent <= 100).and_then(|percent| u8::try_from(percent).ok());
    percent.ok_or_else(|| "use a whole number of percent from 0 to 100, such as 25 or 25%".to_owned())
}

/// Digits only: no sign, no blank, no fraction.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_a_whole_number_with_or_without_the_sign() {
        for (text, wanted) in [("0", 0), ("10", 10), ("10%", 10), ("100%", 100), ("007", 7)] {
            assert_eq!(percent(text), Ok(wanted), "{text}");
        }
        for text in ["", "%", "200", "200%", "101", "10%%", "-5", "+5", "1.5", "1e1", " 5", "5 %", "ten", "٥"] {
            let said = percent(text).unwrap_err();
            assert!(said.contains("from 0 to 100, such as 25 or 25%"), "{text}: {said}");
        }
    }

    #[test]
    fn a_whole_number_fits_its_range_and_its_type() {
        let days = whole::<u32>(1..=36_500);
        assert_eq!((days("1"), days("36500")), (Ok(1), Ok(36_500)));
        for text in ["0", "36501", "-1", "1.0", "", "99999999999999999999"] {
            assert_eq!(days(text).unwrap_err(), "use a whole number from 1 to 36500", "{text}");
        }
        assert_eq!(whole::<usize>(0..=u64::MAX)("x").unwrap_err(), "use a whole number, such as 5");
    }
}
