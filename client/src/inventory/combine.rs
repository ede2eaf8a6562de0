//! Combines the instances of several sources.
//!
//! Instances with the same id are merged field by field: a field that one source does not know is taken from the other. Two
//! sources that contradict each other are an error that names both, because only one of them can be right. Two instances
//! with one address are only a warning: at most one of them answers there, and the other one is reported as
//! `wrong_instance`, since its certificate names it.

use std::collections::HashMap;

use packs_schema::base::name::InstanceId;

use super::Instance;
use super::address::Address;
use super::entry::{Found, MAX_INSTANCES};

/// Maximum number of contradictions, and of shared addresses, that are listed.
const MAX_LISTED: usize = 5;

/// Error returned when instances cannot be combined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Sources contradict each other.
    #[error("sources contradict each other: {}", .0.join("; "))]
    Contradiction(Vec<String>),
    /// No source knows the address of these instances.
    #[error("no source gives the address of {0}")]
    NoAddress(String),
    /// There are too many instances.
    #[error("the inventory has more than {MAX_INSTANCES} instances")]
    TooMany,
}

impl CombineError {
    /// Returns advice what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            CombineError::Contradiction(_) => {
                "correct one of the sources, or leave the field out of one of them (`facts` of an ec2 source)"
            }
            CombineError::NoAddress(_) => {
                "choose another `address` for the ec2 source, or add a source that knows their addresses"
            }
            CombineError::TooMany => "narrow the sources with filters",
        }
    }
}

/// An instance and the source that named it first.
struct Merged {
    found: Found,
    source: usize,
}

/// Instances of all sources, without contradictions.
#[derive(Default)]
pub(super) struct Combined {
    merged: Vec<Merged>,
    index: HashMap<InstanceId, usize>,
    names: Vec<String>,
    contradictions: Vec<String>,
    contradicting: usize,
}

impl Combined {
    /// Adds the instances of the source called `name`.
    pub(super) fn add(&mut self, name: &str, found: Vec<Found>) -> Result<(), CombineError> {
        let source = self.names.len();
        self.names.push(name.to_owned());
        for other in found {
            match self.index.get(&other.facts.id) {
                None if self.merged.len() >= MAX_INSTANCES => return Err(CombineError::TooMany),
                None => {
                    self.index.insert(other.facts.id.clone(), self.merged.len());
                    self.merged.push(Merged { found: other, source });
                }
                Some(&at) => {
                    let first = &self.names[self.merged[at].source];
                    let id = other.facts.id.clone();
                    if let Err(what) = merge(&mut self.merged[at].found, other) {
                        self.contradicting += 1;
                        if self.contradictions.len() < MAX_LISTED {
                            self.contradictions.push(what.describe(&id, first, name));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the instances, in the order of the sources, and warnings.
    pub(super) fn finish(mut self) -> Result<(Vec<Instance>, Vec<String>), CombineError> {
        if self.contradicting > 0 {
            let more = self.contradicting - self.contradictions.len();
            if more > 0 {
                self.contradictions.push(format!("and {more} more"));
            }
            return Err(CombineError::Contradiction(self.contradictions));
        }
        let mut without = Vec::new();
        let mut instances = Vec::with_capacity(self.merged.len());
        for Merged { found: Found { facts, address }, source } in self.merged {
            match address {
                Some(address) => instances.push(Instance { facts, address }),
                None => without.push((facts.id, source)),
            }
        }
        if let Some((_, source)) = without.first() {
            let ids: Vec<&str> = without.iter().map(|(id, _)| id.as_str()).collect();
            let listed = crate::show::listed(&ids, MAX_LISTED);
            return Err(CombineError::NoAddress(format!("{listed} ({})", self.names[*source])));
        }
        let warnings = shared_addresses(&instances);
        Ok((instances, warnings))
    }
}

/// A field in which two sources differ.
struct Contradiction {
    field: String,
    values: [String; 2],
}

impl Contradiction {
    fn describe(&self, id: &InstanceId, first: &str, second: &str) -> String {
        let Contradiction { field, values: [one, other] } = self;
        format!("{id} has {field} {one:?} in {first} and {other:?} in {second}")
    }
}

/// Merges `other` into `one`.
fn merge(one: &mut Found, other: Found) -> Result<(), Contradiction> {
    match (&one.address, other.address) {
        (_, None) => {}
        (None, address) => one.address = address,
        (Some(first), Some(second)) if *first == second => {}
        (Some(first), Some(second)) => {
            let values = [first.to_string(), second.to_string()];
            return Err(Contradiction { field: "address".to_owned(), values });
        }
    }
    let (ours, theirs) = (&mut one.facts, other.facts);
    let fields = [
        ("region", &mut ours.region, theirs.region),
        ("zone", &mut ours.zone, theirs.zone),
        ("app", &mut ours.app, theirs.app),
        ("cluster", &mut ours.cluster, theirs.cluster),
        ("group", &mut ours.group, theirs.group),
    ];
    for (field, ours, theirs) in fields {
        if ours.is_empty() {
            *ours = theirs;
        } else if !theirs.is_empty() && *ours != theirs {
            return Err(Contradiction { field: field.to_owned(), values: [ours.clone(), theirs] });
        }
    }
    for (name, value) in theirs.tags {
        match ours.tags.get(&name) {
            Some(known) if *known != value => {
                return Err(Contradiction { field: format!("tags.{name}"), values: [known.clone(), value] });
            }
            Some(_) => {}
            None => drop(ours.tags.insert(name, value)),
        }
    }
    Ok(())
}

/// Returns a warning for each address that several instances have.
pub(super) fn shared_addresses(instances: &[Instance]) -> Vec<String> {
    let mut owners: HashMap<&Address, &InstanceId> = HashMap::with_capacity(instances.len());
    let mut shared: Vec<(&Address, Vec<&str>)> = Vec::new();
    let mut index: HashMap<&Address, usize> = HashMap::new();
    for Instance { facts, address } in instances {
        let Some(first) = owners.insert(address, &facts.id) else { continue };
        let at = *index.entry(address).or_insert_with(|| {
            shared.push((address, vec![first.as_str()]));
            shared.len() - 1
        });
        shared[at].1.push(facts.id.as_str());
    }
    let more = shared.len().saturating_sub(MAX_LISTED);
    let mut warnings: Vec<String> = shared
        .iter()
        .take(MAX_LISTED)
        .map(|(address, ids)| {
            let count = ids.len();
            let listed = crate::show::listed(ids, MAX_LISTED);
            format!("{count} instances have the address {address} ({listed}): at most one of them answers there")
        })
        .collect();
    if more > 0 {
        warnings.push(format!("and {more} more addresses are shared by several instances"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::document::parse_json;
    use serde_json::{Value, json};

    fn found(entries: &Value) -> Vec<Found> {
        parse_json(json!({ "instances": entries }).to_string().as_bytes()).unwrap()
    }

    fn combine(sources: &[(&str, Value)]) -> Result<(Vec<Instance>, Vec<String>), CombineError> {
        let mut combined = Combined::default();
        for (name, entries) in sources {
            combined.add(name, found(entries))?;
        }
        combined.finish()
    }

    #[test]
    fn what_one_source_does_not_know_comes_from_the_other() {
        let gate = json!([{"id": "i-1", "app": "web", "group": "web-v1"}, {"id": "i-2", "address": "b:1"}]);
        let ec2 = json!([{"id": "i-1", "address": "a:1", "zone": "z", "app": "web", "tags": {"k": "v"}}]);
        let (instances, warnings) = combine(&[("spinnaker web", gate), ("ec2", ec2)]).unwrap();
        assert_eq!(instances.iter().map(|i| i.address.to_string()).collect::<Vec<_>>(), ["a:1", "b:1"]);
        let facts = &instances[0].facts;
        let all = [&facts.app, &facts.group, &facts.zone, &facts.tags["k"]];
        assert_eq!(all, ["web", "web-v1", "z", "v"]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn sources_that_contradict_each_other_are_an_error_that_names_both() {
        for (one, other, said) in [
            (json!({"address": "a:1"}), json!({"address": "a:2"}), r#"address "a:1" in one and "a:2" in other"#),
            (json!({"zone": "a"}), json!({"zone": "b"}), r#"zone "a" in one and "b" in other"#),
            (json!({"tags": {"t": "a"}}), json!({"tags": {"t": "b"}}), r#"tags.t "a" in one and "b" in other"#),
        ] {
            let entry = |mut fields: Value| {
                fields["id"] = json!("i-1");
                json!([fields])
            };
            let error = combine(&[("one", entry(one)), ("other", entry(other))]).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("i-1"), "{error}");
        }
        let many = |zone: &str| (0..50).map(|n| json!({"id": format!("i-{n}"), "zone": zone})).collect::<Value>();
        let error = combine(&[("one", many("a")), ("other", many("b"))]).unwrap_err().to_string();
        assert!(error.contains("and 45 more") && error.len() < 500, "{error}");
    }

    #[test]
    fn an_instance_without_an_address_is_an_error() {
        let error = combine(&[("spinnaker web", json!([{"id": "i-1"}, {"id": "i-2"}]))]).unwrap_err().to_string();
        assert!(error.contains("i-1, i-2 (spinnaker web)"), "{error}");
    }

    #[test]
    fn an_address_of_two_instances_is_a_warning() {
        let entry = |n: usize| json!({"id": format!("i-{n}"), "address": "[2001:db8::1]:8443"});
        let (instances, warnings) = combine(&[("one", (0..12).map(entry).collect())]).unwrap();
        assert_eq!((instances.len(), warnings.len()), (12, 1));
        assert!(warnings[0].starts_with("12 instances have the address [2001:db8::1]:8443 (i-0, "), "{warnings:?}");
    }

    #[test]
    fn a_hundred_thousand_instances_of_two_sources_are_combined_and_more_than_the_maximum_are_refused() {
        let entries = |from: usize, to: usize| -> Vec<Found> {
            (from..to)
                .map(|n| Found {
                    facts: packs_schema::delivery::facts::Facts::of(InstanceId::new(format!("i-{n}")).unwrap()),
                    address: Some(Address::new(&format!("h{n}:1")).unwrap()),
                })
                .collect()
        };
        let mut combined = Combined::default();
        combined.add("one", entries(0, 100_000)).unwrap();
        combined.add("other", entries(50_000, 150_000)).unwrap();
        assert_eq!(combined.finish().unwrap().0.len(), 150_000);
        let mut combined = Combined::default();
        assert_eq!(combined.add("one", entries(0, MAX_INSTANCES + 1)), Err(CombineError::TooMany));
    }
}
