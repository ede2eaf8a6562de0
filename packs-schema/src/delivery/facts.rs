//! What is known of an instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::name::InstanceId;

/// What is known of an instance: from its configuration, its inventory or its cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Its identity, which its certificate names.
    pub id: InstanceId,
    /// Region, such as `us-east-1`; empty when not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Availability zone, such as `us-east-1a`; empty when not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// The application it serves.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub app: String,
    /// The cluster within the application.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The scaling group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Facts {
    /// Facts of an instance of which only the id is known.
    pub fn of(id: InstanceId) -> Facts {
        Facts {
            id,
            region: String::new(),
            zone: String::new(),
            app: String::new(),
            cluster: String::new(),
            group: String::new(),
            tags: BTreeMap::new(),
        }
    }

    /// The fact called `name` (`region`, `tags.team`); `None` when there is no such name.
    pub fn get(&self, name: &str) -> Option<&str> {
        Some(match name {
            "id" => self.id.as_str(),
            "region" => &self.region,
            "zone" => &self.zone,
            "app" => &self.app,
            "cluster" => &self.cluster,
            "group" => &self.group,
            _ => return name.strip_prefix("tags.").map(|tag| self.tags.get(tag).map_or("", String::as_str)),
        })
    }
}

/// Version of [`StoredFacts`] that this code writes and reads.
pub const FORMAT: u32 = 1;

/// `.facts.json`: what the metadata service said of the instance.
///
/// Believed in the boot that it was written in only: an image that was made of an instance carries that instance's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFacts {
    /// [`FORMAT`].
    pub format: u32,
    /// `/proc/sys/kernel/random/boot_id` when it was written.
    pub boot: String,
    /// The instance id.
    pub id: InstanceId,
    /// Its region.
    pub region: String,
    /// Its availability zone.
    pub zone: String,
    /// Its tags, when the service tells them.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl StoredFacts {
    /// These, if they were written in the boot `boot`, in a form that this code reads.
    pub fn of_boot(self, boot: &str) -> Option<StoredFacts> {
        (self.format == FORMAT && self.boot == boot.trim()).then_some(self)
    }
}
