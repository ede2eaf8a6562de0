//! Differences of texts from the text that most have, bounded in time and size.

use std::time::{Duration, Instant};

use similar::TextDiff;

/// Lines around a change.
const CONTEXT: usize = 1;
/// Fewest lines of a text for which a diff says more than the text itself.
const SHORTEST: usize = 4;
/// Maximum size of a text that is compared, in bytes.
const MAX_TEXT: usize = 256 << 10;
/// Time limit of one difference, after which it is exact no longer, and of all together.
const TIME: Duration = Duration::from_millis(200);
const TIME_OF_ALL: Duration = Duration::from_secs(2);

/// Compares texts with one of them.
#[derive(Debug)]
pub struct Differ<'a> {
    base: &'a str,
    ends: Instant,
}

impl<'a> Differ<'a> {
    /// Returns a comparison with `base`. Its time begins now.
    pub fn new(base: &'a str) -> Differ<'a> {
        Differ { base, ends: Instant::now() + TIME_OF_ALL }
    }

    /// Returns the lines of a unified diff from the base to `other`, without a header. `None` if less than half of the lines of
    /// `other` are in the base, if `other` is too short for a diff, or if comparing them would take too long.
    pub fn lines(&self, other: &str) -> Option<Vec<String>> {
        let time = self.ends.saturating_duration_since(Instant::now()).min(TIME);
        if time.is_zero() || self.base.len() > MAX_TEXT || other.len() > MAX_TEXT {
            return None;
        }
        let diff = TextDiff::configure().timeout(time).diff_lines(self.base, other);
        let text = diff.unified_diff().context_radius(CONTEXT).missing_newline_hint(false).to_string();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (new, all) = (lines.iter().filter(|line| line.starts_with('+')).count(), other.lines().count());
        (all >= SHORTEST && new * 2 <= all && lines.len() <= all + SHORTEST && !lines.is_empty()).then_some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_few_changes_is_a_diff_and_another_one_is_not() {
        let base: String = (0..20).map(|n| format!("line {n}\n")).collect();
        let other = base.replace("line 7\n", "line seven\n");
        let wanted = ["@@ -7,3 +7,3 @@", " line 6", "-line 7", "+line seven", " line 8"];
        assert_eq!(Differ::new(&base).lines(&other).unwrap(), wanted);
        assert_eq!(Differ::new(&base).lines("short\n"), None);
        assert_eq!(Differ::new(&base).lines(&base), None);
        assert_eq!(Differ::new("a\n").lines("b\n"), None);
    }

    #[test]
    fn texts_that_take_long_to_compare_are_left_out_in_time() {
        let text = |seed: usize| (0..20_000).map(|n| format!("{}\n", n * seed % 7919)).collect::<String>();
        let (base, began) = (text(31), Instant::now());
        let differ = Differ::new(&base);
        (0..100).for_each(|n| drop(differ.lines(&text(32 + n))));
        assert!(began.elapsed() < Duration::from_secs(30), "about two seconds, and the making of the texts");
    }
}
