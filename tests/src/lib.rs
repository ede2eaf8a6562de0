//! What the end-to-end suites and the benchmarks stand on: drivers for the real binaries.
//!
//! - [`Operator`]: the REST interface of one agent, as the operator uses it.
//! - [`World`]: a temporary directory with an authority, a repository and agents in it.
//! - [`PackSource`]: a pack, written by a test.
//! - [`http`]: requests as no client of ours would send them.
//! - [`Bolt`]: the `bolt` command.
//! - [`reliability`]: faults by a seed, escapes, and long runs, with what must hold after each.
//! - [`bucket`], [`proxy`]: a bucket in this process, and what goes wrong on the way to it.
//! - [`kms`]: a service that keeps keys and signs with them.
//! - [`metadata`]: the service at which an instance asks who it is (IMDSv2).
//! - [`skip`]: says loudly that a test could not run here, and why.

mod answering;
mod bolt;
pub mod bucket;
pub mod http;
pub mod index;
pub mod kms;
pub mod metadata;
pub mod operator;
mod pack;
pub mod process;
pub mod proxy;
mod random;
pub mod reliability;
mod world;

pub use bolt::{Bolt, CommandOutput};
pub use bucket::Bucket;
pub use operator::Operator;
pub use pack::PackSource;
pub use proxy::Proxy;
pub use random::Random;
pub use world::{World, binaries, is_root, limits_available, order, skip, spec, sync_peak_kb};
