//! The number of instances of each region and zone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::inventory::Instance;
use crate::show;

/// Maximum number of regions, and of zones of a region, that the summary lists.
const MAX_COUNTED: usize = 20;

/// Number of instances of each zone of each region.
type Counts<'a> = BTreeMap<&'a str, BTreeMap<&'a str, usize>>;

fn counts(instances: &[Instance]) -> Counts<'_> {
    let mut counts = Counts::new();
    for Instance { facts, .. } in instances {
        *counts.entry(&facts.region).or_default().entry(&facts.zone).or_default() += 1;
    }
    counts
}

/// Returns the counts, for programs.
pub(super) fn to_json(instances: &[Instance]) -> Value {
    let of_region = |(region, zones): (&str, BTreeMap<&str, usize>)| -> Vec<Value> {
        zones.into_iter().map(|(zone, count)| json!({ "region": region, "zone": zone, "instances": count })).collect()
    };
    counts(instances).into_iter().flat_map(of_region).collect()
}

/// Returns one line: the number of instances, by region and zone.
pub(super) fn summary(instances: &[Instance]) -> String {
    let name = |text: &str, unknown: &str| if text.is_empty() { unknown.to_owned() } else { show::cell(text) };
    let regions: Vec<String> = counts(instances)
        .into_iter()
        .map(|(region, zones)| {
            let total: usize = zones.values().sum();
            let region = name(region, "no region");
            let of_zones: Vec<String> =
                zones.iter().map(|(zone, count)| format!("{count} {}", name(zone, "no zone"))).collect();
            match zones.keys().next() {
                Some(&"") if zones.len() == 1 => format!("{total} {region}"),
                _ => format!("{total} {region} ({})", show::listed(&of_zones, MAX_COUNTED)),
            }
        })
        .collect();
    let total = show::counted(instances.len(), "instance");
    match &regions[..] {
        [one] if one.ends_with(" no region") => total,
        several => format!("{total}: {}", show::listed(several, MAX_COUNTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::base::name::InstanceId;
    use packs_schema::delivery::facts::Facts;

    #[test]
    fn instances_are_counted_by_region_and_zone() {
        let instances = |places: &[(&str, &str)]| -> Vec<Instance> {
            let facts = |(n, (region, zone)): (usize, &(&str, &str))| Facts {
                region: (*region).to_owned(),
                zone: (*zone).to_owned(),
                ..Facts::of(InstanceId::new(format!("i-{n}")).unwrap())
            };
            let all = places.iter().enumerate().map(facts);
            all.map(|facts| Instance { facts, address: "a:1".parse().unwrap() }).collect()
        };
        let several = instances(&[("r2", "r2a"), ("r1", "r1b"), ("r1", "r1a"), ("r1", "r1a"), ("", ""), ("r3", "")]);
        let said = "6 instances: 1 no region, 3 r1 (2 r1a, 1 r1b), 1 r2 (1 r2a), 1 r3";
        assert_eq!(summary(&several), said);
        assert_eq!(summary(&instances(&[("", ""), ("", "")])), "2 instances");
        assert_eq!(summary(&instances(&[("r", "z")])), "1 instance: 1 r (1 z)");
        let hostile = summary(&instances(&[("\u{1b}[2J", "a\nb")]));
        assert!(!hostile.contains(['\u{1b}', '\n']), "{hostile:?}");
        assert_eq!(to_json(&several)[1], json!({"region": "r1", "zone": "r1a", "instances": 2}));
    }
}
