//! YAML as packs and site configuration may have it: no key twice, few aliases, errors in one line with their place.

use serde::de::DeserializeOwned;
use serde_saphyr::options::DuplicateKeyPolicy;

/// Parses one document; the error names line and column.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column()));
        let said = error.to_string();
        let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let said = said.replace(", set DuplicateKeyPolicy in Options if acceptable", "; a key may stand once");
        // The place stands at the beginning.
        let said = said.rsplit_once(" at line ").map_or(&*said, |(said, _)| said);
        format!("{}{}", place.unwrap_or_default(), said.chars().take(300).collect::<String>())
    })
}
