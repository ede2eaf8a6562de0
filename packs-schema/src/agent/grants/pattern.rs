//! Patterns of principals and actions.

use serde::Deserialize;

use crate::base::name::{ActionRef, Principal};

/// Principal, or its prefix before a trailing `*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PrincipalPattern {
    text: String,
    prefix: bool,
}

/// Pattern such as `*`, `linux.*`, `linux.disk_*` or `linux.disk_usage`; `*` matches any number of characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ActionPattern(pub(super) String);

impl TryFrom<String> for PrincipalPattern {
    type Error = String;
    fn try_from(text: String) -> Result<PrincipalPattern, String> {
        let (head, prefix) = match text.strip_suffix('*') {
            Some(head) => (head, true),
            None => (text.as_str(), false),
        };
        // `spiffe://example*` would also match spiffe://example.attacker.net/.
        let cut_name = |(_, rest): (&str, &str)| !rest.is_empty() && !rest.contains('/');
        if prefix && head.split_once("://").is_some_and(cut_name) {
            return Err(format!(
                "principal {text:?} ends inside the name of an authority and would match longer names too: \
                 put a '/' before the '*'"
            ));
        }
        let probe = if prefix { format!("{head}x") } else { head.to_owned() };
        if Principal::new(probe).is_err() {
            return Err(format!(
                "principal {text:?} is not a URI such as spiffe://example/oncall, or a prefix of one followed by '*'"
            ));
        }
        Ok(PrincipalPattern { text: head.to_owned(), prefix })
    }
}

impl TryFrom<String> for ActionPattern {
    type Error = String;
    fn try_from(text: String) -> Result<ActionPattern, String> {
        let probe = if text == "*" { "a.a".to_owned() } else { text.replace('*', "a") };
        match ActionRef::new(probe) {
            Ok(_) => Ok(ActionPattern(text)),
            Err(_) => Err(format!("action pattern {text:?} is not '*', '<pack>.*' or '<pack>.<action>'")),
        }
    }
}

impl PrincipalPattern {
    /// True if the pattern matches the principal.
    pub fn covers(&self, who: &Principal) -> bool {
        if self.prefix { who.as_str().starts_with(&self.text) } else { who.as_str() == self.text }
    }

    /// True if it matches whatever begins with it.
    pub(super) fn is_prefix(&self) -> bool {
        self.prefix
    }

    /// True if it matches all that the other one matches.
    pub(super) fn covers_pattern(&self, other: &PrincipalPattern) -> bool {
        if self.prefix { other.text.starts_with(&self.text) } else { !other.prefix && self.text == other.text }
    }

    /// True if one of both matches all that the other one matches.
    pub(super) fn overlaps(&self, other: &PrincipalPattern) -> bool {
        self.covers_pattern(other) || other.covers_pattern(self)
    }

    /// True for names with the scheme of local access, which no certificate has.
    pub(super) fn is_local(&self) -> bool {
        self.text.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("local"))
    }

    /// True for a pattern of everything that one authority of URIs names: `spiffe://example/*`.
    pub(super) fn is_whole_authority(&self) -> bool {
        let path = self.text.split_once("://").map_or("", |(_, rest)| rest);
        self.prefix && path.split('/').filter(|part| !part.is_empty()).count() <= 1
    }
}

impl ActionPattern {
    /// True if it matches all that the other one matches. A star of the other one is matched by a star only, since no other
    /// character of a pattern is one.
    pub(super) fn covers(&self, other: &ActionPattern) -> bool {
        glob(&self.0, &other.0) || (self.0 == "*.*" && other.0 == "*")
    }
}

impl std::fmt::Display for PrincipalPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.prefix { "*" } else { "" })
    }
}

/// Matches `*` as any number of characters, without recursion and in linear time for one star.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
