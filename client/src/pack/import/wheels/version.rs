//! Versions of Python distributions and the conditions on them (PEP 440), as far as an import compares them.

use std::cmp::Ordering;

/// Maximum length of a version, in bytes.
const MAX_VERSION: usize = 100;

/// Version, in the order of PEP 440. The local label after `+` has no part in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pack::import) struct Version {
    epoch: u64,
    /// Without zeros at the end.
    release: Vec<u64>,
    /// A development release comes before pre-releases, and these before the release.
    pre: Pre,
    post: Option<u64>,
    dev: Dev,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    DevelopmentOnly,
    Alpha(u64),
    Beta(u64),
    Candidate(u64),
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dev {
    Number(u64),
    None,
}

impl Version {
    /// Parses a version; `None` if it is none.
    pub(in crate::pack::import) fn parse(text: &str) -> Option<Version> {
        let text = text.trim().to_ascii_lowercase();
        if text.len() > MAX_VERSION {
            return None;
        }
        let (public, local) =
            text.split_once('+').map_or((text.as_str(), None), |(public, local)| (public, Some(local)));
        let word =
            |local: &str| local.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && !local.is_empty();
        if !local.is_none_or(word) {
            return None;
        }
        let mut rest = Rest(public.strip_prefix('v').unwrap_or(public));
        let mut epoch = 0;
        if let Some((number, after)) = rest.0.split_once('!') {
            (epoch, rest) = (number.parse().ok()?, Rest(after));
        }
        let mut release = vec![rest.number()?];
        while rest.0.starts_with('.') && rest.0[1..].starts_with(|c: char| c.is_ascii_digit()) {
            rest.0 = &rest.0[1..];
            release.push(rest.number()?);
        }
        let pre = rest.labelled(&["alpha", "a", "beta", "b", "preview", "pre", "rc", "c"])?;
        let mut post = rest.labelled(&["post", "rev", "r"])?.map(|(_, number)| number);
        if post.is_none() && rest.0.starts_with('-') && rest.0[1..].starts_with(|c: char| c.is_ascii_digit()) {
            rest.0 = &rest.0[1..];
            post = Some(rest.number()?);
        }
        let dev = rest.labelled(&["dev"])?.map(|(_, number)| number);
        while release.last() == Some(&0) {
            release.pop();
        }
        let pre = match pre {
            Some(("alpha" | "a", number)) => Pre::Alpha(number),
            Some(("beta" | "b", number)) => Pre::Beta(number),
            Some((_, number)) => Pre::Candidate(number),
            None if post.is_none() && dev.is_some() => Pre::DevelopmentOnly,
            None => Pre::None,
        };
        let dev = dev.map_or(Dev::None, Dev::Number);
        rest.0.is_empty().then_some(Version { epoch, release, pre, post, dev })
    }

    fn is_before_release(&self) -> bool {
        self.pre != Pre::None || self.dev != Dev::None
    }

    /// Compares the first `length` numbers of both releases.
    fn starts_as(&self, other: &Version, length: usize) -> bool {
        let number = |version: &Version, at: usize| version.release.get(at).copied().unwrap_or_default();
        self.epoch == other.epoch && (0..length).all(|at| number(self, at) == number(other, at))
    }

    fn same_release(&self, other: &Version) -> bool {
        self.epoch == other.epoch && self.release == other.release
    }
}

/// Text that is not read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn number(&mut self) -> Option<u64> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (number, rest) = self.0.split_at(end);
        self.0 = rest;
        number.parse().ok()
    }

    /// Takes one of these labels and its number, 0 without one. The error is a number that is too large.
    fn labelled<'l>(&mut self, labels: &[&'l str]) -> Option<Option<(&'l str, u64)>> {
        let after = self.0.strip_prefix(['.', '-', '_']).unwrap_or(self.0);
        let Some(label) = labels.iter().find(|label| after.starts_with(**label)) else { return Some(None) };
        let after = &after[label.len()..];
        let numbered =
            after.strip_prefix(['.', '-', '_']).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        self.0 = numbered.unwrap_or(after);
        let number = if self.0.starts_with(|c: char| c.is_ascii_digit()) { self.number()? } else { 0 };
        Some(Some((label, number)))
    }
}

/// True if `version` meets all `conditions`, such as `>=2.5,<3`. A condition that cannot be read is left to pip.
pub(in crate::pack::import) fn meets(version: &str, conditions: &str) -> bool {
    let all = conditions.split(',').map(str::trim).filter(|one| !one.is_empty());
    all.into_iter().all(|one| meets_one(version, one).unwrap_or(true))
}

fn meets_one(text: &str, condition: &str) -> Option<bool> {
    let operator = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"].into_iter().find(|it| condition.starts_with(it))?;
    let wanted_text = condition[operator.len()..].trim();
    if operator == "===" {
        return Some(text.eq_ignore_ascii_case(wanted_text));
    }
    let version = Version::parse(text)?;
    let prefix = wanted_text.strip_suffix(".*");
    let wanted = Version::parse(prefix.unwrap_or(wanted_text))?;
    let order = version.cmp(&wanted);
    Some(match (operator, prefix) {
        ("==", Some(prefix)) => version.starts_as(&wanted, release_length(prefix)),
        ("!=", Some(prefix)) => !version.starts_as(&wanted, release_length(prefix)),
        ("==", None) => order == Ordering::Equal,
        ("!=", None) => order != Ordering::Equal,
        ("<=", _) => order != Ordering::Greater,
        (">=", _) => order != Ordering::Less,
        ("<", _) => {
            let early = version.same_release(&wanted) && version.is_before_release() && !wanted.is_before_release();
            order == Ordering::Less && !early
        }
        (">", _) => {
            let late = version.same_release(&wanted) && version.post.is_some() && wanted.post.is_none();
            order == Ordering::Greater && !late
        }
        _ => order != Ordering::Less && version.starts_as(&wanted, release_length(wanted_text).saturating_sub(1)),
    })
}

/// Numbers in the release of a version, as written.
fn release_length(text: &str) -> usize {
    let release = text.trim_start_matches('v').rsplit('!').next().unwrap_or(text);
    release.split('.').take_while(|part| part.starts_with(|c: char| c.is_ascii_digit())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_the_order_of_pep_440() {
        let sorted = [
            "0.9",
            "1.0.dev1",
            "1.0a1.dev2",
            "1.0a1",
            "1.0b2",
            "1.0rc1",
            "1.0",
            "1.0.post1.dev1",
            "1.0.post1",
            "1.0.1",
            "1.10",
            "1!0.1",
        ];
        for pair in sorted.windows(2) {
            assert!(Version::parse(pair[0]).unwrap() < Version::parse(pair[1]).unwrap(), "{pair:?}");
        }
        for (a, b) in
            [("1.0", "1"), ("v1.0", "1.0.0"), ("1.0-1", "1.0.post1"), ("1.0-RC.1", "1rc1"), ("1.0+x.1", "1.0")]
        {
            assert_eq!(Version::parse(a), Version::parse(b), "{a} {b}");
        }
        for text in ["", "x", "1.", "1..0", "1.0+", "1.0 x", "1.0z1", "99999999999999999999999"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn conditions_are_those_of_pip() {
        for (version, conditions, wanted) in [
            ("2.5.3", ">=2.5.0,<2.6", true),
            ("2.6.0", ">=2.5.0,<2.6", false),
            ("2.6rc1", "<2.6", false),
            ("2.6.post1", ">2.6", false),
            ("2.6.1", ">2.6", true),
            ("1.4.5", "~=1.4.2", true),
            ("1.5.0", "~=1.4.2", false),
            ("1.5.0", "~=1.4", true),
            ("2.0", "~=1.4", false),
            ("1.4.9", "==1.4.*", true),
            ("1.5", "!=1.4.*", true),
            ("1.4.1", "!=1.4.*", false),
            ("1.4", "==1.4.0", true),
            ("1.4+local", "==1.4", true),
            ("1.4", "===1.4.0", false),
            ("1.0", "", true),
            ("1.0", ">= 0.9 , != 1.1", true),
            ("1.0", "<1.0", false),
            ("1.0", "<=1.0", true),
            ("1.0", "?3", true),
        ] {
            assert_eq!(meets(version, conditions), wanted, "{version} {conditions}");
        }
    }
}
