//! Tests of `bind`: errors by code, and bound values.

use packs_schema::pack::param::Parameters;
use packs_schema::pack::param::bind::{BoundParams, MAX_ERRORS, ParamError, bind};
use packs_schema::pack::param::redact::SECRET_SHOWN;
use serde_json::{Map, Value, json};

fn parameters(schema: Value) -> Parameters {
    serde_json::from_value(schema).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn bound(schema: Value, given: Value) -> Result<BoundParams, Vec<ParamError>> {
    bind(&parameters(schema), &object(given))
}

/// `(parameters, given values, place, code, words of the message)`
#[test]
fn each_error_names_its_parameter() {
    for (schema, given, place, code, says) in [
        (json!({"port": {}}), json!({"prot": 1}), "prot", "unknown", "the action takes port"),
        (json!({}), json!({"port": 1}), "port", "unknown", "the action takes none"),
        (json!({"p": {}}), json!({"not a name": 1}), "not a name", "unknown", "is not a parameter"),
        (json!({"p": {}}), json!({"\u{1b}[2J": 1}), "\u{fffd}[2J", "unknown", "is not a parameter"),
        (
            json!({"p": {"required": true, "description": "The port."}}),
            json!({}),
            "p",
            "missing",
            "must be given: The port.",
        ),
        (json!({"p": {"required": true}}), json!({"p": null}), "p", "missing", "must be given"),
        (json!({"p": {"immutable": true, "default": 1}}), json!({"p": 1}), "p", "immutable", "leave it out"),
        (json!({"p": {"immutable": true}}), json!({"p": "x"}), "p", "immutable", "leave it out"),
        (json!({"p": {"type": "integer"}}), json!({"p": "1"}), "p", "invalid", "must be an integer, not a string"),
        (json!({"p": {"type": "integer"}}), json!({"p": 1.5}), "p", "invalid", "must be an integer, not a number"),
        (json!({"p": {"type": "boolean"}}), json!({"p": 1}), "p", "invalid", "must be a boolean, not an integer"),
        (
            json!({"p": {"type": ["string", "array"]}}),
            json!({"p": {}}),
            "p",
            "invalid",
            "must be a string or an array, not an object",
        ),
        (json!({"p": {"minimum": 1}}), json!({"p": 0}), "p", "invalid", "must be at least 1"),
        (json!({"p": {"maximum": 9}}), json!({"p": 10}), "p", "invalid", "must be at most 9"),
        (
            json!({"p": {"minimum": 1, "exclusiveMinimum": true}}),
            json!({"p": 1}),
            "p",
            "invalid",
            "must be more than 1",
        ),
        (
            json!({"p": {"maximum": 1, "exclusiveMaximum": true}}),
            json!({"p": 1}),
            "p",
            "invalid",
            "must be less than 1",
        ),
        (json!({"p": {"multipleOf": 5}}), json!({"p": 7}), "p", "invalid", "must be a multiple of 5"),
        (json!({"p": {"pattern": "^[a-z]+$"}}), json!({"p": "A"}), "p", "invalid", "must match ^[a-z]+$"),
        (
            json!({"p": {"pattern": ".{1,255}b"}}),
            json!({"p": "a".repeat(9000)}),
            "p",
            "invalid",
            "is too long to be matched",
        ),
        (json!({"p": {"enum": ["on", "off"]}}), json!({"p": "up"}), "p", "invalid", "must be one of \"on\", \"off\""),
        (json!({"p": {"minLength": 3}}), json!({"p": "éa"}), "p", "invalid", "must have at least 3 characters, not 2"),
        (json!({"p": {"maxLength": 1}}), json!({"p": "ab"}), "p", "invalid", "must have at most 1 characters, not 2"),
        (json!({"p": {"minItems": 1}}), json!({"p": []}), "p", "invalid", "must have at least 1 items, not 0"),
        (json!({"p": {"maxItems": 1}}), json!({"p": [1, 2]}), "p", "invalid", "must have at most 1 items, not 2"),
        (json!({"p": {"uniqueItems": true}}), json!({"p": [1, 2, 1.0]}), "p[2]", "invalid", "must not repeat"),
        (
            json!({"p": {"items": [{}], "additionalItems": false}}),
            json!({"p": [1, 2]}),
            "p[1]",
            "invalid",
            "at most 1 items",
        ),
        (json!({"p": {"minProperties": 1}}), json!({"p": {}}), "p", "invalid", "at least 1 properties, not 0"),
        (
            json!({"p": {"maxProperties": 1}}),
            json!({"p": {"a": 1, "b": 2}}),
            "p",
            "invalid",
            "at most 1 properties, not 2",
        ),
        (
            json!({"p": {"properties": {"host": {}}, "additionalProperties": false}}),
            json!({"p": {"hsot": 1}}),
            "p.hsot",
            "invalid",
            "is not a known property; known properties: host",
        ),
        (json!({"p": {"required": ["host"]}}), json!({"p": {}}), "p.host", "invalid", "must be given"),
        (
            json!({"p": {"properties": {"host": {"required": true}}}}),
            json!({"p": {}}),
            "p.host",
            "invalid",
            "must be given",
        ),
        (
            json!({"servers": {"items": {"properties": {"port": {"type": "integer"}}}}}),
            json!({"servers": [{"port": 1}, {}, {"port": "x"}]}),
            "servers[2].port",
            "invalid",
            "must be an integer, not a string",
        ),
        (
            json!({"p": {"patternProperties": {"^x": {"items": {"type": "string"}}}}}),
            json!({"p": {"x1": ["a", 2]}}),
            "p.x1[1]",
            "invalid",
            "must be a string, not an integer",
        ),
        (json!({"p": {"position": 0}}), json!({"p": "-rf"}), "p", "positional_dash", "must not start with '-'"),
        (
            json!({"p": {"position": 0}}),
            json!({"p": ["--all", "x"]}),
            "p",
            "positional_dash",
            "must not start with '-'",
        ),
        (json!({"p": {}}), json!({"p": "a\0b"}), "p", "nul", "NUL"),
        (json!({"p": {}}), json!({"p": [{"k\0": 1}]}), "p", "nul", "NUL"),
        (json!({"p": {}}), json!({"p": "x".repeat(100_000)}), "p", "invalid", "is too long to be passed to a process"),
    ] {
        let errors = bound(schema.clone(), given.clone()).unwrap_err();
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{given} against {schema}: {all:?}");
        assert_eq!((errors[0].parameter.as_str(), errors[0].code.as_str()), (place, code), "{all:?}");
        assert!(errors[0].message.contains(says), "{all:?}");
    }
}

#[test]
fn all_errors_come_at_once() {
    let schema = json!({"a": {"type": "integer"}, "b": {"required": true}, "c": {"immutable": true, "default": 1}, "d": {"minLength": 9, "pattern": "^x"}});
    let errors = bound(schema, json!({"a": "x", "c": 2, "d": "short", "e": 0})).unwrap_err();
    let mut places: Vec<_> = errors.iter().map(|e| (e.parameter.as_str(), e.code.as_str())).collect();
    places.sort_unstable();
    let wanted =
        [("a", "invalid"), ("b", "missing"), ("c", "immutable"), ("d", "invalid"), ("d", "invalid"), ("e", "unknown")];
    assert_eq!(places, wanted);
}

#[test]
fn a_hostile_body_gets_a_bounded_answer() {
    let long = "n".repeat(64);
    let schema: Map<String, Value> =
        (0..100).map(|i| (format!("{}{i:02}", &long[..60]), json!({"type": "string"}))).collect();
    let given: Map<String, Value> = (0..8000).map(|i| (format!("{i}{}", "\n".repeat(200)), json!(i))).collect();
    let errors = bound(Value::Object(schema), Value::Object(given)).unwrap_err();
    let size: usize = errors.iter().map(|e| e.parameter.len() + e.message.len()).sum();
    assert_eq!(errors.len(), MAX_ERRORS);
    assert!(size < 200_000, "{size}");
    // A list with thousands of invalid items, each deeply nested.
    let wrong: Vec<Value> = (0..6000).map(|_| json!({"k".repeat(500): "x"})).collect();
    let schema = json!({"p": {"items": {"additionalProperties": {"type": "integer"}}}});
    let errors = bound(schema, json!({"p": wrong})).unwrap_err();
    let size: usize = errors.iter().map(|e| e.parameter.len() + e.message.len()).sum();
    assert!(errors.len() <= MAX_ERRORS && size < 200_000, "{} errors, {size} bytes", errors.len());
}

#[test]
fn absent_parameters_have_their_default() {
    for (schema, given, values) in [
        (json!({"p": {"default": 1, "required": true}}), json!({}), json!({"p": 1})),
        (json!({"p": {"default": 1}}), json!({"p": null}), json!({"p": 1})),
        (json!({"p": {"default": null}}), json!({}), json!({})),
        (json!({"p": {"type": "string"}}), json!({"p": null}), json!({})),
        (json!({"p": {"type": ["string", "null"], "default": "x"}}), json!({"p": null}), json!({"p": null})),
        (json!({"p": {"immutable": true, "default": 1}}), json!({}), json!({"p": 1})),
        (json!({"p": {"immutable": true, "default": 1}}), json!({"p": null}), json!({"p": 1})),
        (
            json!({"p": {"properties": {"port": {"type": "integer", "default": 22, "required": true}}}}),
            json!({"p": {"port": null, "host": "a"}}),
            json!({"p": {"port": 22, "host": "a"}}),
        ),
        (
            json!({"p": {"items": {"properties": {"port": {"default": 22}}}}}),
            json!({"p": [{}, {"port": 1}]}),
            json!({"p": [{"port": 22}, {"port": 1}]}),
        ),
        (
            json!({"p": {"default": {}, "properties": {"deep": {"default": {}, "properties": {"x": {"default": true}}}}}}),
            json!({}),
            json!({"p": {"deep": {"x": true}}}),
        ),
    ] {
        let bound = bound(schema.clone(), given.clone()).unwrap_or_else(|e| panic!("{given} against {schema}: {e:?}"));
        assert_eq!(Value::Object(bound.values().clone()), values, "{given} against {schema}");
        assert_eq!(Value::Object(bound.given().clone()), given);
    }
}

#[test]
fn valid_values_of_a_position() {
    for (schema, value) in [
        (json!({"type": "integer", "position": 0}), json!(-5)),
        (json!({"enum": ["-v", "-q"], "position": 0}), json!("-q")),
        (json!({"type": "string"}), json!("-by-name")),
        (json!({"type": "string", "position": 0}), json!("a-b")),
        (json!({"position": 0, "secret": true}), json!("-secrets are on standard input")),
    ] {
        assert!(bound(json!({"p": schema}), json!({"p": value})).is_ok(), "{value} against {schema}");
    }
}

#[test]
fn secrets_are_masked_at_every_depth() {
    let schema = json!({
        "token": {"secret": true},
        "login": {"properties": {"user": {}, "password": {"secret": true}}},
        "keys": {"items": {"properties": {"private": {"secret": true}}}},
        "pair": {"items": [{}, {"secret": true}], "additionalItems": {"secret": true}},
        "env": {"patternProperties": {"_KEY$": {"secret": true}}, "additionalProperties": {"type": "string"}},
        "rest": {"properties": {"a": {}}, "additionalProperties": {"secret": true}},
        "both": {"properties": {"k": {}}, "patternProperties": {"k": {"secret": true}}},
        "preset": {"secret": true, "default": "x"},
    });
    let given = json!({
        "token": {"any": ["thing"]},
        "login": {"user": "ann", "password": "x"},
        "keys": [{"private": "x", "public": "y"}, "odd"],
        "pair": ["shown", "x", "x"],
        "env": {"API_KEY": "x", "LANG": "C"},
        "rest": {"a": 1, "b": "x"},
        "both": {"k": "x"},
    });
    let bound = bound(schema, given).unwrap();
    let shown = json!({
        "token": SECRET_SHOWN,
        "login": {"user": "ann", "password": SECRET_SHOWN},
        "keys": [{"private": SECRET_SHOWN, "public": "y"}, "odd"],
        "pair": ["shown", SECRET_SHOWN, SECRET_SHOWN],
        "env": {"API_KEY": SECRET_SHOWN, "LANG": "C"},
        "rest": {"a": 1, "b": SECRET_SHOWN},
        "both": {"k": SECRET_SHOWN},
        "preset": SECRET_SHOWN,
    });
    assert_eq!(Value::Object(bound.public().clone()), shown);
    assert!(!format!("{bound:?}").contains("\"x\""), "{bound:?}");
}

/// Errors of a secret contain neither its value, nor its length, nor names inside it.
#[test]
fn errors_do_not_reveal_secrets() {
    for (schema, value) in [
        (json!({"secret": true, "enum": ["a", "b"]}), json!("canary")),
        (json!({"secret": true, "pattern": "^[0-9]$"}), json!("canary")),
        (json!({"secret": true, "maxLength": 2}), json!("canary")),
        (json!({"secret": true, "type": "integer"}), json!("canary")),
        (json!({"secret": true, "properties": {"a": {}}, "additionalProperties": false}), json!({"canary": 1})),
        (json!({"secret": true, "additionalProperties": {"type": "integer"}}), json!({"canary": "canary"})),
        (
            json!({"properties": {"a": {"secret": true, "items": {"type": "integer"}, "maxItems": 1}}}),
            json!({"a": ["canary", "canary", "canary", "canary", "canary", "canary"]}),
        ),
        (
            json!({"properties": {"a": {"maxLength": 2}}, "patternProperties": {"a": {"secret": true}}}),
            json!({"a": "canary"}),
        ),
    ] {
        let errors = bound(json!({"p": schema}), json!({"p": value})).unwrap_err();
        let text = serde_json::to_string(&errors).unwrap() + &format!("{errors:?}");
        assert!(!text.contains("canary") && !text.contains("not 6"), "{text}");
    }
}
