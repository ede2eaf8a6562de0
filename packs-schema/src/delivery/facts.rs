//! Facts of an instance: id, region, zone, application and tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::name::InstanceId;

/// Facts of an instance, from its configuration, an inventory or its cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Identity, which its certificate names.
    pub id: InstanceId,
    /// Region, such as `us-east-1`; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Availability zone, such as `us-east-1a`; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Application that the instance serves.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub app: String,
    /// Cluster of the application.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Scaling group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Other facts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Facts {
    /// Creates facts with the id only.
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

    /// Returns the fact `name` (`region`, `tags.team`), or `None` if that is not the name of a fact.
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

    /// Returns the same facts with another value of the fact `name`; `None` if that is not the name of a fact, or not an id.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Option<Facts> {
        let slot = match name {
            "id" => {
                self.id = InstanceId::new(value).ok()?;
                return Some(self);
            }
            "region" => &mut self.region,
            "zone" => &mut self.zone,
            "app" => &mut self.app,
            "cluster" => &mut self.cluster,
            "group" => &mut self.group,
            _ => {
                let tag = name.strip_prefix("tags.").filter(|tag| !tag.is_empty())?;
                self.tags.entry(tag.to_owned()).or_default()
            }
        };
        value.clone_into(slot);
        Some(self)
    }
}

/// Version of [`StoredFacts`] that this code writes and reads.
pub const FORMAT: u32 = 1;

/// `.facts.json`: facts of the instance from its metadata service.
///
/// Valid only during the boot in which it was written: an image of an instance contains that instance's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFacts {
    /// [`FORMAT`].
    pub format: u32,
    /// `/proc/sys/kernel/random/boot_id` when it was written.
    pub boot: String,
    /// Instance id.
    pub id: InstanceId,
    /// Region.
    pub region: String,
    /// Availability zone.
    pub zone: String,
    /// Tags, if the service provides them.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl StoredFacts {
    /// Returns the facts if they were written during the boot `boot` and in a supported format.
    pub fn of_boot(self, boot: &str) -> Option<StoredFacts> {
        (self.format == FORMAT && self.boot == boot.trim()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_that_can_be_read_can_be_given() {
        let none = Facts::of(InstanceId::new("i-0").unwrap());
        for name in ["id", "region", "zone", "app", "cluster", "group", "tags.team"] {
            assert_eq!(none.clone().with(name, "i-1").unwrap().get(name), Some("i-1"), "{name}");
        }
        assert!(none.get("colour").is_none());
        for (name, value) in [("colour", "red"), ("tags.", "x"), ("id", "../i")] {
            assert_eq!(none.clone().with(name, value), None, "{name}");
        }
    }
}
