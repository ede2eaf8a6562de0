//! `[instance]`: who this instance is, and whether its cloud is asked for what is not written.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigError;
use crate::base::name::InstanceId;
use crate::delivery::facts::{Facts, StoredFacts};

/// `[instance]`. What is written here counts before what the cloud says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConfig {
    /// Its identity, which its certificate names; with `metadata` it may be left out.
    pub id: Option<InstanceId>,
    /// Region, such as `us-east-1`; empty when not written.
    pub region: String,
    /// Availability zone, such as `us-east-1a`; empty when not written.
    pub zone: String,
    /// The application it serves; empty when not written.
    pub app: String,
    /// The cluster within the application; empty when not written.
    pub cluster: String,
    /// The scaling group; empty when not written.
    pub group: String,
    /// Anything else. The instance's own tags come beside these.
    pub tags: BTreeMap<String, String>,
    /// The sync asks the instance's metadata service (IMDSv2) for id, region, zone and tags.
    pub metadata: bool,
    /// Which of the instance's tags say something that has a name here.
    pub from_tags: FromTags,
}

/// `[instance.from_tags]`: the names of tags. An instance without such a tag has no such fact.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FromTags {
    /// The tag with the application.
    pub app: String,
    /// The tag with the cluster.
    pub cluster: String,
    /// The tag with the scaling group.
    pub group: String,
}

impl Default for FromTags {
    fn default() -> FromTags {
        FromTags { app: "app".into(), cluster: "cluster".into(), group: "aws:autoscaling:groupName".into() }
    }
}

impl InstanceConfig {
    /// All that is known, of which `found` is what the cloud said; `None` while nobody has said who this is.
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
    fn what_is_written_counts_before_what_the_cloud_says() {
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
    fn nobody_is_asked_who_need_not_be() {
        let alone = config("id = \"i-1\"\nzone = \"z\"").facts(Some(&found())).unwrap();
        assert_eq!(alone, Facts { zone: "z".into(), ..Facts::of(InstanceId::new("i-1").unwrap()) });
        assert_eq!(config("metadata = true").facts(None), None);
        assert_eq!(config("metadata = true\nid = \"i-1\"").facts(None).unwrap().id.as_str(), "i-1");
        assert_eq!(config("").facts(None), None);
    }
}
