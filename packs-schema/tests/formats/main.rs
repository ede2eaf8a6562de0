//! The formats, from outside: one program, so that it is linked once.
//!
//! `draw` makes the random schemas and values; each other module is one promise.

#![expect(clippy::wildcard_imports, reason = "proptest is made to be imported so")]

mod corpus;
mod delivery;
mod draw;
mod parameters;
mod properties;
mod validator;
