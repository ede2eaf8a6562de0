//! JSON Schemas (draft 2020-12) of the files that people write, for their editors.

use crate::action::ActionFile;
use crate::pack::PackFile;

/// The schema of `pack.yaml`.
pub fn pack_file() -> schemars::Schema {
    schemars::schema_for!(PackFile)
}

/// The schema of `actions/<name>.yaml`.
pub fn action_file() -> schemars::Schema {
    schemars::schema_for!(ActionFile)
}
