//! The choice of some instances. Every condition that is given must hold; one that selects nothing is an error.

use packs_schema::base::name::InstanceId;
use packs_schema::delivery::filter::Filter;

use super::{Instance, Inventory};

/// Which instances are wanted. Without any condition: all of the inventory.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only what fulfils this expression.
    pub filter: Option<Filter>,
    /// Only these.
    pub ids: Vec<InstanceId>,
    /// Only in these regions.
    pub regions: Vec<String>,
    /// Only in these zones.
    pub zones: Vec<String>,
}

/// Why there is nothing to do it on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// The inventory has none.
    #[error("the inventory has no instances")]
    Empty,
    /// A named instance is not in the inventory.
    #[error("the inventory has no instance {}", ids.join(", "))]
    Unknown {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Nothing fulfils the conditions.
    #[error("none of the {known} instances of the inventory fulfils {conditions}")]
    Nothing {
        /// How many there are.
        known: usize,
        /// What was asked.
        conditions: String,
    },
}

impl Selection {
    fn matches(&self, instance: &Instance) -> bool {
        let facts = &instance.facts;
        self.filter.as_ref().is_none_or(|filter| filter.matches(facts))
            && (self.ids.is_empty() || self.ids.contains(&facts.id))
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
            let ids: Vec<&str> = self.ids.iter().map(InstanceId::as_str).collect();
            parts.push(format!("--on {}", ids.join(",")));
        }
        parts.join(" and ")
    }
}

impl Inventory {
    /// The instances that `selection` means, in the order of the inventory: at least one.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Instance>, SelectionError> {
        if self.instances.is_empty() {
            return Err(SelectionError::Empty);
        }
        let missing = |id: &&InstanceId| !self.instances.iter().any(|instance| instance.id() == *id);
        let unknown: Vec<String> = selection.ids.iter().filter(missing).map(ToString::to_string).collect();
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
    fn nothing_is_an_error_and_never_all() {
        let nothing = Selection { zones: vec!["c".into()], ..Selection::default() };
        assert!(inventory().select(&nothing).unwrap_err().to_string().contains("--zone c"));
        let unknown = Selection { ids: vec![InstanceId::new("i-9").unwrap()], ..Selection::default() };
        assert!(inventory().select(&unknown).unwrap_err().to_string().contains("i-9"));
        assert_eq!(Inventory::default().select(&Selection::default()), Err(SelectionError::Empty));
    }
}
