//! The client against real TLS servers: who is talked to, what is believed, and what happens when it breaks.

mod fleet;
mod identity;
mod server;
mod streams;
