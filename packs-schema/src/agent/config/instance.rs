//! `[instance]`: identity and facts of this instance, and whether missing ones come from its cloud.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigError;
use crate::base::name::InstanceId;
use crate::delivery::facts::{Facts, StoredFacts};

/// `[instance]`. Values here take precedence over those of the cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConfig {
    /// Identity, which the certificate contains; optional with `metadata`.
    pub id: Option<InstanceId>,
    /// Region, such as `us-east-1`; empty if not set.
    pub region: String,
    /// Availability zone, such as `us-east-1a`; empty if not set.
    pub zone: String,
    /// Application that the instance serves; empty if not set.
    pub app: String,
    /// Cluster of the application; empty if not set.
    pub cluster: String,
    /// Scaling group; empty if not set.
    pub group: String,
    /// Other facts. The instance's own tags are added to these.
    pub tags: BTreeMap<String, String>,
    /// Query the instance's metadata service (IMDSv2) for id, region, zone and tags, in each poll.
    pub metadata: bool,
    /// Tags of the instance that contain facts with names of their own.
    pub from_tags: FromTags,
}

/// `[instance.from_tags]`: names of tags. If the instance lacks the tag, the fact is empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FromTags {
    /// Tag with the application.
    pub app: String,
    /// Tag with the cluster.
    pub cluster: String,
    /// Tag with the scaling group.
    pub group: String,
}

impl Default for FromTags {
    fn default() -> FromTags {
        FromTags { app: "app".into(), cluster: "cluster".into(), group: "aws:autoscaling:groupName".into() }
    }
}

impl InstanceConfig {
    /// Returns the facts, where `found` are those of the cloud; `None` while the id is unknown.
    pub fn facts(&self, found: Option<&StoredFacts>) -> Option<Facts> {
        let found = found.filter(|_| self.metadata);
        let id = self.id.clone().or_else(|| Some(found?.id.clone()))?;
        let tag = |name: &str| found.and_then(|found| found.tags.get(name)).cloned().unwrap_or_default();
        let or = |written: &String, said: String| if written.is_empty() { said } else { written.clone() };
        let mut tags = found.map(|found| found.tags.clone()).unwrap_or_default();
        tags.extend(self.tags.clone());
        Some(Facts {
            id,
            region: or(&self.region, found.map(|found| found.region.clone()).unwrap_or_default()),
            zone: or(&self.zone, found.map(|found| found.zone.clone()).unwrap_or_default()),
            app: or(&self.app, tag(&self.from_tags.app)),
            cluster: or(&self.cluster, tag(&self.from_tags.cluster)),
            group: or(&self.group, tag(&self.from_tags.group)),
            tags,
        })
    }

    /// Returns the facts for decisions that must not take an unknown fact for an empty one, such as grants with `where`: `None`
    /// while those of the cloud are not found, also where the id is written.
    pub fn known_facts(&self, found: Option<&StoredFacts>) -> Option<Facts> {
        if self.metadata && found.is_none() { None } else { self.facts(found) }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.id.is_none() && !self.metadata { Err(ConfigError::NoInstance) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> StoredFacts {
        let tags = [("app", "cassandra"), ("Ring", "seven"), ("aws:autoscaling:groupName", "cass-v12"), ("team", "a")];
        StoredFacts {
            format: crate::delivery::facts::FORMAT,
            boot: "of-a-boot".into(),
            id: InstanceId::new("i-cloud").unwrap(),
            region: "us-east-1".into(),
            zone: "us-east-1c".into(),
            tags: tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    fn config(text: &str) -> InstanceConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn configured_facts_take_precedence_over_those_of_the_cloud() {
        let cloud = config("metadata = true\nfrom_tags.cluster = \"Ring\"").facts(Some(&found())).unwrap();
        assert_eq!(
            (cloud.id.as_str(), cloud.region.as_str(), cloud.zone.as_str()),
            ("i-cloud", "us-east-1", "us-east-1c")
        );
        assert_eq!(
            (cloud.app.as_str(), cloud.cluster.as_str(), cloud.group.as_str()),
            ("cassandra", "seven", "cass-v12")
        );
        assert_eq!(cloud.get("tags.team"), Some("a"));

        let text = "metadata = true\nid = \"i-1\"\nzone = \"z\"\napp = \"web\"\ntags = {team = \"b\", more = \"c\"}";
        let both = config(text).facts(Some(&found())).unwrap();
        assert_eq!((both.id.as_str(), both.region.as_str(), both.zone.as_str()), ("i-1", "us-east-1", "z"));
        assert_eq!((both.app.as_str(), both.cluster.as_str(), both.group.as_str()), ("web", "", "cass-v12"));
        assert_eq!(
            [both.get("tags.team"), both.get("tags.more"), both.get("tags.Ring")],
            [Some("b"), Some("c"), Some("seven")]
        );
    }

    #[test]
    fn facts_of_the_cloud_are_used_only_with_metadata() {
        let alone = config("id = \"i-1\"\nzone = \"z\"").facts(Some(&found())).unwrap();
        assert_eq!(alone, Facts { zone: "z".into(), ..Facts::of(InstanceId::new("i-1").unwrap()) });
        assert_eq!(config("metadata = true").facts(None), None);
        assert_eq!(config("metadata = true\nid = \"i-1\"").facts(None).unwrap().id.as_str(), "i-1");
        assert_eq!(config("").facts(None), None);
    }
}
