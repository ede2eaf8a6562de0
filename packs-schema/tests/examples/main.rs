//! Tests of the example packs: they have no findings, and their actions work as described.
//!
//! Actions run as real processes in the environment of the launcher, on fixtures in temporary directories.

#![expect(clippy::unwrap_used, reason = "a test should fail at the line of the error")]

mod aws;
mod cassandra;
mod certificates;
mod disk;
mod docker;
mod driver;
mod effects;
mod engine;
mod free;
mod host;
mod incidents;
mod jvm;
mod kafka;
mod kubernetes_node;
mod linux;
mod logs;
mod measures;
mod nginx;
mod nodetool;
mod packages;
mod packs;
mod pki;
mod postgres;
mod python;
mod races;
mod redis;
mod remount;
mod servers;
mod service;
mod stand_in;
mod threads;
mod vanishing;
