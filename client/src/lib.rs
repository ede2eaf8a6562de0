//! Bolt's client: talk to agents, fan out over a fleet, author packs and publish them.
//!
//! - [`config`], [`inventory`]: who we are, and which instances there are.
//! - [`tls`], [`connection`], [`error`]: one agent, checked to be the one that was meant.
//! - [`fleet`]: one action on many instances, by a plan, each ending in a named state.
//! - [`runner`]: a run from its order to its report, without a terminal. [`runs`]: its record.
//! - [`definitions`]: actions as instances have described them, kept between runs.
//! - [`compare`]: outputs of many instances in groups, and how they differ.
//! - [`show`]: what agents answer, made safe for a terminal.
//! - [`pki`]: a small certificate authority.
//! - [`repo`], [`pack`]: authoring and publishing. [`demo`]: all of it on loopback.
//! - [`cli`]: the `bolt` command over these.

// Text that others wrote goes to a terminal through `show` alone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

#[cfg(feature = "s3")]
pub mod audit;
mod bucket_location;
mod cache;
pub mod cli;
pub mod compare;
pub mod config;
mod confined_dir;
pub mod connection;
pub mod definitions;
pub mod demo;
pub mod error;
mod exec_dirs;
pub mod failure;
pub mod files;
pub mod fleet;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod hashing;
pub mod inventory;
pub mod local;
mod mismatch;
pub mod pack;
pub mod parameters;
pub mod phase;
pub mod pki;
mod programs;
#[cfg(test)]
#[path = "../../tests/fixtures/records.rs"]
mod records;
pub mod repo;
pub mod runner;
pub mod runs;
pub mod show;
pub mod tls;
