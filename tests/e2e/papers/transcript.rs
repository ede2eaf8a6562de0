//! Compares what a command printed with what a paper shows, without what differs from run to run.

use std::sync::LazyLock;

use regex_lite::Regex;

/// Patterns of text that differs from run to run, with their placeholders.
static VARYING: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        ("\x1b\\[[0-9;]*m", ""),
        (r"\b(r-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<id>"),
        (r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?Z?", "<time>"),
        (r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b", "<time>"),
        (r"\b([0-9a-f]{2}:){7,}[0-9a-f]{2}\b", "<digest>"),
        (r"\b(sha256:)?[0-9a-f]{8,64}\b", "<digest>"),
        (r"\b(10|127)\.[0-9]+\.[0-9]+\.[0-9]+:[0-9]+", "<address>"),
        (r"\b([0-9]+(\.[0-9]+)?(ms|us|µs|s|m|h|d|w))+\b", "<duration>"),
        (r"\bin [0-9]+ (day|hour|minute|second)s?\b", "in <duration>"),
        (r"\b[0-9]+(\.[0-9]+)?\s?([KMGT]i?B|kB|B)\b", "<size>"),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).expect("a valid pattern"), name))
    .into()
});

fn normalized(line: &str) -> String {
    let line = VARYING.iter().fold(line.to_owned(), |line, (varying, name)| varying.replace_all(&line, *name).into());
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// True if `line` is `pattern`, in which `…` matches any text.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('…') else { return pattern == line };
    let Some(mut left) = line.strip_prefix(first.trim_end()) else { return false };
    let (middle, last) = rest.rsplit_once('…').unwrap_or(("", rest));
    for part in middle.split('…').map(str::trim).filter(|part| !part.is_empty()) {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last.trim_start())
}

/// Checks that each line shown is among those printed and, unless a line of its own says `…`, that there are no others.
pub(super) fn compare(shown: &[String], printed: &str) -> Result<(), String> {
    let is_gap = |line: &&String| line.trim() == "…";
    let has_gap = shown.iter().any(|line| is_gap(&line));
    let lines = |lines: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        lines.map(normalized).filter(|line| !line.is_empty()).collect()
    };
    let shown = lines(&mut shown.iter().filter(|line| !is_gap(line)).map(String::as_str));
    // An ordinary user's executions cannot be capped, and say so.
    let printed = lines(&mut printed.lines().filter(|line| !line.starts_with("not enforced")));
    // For each printed line, the shown line that is matched with it.
    let mut taken: Vec<Option<usize>> = vec![None; printed.len()];
    for (index, pattern) in shown.iter().enumerate() {
        if !assign(index, &shown, &printed, &mut taken, &mut vec![false; printed.len()]) {
            return Err(format!("did not print: {pattern}"));
        }
    }
    match taken.iter().position(Option::is_none) {
        Some(extra) if !has_gap => Err(format!("the paper does not show: {}", printed[extra])),
        _ => Ok(()),
    }
}

/// Gives the pattern `index` a line of its own, moving other patterns to other lines where it takes that.
fn assign(
    index: usize,
    shown: &[String],
    printed: &[String],
    taken: &mut Vec<Option<usize>>,
    seen: &mut Vec<bool>,
) -> bool {
    for at in 0..printed.len() {
        if seen[at] || !matches(&shown[index], &printed[at]) {
            continue;
        }
        seen[at] = true;
        let free = match taken[at] {
            None => true,
            Some(other) => assign(other, shown, printed, taken, seen),
        };
        if free {
            taken[at] = Some(index);
            return true;
        }
    }
    false
}

#[test]
fn what_varies_matches_and_what_does_not_is_told() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let good = |pattern: &str, printed: &str| assert_eq!(compare(&shown(pattern), printed), Ok(()), "{printed}");
    good("i-1: succeeded\ni-2: succeeded", "i-2: succeeded\n\ni-1:  succeeded\n");
    good("-- run r-01a200cf-055e-768e-9cda-06ef8736fb9f", "-- run r-11111111-055e-768e-9cda-06ef8736fb90");
    good("-- 6 instances in 151ms: 6 succeeded", "-- 6 instances in 1m2.5s: 6 succeeded");
    good("a\n…\nz", "a\nb\nc\nz");
    good("{\n  …\n}", "{\n  \"x\": 1\n}");
    good("load … at … now", "load 1 2 3 at 5 now");
    good("disk 1.1.0  sha256:b77bceb0bf51  891B", "disk 1.1.0 sha256:00112233445566 1.2KiB");
    good("until 2026-11-27T22:40:00Z", "until 2027-01-02T03:04:05Z");
    // A second later there is a day less.
    good("expires in 365 days", "expires in 364 days");
    good("x … y\nx a y", "x a y\nx b y");
    for (pattern, printed, problem) in [
        ("i-1: succeeded", "i-1: failed", "did not print: i-1: succeeded"),
        ("a", "a\nb", "the paper does not show: b"),
        ("a\na", "a\nb", "did not print: a"),
        ("a … z", "a b", "did not print"),
        ("6 succeeded", "5 succeeded", "did not print"),
    ] {
        let found = compare(&shown(pattern), printed).unwrap_err();
        assert!(found.starts_with(problem), "{pattern}: {found}");
    }
}
