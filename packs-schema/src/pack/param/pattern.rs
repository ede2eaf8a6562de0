//! Regular expressions of `pattern`, compiled when parsed and matched in linear time.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum length of a pattern, in bytes.
const MAX_LENGTH: usize = 1024;
/// Maximum size of a compiled pattern, in bytes.
const MAX_COMPILED: usize = 256 << 10;
/// Maximum size of a light pattern, in bytes. A larger one is heavy: with counted repetitions (`.{1,255}x`) it can take
/// milliseconds per KiB of text.
const LIGHT_COMPILED: usize = 8 << 10;

/// Regular expression in the dialect of `regex-lite`: ECMA 262 without look-around and back-references, matched in
/// linear time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    regex: regex_lite::Regex,
    heavy: bool,
}

#[cfg(feature = "schemas")]
impl schemars::JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "regex", "maxLength": 1024})
    }
}

/// Error returned when a text is not a valid pattern.
#[derive(Debug, thiserror::Error)]
#[error("pattern {given:?} cannot be used: {why}; look-around and back-references are not supported")]
pub struct PatternError {
    given: String,
    why: String,
}

impl Pattern {
    /// Compiles `text`.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        let fail = |why: String| PatternError { given: text.chars().take(80).collect(), why };
        if text.len() > MAX_LENGTH {
            return Err(fail(format!("it is longer than {MAX_LENGTH} bytes")));
        }
        let compile = |limit| regex_lite::RegexBuilder::new(text).size_limit(limit).build();
        if let Ok(regex) = compile(LIGHT_COMPILED) {
            return Ok(Pattern { regex, heavy: false });
        }
        compile(MAX_COMPILED).map(|regex| Pattern { regex, heavy: true }).map_err(|e| fail(e.to_string()))
    }

    /// True if `text` contains a match.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// True if matching may take long, so that the text must be short.
    pub(super) fn is_heavy(&self) -> bool {
        self.heavy
    }

    /// Returns the pattern as written.
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Pattern, PatternError> {
        Pattern::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.as_str().to_owned()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}
impl Eq for Pattern {}
impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Pattern) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pattern {
    fn cmp(&self, other: &Pattern) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counted_repetitions_are_heavy() {
        for (text, heavy) in [
            ("^[a-z0-9_]+$", false),
            ("^([0-9]{1,3}\\.){3}[0-9]{1,3}$", false),
            ("^/[A-Za-z0-9._/-]*$", false),
            ("^[A-Za-z0-9.-]{1,255}$", true),
        ] {
            assert_eq!(Pattern::new(text).unwrap().is_heavy(), heavy, "{text}");
        }
        for wrong in ["(", "a(?=b)", "(a)\\1", &"a".repeat(2000), "((a{1,100}){1,100}){1,100}"] {
            assert!(Pattern::new(wrong).is_err(), "{wrong:.40}");
        }
    }
}
