//! Packs that were pushed onto one instance, on the wire. Times are milliseconds since 1970, UTC.

use serde::{Deserialize, Serialize};

use crate::base::name::{Digest, PackName, PackVersion};
use crate::delivery::pushed::PushInfo;

/// The media type of a pack's archive, the body of `POST /v1/packs/push`.
pub const ARCHIVE_TYPE: &str = "application/gzip";
/// The same for callers that know no media type of archives.
pub const BYTES_TYPE: &str = "application/octet-stream";

/// Answer of `POST /v1/packs/push`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Pushed {
    /// The pack.
    pub pack: PackName,
    /// Its version, as its archive says.
    pub version: PackVersion,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Who pushed it, and until when it stays; absent when it is not known yet whether it was installed (202).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// The signed version that is active again afterwards.
    #[serde(default, rename = "over", skip_serializing_if = "Option::is_none")]
    pub signed: Option<PackVersion>,
    /// What does not stop it and somebody should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Answer of `POST /v1/packs/{pack}/unpush`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Unpushed {
    /// The pack.
    pub pack: PackName,
    /// It is known that the pushed version is gone; else ask for the pack (202).
    pub done: bool,
    /// The signed version that is active again; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackVersion>,
}
