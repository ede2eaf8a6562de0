//! Choice of some instances at random, by a seed.

use sha2::{Digest as _, Sha256};

use super::Instance;

/// Random choice. The same seed chooses the same instances, whatever the order of the inventory; an instance that is added or
/// removed changes at most one of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Maximum number of instances.
    pub count: usize,
    /// Seed.
    pub seed: u64,
}

impl Sample {
    /// Keeps the instances of the sample, in their order.
    pub(super) fn apply(self, instances: Vec<Instance>) -> Vec<Instance> {
        if instances.len() <= self.count {
            return instances;
        }
        let rank = |instance: &Instance| -> [u8; 32] {
            let hash = Sha256::new().chain_update(self.seed.to_le_bytes());
            hash.chain_update(instance.id().as_str()).finalize().into()
        };
        let mut ranks: Vec<[u8; 32]> = instances.iter().map(rank).collect();
        let all = ranks.clone();
        let (_, last, _) = ranks.select_nth_unstable(self.count);
        let last = *last;
        instances.into_iter().zip(all).filter(|(_, rank)| *rank < last).map(|(instance, _)| instance).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::base::name::InstanceId;
    use packs_schema::delivery::facts::Facts;
    use std::collections::HashSet;

    fn instances(count: usize) -> Vec<Instance> {
        let facts = |n: usize| Facts::of(InstanceId::new(format!("i-{n}")).unwrap());
        (0..count).map(|n| Instance { facts: facts(n), address: "a:1".parse().unwrap() }).collect()
    }

    fn ids(sample: Sample, of: Vec<Instance>) -> Vec<String> {
        sample.apply(of).iter().map(|instance| instance.id().to_string()).collect()
    }

    #[test]
    fn a_seed_chooses_the_same_instances_in_any_order() {
        let sample = Sample { count: 10, seed: 7 };
        let one = ids(sample, instances(1000));
        assert_eq!(one.len(), 10);
        let mut reversed = instances(1000);
        reversed.reverse();
        let mut other = ids(sample, reversed);
        other.reverse();
        assert_eq!(one, other);
        let more: HashSet<String> = ids(sample, instances(1001)).into_iter().collect();
        assert!(one.iter().filter(|id| more.contains(*id)).count() >= 9);
        assert_ne!(one, ids(Sample { seed: 8, ..sample }, instances(1000)));
        assert_eq!(ids(sample, instances(3)).len(), 3);
    }

    #[test]
    fn every_instance_is_chosen_by_some_seed() {
        let chosen: HashSet<String> = (0..200).flat_map(|seed| ids(Sample { count: 1, seed }, instances(10))).collect();
        assert_eq!(chosen.len(), 10);
    }
}
