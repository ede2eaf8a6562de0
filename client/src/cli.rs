//! The `bolt` command.

pub mod demo;
pub mod failure;
pub mod pack;
pub mod repo;
