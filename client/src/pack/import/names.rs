//! Names of Bolt made of names of a source. Names that lead elsewhere are not repaired: their types refuse them.
//!
//! Actions whose names would meet are told apart by what else their source says ([`ActionNames`]), of which letters,
//! digits and `-` are left ([`part`]): whatever else a file is called, its action can have a name.

use std::collections::BTreeMap;

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

/// Returns what a text has for a part of a name: its letters and digits, with `_` in place of all else. May be empty.
pub(super) fn part(text: &str) -> String {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(|part| part.trim_matches('-'));
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}

/// Names of the actions of a pack. Two that differ in case only are one, as on some file systems.
#[derive(Debug, Default)]
pub(super) struct ActionNames {
    /// Files of the actions, by their names in lower case.
    files: BTreeMap<String, String>,
    /// Numbers at the end of names that were given last, by the names in lower case.
    numbers: BTreeMap<String, u64>,
}

impl ActionNames {
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.files.contains_key(&name.to_ascii_lowercase())
    }

    /// Gives an action of `file` this name or, where it is taken, the name with the first of `ends` that is free, or else
    /// with a number. Returns the file of the action that has the name itself.
    pub(super) fn give(&mut self, file: &str, name: &str, ends: &[String]) -> (String, Option<String>) {
        let twin = self.files.get(&name.to_ascii_lowercase()).cloned();
        let with = |end: &dyn std::fmt::Display| short(&format!("{name}_{end}"));
        let mut given = name.to_owned();
        if twin.is_some() {
            let mut ends = ends.iter().filter(|end| !end.is_empty()).map(|end| with(end));
            given = ends.find(|name| !self.is_taken(name)).unwrap_or_else(|| {
                // Numbers go on from the last one: many files of one name are not searched over and over.
                let key = name.to_ascii_lowercase();
                let first = self.numbers.get(&key).map_or(2, |last| last + 1);
                let (number, free) = (first..)
                    .map(|number| (number, with(&number)))
                    .find(|(_, name)| !self.is_taken(name))
                    .expect("there are more numbers than actions");
                self.numbers.insert(key, number);
                free
            });
        }
        self.files.insert(given.to_ascii_lowercase(), file.to_owned());
        (given, twin)
    }
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
    use packs_schema::base::name::ActionName;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_meet_get_an_end_or_a_number() {
        let mut names = ActionNames::default();
        let mut give = |name: &str, ends: &[&str]| {
            let ends: Vec<String> = ends.iter().map(|end| (*end).to_owned()).collect();
            names.give(&format!("of {name}"), name, &ends)
        };
        let twin = |name: &str| (name.to_owned(), Some("of Check".to_owned()));
        assert_eq!(give("Check", &["yaml", "a"]), ("Check".to_owned(), None));
        assert_eq!(give("check", &["yaml", "b"]), twin("check_yaml"));
        assert_eq!(give("CHECK", &["YAML", "c"]), twin("CHECK_c"));
        assert_eq!(give("check_3", &[]), ("check_3".to_owned(), None));
        for wanted in ["Check_2", "Check_4", "Check_5"] {
            assert_eq!(give("Check", &["yaml", "", "c"]), twin(wanted), "the name with 3 is taken");
        }
        let long = "x".repeat(64);
        let given = [give(&long, &[]).0, give(&long, &[]).0, give(&long, &["y"]).0, give(&long, &["y"]).0];
        assert!(given.iter().all(|name| ActionName::new(name.as_str()).is_ok()), "{given:?}");
        assert_eq!(given.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{given:?}");
    }

    #[test]
    fn a_hundred_thousand_files_of_one_name_are_named_at_once() {
        let mut names = ActionNames::default();
        let started = std::time::Instant::now();
        let last = (0..100_000).map(|_| names.give("a", "Check", &["yaml".to_owned()]).0).last();
        assert_eq!(last.as_deref(), Some("Check_99999"));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    proptest! {
        #[test]
        fn whatever_a_file_is_called_its_action_has_a_name_of_its_own(
            ends in proptest::collection::vec(("(?s).{0,80}", "\\PC{0,6}|[a-b._-]{0,2}"), 1..30),
        ) {
            let mut names = ActionNames::default();
            let mut given = std::collections::BTreeSet::new();
            for (stem, extension) in &ends {
                let (name, _) = names.give(stem, "Check", &[part(extension), part(stem)]);
                prop_assert!(ActionName::new(name.as_str()).is_ok(), "{name:?}");
                prop_assert!(given.insert(name.to_ascii_lowercase()), "{name:?} is given twice");
            }
        }
    }

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
