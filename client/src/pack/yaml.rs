//! YAML as packs may have it: no key twice, few aliases, errors in one line with their place.

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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn a_key_may_stand_once_and_errors_say_where() {
        let said = super::parse::<Value>("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert!(said.starts_with("line 3, column 1: ") && said.matches("line 3").count() == 1, "{said}");
        let said = super::parse::<Value>("a: [1, 2\nb: 3\n").unwrap_err();
        assert!(said.contains("line "), "{said}");
        assert_eq!(super::parse::<Value>("a: {b: [1, x]}").unwrap(), serde_json::json!({"a": {"b": [1, "x"]}}));
    }

    #[test]
    fn aliases_cannot_blow_a_document_up() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let alias = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![alias; 9].join(", "));
        }
        assert!(super::parse::<Value>(&bomb).is_err());
    }
}
