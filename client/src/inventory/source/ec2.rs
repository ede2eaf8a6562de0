//! `kind = "ec2"`: instances of AWS accounts, by `DescribeInstances`. Each region of each account is a source of its own.

mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bolt_aws::ec2::{Account, Base, Ec2Instance, Filters, Role};
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;

use super::one_or_many::OneOrMany;
use super::{Fetched, Source, SourceError};
use crate::inventory::address::Address;
use crate::inventory::entry::{self, Found};
pub use settings::{AddressKind, Addresses, Ec2Settings, FactSettings, RoleSettings};

/// Port of an agent by default.
const DEFAULT_PORT: u16 = 8443;
/// States of instances that are listed by default.
const DEFAULT_STATES: [&str; 2] = ["pending", "running"];
/// States that EC2 knows.
const STATES: [&str; 6] = ["pending", "running", "shutting-down", "stopping", "stopped", "terminated"];
/// Tag with the name of the Auto Scaling group.
const SCALING_GROUP: &str = "aws:autoscaling:groupName";
/// Maximum number of instances that cannot be used and get an error of their own.
const MAX_LEFT_OUT: usize = 20;

/// How instances of EC2 become instances of the inventory.
#[derive(Debug)]
struct Mapping {
    addresses: Vec<AddressKind>,
    port: u16,
    app: Vec<String>,
    cluster: Vec<String>,
    group: Vec<String>,
}

/// A region of an account.
#[derive(Debug)]
pub struct Ec2Source {
    name: String,
    account: Account,
    region: String,
    filters: Filters,
    states: Vec<String>,
    mapping: Arc<Mapping>,
    key: String,
    max_age: Duration,
}

impl Ec2Source {
    /// Creates the sources of a table. The error names the key.
    pub fn all(name: &str, settings: Ec2Settings, max_age: Duration) -> Result<Vec<Ec2Source>, String> {
        let key = format!("ec2 {settings:?}");
        let Ec2Settings { regions, profile, roles, filters, states, address, port, facts } = settings;
        settings::check_regions(&regions)?;
        let states = states.unwrap_or_else(|| DEFAULT_STATES.map(str::to_owned).to_vec());
        if states.is_empty() {
            return Err("states: give at least one state".to_owned());
        }
        if let Some(wrong) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
            return Err(format!("states: {wrong:?} is not one of {}", STATES.join(", ")));
        }
        let mut filters: Filters = filters.into_iter().map(|(name, values)| (name, values.into())).collect();
        settings::check_filters(&filters)?;
        filters.insert("instance-state-name".to_owned(), states.clone());
        let addresses = match address {
            None => vec![AddressKind::PrivateIp],
            Some(Addresses::One(one)) => vec![one],
            Some(Addresses::Many(many)) => many,
        };
        if addresses.is_empty() {
            return Err("address: give at least one of private_ip, public_ip, ipv6, private_dns, public_dns".to_owned());
        }
        let port = port.unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err("port: give 1 to 65535".to_owned());
        }
        let tags = |given: Option<OneOrMany>, default: &str| given.map_or_else(|| vec![default.to_owned()], Vec::from);
        let mapping = Arc::new(Mapping {
            addresses,
            port,
            app: tags(facts.app, "app"),
            cluster: tags(facts.cluster, "cluster"),
            group: tags(facts.group, SCALING_GROUP),
        });
        let base = Arc::new(Base::new(profile, regions[0].clone()));
        let accounts = accounts(&base, roles)?;
        let mut sources = Vec::with_capacity(accounts.len() * regions.len());
        for (label, account) in &accounts {
            for region in &regions {
                sources.push(Ec2Source {
                    name: if label.is_empty() {
                        format!("{name} {region}")
                    } else {
                        format!("{name} {label} {region}")
                    },
                    account: account.clone(),
                    region: region.clone(),
                    filters: filters.clone(),
                    states: states.clone(),
                    mapping: Arc::clone(&mapping),
                    key: format!("{key} {label} {region}"),
                    max_age,
                });
            }
        }
        Ok(sources)
    }
}

/// Returns an account for each role, with its label, or that of the caller.
fn accounts(base: &Arc<Base>, roles: Vec<RoleSettings>) -> Result<Vec<(String, Account)>, String> {
    if roles.is_empty() {
        return Ok(vec![(String::new(), Account::new(Arc::clone(base), None))]);
    }
    let mut accounts: Vec<(String, Account)> = Vec::with_capacity(roles.len());
    for RoleSettings { role_arn, external_id, session_name } in roles {
        // arn:aws:iam::123456789012:role/name
        let parts: Vec<&str> = role_arn.splitn(6, ':').collect();
        let [arn, _, "iam", _, number, role] = parts[..] else {
            return Err(format!(
                "roles: {role_arn:?} is not the ARN of a role, such as arn:aws:iam::123456789012:role/name"
            ));
        };
        let is_account = number.len() == 12 && number.bytes().all(|b| b.is_ascii_digit());
        let Some(role) = role.strip_prefix("role/").filter(|_| arn == "arn" && is_account) else {
            return Err(format!(
                "roles: {role_arn:?} is not the ARN of a role, such as arn:aws:iam::123456789012:role/name"
            ));
        };
        let label = format!("account {number} role {}", entry::shorten(role));
        if accounts.iter().any(|(other, _)| *other == label) {
            return Err(format!("roles: {role_arn} is given twice"));
        }
        let session_name = session_name.unwrap_or_else(|| "bolt".to_owned());
        let role = Role { arn: role_arn, external_id, session_name };
        accounts.push((label, Account::new(Arc::clone(base), Some(role))));
    }
    Ok(accounts)
}

#[async_trait]
impl Source for Ec2Source {
    fn name(&self) -> &str {
        &self.name
    }

    fn cache_key(&self) -> String {
        self.key.clone()
    }

    fn max_age(&self) -> Duration {
        self.max_age
    }

    async fn fetch(&self) -> Result<Fetched, SourceError> {
        let listed = self.account.describe_instances(&self.region, &self.filters).await.map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            SourceError { message: error.to_string(), hint }
        })?;
        let mut fetched = Fetched::default();
        let mut seen = std::collections::HashSet::new();
        for one in listed {
            // The API may answer with the state of a moment later than the filter's.
            if !self.states.contains(&one.state) {
                continue;
            }
            match self.mapping.apply(&self.region, &one) {
                // An instance that moves between pages is listed twice.
                Ok(found) if seen.insert(found.facts.id.clone()) => fetched.found.push(found),
                Ok(_) => {}
                Err(error) if fetched.left_out.len() < MAX_LEFT_OUT => fetched.left_out.push(error),
                Err(_) => {}
            }
        }
        Ok(fetched)
    }
}

impl Mapping {
    fn apply(&self, region: &str, one: &Ec2Instance) -> Result<Found, SourceError> {
        let shown = crate::show::visible(&entry::shorten(&one.id));
        let wrong = |problem: String| SourceError::new(format!("instance {shown}: {problem}"));
        let id = InstanceId::new(one.id.as_str()).map_err(|error| wrong(error.to_string()))?;
        let tags: BTreeMap<String, String> = one.tags.iter().cloned().collect();
        let fact = |names: &[String]| names.iter().find_map(|name| tags.get(name)).cloned().unwrap_or_default();
        let (app, cluster, group) = (fact(&self.app), fact(&self.cluster), fact(&self.group));
        let facts = Facts { id, region: region.to_owned(), zone: one.zone.clone(), app, cluster, group, tags };
        entry::check(&facts).map_err(|problem| wrong(problem).hint("correct its tags"))?;
        let host = self.addresses.iter().map(|kind| kind.of(one)).find(|host| !host.is_empty());
        let address = host.map(|host| Address::of_host(host, self.port)).transpose();
        Ok(Found { facts, address: address.map_err(|error| wrong(error.to_string()))? })
    }
}

/// Reads an instance for the fuzz targets.
#[cfg(feature = "fuzzing")]
pub(in crate::inventory) fn fuzz_instance(source: &Ec2Source, one: &Ec2Instance) -> Result<Found, String> {
    source.mapping.apply(&source.region, one).map_err(|error| error.message)
}

impl AddressKind {
    fn of(self, one: &Ec2Instance) -> &str {
        match self {
            AddressKind::PrivateIp => &one.private_ip,
            AddressKind::PublicIp => &one.public_ip,
            AddressKind::Ipv6 => &one.ipv6,
            AddressKind::PrivateDns => &one.private_dns,
            AddressKind::PublicDns => &one.public_dns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::base::document::from_value;
    use serde_json::{Value, json};

    fn sources(settings: &Value) -> Result<Vec<Ec2Source>, String> {
        let settings = from_value(settings).map_err(|error| error.to_string())?;
        Ec2Source::all("ec2", settings, Duration::ZERO)
    }

    fn one() -> Ec2Instance {
        Ec2Instance {
            id: "i-1".to_owned(),
            state: "running".to_owned(),
            zone: "eu-west-1a".to_owned(),
            private_ip: "10.0.0.1".to_owned(),
            ipv6: "2001:db8::1".to_owned(),
            tags: [("app", "web"), ("Service", "web2"), (SCALING_GROUP, "web-v001")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..Ec2Instance::default()
        }
    }

    fn found(settings: &Value, one: &Ec2Instance) -> Result<Found, SourceError> {
        sources(settings).unwrap()[0].mapping.apply("eu-west-1", one)
    }

    #[test]
    fn every_region_of_every_account_is_a_source() {
        let role =
            |number: &str| json!({"role_arn": format!("arn:aws:iam::{number}:role/ops/bolt"), "external_id": "x"});
        let settings =
            json!({"regions": ["eu-west-1", "us-east-1"], "roles": [role("111111111111"), role("222222222222")]});
        let all = sources(&settings).unwrap();
        let names: Vec<&str> = all.iter().map(|source| source.name()).collect();
        let of = |number: &str, region: &str| format!("ec2 account {number} role ops/bolt {region}");
        let (one, other) = ("111111111111", "222222222222");
        let expected = [of(one, "eu-west-1"), of(one, "us-east-1"), of(other, "eu-west-1"), of(other, "us-east-1")];
        assert_eq!(names, expected);
        let keys: std::collections::HashSet<String> = all.iter().map(|source| source.cache_key()).collect();
        assert_eq!(keys.len(), 4);
        let own = sources(&json!({"regions": ["eu-west-1"]})).unwrap();
        assert_eq!(own[0].name(), "ec2 eu-west-1");
        assert_eq!(own[0].filters["instance-state-name"], ["pending", "running"]);
    }

    #[test]
    fn tags_become_facts() {
        let plain = found(&json!({"regions": ["eu-west-1"]}), &one()).unwrap();
        assert_eq!(plain.address.unwrap().to_string(), "10.0.0.1:8443");
        let facts = plain.facts;
        let all = [&facts.region, &facts.zone, &facts.app, &facts.cluster, &facts.group, &facts.tags["Service"]];
        assert_eq!(all, ["eu-west-1", "eu-west-1a", "web", "", "web-v001", "web2"]);
        let mapped = json!({"regions": ["eu-west-1"], "facts": {"app": ["service", "Service"], "group": []}});
        let facts = found(&mapped, &one()).unwrap().facts;
        assert_eq!([facts.app, facts.group], ["web2", ""]);
    }

    #[test]
    fn the_first_address_that_an_instance_has_is_used() {
        let with = |address: Value| found(&json!({"regions": ["eu-west-1"], "port": 1, "address": address}), &one());
        let address = |found: Found| found.address.map(|address| address.to_string());
        assert_eq!(address(with(json!("ipv6")).unwrap()).as_deref(), Some("[2001:db8::1]:1"));
        assert_eq!(address(with(json!(["public_ip", "private_ip"])).unwrap()).as_deref(), Some("10.0.0.1:1"));
        assert_eq!(address(with(json!("public_dns")).unwrap()), None);
    }

    #[test]
    fn hostile_fields_are_errors_that_name_the_instance() {
        let settings = json!({"regions": ["eu-west-1"]});
        let mut wrong = one();
        wrong.tags.push(("x".to_owned(), "\u{1b}[2J".to_owned()));
        let error = found(&settings, &wrong).unwrap_err().message;
        assert_eq!(error, "instance i-1: the tag \"x\" contains a control character");
        for (id, ip) in [("i-1\u{1b}[2J", "10.0.0.1"), ("../x", "10.0.0.1"), ("i-1", "10.0.0.1/24"), ("i-1", "a b")] {
            let wrong = Ec2Instance { id: id.to_owned(), private_ip: ip.to_owned(), ..one() };
            let error = found(&settings, &wrong).unwrap_err().message;
            assert!(error.starts_with("instance ") && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn wrong_settings_name_their_key() {
        for (settings, key) in [
            (json!({}), "\"regions\" is missing"),
            (json!({"regions": []}), "regions:"),
            (json!({"regions": ["eu-west-1", "eu-west-1"]}), "regions: eu-west-1 is given twice"),
            (json!({"regions": ["EU"]}), "regions:"),
            (json!({"regions": ["a"], "states": ["dead"]}), "states: \"dead\" is not one of pending"),
            (json!({"regions": ["a"], "states": []}), "states:"),
            (json!({"regions": ["a"], "filters": {"instance-state-name": "running"}}), "use `states`"),
            (json!({"regions": ["a"], "filters": {"vpc-id": []}}), "filters: \"vpc-id\""),
            (json!({"regions": ["a"], "roles": [{"role_arn": "bolt"}]}), "roles: \"bolt\" is not the ARN"),
            (json!({"regions": ["a"], "roles": [{"role": "x"}]}), "unknown key \"role\""),
            (json!({"regions": ["a"], "port": 0}), "port:"),
            (json!({"regions": ["a"], "port": 70000}), "port"),
            (json!({"regions": ["a"], "address": "ip"}), "address"),
            (json!({"regions": ["a"], "address": []}), "address:"),
            (json!({"regions": ["a"], "facts": {"zone": "z"}}), "unknown key \"zone\""),
        ] {
            let error = sources(&settings).unwrap_err();
            assert!(error.contains(key), "{settings}: {error}");
        }
    }
}
