//! Properties of parameters: binding never panics, secrets are never shown, delivered values read back.

use packs_schema::base::strict;
use packs_schema::pack::deliver::deliver;
use packs_schema::pack::param::Parameters;
use packs_schema::pack::param::bind::bind;
use packs_schema::pack::param::cast::from_text;
use packs_schema::pack::site_config::SiteConfig;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::draw;

/// Part of every secret; no other generated value contains it.
const CANARY: &str = "canary-7f3a";

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Schemas with StackStorm's keywords on some of their parts: `secret`, `required: true`, `default`, `position`.
fn parameter() -> BoxedStrategy<Value> {
    (draw::schema(), any::<u64>()).prop_map(|(schema, dice)| decorate(schema, dice)).boxed()
}

fn decorate(schema: Value, dice: u64) -> Value {
    let Value::Object(map) = schema else { return schema };
    let roll = |sides: u64, shift: u32| dice.rotate_right(shift).is_multiple_of(sides);
    let mut map: Map<String, Value> = map
        .into_iter()
        .map(|(key, value)| (key.clone(), deeper(&key, value, dice.rotate_left(7).wrapping_mul(31))))
        .collect();
    if roll(4, 0) {
        map.insert("secret".into(), json!(true));
    }
    if roll(5, 8) && !map.contains_key("required") {
        map.insert("required".into(), json!(true));
    }
    if roll(4, 16) {
        map.insert("default".into(), json!({"a": 1, "b": ["x"]}));
    }
    if roll(3, 24) {
        map.insert("position".into(), json!(dice % 7));
    }
    if roll(11, 32) {
        map.insert("immutable".into(), json!(true));
    }
    Value::Object(map)
}

fn deeper(key: &str, value: Value, dice: u64) -> Value {
    match (key, value) {
        ("items" | "additionalItems" | "additionalProperties", schema @ Value::Object(_)) => decorate(schema, dice),
        ("items", Value::Array(all)) => all.into_iter().map(|schema| decorate(schema, dice)).collect(),
        ("properties" | "patternProperties", Value::Object(map)) => {
            let each = |(i, (name, schema)): (usize, (String, Value))| {
                (name, decorate(schema, dice.rotate_left(i as u32 * 5)))
            };
            Value::Object(map.into_iter().enumerate().map(each).collect())
        }
        (_, value) => value,
    }
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["p", "q", "r", "s"]).prop_map(str::to_owned)
}

fn parameters() -> impl Strategy<Value = Parameters> {
    prop::collection::btree_map(names(), parameter(), 0..4).prop_map(|map| serde_json::from_value(json!(map)).unwrap())
}

fn given() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![8 => names(), 1 => draw::text()];
    prop::collection::btree_map(name, draw::value(), 0..5).prop_map(|map| map.into_iter().collect())
}

/// Puts the canary into every text and property name in values of a secret schema.
fn poison(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(poison).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (format!("{CANARY}{key}"), poison(value))).collect(),
        _ => json!(CANARY),
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn binding_and_delivery_never_panic(parameters in parameters(), given in given()) {
        match bind(&parameters, &given) {
            Err(errors) => prop_assert!(!errors.is_empty()),
            Ok(bound) => {
                let delivery = deliver(&parameters, &bound, &SiteConfig::default());
                let stdin: Value = serde_json::from_slice(&delivery.stdin).unwrap();
                prop_assert_eq!(&stdin, &Value::Object(bound.values().clone()));
                prop_assert!(delivery.arguments.iter().all(|a| !a.contains('\0')));
                // The launcher binds the values of the api again, with the same result.
                let again = bind(&parameters, bound.given()).unwrap();
                prop_assert_eq!(again.values(), bound.values());
            }
        }
    }

    /// A secret parameter: its content is on standard input only.
    #[test]
    fn a_secret_is_never_shown(schema in parameter(), others in parameters(), value in draw::value(), given in given()) {
        let mut schema = schema;
        schema["secret"] = json!(true);
        let mut parameters = others;
        parameters.insert("p".parse().unwrap(), serde_json::from_value(schema).unwrap());
        let mut given = given;
        let poisoned = poison(&value);
        let holds = poisoned.to_string().contains(CANARY);
        given.insert("p".to_owned(), poisoned);
        let seen = match bind(&parameters, &given) {
            Err(errors) => format!("{errors:?} {}", serde_json::to_string(&errors).unwrap()),
            Ok(bound) => {
                let delivery = deliver(&parameters, &bound, &SiteConfig::default());
                prop_assert_eq!(String::from_utf8_lossy(&delivery.stdin).contains(CANARY), holds);
                format!("{bound:?} {:?} {delivery:?} {:?} {:?}", bound.public(), delivery.environment, delivery.arguments)
            }
        };
        prop_assert!(!seen.contains(CANARY), "{}", seen);
    }

    /// Nested secrets: a login with a password, anywhere.
    #[test]
    fn a_nested_secret_is_never_shown(depth in 0..4_usize, kind in 0..3_usize, other in draw::value()) {
        let mut schema = json!({"secret": true, "type": "string", "maxLength": 40});
        let mut value = json!(CANARY);
        for level in 0..depth {
            (schema, value) = match (kind + level) % 3 {
                0 => (json!({"properties": {"k": schema, "open": {}}}), json!({"k": value, "open": other})),
                1 => (json!({"items": schema}), json!([value, value])),
                _ => (json!({"additionalProperties": schema}), json!({"any": value})),
            };
        }
        let parameters: Parameters = serde_json::from_value(json!({"p": schema, "n": {"type": "integer"}})).unwrap();
        for n in [json!(1), json!("not a number")] {
            let given: Map<String, Value> = serde_json::from_value(json!({"p": value, "n": n})).unwrap();
            let seen = match bind(&parameters, &given) {
                Err(errors) => format!("{errors:?}"),
                Ok(bound) => format!("{bound:?} {:?} {:?}", bound.public(), deliver(&parameters, &bound, &SiteConfig::default())),
            };
            prop_assert!(!seen.contains(CANARY), "{}", seen);
        }
    }

    /// `name=value` of a command line converts to the written value if the type is known.
    #[test]
    fn plain_text_reads_as_its_type(value in draw::scalar(), list in prop::collection::vec(any::<i64>(), 1..5)) {
        let (kind, text) = match &value {
            Value::Null => ("null", "null".to_owned()),
            Value::Bool(flag) => ("boolean", flag.to_string()),
            Value::Number(number) if number.is_f64() => ("number", number.to_string()),
            Value::Number(number) => ("integer", number.to_string()),
            Value::String(text) => ("string", text.clone()),
            _ => unreachable!("scalars only"),
        };
        let numbers: Vec<String> = list.iter().map(ToString::to_string).collect();
        for (schema, text, value) in [
            (json!({"type": kind}), text, value),
            (json!({"type": "array", "items": {"type": "integer"}}), numbers.join(","), json!(list)),
            (json!({"type": "array"}), json!(list).to_string(), json!(list)),
            (json!({"type": ["integer", "array"]}), json!(list).to_string(), json!(list)),
        ] {
            let parameters: Parameters = serde_json::from_value(json!({"p": schema})).unwrap();
            let cast = from_text(&parameters[&"p".parse().unwrap()], &text);
            prop_assert_eq!(&cast, &value, "{} as {}", text, schema);
            let given = Map::from_iter([("p".to_owned(), cast)]);
            prop_assert!(bind(&parameters, &given).is_ok());
        }
    }

    #[test]
    fn any_text_can_be_read_as_any_type(schema in draw::schema(), text in any::<String>()) {
        from_text(&serde_json::from_value(schema).unwrap(), &text);
    }

    #[test]
    fn strict_json_is_json_without_duplicates(value in draw::value(), spaces: bool) {
        let text = if spaces { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let strict = strict::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&strict, &serde_json::from_str::<Value>(&text).unwrap());
        prop_assert_eq!(strict, value);
    }

    /// A text that both parsers accept has the same value; text that only serde_json accepts has a duplicate key.
    #[test]
    fn strict_json_takes_nothing_more(text in r#"[\[\]{}",:ab01.e \\u-]{0,24}"#) {
        match (strict::parse(text.as_bytes()), serde_json::from_str::<Value>(&text)) {
            (Ok(strict), Ok(plain)) => prop_assert_eq!(strict, plain),
            (Err(error), Ok(_)) => prop_assert!(error.to_string().contains("duplicate key"), "{}", text),
            (strict, Err(_)) => prop_assert!(strict.is_err(), "{}", text),
        }
    }
}

/// No value that fits into a request takes long to check. The bound is generous for slow machines, but far below the
/// time of comparing all pairs of items.
#[test]
fn a_full_body_is_checked_quickly() {
    let small: Vec<Value> = (0..16_000).map(|i| json!(i)).collect();
    let deep: Vec<Value> = (0..4_000).map(|i| json!([{"a": [i]}])).collect();
    let text = "a".repeat(60_000);
    for (schema, value) in [
        (json!({"uniqueItems": true}), json!(small)),
        (json!({"uniqueItems": true, "items": {"uniqueItems": true}}), json!(deep)),
        (json!({"items": {"enum": (0..100).collect::<Vec<_>>()}}), json!(small)),
        (json!({"pattern": "^(a|aa)+$"}), json!(text)),
        (json!({"pattern": "(a*)*(a*)*(a*)*b"}), json!(text)),
        (json!({"pattern": "^.{1,255}$"}), json!(text)),
        (json!({"pattern": "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\\.)+$"}), json!(text)),
        (json!({"pattern": ".{1,255}b"}), json!(text)),
    ] {
        let parameters: Parameters = serde_json::from_value(json!({"p": schema})).unwrap();
        let given = Map::from_iter([("p".to_owned(), value)]);
        let start = std::time::Instant::now();
        drop(bind(&parameters, &given));
        eprintln!("{schema:.60}: {:?}", start.elapsed());
    }
}
