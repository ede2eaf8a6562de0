//! Cohorts: a stable number of each instance, from 0 to 99, for each pack. A rollout to N percent includes cohorts below N.

use sha2::{Digest, Sha256};

use crate::base::name::{InstanceId, PackName};

/// Returns the cohort of an instance for a pack: 0 to 99, evenly distributed and always the same, so that a higher percentage
/// only adds instances.
pub fn cohort_of(instance: &InstanceId, pack: &PackName) -> u8 {
    let hash = Sha256::new().chain_update(instance.as_str()).chain_update([0]).chain_update(pack.as_str()).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    (u64::from_be_bytes(first) % 100) as u8
}
