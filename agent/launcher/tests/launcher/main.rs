//! Drives the real `bolt-launch` over a socket, with real packs, processes, cgroups and accounts.
#![expect(clippy::unwrap_used, reason = "a test that fails should fail where it stands")]

mod accounts;
mod driver;
mod isolation;
mod keeping;
mod limits;
mod log;
mod output;
mod pushed;
mod refusals;
mod running;
mod service;
mod stopping;
mod superseded;
mod venvs;
