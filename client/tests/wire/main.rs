//! The client against real TLS servers: who is talked to, what is believed, and what happens when it breaks.

#![expect(clippy::unwrap_used, reason = "a test that fails should fail where it stands")]

mod consent;
mod dead;
mod escapes;
mod fleet;
mod hostile;
mod identity;
mod interrupts;
mod lists;
mod phases;
mod requests;
mod resume;
mod server;
mod streams;
