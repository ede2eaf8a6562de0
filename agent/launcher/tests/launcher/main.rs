//! Drives the real `bolt-launch` over a socket, with real packs, processes, cgroups and accounts.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test at its line")]

mod accounts;
mod driver;
mod hanging;
mod isolation;
mod leftovers;
mod limits;
mod log;
mod output;
mod preparing;
mod pushed;
mod refusals;
mod running;
mod service;
mod stand_in;
mod stopping;
mod superseded;
mod supervision;
mod venvs;
mod waiting;
