//! The formats, from outside: one program, so that it is linked once.
//!
//! `draw` makes the random schemas and values; each other module is one promise.

#![expect(clippy::unwrap_used, reason = "a helper that fails should fail where it stands, as a test does")]

mod configuration;
mod corpus;
mod definitions;
mod delivery;
mod documents;
mod draw;
mod hostile;
mod parameters;
mod properties;
mod records;
#[cfg(feature = "schemas")]
mod schemas;
mod validator;

/// `cargo test --workspace` turns the feature on, because agent and client do.
#[cfg(not(feature = "schemas"))]
#[test]
fn schemas() {
    eprintln!("SKIPPED schemas: the JSON Schemas are checked with --features schemas, or with cargo test --workspace");
}
