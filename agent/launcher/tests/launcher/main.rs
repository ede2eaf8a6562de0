//! Drives the real `bolt-launch` over a socket, with real packs, processes, cgroups and accounts.

mod driver;
mod isolation;
mod limits;
mod output;
mod refusals;
mod running;
mod service;
mod stopping;
