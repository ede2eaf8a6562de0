//! Pack format, a superset of StackStorm's.
//!
//! - `pack.yaml`: [`PackFile`] as written, [`Pack`] as checked.
//! - [`action`]: action files.
//! - [`param`]: the parameter language: schemas, checks and binding of a caller's values; [`deliver`]: their delivery to a process.
//! - [`contents`]: checks and lints of all files of a pack together.
//! - [`site_config`]: a host's configuration of a pack.
//! - [`schemas`]: JSON Schemas of the files, for editors.

pub mod action;
pub mod contents;
pub mod deliver;
mod metadata;
pub mod param;
#[cfg(feature = "schemas")]
pub mod schemas;
pub mod site_config;

pub use metadata::{Pack, PackFile};
