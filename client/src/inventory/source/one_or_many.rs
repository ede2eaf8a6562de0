//! A text, or a list of texts, in `client.toml`.

use serde::Deserialize;

/// Text, or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "give a text in quotes, or a list of texts")]
pub enum OneOrMany {
    /// A single one.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(given: OneOrMany) -> Vec<String> {
        match given {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}
