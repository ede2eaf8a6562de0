//! End to end: the real binaries, over real TLS, with real packs from a real repository.
//!
//! Each module is one story; each test in it is named after what it shows, so that the runner's output reads as a list of promises.

mod calls;

mod callers_refused;
mod configuration_refused;
mod demo;
mod executions_refused;
mod packs_refused;
mod requests_refused;
mod road;
mod secrets;
mod survival;
