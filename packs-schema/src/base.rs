//! Base layer: identifiers, quantities, document readers, and checks of single files. Imports nothing of this crate.
//!
//! - [`name`]: identifiers. A value of such a type is safe as a part of a path.
//! - [`quantity`]: sizes, shares and durations such as `256MiB`, `50%`, `10m`.
//! - [`document`]: the only reader of YAML and of TOML, with errors that name line and key.
//! - [`strict`]: JSON without duplicate keys.
//! - [`finding`]: results of checks.
//! - [`environment`]: list of all variables whose names start with `BOLT_`.
//! - [`bucket_url`]: location of a repository in a bucket, `s3://bucket/prefix`.
//! - [`log_event`], [`journal_entry`]: log events as JSON and as entries of the systemd journal.
//! - [`log_line`]: escapes and bounds untrusted text in log lines.
//! - [`memory_map`]: memory that a process at rest can give back.
//! - [`certificate`], [`crl`], [`pem`], [`trust`]: fields of a certificate and of a revocation list, problems of PEM files, owners and modes of trusted files.

pub(crate) mod absent;
pub mod bucket_url;
pub mod certificate;
pub mod crl;
pub(crate) mod der;
pub mod document;
pub mod environment;
pub mod finding;
pub mod journal_entry;
pub mod log_event;
pub mod log_line;
pub mod memory_map;
pub mod name;
pub mod pem;
pub mod quantity;
pub mod strict;
pub mod trust;
