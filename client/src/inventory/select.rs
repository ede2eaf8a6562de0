//! Choice of instances. Every condition that is given must hold; a choice that selects nothing is an error.

use std::fmt;
use std::str::FromStr;

use packs_schema::base::name::{InstanceId, NameError};
use packs_schema::delivery::filter::Filter;

use super::{Instance, Inventory};

/// Instance id, or a glob for several: `*` stands for any characters, `?` for one. An id holds neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPattern(String);

impl FromStr for IdPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<IdPattern, NameError> {
        InstanceId::new(text.replace(['*', '?'], "x")).or_else(|_| InstanceId::new(text))?;
        Ok(IdPattern(text.to_owned()))
    }
}

impl From<InstanceId> for IdPattern {
    fn from(id: InstanceId) -> IdPattern {
        IdPattern(id.as_str().to_owned())
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl IdPattern {
    fn is_glob(&self) -> bool {
        self.0.contains(['*', '?'])
    }

    /// True if the pattern matches all of `id`.
    pub fn matches(&self, id: &InstanceId) -> bool {
        let (pattern, id) = (self.0.as_bytes(), id.as_str().as_bytes());
        // Position after the last `*`, and the part of the id that it stands for: it grows when the rest does not match.
        let mut star: Option<(usize, usize)> = None;
        let (mut at, mut from) = (0, 0);
        while from < id.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at + 1, from));
                    at += 1;
                }
                Some(c) if *c == b'?' || *c == id[from] => (at, from) = (at + 1, from + 1),
                _ => match &mut star {
                    Some((after, matched)) => {
                        *matched += 1;
                        (at, from) = (*after, *matched);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|c| *c == b'*')
    }
}

/// Conditions on instances. Without any condition: all instances of the inventory.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Expression that must hold.
    pub filter: Option<Filter>,
    /// Ids, or globs for ids.
    pub ids: Vec<IdPattern>,
    /// Regions.
    pub regions: Vec<String>,
    /// Zones.
    pub zones: Vec<String>,
}

/// Error returned when a selection chooses no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The inventory is empty.
    #[error("the inventory has no instances")]
    Empty,
    /// Ids that are not in the inventory, or globs that match none of its ids.
    #[error("the inventory has no instance {}", ids.join(", "))]
    Unknown {
        /// The ids and globs.
        ids: Vec<String>,
    },
    /// No instance meets all conditions.
    #[error("none of the {known} instances of the inventory matches {conditions}")]
    Nothing {
        /// Number of instances in the inventory.
        known: usize,
        /// The conditions, as options.
        conditions: String,
    },
}

impl Selection {
    fn matches(&self, instance: &Instance) -> bool {
        let facts = &instance.facts;
        self.filter.as_ref().is_none_or(|filter| filter.matches(facts))
            && (self.ids.is_empty() || self.ids.iter().any(|pattern| pattern.matches(&facts.id)))
            && (self.regions.is_empty() || self.regions.contains(&facts.region))
            && (self.zones.is_empty() || self.zones.contains(&facts.zone))
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        if let Some(filter) = &self.filter {
            parts.push(format!("--where '{}'", String::from(filter.clone())));
        }
        for (flag, values) in [("--region", &self.regions), ("--zone", &self.zones)] {
            if !values.is_empty() {
                parts.push(format!("{flag} {}", values.join(",")));
            }
        }
        if !self.ids.is_empty() {
            let ids: Vec<&str> = self.ids.iter().map(|pattern| pattern.0.as_str()).collect();
            parts.push(format!("--on {}", ids.join(",")));
        }
        parts.join(" and ")
    }
}

impl Inventory {
    /// Returns the instances that `selection` chooses, in the order of the inventory: at least one.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Instance>, SelectionError> {
        if self.instances.is_empty() {
            return Err(SelectionError::Empty);
        }
        let is_missing = |id: &&IdPattern| !self.instances.iter().any(|instance| id.matches(instance.id()));
        let name = |id: &IdPattern| if id.is_glob() { format!("that matches {id}") } else { id.to_string() };
        let unknown: Vec<String> = selection.ids.iter().filter(is_missing).map(name).collect();
        if !unknown.is_empty() {
            return Err(SelectionError::Unknown { ids: unknown });
        }
        let chosen: Vec<Instance> = self.instances.iter().filter(|i| selection.matches(i)).cloned().collect();
        if chosen.is_empty() {
            return Err(SelectionError::Nothing { known: self.instances.len(), conditions: selection.describe() });
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn inventory() -> Inventory {
        let text = r#"{"instances": [
            {"id": "i-1", "address": "a:1", "zone": "a", "app": "x"},
            {"id": "i-2", "address": "a:2", "zone": "b", "app": "x"},
            {"id": "i-3", "address": "a:3", "zone": "b", "app": "y"}]}"#;
        Inventory::parse(Path::new("i.json"), text).unwrap()
    }

    fn ids(selection: &Selection) -> Vec<String> {
        inventory().select(selection).unwrap().iter().map(|i| i.id().to_string()).collect()
    }

    #[test]
    fn conditions_are_joined_by_and() {
        let mut selection = Selection { filter: Some(Filter::new("app == 'x'").unwrap()), ..Selection::default() };
        assert_eq!(ids(&selection), ["i-1", "i-2"]);
        selection.zones = vec!["b".into()];
        assert_eq!(ids(&selection), ["i-2"]);
    }

    #[test]
    fn globs_match_whole_ids() {
        let id = InstanceId::new("i-0abc.7").unwrap();
        for pattern in ["i-0abc.7", "*", "i-0a*", "*7", "i-?abc.?", "i*a*c*", "**", "i-0abc.7*", "*abc*"] {
            assert!(pattern.parse::<IdPattern>().unwrap().matches(&id), "{pattern}");
        }
        for pattern in ["i-0abc.70", "i-0a", "?", "i-0a?", "*8", "I-*", "*abc", "i-0abc.7?"] {
            assert!(!pattern.parse::<IdPattern>().unwrap().matches(&id), "{pattern}");
        }
        for bad in ["", "-*", "a b", "[ab]", "a/*", "*\n"] {
            assert!(bad.parse::<IdPattern>().is_err(), "{bad:?}");
        }
        let selection = |on: &[&str]| Selection {
            ids: on.iter().map(|text| text.parse().unwrap()).collect(),
            ..Selection::default()
        };
        assert_eq!(ids(&selection(&["*-1", "i-3"])), ["i-1", "i-3"]);
    }

    #[test]
    fn nothing_is_an_error_and_never_all() {
        let nothing = Selection { zones: vec!["c".into()], ..Selection::default() };
        assert!(inventory().select(&nothing).unwrap_err().to_string().contains("--zone c"));
        for (pattern, message) in [("i-9", "no instance i-9"), ("x*", "no instance that matches x*")] {
            let unknown = Selection { ids: vec![pattern.parse().unwrap()], ..Selection::default() };
            assert!(inventory().select(&unknown).unwrap_err().to_string().contains(message), "{pattern}");
        }
        // A glob that matches is no excuse for one that does not.
        let half = Selection { ids: vec!["i-*".parse().unwrap(), "j-*".parse().unwrap()], ..Selection::default() };
        assert!(inventory().select(&half).unwrap_err().to_string().contains("j-*"));
        assert_eq!(Inventory::default().select(&Selection::default()), Err(SelectionError::Empty));
    }
}
