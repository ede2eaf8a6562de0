//! Metadata of a repository that are signed here, with one key, so that mutations reach what is checked after the signatures.

use std::fmt::Write as _;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tough::schema::{Role, Root, Snapshot, Targets, Timestamp, key::Key};

/// Roles whose files an input has, in this order.
pub(crate) const ROLES: usize = 5;
/// File of each role. The root is the one that follows the pinned one.
pub(crate) const FILES: [&str; ROLES] = ["2.root.json", "timestamp.json", "snapshot.json", "targets.json", "team.json"];

/// The only key of the repository.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    id: String,
}

impl Signer {
    pub(crate) fn new() -> Signer {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed of 32 bytes");
        let key: Key = serde_json::from_value(key(&pair)).expect("a key");
        let id = hex(&key.key_id().expect("a key has an id"));
        Signer { pair, id }
    }

    /// Returns the file of the role at `index` of [`FILES`] with this content; `None` unless that is metadata of the role.
    pub(crate) fn sign(&self, index: usize, signed: &[u8]) -> Option<Vec<u8>> {
        let canonical = match index {
            0 => canonical::<Root>(signed),
            1 => canonical::<Timestamp>(signed),
            2 => canonical::<Snapshot>(signed),
            _ => canonical::<Targets>(signed),
        }?;
        let signature = hex(self.pair.sign(&canonical).as_ref());
        let head = format!(r#"{{"signatures":[{{"keyid":"{}","sig":"{signature}"}}],"signed":"#, self.id);
        Some([head.as_bytes(), signed, b"}"].concat())
    }

    /// Returns valid content for each of [`FILES`] in `version`, of the roles but the root.
    pub(crate) fn contents(&self, version: u64) -> [Vec<u8>; ROLES] {
        let (spec, expires) = ("1.0.0", "2030-01-01T00:00:00Z");
        let meta = json!({ "version": version });
        let target = json!({ "length": 3, "hashes": { "sha256": hex(&[version as u8; 32]) } });
        let roles: Value = ["root", "timestamp", "snapshot", "targets"]
            .into_iter()
            .map(|role| (role.to_owned(), json!({ "keyids": [self.id], "threshold": 1 })))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let keys = json!({ &self.id: key(&self.pair) });
        let team = json!({ "name": "team", "keyids": [self.id], "threshold": 1, "paths": ["packs/team/*"], "terminating": true });
        let content = [
            json!({ "_type": "root", "spec_version": spec, "consistent_snapshot": false, "version": version, "expires": expires,
                "keys": keys, "roles": roles }),
            json!({ "_type": "timestamp", "spec_version": spec, "version": version, "expires": expires,
                "meta": { "snapshot.json": meta } }),
            json!({ "_type": "snapshot", "spec_version": spec, "version": version, "expires": expires,
                "meta": { "targets.json": meta, "team.json": meta } }),
            json!({ "_type": "targets", "spec_version": spec, "version": version, "expires": expires,
                "targets": { "channels/prod/linux.json": target },
                "delegations": { "keys": keys, "roles": [team] } }),
            json!({ "_type": "targets", "spec_version": spec, "version": version, "expires": expires,
                "targets": { "packs/team/1.0.0.tar.gz": target } }),
        ];
        content.map(|value| value.to_string().into_bytes())
    }
}

fn canonical<T: Role + DeserializeOwned>(signed: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<T>(signed).ok()?.canonical_form().ok()
}

fn key(pair: &Ed25519KeyPair) -> Value {
    json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": hex(pair.public_key().as_ref()) } })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
