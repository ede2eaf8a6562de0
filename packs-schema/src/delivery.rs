//! Delivery: which version of a pack an instance gets.
//!
//! - [`facts`], [`filter`]: known facts of an instance, and expressions over them (`--where`).
//! - [`channel`]: rules of a channel, and their decision for one instance.
//! - [`cohort`]: place of an instance in gradual rollouts.
//! - [`marks`]: high-water marks of a repository's metadata.
//! - [`pushed`]: mark of versions that were pushed without a signature.

pub mod channel;
#[cfg(feature = "rollout")]
pub mod cohort;
pub mod facts;
pub mod filter;
pub mod marks;
pub mod pushed;
