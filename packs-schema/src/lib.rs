//! Types that Bolt's processes agree on: they cannot hold an invalid value.
//!
//! Everything here is pure: bytes or parsed values come in, checked types or all errors at once come out. Nothing in this
//! crate opens a file, a socket or a clock.
//!
//! The modules form four layers. Imports go downwards only, and modules of one layer import each other without circles:
//!
//! ```text
//!  agent      what launcher, api, sync and client exchange: configuration, grants, records, REST messages
//!  delivery   which version of a pack an instance gets: channels, filters, cohorts, high-water marks
//!  pack       the pack format: pack.yaml, actions, parameters, site configuration, lints
//!  base       names, quantities, documents (YAML, TOML, JSON), and checks of single files
//! ```

pub mod agent;
pub mod base;
pub mod delivery;
pub mod pack;
