//! Pushes a pack to an instance, and removes a pushed one.

use std::time::Duration;

use bytes::Bytes;
use packs_schema::agent::rest::{ARCHIVE_TYPE, MAX_WAIT_S, Pushed, Unpushed};
use packs_schema::base::name::{Digest, PackName, PackVersion};
use packs_schema::base::quantity::format_duration;
use packs_schema::pack::Pack;

use super::Agent;
use super::call::Call;
use crate::error::Error;
use crate::pack::{BuiltPack, PackError};

/// Time limit for the upload of the archive.
const ON_THE_WAY: Duration = Duration::from_secs(300);
/// Time for which the agent waits for the installation before it answers.
const INSTALLING: Duration = Duration::from_secs(MAX_WAIT_S);

/// Pack to push; cheap to clone.
#[derive(Debug, Clone)]
pub struct Push {
    archive: Bytes,
    path: String,
    pack: PackName,
    version: PackVersion,
    digest: Digest,
}

impl Push {
    /// Prepares a built pack and reads its archive into memory. Without `ttl` the instance's own time to live applies.
    pub fn new(built: BuiltPack, ttl: Option<Duration>) -> Result<Push, PackError> {
        let BuiltPack { archive, digest, pack: Pack { name: pack, version, .. }, .. } = built;
        let mut path = format!("/v1/packs/push?pack={pack}&version={version}&digest={digest}");
        if let Some(ttl) = ttl {
            path.push_str(&format!("&ttl={}", format_duration(ttl)));
        }
        let archive = archive.to_vec().map_err(PackError::file("read", std::env::temp_dir()))?;
        Ok(Push { archive: archive.into(), path, pack, version, digest })
    }
}

impl Agent {
    /// Requests `POST /v1/packs/push`: installs the unsigned pack until its time to live ends. Pushing the same archive again
    /// extends that time.
    pub async fn push(&self, push: &Push) -> Result<Pushed, Error> {
        let patience = ON_THE_WAY + INSTALLING;
        let call = Call::upload(&push.path, ARCHIVE_TYPE, push.archive.clone(), patience).repeatable();
        self.json(call, (&push.pack, &push.version, &push.digest)).await
    }

    /// Requests `POST /v1/packs/{pack}/unpush`: removes a pushed version before its time to live ends.
    pub async fn unpush(&self, pack: &PackName) -> Result<Unpushed, Error> {
        let path = format!("/v1/packs/{pack}/unpush");
        self.json(Call::upload(path, ARCHIVE_TYPE, Bytes::new(), INSTALLING), pack).await
    }
}
