//! Windows of time in which a grant is in effect: `22:00-06:00`, `mon-fri 09:00-17:00`, `sat,sun 00:00-24:00`, all in UTC.

use serde::Deserialize;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_A_DAY: u16 = 24 * 60;

/// Window of time that recurs each week. One that crosses midnight belongs to the day on which it begins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeWindow {
    text: String,
    /// Days on which it begins, from Monday.
    days: [bool; 7],
    /// First minute of the day.
    from: u16,
    /// Minute after the last one; below `from` in a window that crosses midnight, and 0 in one that ends there as `00:00`.
    to: u16,
}

impl TryFrom<String> for TimeWindow {
    type Error = String;
    fn try_from(text: String) -> Result<TimeWindow, String> {
        parse(&text).ok_or_else(|| {
            format!(
                "{text:?} is not a window of time, such as \"22:00-06:00\", \"mon-fri 09:00-17:00\" or \
                 \"sat,sun 00:00-24:00\", in UTC"
            )
        })
    }
}

fn parse(text: &str) -> Option<TimeWindow> {
    let (days, hours) = match text.split_once(' ') {
        Some((days, hours)) => (parse_days(days)?, hours),
        None => ([true; 7], text),
    };
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    let is_window = from != to && from < MINUTES_A_DAY;
    is_window.then(|| TimeWindow { text: text.to_owned(), days, from, to })
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Some(days)
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number =
        |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let (hours, minutes): (u16, u16) = (number(hours)?, number(minutes)?);
    let at = hours * 60 + minutes;
    (minutes < 60 && at <= MINUTES_A_DAY).then_some(at)
}

impl TimeWindow {
    /// True if the window contains a time, in seconds since 1970.
    pub fn contains(&self, at_s: i64) -> bool {
        let (day, second) = (at_s.div_euclid(86_400), at_s.rem_euclid(86_400));
        let minute = u16::try_from(second / 60).unwrap_or_default();
        // 1970-01-01 was a Thursday.
        let is_on = |day: i64| self.days[usize::try_from((day + 3).rem_euclid(7)).unwrap_or_default()];
        if self.from < self.to {
            return is_on(day) && (self.from..self.to).contains(&minute);
        }
        (is_on(day) && minute >= self.from) || (is_on(day - 1) && minute < self.to)
    }
}

impl std::fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since 1970 of a time in the week that begins on Monday, 2024-01-01.
    fn at(day: i64, hour: i64, minute: i64) -> i64 {
        1_704_067_200 + day * 86_400 + hour * 3600 + minute * 60
    }

    #[test]
    fn a_window_that_crosses_midnight_belongs_to_the_day_on_which_it_begins() {
        for (text, time, expected) in [
            ("09:00-17:00", at(0, 9, 0), true),
            ("09:00-17:00", at(6, 16, 59), true),
            ("09:00-17:00", at(0, 17, 0), false),
            ("09:00-17:00", at(0, 8, 59), false),
            ("22:00-06:00", at(2, 23, 0), true),
            ("22:00-06:00", at(2, 5, 59), true),
            ("22:00-06:00", at(2, 6, 0), false),
            ("22:00-06:00", at(2, 21, 59), false),
            ("fri 22:00-06:00", at(4, 22, 0), true),
            ("fri 22:00-06:00", at(5, 5, 0), true),
            ("fri 22:00-06:00", at(4, 5, 0), false),
            ("fri 22:00-06:00", at(5, 22, 0), false),
            ("sun 22:00-06:00", at(7, 5, 0), true),
            ("mon-fri 00:00-24:00", at(4, 23, 59), true),
            ("mon-fri 00:00-24:00", at(5, 0, 0), false),
            ("sat-mon,wed 01:00-02:00", at(6, 1, 0), true),
            ("sat-mon,wed 01:00-02:00", at(2, 1, 0), true),
            ("sat-mon,wed 01:00-02:00", at(1, 1, 0), false),
            ("22:00-24:00", at(1, 0, 0), false),
            ("22:00-00:00", at(0, 23, 59), true),
            ("22:00-00:00", at(1, 0, 0), false),
            ("22:00-00:00", at(1, 21, 59), false),
            ("fri 22:00-00:00", at(4, 23, 59), true),
            ("fri 22:00-00:00", at(5, 22, 0), false),
        ] {
            let window = TimeWindow::try_from(text.to_owned()).unwrap();
            assert_eq!(window.contains(time), expected, "{text} at {time}");
        }
        assert!(TimeWindow::try_from("thu 00:00-00:01".to_owned()).unwrap().contains(0));
        assert!(TimeWindow::try_from("wed 23:59-24:00".to_owned()).unwrap().contains(-1));
    }

    #[test]
    fn other_texts_are_errors() {
        for wrong in [
            "",
            "9:00-17:00",
            "09:00",
            "09:00-09:00",
            "24:00-06:00",
            "00:00-00:00",
            "09:60-10:00",
            "25:00-26:00",
            "someday 09:00-10:00",
            "mon- 09:00-10:00",
            "mon  09:00-10:00",
            "09:00-10:00 mon",
            "-1:00-02:00",
            "+1:00-02:00",
        ] {
            assert!(TimeWindow::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
