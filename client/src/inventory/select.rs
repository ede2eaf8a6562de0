//! Choice of instances. Every condition that is given must hold; a choice that selects nothing is an error.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use packs_schema::base::name::{InstanceId, NameError};
use packs_schema::delivery::filter::Filter;

use super::sample::Sample;
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
    /// Ids, or globs for ids, of instances that are left out.
    pub exclude: Vec<IdPattern>,
    /// Random choice among those that meet all conditions.
    pub sample: Option<Sample>,
}

/// Ids and globs, prepared for inventories and lists of many thousands.
struct Patterns<'a> {
    exact: HashSet<&'a str>,
    globs: Vec<&'a IdPattern>,
}

impl<'a> Patterns<'a> {
    fn of(patterns: &'a [IdPattern]) -> Patterns<'a> {
        let (globs, exact): (Vec<&IdPattern>, Vec<&IdPattern>) = patterns.iter().partition(|one| one.is_glob());
        Patterns { exact: exact.into_iter().map(|one| one.0.as_str()).collect(), globs }
    }

    fn matches(&self, id: &InstanceId) -> bool {
        self.exact.contains(id.as_str()) || self.globs.iter().any(|glob| glob.matches(id))
    }
}

/// Maximum number of ids in a message.
const MAX_LISTED: usize = 20;

/// Error returned when a selection chooses no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The inventory is empty.
    #[error("the inventory has no instances")]
    Empty,
    /// Ids that are not in the inventory, or globs that match none of its ids.
    #[error("the inventory has no instance {}{option}", crate::show::listed(ids, MAX_LISTED))]
    Unknown {
        /// The ids and globs.
        ids: Vec<String>,
        /// The option that gave them, unless it is `--on`.
        option: &'static str,
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
    /// Returns the instances that meet all conditions, before the sample is taken.
    fn matching<'a>(&self, instances: &'a [Instance]) -> impl Iterator<Item = &'a Instance> {
        let (ids, exclude) = (Patterns::of(&self.ids), Patterns::of(&self.exclude));
        instances.iter().filter(move |instance| {
            let facts = &instance.facts;
            (self.ids.is_empty() || ids.matches(&facts.id))
                && !exclude.matches(&facts.id)
                && self.filter.as_ref().is_none_or(|filter| filter.matches(facts))
                && (self.regions.is_empty() || self.regions.contains(&facts.region))
                && (self.zones.is_empty() || self.zones.contains(&facts.zone))
        })
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
        for (flag, patterns) in [("--on", &self.ids), ("--exclude", &self.exclude)] {
            if !patterns.is_empty() {
                parts.push(format!("{flag} {}", crate::show::listed(patterns, MAX_LISTED)));
            }
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
        let known: HashSet<&str> = self.instances.iter().map(|instance| instance.id().as_str()).collect();
        let is_missing = |id: &&IdPattern| match id.is_glob() {
            true => !self.instances.iter().any(|instance| id.matches(instance.id())),
            false => !known.contains(id.0.as_str()),
        };
        let name = |id: &IdPattern| if id.is_glob() { format!("that matches {id}") } else { id.to_string() };
        // A misspelt exception would be no exception.
        let missing = |ids: &[IdPattern]| -> Vec<String> { ids.iter().filter(is_missing).map(name).collect() };
        let (unknown, unknown_excluded) = (missing(&selection.ids), missing(&selection.exclude));
        if !unknown.is_empty() {
            return Err(SelectionError::Unknown { ids: unknown, option: "" });
        }
        if !unknown_excluded.is_empty() {
            return Err(SelectionError::Unknown { ids: unknown_excluded, option: " (--exclude)" });
        }
        let chosen: Vec<Instance> = selection.matching(&self.instances).cloned().collect();
        if chosen.is_empty() {
            return Err(SelectionError::Nothing { known: self.instances.len(), conditions: selection.describe() });
        }
        Ok(match selection.sample {
            Some(sample) => sample.apply(chosen),
            None => chosen,
        })
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
    fn instances_are_left_out_and_sampled() {
        let exclude = |ids: &[&str]| Selection {
            exclude: ids.iter().map(|text| text.parse().unwrap()).collect(),
            ..Selection::default()
        };
        assert_eq!(ids(&exclude(&["i-2"])), ["i-1", "i-3"]);
        assert_eq!(ids(&Selection { zones: vec!["b".into()], ..exclude(&["*-3"]) }), ["i-2"]);
        let error = |selection: &Selection| inventory().select(selection).unwrap_err().to_string();
        assert_eq!(error(&exclude(&["i-9"])), "the inventory has no instance i-9 (--exclude)");
        assert!(error(&exclude(&["i-*"])).ends_with("matches --exclude i-*"));
        let sample = Selection { sample: Some(Sample { count: 1, seed: 3 }), ..exclude(&["i-1"]) };
        assert_eq!(ids(&sample).len(), 1);
        assert_eq!(ids(&sample), ids(&sample));
    }

    #[test]
    fn a_hundred_thousand_ids_of_a_hundred_thousand_instances_are_found() {
        let id = |n: usize| InstanceId::new(format!("i-{n}")).unwrap();
        let instance = |n: usize| Instance {
            facts: packs_schema::delivery::facts::Facts::of(id(n)),
            address: "a:1".parse().unwrap(),
        };
        let many = Inventory::of((0..100_000).map(instance).collect());
        let selection = Selection { ids: (0..100_000).map(|n| id(n).into()).collect(), ..Selection::default() };
        assert_eq!(many.select(&selection).unwrap().len(), 100_000);
        let unknown = Selection { ids: (0..200_000).map(|n| id(n).into()).collect(), ..Selection::default() };
        assert!(many.select(&unknown).unwrap_err().to_string().len() < 500);
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
