//! Pushing a pack onto an instance, and taking it back.

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

/// How long the archive may take to get there.
const ON_THE_WAY: Duration = Duration::from_secs(300);
/// How long the agent waits until it knows what became of it.
const INSTALLING: Duration = Duration::from_secs(MAX_WAIT_S);

/// A pack that is to be pushed; cheap to clone.
#[derive(Debug, Clone)]
pub struct Push {
    archive: Bytes,
    path: String,
    pack: PackName,
    version: PackVersion,
    digest: Digest,
}

impl Push {
    /// Of a pack that was built, whose archive is read into memory. Without a time to live the instance's own applies.
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
    /// `POST /v1/packs/push`: installs the pack there without a signature, for a while. The same archive again only lasts longer.
    pub async fn push(&self, push: &Push) -> Result<Pushed, Error> {
        let patience = ON_THE_WAY + INSTALLING;
        let call = Call::upload(&push.path, ARCHIVE_TYPE, push.archive.clone(), patience).repeatable();
        self.json(call, (&push.pack, &push.version, &push.digest)).await
    }

    /// `POST /v1/packs/{pack}/unpush`: takes a pushed version back before its time is over.
    pub async fn unpush(&self, pack: &PackName) -> Result<Unpushed, Error> {
        let path = format!("/v1/packs/{pack}/unpush");
        self.json(Call::upload(path, ARCHIVE_TYPE, Bytes::new(), INSTALLING), pack).await
    }
}
