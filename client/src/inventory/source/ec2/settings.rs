//! Keys of an `[[inventory]]` table of kind `ec2`.

use std::collections::BTreeMap;

use bolt_aws::ec2::Filters;
use serde::Deserialize;

use crate::inventory::source::one_or_many::OneOrMany;

/// Keys of an `[[inventory]]` table of this kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ec2Settings {
    /// The regions.
    pub regions: Vec<String>,
    /// Profile of the AWS configuration [default: the default chain].
    #[serde(default)]
    pub profile: Option<String>,
    /// Roles to assume, each in an account [default: the caller's own credentials].
    #[serde(default)]
    pub roles: Vec<RoleSettings>,
    /// Filters of `DescribeInstances`.
    #[serde(default)]
    pub filters: BTreeMap<String, OneOrMany>,
    /// States of the instances [default: pending and running].
    #[serde(default)]
    pub states: Option<Vec<String>>,
    /// Address to use; the first that an instance has [default: private_ip].
    #[serde(default)]
    pub address: Option<Addresses>,
    /// Port of the agents [default: 8443].
    #[serde(default)]
    pub port: Option<u16>,
    /// Tags that the facts come from.
    #[serde(default)]
    pub facts: FactSettings,
}

/// A role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// Its ARN.
    pub role_arn: String,
    /// External id of its trust policy.
    #[serde(default)]
    pub external_id: Option<String>,
    /// Session name, which the account's logs show [default: bolt].
    #[serde(default)]
    pub session_name: Option<String>,
}

/// Names of the tags that facts come from: the first that an instance has; an empty list for none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactSettings {
    /// The application [default: app].
    #[serde(default)]
    pub app: Option<OneOrMany>,
    /// The cluster [default: cluster].
    #[serde(default)]
    pub cluster: Option<OneOrMany>,
    /// The scaling group [default: aws:autoscaling:groupName].
    #[serde(default)]
    pub group: Option<OneOrMany>,
}

/// Address of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressKind {
    /// Private IPv4 address.
    PrivateIp,
    /// Public IPv4 address.
    PublicIp,
    /// IPv6 address.
    Ipv6,
    /// Private DNS name.
    PrivateDns,
    /// Public DNS name.
    PublicDns,
}

/// Kind of address, or several in order of preference.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "give private_ip, public_ip, ipv6, private_dns or public_dns, or a list of them")]
pub enum Addresses {
    /// A single one.
    One(AddressKind),
    /// Several.
    Many(Vec<AddressKind>),
}

pub(super) fn check_regions(regions: &[String]) -> Result<(), String> {
    let is_region = |text: &str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    if let Some(wrong) = regions.iter().find(|region| !is_region(region)) {
        return Err(format!("regions: {wrong:?} is not the name of a region, such as eu-west-1"));
    }
    for (at, region) in regions.iter().enumerate() {
        if regions[..at].contains(region) {
            return Err(format!("regions: {region} is given twice"));
        }
    }
    if regions.is_empty() { Err("regions: give at least one region".to_owned()) } else { Ok(()) }
}

pub(super) fn check_filters(filters: &Filters) -> Result<(), String> {
    if filters.contains_key("instance-state-name") {
        return Err("filters: use `states` in place of instance-state-name".to_owned());
    }
    if filters.len() > 50 || filters.values().any(|values| values.len() > 200) {
        return Err("filters: EC2 takes at most 50 filters with 200 values each".to_owned());
    }
    match filters.iter().find(|(name, values)| name.is_empty() || values.is_empty()) {
        Some((name, _)) => Err(format!("filters: {name:?} needs a name and at least one value")),
        None => Ok(()),
    }
}
