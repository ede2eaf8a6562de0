//! Tests of the formats through the public interface, in one program, so that it is linked once.
//!
//! `draw` generates random schemas and values; each other module tests one property.

#![expect(clippy::unwrap_used, reason = "a helper should fail at the line of the error, like a test")]

mod configuration;
mod corpus;
mod definitions;
mod delivery;
mod documents;
mod draw;
mod grants;
mod hostile;
mod layers;
mod parameters;
mod properties;
mod records;
#[cfg(feature = "schemas")]
mod schemas;
mod validator;

/// `cargo test --workspace` enables the feature, because agent and client do.
#[cfg(not(feature = "schemas"))]
#[test]
fn schemas() {
    let said = b"SKIPPED schemas: they are checked with --features schemas, or with cargo test --workspace\n";
    let _ = std::io::Write::write_all(&mut std::io::stderr(), said);
}
