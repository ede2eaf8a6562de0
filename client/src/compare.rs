//! Compares what many instances answered: groups of equal texts, texts made equal by placeholders, and bounded differences. Pure:
//! no terminal, no clock but the time limit of a difference.

mod diff;
mod normalize;

use std::collections::HashMap;
use std::hash::Hash;

pub use diff::Differ;
pub use normalize::{KindError, Normalize};

/// Groups the indexes of equal items: the largest group first, groups of one size in the order of their first item. Each index
/// is in exactly one group.
pub fn group<K: Hash + Eq>(items: impl IntoIterator<Item = K>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<K, usize> = HashMap::new();
    for (index, item) in items.into_iter().enumerate() {
        let group = *known.entry(item).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(members) => members.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups.sort_by_key(|members| std::cmp::Reverse(members.len()));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn groups_are_a_partition_with_the_largest_first(items in prop::collection::vec(0..8u8, 0..60)) {
            let groups = group(&items);
            let mut all: Vec<usize> = groups.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..items.len()).collect::<Vec<_>>());
            prop_assert!(groups.windows(2).all(|pair| (pair[0].len(), pair[1][0]) >= (pair[1].len(), pair[0][0])));
            for (at, members) in groups.iter().enumerate() {
                prop_assert!(members.iter().all(|member| items[*member] == items[members[0]]));
                prop_assert!(groups[..at].iter().all(|other| items[other[0]] != items[members[0]]));
            }
        }
    }
}
