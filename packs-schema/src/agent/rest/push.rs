//! Pushed packs in the REST interface. Times are milliseconds since 1970, UTC.

use serde::{Deserialize, Serialize};

use crate::base::name::{Digest, PackName, PackVersion};
use crate::delivery::pushed::PushInfo;

/// Media type of a pack archive, the body of `POST /v1/packs/push`.
pub const ARCHIVE_TYPE: &str = "application/gzip";
/// Alternative media type of a pack archive, for callers without one for archives.
pub const BYTES_TYPE: &str = "application/octet-stream";

/// Response of `POST /v1/packs/push`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Pushed {
    /// Pack.
    pub pack: PackName,
    /// Version, from the archive.
    pub version: PackVersion,
    /// Digest of the archive.
    pub digest: Digest,
    /// Principal that pushed it, and its expiry; absent while it is not known whether it was installed (202).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// Signed version that becomes active again afterwards.
    #[serde(default, rename = "over", skip_serializing_if = "Option::is_none")]
    pub signed: Option<PackVersion>,
    /// Warning that does not prevent the push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Response of `POST /v1/packs/{pack}/unpush`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Unpushed {
    /// Pack.
    pub pack: PackName,
    /// True if the pushed version is removed; otherwise poll `GET /v1/packs` (202).
    pub done: bool,
    /// Signed version that is active again; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackVersion>,
}
