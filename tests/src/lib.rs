//! Harness of the end-to-end suites and the benchmarks: drivers for the real binaries.
//!
//! - [`Operator`]: the REST interface of one agent, as the operator uses it.
//! - [`World`]: a temporary directory with an authority, a repository and agents in it.
//! - [`PackSource`]: builder for packs.
//! - [`http`]: raw HTTPS requests, with any certificate and any bytes.
//! - [`Bolt`]: the `bolt` command; [`Screen`]: a terminal for it.
//! - [`reliability`]: seeded faults, escapes and long runs, with the promises checked after each.
//! - [`fan_out`]: the benchmark of runs over many instances.
//! - [`fleet`]: the REST interface of thousands of agents, with faults by a seed.
//! - [`bucket`], [`proxy`]: a bucket in this process, and a proxy that injects network faults.
//! - [`machine`]: a booted machine in QEMU: packages, limits of cgroup v2, upgrades under load, power cuts.
//! - [`attack`]: tools of others against a live agent: schemathesis, slowhttptest, sslyze.
//! - [`kms`]: the signing part of AWS KMS.
//! - [`Moto`]: an independent implementation of AWS; [`Ec2Pages`], [`Gate`]: services that list instances.
//! - [`prometheus`]: Prometheus and promtool.
//! - [`ssh`]: an `sshd` and its clients, the rival of the benchmarks.
//! - [`metadata`]: the instance metadata service (IMDSv2).
//! - [`skip`]: reports that a test could not run here, and why.

mod answering;
pub mod attack;
mod bolt;
pub mod bucket;
pub mod fan_out;
pub mod fleet;
pub mod http;
pub mod index;
pub mod kms;
mod listing;
pub mod machine;
pub mod metadata;
mod moto;
pub mod operator;
mod pack;
pub mod phases;
pub mod place;
pub mod process;
pub mod prometheus;
pub mod proxy;
mod random;
pub mod reliability;
mod screen;
pub mod ssh;
mod world;

pub use bolt::{Bolt, CommandOutput};
pub use bucket::Bucket;
pub use listing::{Ec2Pages, Gate};
pub use moto::Moto;
pub use operator::Operator;
pub use pack::PackSource;
pub use proxy::Proxy;
pub use random::Random;
pub use screen::Screen;
pub use world::{World, bench_binaries, binaries, is_root, limits_available, order, skip, spec, sync_peak_kb};
