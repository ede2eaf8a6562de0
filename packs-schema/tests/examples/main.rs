//! The example packs: that they are packs without a finding, and that their actions do what they say.
//!
//! Actions run as real processes with the environment that the launcher gives, on fixture trees in temporary directories.

#![expect(clippy::unwrap_used, reason = "a test that fails should fail where it stands")]

mod cassandra;
mod certificates;
mod disk;
mod driver;
mod free;
mod host;
mod packs;
mod pki;
mod service;
