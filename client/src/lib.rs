//! Bolt's client: talk to agents, fan out over a fleet, author packs and publish them.

pub mod cli;
pub mod demo;
pub mod pack;
pub mod repo;
