//! Site configuration of a pack, typed by its schema. No message tells a value, and no secret is in the public part.

use packs_schema::base::name::ParamName;
use packs_schema::pack::contents::config_schema;
use packs_schema::pack::param::Parameters;
use packs_schema::pack::site_config::SiteConfig;

use crate::{join, parts, repository};

/// Value that stands for a secret in seeds.
const CANARY: &str = "hunter2canary";

pub(super) fn run(data: &[u8]) {
    let [schema, site] = parts(data);
    let Ok(schema) = std::str::from_utf8(schema) else { return };
    let Ok(schema) = config_schema(schema) else { return };
    let parameters: Parameters =
        schema.into_iter().filter_map(|(name, schema)| Some((ParamName::new(name).ok()?, schema))).collect();
    match SiteConfig::read(&parameters, site) {
        Ok(config) => {
            assert!(config.public().keys().all(|name| !config.secrets().contains_key(name)));
            for (name, schema) in parameters.iter().filter(|(_, schema)| schema.holds_secret()) {
                assert!(!config.public().contains_key(name.as_str()), "{name} holds a secret: {schema:?}");
            }
            let joined = SiteConfig::new(config.public().clone(), config.secrets().clone());
            assert!(joined == config);
        }
        Err(message) => {
            assert!(message.len() <= 64 << 10, "an error of {} bytes", message.len());
            // A name of a key may be told.
            let is_value = |line: &str| line.trim_end().ends_with(&format!(": {CANARY}"));
            let text = String::from_utf8_lossy(site);
            let only_value = text.matches(CANARY).count() == text.lines().filter(|line| is_value(line)).count();
            let in_schema = serde_json::to_string(&parameters).is_ok_and(|schema| schema.contains(CANARY));
            assert!(!only_value || in_schema || !message.contains(CANARY), "{message}");
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let schema = b"user: {type: string, required: true}\npassword: {type: string, secret: true, minLength: 4}\n\
        hosts: {type: array, items: {type: string}}\nport: {type: integer, default: 9042}\n\
        nested: {type: object, properties: {token: {type: string, secret: true}}, additionalProperties: false}\n";
    let site = format!("user: bolt\npassword: {CANARY}\nhosts: [a, b]\nnested:\n  token: {CANARY}\n");
    let wrong = format!("user: 5\npassword: {CANARY}\nport: {CANARY}\nnested:\n  other: {CANARY}\n");
    let mut seeds = vec![join(&[schema, site.as_bytes()]), join(&[schema, wrong.as_bytes()])];
    for example in repository::below("packs-schema/examples", &["config.schema.yaml"]) {
        seeds.push(join(&[&example, site.as_bytes()]));
    }
    seeds
}
