//! The formats that Bolt's processes agree on, as types that cannot hold a wrong value.
//!
//! Everything here is pure: bytes or parsed values come in, checked types or every error at once
//! come out. Nothing in this crate opens a file, a socket or a clock.
//!
//! - [`name`]: the identifiers. What has such a type may stand in a path.
//! - [`quantity`]: `256MiB`, `50%`, `10m`.
//! - [`pack`], [`action`]: the pack format, a superset of StackStorm's.
//! - [`contents`]: a pack's files held against each other.
//! - [`param`]: the parameter language: its schema, its check and the binding of a caller's values.
//! - [`document`]: the one reader of YAML and of TOML, with errors that name line and key.
//! - [`environment`]: every variable called `BOLT_…`.
//! - [`facts`], [`filter`]: what is known of an instance, and expressions over it (`--where`).
//! - [`config`], [`grants`]: `agent.toml` and `grants.toml`.
//! - [`pem`]: problems of key and certificate files, told without their content.
//! - [`push`]: what api and sync say to each other about packs that were pushed.
//! - [`launch`]: what the unprivileged agent may ask of the privileged launcher.
//! - [`run`]: what stands in an execution's directory, its states and its output log.
//! - [`bucket`]: where a repository in a bucket is, `s3://bucket/prefix`.
//! - [`channel`], [`store`]: what a repository and an instance's store of activated packs hold.
//! - [`log_line`]: text of others in a line of a log.
//! - [`marks`]: the highest versions of a repository's roles that were ever seen.
//! - [`rest`]: the messages of the REST interface.
//! - [`strict`]: JSON without duplicate keys.
//! - [`certificate`], [`trust`]: what is read of a certificate; owners and modes of files that are trusted.

mod absent;
pub mod action;
pub mod bucket;
pub mod certificate;
pub mod channel;
pub mod config;
pub mod contents;
pub mod document;
pub mod environment;
pub mod facts;
pub mod filter;
pub mod finding;
pub mod grants;
pub mod launch;
pub mod log_line;
pub mod marks;
pub mod name;
pub mod pack;
pub mod param;
pub mod pem;
pub mod push;
pub mod python;
pub mod quantity;
pub mod rest;
pub mod run;
#[cfg(feature = "schemas")]
pub mod schemas;
pub mod store;
pub mod strict;
pub mod trust;
