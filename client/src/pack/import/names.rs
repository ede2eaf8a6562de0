//! Names of Bolt made of names of a source. Names that lead elsewhere are not repaired: their types refuse them.

use packs_schema::base::name::{PackName, PackVersion, ParamName};
use sha2::{Digest as _, Sha256};

use super::ImportError;
use super::report::{Effect, ImportFinding};

/// Returns a name that Bolt takes for the parameter `name` and that differs from `known` ones; `None` if there is none.
pub(super) fn parameter_name<'a>(name: &str, known: impl Iterator<Item = &'a String> + Clone) -> Option<String> {
    let mut bolt: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !bolt.starts_with(|c: char| c.is_ascii_alphabetic()) || bolt == "bolt_config" {
        bolt.insert_str(0, "p_");
    }
    bolt.truncate(60);
    while known.clone().any(|known| known.eq_ignore_ascii_case(&bolt)) {
        bolt.push('_');
    }
    ParamName::new(bolt.as_str()).is_ok().then_some(bolt)
}

/// Shortens a name that is too long, and keeps it apart from others with the same beginning.
pub(super) fn short(name: &str) -> String {
    const LONGEST: usize = 64;
    if name.len() <= LONGEST || !name.is_ascii() {
        return name.to_owned();
    }
    let digest = Sha256::digest(name.as_bytes());
    let tail: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}_{tail}", &name[..LONGEST - 1 - tail.len()])
}

/// Notes the name of an action that the other file's would have as well.
pub(super) fn renamed(file: &str, name: &str, other: &str) -> ImportFinding {
    let message = format!("the action is called {name} in Bolt: an action of {other} would have the same name");
    ImportFinding::new("renamed", Effect::Note, file, message)
}

/// Makes a semantic version of up to three leading numbers: `0.4` is `0.4.0`.
pub(super) fn version(given: &str) -> PackVersion {
    let given = given.trim().trim_start_matches('v');
    let numbers = |text: &str| text.parse::<u64>().map(|number| number.to_string()).unwrap_or_else(|_| "0".to_owned());
    let mut parts: Vec<String> = given.split('.').take(3).map(numbers).collect();
    parts.resize(3, "0".to_owned());
    PackVersion::new(given)
        .or_else(|_| PackVersion::new(&parts.join(".")))
        .unwrap_or_else(|_| PackVersion::new("0.0.0").expect("a semantic version"))
}

/// Returns the name of a pack that is called like a directory or document.
pub(super) fn pack_name(name: &str) -> Result<PackName, ImportError> {
    let word = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' };
    let pack: String = name.chars().map(word).collect();
    let pack: String = pack.trim_matches(['_', '-']).chars().take(64).collect();
    PackName::new(pack).map_err(|source| ImportError::Name { file: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_semantic() {
        for (given, wanted) in [
            ("1.2.3", "1.2.3"),
            ("0.4", "0.4.0"),
            ("2", "2.0.0"),
            ("v1.0.1", "1.0.1"),
            ("1.02.3", "1.2.3"),
            ("1.2.3.4", "1.2.3"),
            ("1.0.0-rc.1", "1.0.0-rc.1"),
            ("", "0.0.0"),
            ("x", "0.0.0"),
        ] {
            assert_eq!(version(given).to_string(), wanted, "{given}");
        }
    }
}
