//! A requirement with a name, as in `requirements.txt` and in the metadata of a wheel (PEP 508).

use std::collections::BTreeSet;

/// Requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) struct Dependency {
    /// Name as written.
    pub(in crate::pack::import) name: String,
    /// Extras, normalised.
    pub(in crate::pack::import) extras: BTreeSet<String>,
    /// Conditions on its version: `>=2.5,<3`.
    pub(in crate::pack::import) versions: String,
    /// Condition on the environment, after `;`.
    pub(in crate::pack::import) marker: Option<String>,
    /// True if it is taken from an address, after `@`.
    pub(in crate::pack::import) from_address: bool,
}

impl Dependency {
    /// Parses a requirement; `None` if it is none.
    pub(in crate::pack::import) fn parse(text: &str) -> Option<Dependency> {
        // An address may contain `;`, but not after a blank.
        let (what, marker) = match text.contains("://") {
            true => text.split_once(" ;").map_or((text, None), |(what, marker)| (what, Some(marker))),
            false => text.split_once(';').map_or((text, None), |(what, marker)| (what, Some(marker))),
        };
        let what = what.trim();
        let end = what.find(|c: char| !is_of_name(c)).unwrap_or(what.len());
        let (name, rest) = what.split_at(end);
        let rest = rest.trim_start();
        let (extras, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let rest = rest.trim();
        let from_address = rest.starts_with('@');
        let versions = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(rest);
        let compared = versions.is_empty() || versions.starts_with(['=', '<', '>', '!', '~']);
        let conditions = compared && versions.chars().all(|c| c.is_ascii_alphanumeric() || ".*+!_<>=~, -".contains(c));
        let extras: Vec<&str> = extras.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
        let named = is_name(name) && extras.iter().all(|extra| is_name(extra));
        if !named || !(from_address || conditions) || !marker.is_none_or(is_marker) {
            return None;
        }
        Some(Dependency {
            name: name.to_owned(),
            extras: extras.into_iter().map(normalized).collect(),
            versions: if from_address { String::new() } else { versions.to_owned() },
            marker: marker.map(|marker| marker.trim().to_owned()).filter(|marker| !marker.is_empty()),
            from_address,
        })
    }

    /// Returns name and extras.
    pub(in crate::pack::import) fn with_extras(&self, name: &str) -> String {
        match self.extras.is_empty() {
            true => name.to_owned(),
            false => format!("{name}[{}]", self.extras.iter().cloned().collect::<Vec<_>>().join(",")),
        }
    }

    /// Says when it is needed, if these extras of the wheel that names it are wanted.
    pub(in crate::pack::import) fn is_needed(&self, wanted: &BTreeSet<String>) -> Needed {
        let Some(marker) = &self.marker else { return Needed::Always };
        let Some(extra) = extra_of(marker) else { return Needed::Perhaps };
        match (wanted.contains(&extra.0), extra.1) {
            (false, _) => Needed::Never,
            (true, true) => Needed::Always,
            (true, false) => Needed::Perhaps,
        }
    }
}

/// Need of a requirement with a marker. What a marker says of an instance is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pack::import) enum Needed {
    Always,
    Perhaps,
    Never,
}

/// Returns the extra that a marker names, normalised, and true if it is all of the marker.
fn extra_of(marker: &str) -> Option<(String, bool)> {
    let (before, rest) = marker.split_once("extra")?;
    let rest = rest.trim_start().strip_prefix("==")?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (extra, after) = rest[1..].split_once(quote)?;
    let alone = |text: &str| text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '(' | ')')).is_empty();
    Some((normalized(extra), alone(before) && alone(after)))
}

/// True for a marker of characters that neither end it nor begin an option or a comment.
fn is_marker(marker: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || " _.,<>=!~'\"()+*-".contains(c);
    marker.chars().all(harmless) && !marker.split_whitespace().any(|word| word.starts_with('-'))
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// True for a name of a distribution.
pub(in crate::pack::import) fn is_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 200 && name.chars().all(is_of_name) && edge(name.chars().next()) && edge(name.chars().next_back())
}

/// Normalises the name of a distribution (PEP 503).
pub(in crate::pack::import) fn normalized(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read_as_pip_reads_them() {
        let read = |text: &str| {
            let read = Dependency::parse(text)?;
            let extras: Vec<String> = read.extras.into_iter().collect();
            Some((read.name, extras.join(","), read.versions, read.marker.unwrap_or_default(), read.from_address))
        };
        let plain = |name: &str, extras: &str, versions: &str, marker: &str| {
            Some((name.to_owned(), extras.to_owned(), versions.to_owned(), marker.to_owned(), false))
        };
        for (text, wanted) in [
            ("six", plain("six", "", "", "")),
            (
                "requests[Socks, x_y] (>=2.5,<3) ; python_version < '3'",
                plain("requests", "socks,x-y", ">=2.5,<3", "python_version < '3'"),
            ),
            ("zope.interface>=1", plain("zope.interface", "", ">=1", "")),
            (
                "x @ git+https://h/x;y ; a == 'b'",
                Some(("x".into(), String::new(), String::new(), "a == 'b'".into(), true)),
            ),
            ("-e .", None),
            ("six 1.0", None),
            ("six[a", None),
            ("six; x # y", None),
            ("six; x --hash=sha256:00", None),
            ("six; x --pre", None),
            ("six; x\ny", None),
            ("six>=1'$(id)", None),
            ("_six", None),
            ("", None),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
        assert_eq!(normalized("Zope.Interface__x"), "zope-interface-x");
    }

    #[test]
    fn extras_and_markers_decide_what_is_needed() {
        let needed = |text: &str, extras: &[&str]| {
            let extras = extras.iter().map(|extra| (*extra).to_owned()).collect();
            Dependency::parse(text).unwrap().is_needed(&extras)
        };
        assert_eq!(needed("six", &[]), Needed::Always);
        assert_eq!(needed("six; python_version < '3'", &[]), Needed::Perhaps);
        assert_eq!(needed("six; extra == 'Socks'", &[]), Needed::Never);
        assert_eq!(needed("six; (extra == \"Socks\")", &["socks"]), Needed::Always);
        assert_eq!(needed("six; os_name == 'nt' and extra == 'socks'", &["socks"]), Needed::Perhaps);
        assert_eq!(needed("six; extra == 'socks' and os_name == 'nt'", &["socks"]), Needed::Perhaps);
        assert_eq!(needed("six; os_name == 'nt' and extra == 'socks'", &[]), Needed::Never);
    }
}
