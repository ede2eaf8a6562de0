//! Bolt's own validator agrees with the `jsonschema` crate on draft 4, for random schemas and values.
//!
//! Excluded, because the two differ intentionally (see `param::check`): non-ASCII white space and word boundaries in
//! patterns, `multipleOf` on floats with an exponent, and integers beyond 64 bits.

use jsonschema::Validator;
use packs_schema::pack::param::Schema;
use packs_schema::pack::param::check::check;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::draw;

fn both(schema: &Value) -> (Schema, Validator) {
    let own = serde_json::from_value(schema.clone()).unwrap_or_else(|e| panic!("{schema}: {e}"));
    let theirs = jsonschema::draft4::new(schema).unwrap_or_else(|e| panic!("{schema}: {e}"));
    (own, theirs)
}

fn any_number(value: &Value, test: &dyn Fn(f64) -> bool) -> bool {
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(test),
        Value::Array(items) => items.iter().any(|v| any_number(v, test)),
        Value::Object(map) => map.values().any(|v| any_number(v, test)),
        _ => false,
    }
}

/// The crate rounds such floats to binary before it divides, and accepts larger ones as integers.
fn means_otherwise(schema: &Value, value: &Value) -> bool {
    let integer = schema.to_string().contains("\"integer\"");
    if integer && any_number(value, &|f| f.abs() >= 9_223_372_036_854_775_808.0) {
        return true;
    }
    schema.to_string().contains("multipleOf") && any_number(value, &|f| f != 0.0 && !(1e-5..1e15).contains(&f.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_jsonschema(schema in draw::schema(), values in prop::collection::vec(draw::value(), 1..12)) {
        let (own, theirs) = both(&schema);
        for value in values.iter().filter(|value| !means_otherwise(&schema, value)) {
            let problems = check(&own, value);
            prop_assert_eq!(problems.is_empty(), theirs.is_valid(value), "{} against {}: {:?}", value, schema, problems);
        }
    }

    #[test]
    fn multiples_agree(digits in -1_000_000_i64..1_000_000, places in 0..5_usize, step in 1_u64..3000, step_places in 0..4_usize) {
        let shift = |digits: i64, places: usize| -> Value {
            let text = format!("{digits}e-{places}");
            let float: f64 = text.parse().unwrap();
            if places == 0 { json!(digits) } else { json!(float) }
        };
        let schema = json!({"multipleOf": shift(step as i64, step_places)});
        let (own, theirs) = both(&schema);
        for value in [shift(digits, places), shift(digits * step as i64, step_places), json!(digits)] {
            prop_assert_eq!(check(&own, &value).is_empty(), theirs.is_valid(&value), "{} against {}", value, schema);
        }
    }

    #[test]
    fn integers_of_any_size_agree(value in any::<i64>(), large in any::<u64>(), step in 1_u64..1_000_000, limit in any::<i64>(), open: bool) {
        let schema = json!({"multipleOf": step, "minimum": limit, "exclusiveMinimum": open, "type": "integer"});
        let (own, theirs) = both(&schema);
        for value in [json!(value), json!(large), json!(limit), json!(limit.saturating_add(1)), json!(large / step * step)] {
            prop_assert_eq!(check(&own, &value).is_empty(), theirs.is_valid(&value), "{} against {}", value, schema);
        }
    }
}

/// Edge cases, where both agree with draft 4.
#[test]
fn edge_cases_agree() {
    for (schema, value, fits) in [
        (json!({"type": "integer"}), json!(1.0), false),
        (json!({"type": "integer"}), json!(u64::MAX), true),
        (json!({"type": "integer"}), json!(i64::MIN), true),
        (json!({"type": "number"}), json!(1), true),
        (json!({"type": ["string", "null"]}), json!(null), true),
        (json!({"multipleOf": 0.1}), json!(0.3), true),
        (json!({"multipleOf": 0.01}), json!(4.02), true),
        (json!({"multipleOf": 2}), json!(9_007_199_254_740_993_u64), false),
        (json!({"minimum": 9_007_199_254_740_993_u64}), json!(9_007_199_254_740_992_u64), false),
        (json!({"minimum": 3, "exclusiveMinimum": true}), json!(3.0), false),
        (json!({"minimum": 0}), json!(-0.0), true),
        (json!({"minimum": 0.0}), json!(-0.0), true),
        (json!({"maximum": 3, "exclusiveMaximum": true}), json!(2.9999), true),
        (json!({"uniqueItems": true}), json!([1, 1.0]), false),
        (json!({"uniqueItems": true}), json!([1, true]), true),
        (json!({"uniqueItems": true}), json!([[1], [true], ["1"], {"a": 1}]), true),
        (json!({"uniqueItems": true}), json!([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]), false),
        (json!({"enum": [1]}), json!(1.0), true),
        (json!({"enum": ["1"]}), json!(1), false),
        (json!({"maxLength": 1}), json!("😀"), true),
        (json!({"maxLength": 1}), json!("e\u{301}"), false),
        (json!({"pattern": "b"}), json!("abc"), true),
        (json!({"pattern": "^\\d$"}), json!("٣"), false),
        (json!({"pattern": "^\\w$"}), json!("é"), false),
        (json!({"pattern": "^a$"}), json!("a\n"), false),
        (json!({"items": [{"type": "string"}], "additionalItems": false}), json!(["a", 1]), false),
        (json!({"items": {"type": "string"}, "additionalItems": false}), json!(["a", "b"]), true),
        (json!({"additionalItems": false}), json!([1, 2]), true),
        (json!({"properties": {"a": {}}, "additionalProperties": false}), json!({"b": 1}), false),
        (
            json!({"patternProperties": {"^x": {"type": "string"}}, "additionalProperties": false}),
            json!({"x1": 1}),
            false,
        ),
        (
            json!({"properties": {"x1": {"type": "integer"}}, "patternProperties": {"^x": {"maximum": 3}}}),
            json!({"x1": 4}),
            false,
        ),
        (json!({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}), json!({"a": 1, "b": null}), true),
        (json!({"required": ["a"]}), json!({}), false),
        (json!({"required": ["a"]}), json!([]), true),
        (json!({"required": ["a"]}), json!({"a": null}), true),
        (json!({"minProperties": 1}), json!("text"), true),
        (json!({"default": 5}), json!("anything"), true),
    ] {
        let (own, theirs) = both(&schema);
        assert_eq!(check(&own, &value).is_empty(), fits, "{value} against {schema}");
        assert_eq!(theirs.is_valid(&value), fits, "jsonschema: {value} against {schema}");
    }
}

/// StackStorm's extension: `required: true` on a property.
#[test]
fn required_is_allowed_on_a_property() {
    let schema = json!({"properties": {"a": {"required": true}, "b": {"required": false}}});
    let own: Schema = serde_json::from_value(schema).unwrap();
    assert!(check(&own, &json!({"a": 1})).is_empty());
    let problems = check(&own, &json!({"b": 1}));
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].place.as_str(), problems[0].must.as_str()), (".a", "must be given"));
}
