//! Values of parameters against the schemas of an action: what binds fits, is delivered, and tells no secret.

use packs_schema::base::name::ParamName;
use packs_schema::base::strict;
use packs_schema::pack::deliver::deliver;
use packs_schema::pack::param::bind::bind;
use packs_schema::pack::param::cast;
use packs_schema::pack::param::check::check;
use packs_schema::pack::param::{Parameters, Schema};
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value};

use crate::{join, parts};

/// Text in place of each string of a secret parameter.
const CANARY: &str = "Zq7canaryZq7";

/// The schemas by name, the caller's values, and text for one of them.
pub(super) fn run(data: &[u8]) {
    let [schemas, values, text] = parts(data);
    let Ok(parameters) = serde_json::from_slice::<Parameters>(schemas) else { return };
    let again = serde_json::to_vec(&parameters).expect("schemas serialise");
    assert_eq!(serde_json::from_slice::<Parameters>(&again).expect("they read back"), parameters);
    for (name, schema) in &parameters {
        schema.findings(name.as_str());
        if let Ok(text) = std::str::from_utf8(text) {
            cast::from_text(schema, text);
            cast::problem(schema, text);
        }
    }
    let Ok(Value::Object(values)) = strict::parse(values) else { return };
    bound(&parameters, &values);
    let is_told = String::from_utf8_lossy(&again).contains(CANARY);
    if !is_told && parameters.values().any(|schema| schema.secret) {
        secrets_stay(&parameters, &values);
    }
}

fn bound(parameters: &Parameters, values: &Map<String, Value>) {
    match bind(parameters, values) {
        Ok(bound) => {
            for (name, value) in bound.values() {
                let name = ParamName::new(name.as_str()).expect("only names of parameters bind");
                let schema = &parameters[&name];
                // A default is checked with the action, and not again.
                if values.get(name.as_str()).is_some_and(|given| given == value) {
                    assert_eq!(check(schema, value), [], "{name} was bound");
                }
            }
            let delivered = deliver(parameters, &bound, &SiteConfig::default());
            let stdin = strict::parse(&delivered.stdin).expect("standard input is strict JSON");
            assert_eq!(stdin.as_object(), Some(bound.values()));
            assert!(delivered.arguments.iter().all(|argument| !argument.contains('\0')), "an argument with NUL");
            assert!(delivered.environment.iter().all(|(name, value)| !name.contains(['\0', '=']) && !value.contains('\0')));
            let again = bind(parameters, bound.given()).expect("the launcher binds the same");
            assert_eq!(again.values(), bound.values());
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= 128, "{} errors", errors.len());
            assert!(errors.iter().all(|error| error.to_string().len() <= 8192));
        }
    }
}

/// Binds with a canary in every string of secret parameters: it is in the values for standard input only.
fn secrets_stay(parameters: &Parameters, values: &Map<String, Value>) {
    let is_secret = |name: &String| parameters.iter().any(|(known, schema)| known.as_str() == name && schema.secret);
    let replaced = |(name, value): (&String, &Value)| {
        let value = if is_secret(name) { with_canary(value) } else { without_canary(value) };
        (name.replace(CANARY, "x"), value)
    };
    let values: Map<String, Value> = values.iter().map(replaced).collect();
    match bind(parameters, &values) {
        Ok(bound) => {
            let delivered = deliver(parameters, &bound, &SiteConfig::default());
            let public = serde_json::to_string(bound.public()).expect("a map serialises");
            for shown in [public, format!("{bound:?}"), format!("{delivered:?}")] {
                assert!(!shown.contains(CANARY), "{shown}");
            }
        }
        Err(errors) => assert!(!format!("{errors:?}").contains(CANARY), "{errors:?}"),
    }
}

fn with_canary(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::from(CANARY),
        Value::Array(items) => items.iter().map(with_canary).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), with_canary(value))).collect(),
        other => other.clone(),
    }
}

fn without_canary(value: &Value) -> Value {
    let text = value.to_string().replace(CANARY, "x");
    serde_json::from_str(&text).expect("it was JSON before")
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let _: Schema = Schema::default();
    let schemas = br#"{"n":{"type":"integer","minimum":1,"maximum":10,"position":0},"name":{"type":"string","pattern":"^[a-z]{1,8}$",
        "required":true,"minLength":2,"maxLength":9},"token":{"type":"string","secret":true,"enum":["a","b"]},"l":{"type":"array",
        "items":{"type":"number","multipleOf":0.1},"uniqueItems":true,"maxItems":3},"o":{"type":["object","null"],"properties":
        {"a":{"type":"boolean","default":true}},"additionalProperties":false,"patternProperties":{"^x":{}}},"f":{"immutable":true,
        "default":"x"}}"#;
    let secret = br#"{"t":{"type":"string","secret":true,"pattern":"^[0-9]+$","minLength":99},"o":{"secret":true,"additionalProperties":false}}"#;
    vec![
        join(&[secret, br#"{"t":"abc","o":{"x":"abc"}}"#, b"x"]),
        join(&[schemas, br#"{"n":3,"name":"abc","l":[0.1,2e3],"o":{"a":false,"xx":1}}"#, b"1,2"]),
        join(&[schemas, br#"{"n":-3,"token":"no","name":"x","zzz":1,"f":2,"o":{"b":1},"l":["-a,b"]}"#, b"{\"a\":1}"]),
        join(&[br#"{"s":{"type":"object","secret":true,"properties":{"p":{"type":"string","maxLength":3}}}}"#, br#"{"s":{"p":"longer"}}"#, b"x"]),
        join(&[br#"{"k":{"type":"array","items":[{"type":"string"},{"type":"integer"}],"additionalItems":{"type":"null"}}}"#, br#"{"k":["a",1,null]}"#, b"a,1"]),
    ]
}
