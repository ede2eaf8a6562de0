//! Which instances the first percent of a rollout are: always the same ones, and other ones for each pack.

use sha2::{Digest, Sha256};

use crate::name::{InstanceId, PackName};

/// 0 to 99, evenly and always the same for an instance and a pack: raising the percentage only adds instances.
pub fn bucket(instance: &InstanceId, pack: &PackName) -> u8 {
    let hash = Sha256::new().chain_update(instance.as_str()).chain_update([0]).chain_update(pack.as_str()).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    (u64::from_be_bytes(first) % 100) as u8
}
