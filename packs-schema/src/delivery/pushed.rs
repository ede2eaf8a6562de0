//! Mark of versions that were pushed onto one instance and are not signed. Times are milliseconds since 1970, UTC.

use serde::{Deserialize, Serialize};

use crate::base::name::Principal;

/// Mark of a pushed version. Whatever shows the version shows this mark too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct PushInfo {
    /// Principal that pushed it.
    pub by: Principal,
    /// Time of the push.
    pub pushed_at_ms: u64,
    /// Time of its expiry.
    pub until_ms: u64,
}
