//! Generators of the property tests: values and draft 4 schemas, close to limits.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Scalars. Equal ones are adjacent: `1` and `1.0`, the three zeros.
pub(crate) fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => prop::sample::select(vec![
            json!(null), json!(true), json!(false), json!(0), json!(0.0), json!(-0.0), json!(1), json!(1.0), json!(-1),
            json!(2), json!(3), json!(5), json!(6), json!(0.1), json!(0.3), json!(0.5), json!(1.5), json!(-2.5), json!(4.5),
            json!(9_007_199_254_740_991_u64), json!(9_007_199_254_740_992_u64), json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992.0), json!(u64::MAX), json!(i64::MAX), json!(i64::MIN), json!(i64::MIN as f64),
            json!(18_446_744_073_709_551_616.0), json!(1e300), json!(-1e300), json!(1e-300),
        ]),
        3 => text().prop_map(Value::String),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => (-1e6..1e6).prop_map(|f: f64| json!(f)),
    ]
}

/// Short texts, including multi-byte characters.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["", "a", "ab", "abc", "é", "日本語", "a1", "-a", "1", "A_b", "a\n", "😀", "e\u{301}", "٣", "\u{a0}"]),
        1 => Just("aaaaaaaaaaaa"),
    ]
    .prop_map(str::to_owned)
}

/// Names of properties; few, so that values and schemas overlap.
pub(crate) fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "é", "x1", ""]).prop_map(str::to_owned)
}

/// Any value, up to three deep.
pub(crate) fn value() -> BoxedStrategy<Value> {
    scalar()
        .prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                // Longer lists, with repeated items.
                prop::collection::vec(
                    prop::sample::select(vec![
                        json!(1),
                        json!(1.0),
                        json!("1"),
                        json!([1]),
                        json!({"a": 0}),
                        json!({"a": -0.0})
                    ]),
                    0..24
                )
                .prop_map(Value::Array),
                prop::collection::btree_map(key(), inner, 0..5).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
        .boxed()
}

/// Patterns with the same meaning in `regex-lite` and ECMA 262: no `\s` or `\b`, and no class with non-ASCII letters.
pub(crate) fn pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "^a",
        "b$",
        "^ab?c*$",
        "^[a-z0-9_]+$",
        "^\\d+$",
        "\\w",
        "^\\W$",
        "\\D",
        "^.$",
        "^(a|é)$",
        "^.{2,3}$",
        "[^a]",
        "^$",
        "",
    ])
    .prop_map(str::to_owned)
}

fn optional<S: Strategy<Value = Value> + 'static>(
    chance: f64,
    key: &'static str,
    value: S,
) -> BoxedStrategy<Option<(String, Value)>> {
    prop::option::weighted(chance, value.prop_map(move |v| (key.to_owned(), v))).boxed()
}

/// Draft 4 schemas with the keywords that Bolt supports.
pub(crate) fn schema() -> BoxedStrategy<Value> {
    leaf().prop_recursive(3, 16, 4, node).boxed()
}

fn leaf() -> BoxedStrategy<Value> {
    keywords(vec![types(), limits(), lengths(), enumeration()])
}

fn node(inner: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let rest = || prop_oneof![any::<bool>().prop_map(Value::Bool), inner.clone()];
    let map = |keys: BoxedStrategy<String>| {
        prop::collection::btree_map(keys, inner.clone(), 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
    };
    let items = prop_oneof![inner.clone(), prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Array)];
    let arrays = keywords(vec![
        optional(0.7, "items", items),
        optional(0.5, "additionalItems", rest()),
        optional(0.5, "uniqueItems", any::<bool>().prop_map(Value::Bool)),
        optional(0.2, "minItems", (0_u64..4).prop_map(Value::from)),
        optional(0.2, "maxItems", (0_u64..6).prop_map(Value::from)),
        types(),
    ]);
    let objects = keywords(vec![
        optional(0.7, "properties", map(key().boxed())),
        optional(0.5, "patternProperties", map(pattern().boxed())),
        optional(0.5, "additionalProperties", rest()),
        optional(0.2, "minProperties", (0_u64..3).prop_map(Value::from)),
        optional(0.2, "maxProperties", (0_u64..4).prop_map(Value::from)),
        optional(0.3, "required", prop::collection::btree_set(key(), 1..3).prop_map(|keys| json!(keys))),
        types(),
    ]);
    prop_oneof![arrays, objects, leaf()].boxed()
}

fn keywords(parts: Vec<BoxedStrategy<Option<(String, Value)>>>) -> BoxedStrategy<Value> {
    parts
        .prop_map(|given| {
            let mut map: Map<String, Value> = given.into_iter().flatten().collect();
            // `exclusiveMinimum` is valid only with `minimum`; both are generated as one value.
            if let Some(Value::Object(limits)) = map.remove("limits") {
                map.extend(limits);
            }
            Value::Object(map)
        })
        .boxed()
}

fn types() -> BoxedStrategy<Option<(String, Value)>> {
    let all = vec!["string", "integer", "number", "boolean", "array", "object", "null"];
    let one = prop::sample::select(all.clone()).prop_map(|t| json!(t));
    let many = prop::sample::subsequence(all, 1..4).prop_map(|t| json!(t));
    optional(0.4, "type", prop_oneof![one, many])
}

fn limits() -> BoxedStrategy<Option<(String, Value)>> {
    let number = || scalar().prop_filter("a number", Value::is_number);
    let whole = optional(0.3, "multipleOf", (1_u64..6).prop_map(Value::from));
    let parts = (prop::option::of((number(), any::<bool>())), prop::option::of((number(), any::<bool>())), whole);
    let joined = parts.prop_map(|(minimum, maximum, multiple)| {
        let mut map: Map<String, Value> = multiple.into_iter().collect();
        for (limit, key, exclusive) in
            [(minimum, "minimum", "exclusiveMinimum"), (maximum, "maximum", "exclusiveMaximum")]
        {
            if let Some((limit, open)) = limit {
                map.insert(key.to_owned(), limit);
                map.insert(exclusive.to_owned(), Value::Bool(open));
            }
        }
        Value::Object(map)
    });
    optional(0.4, "limits", joined)
}

fn lengths() -> BoxedStrategy<Option<(String, Value)>> {
    let joined = (prop::option::of(0_u64..4), prop::option::of(0_u64..4), prop::option::of(pattern())).prop_map(
        |(min, max, pattern)| {
            let mut map = Map::new();
            map.extend(min.map(|n| ("minLength".to_owned(), json!(n))));
            map.extend(max.map(|n| ("maxLength".to_owned(), json!(n))));
            map.extend(pattern.map(|p| ("pattern".to_owned(), json!(p))));
            Value::Object(map)
        },
    );
    optional(0.4, "limits", joined)
}

/// Draft 4 requires that values of an `enum` are unique.
fn enumeration() -> BoxedStrategy<Option<(String, Value)>> {
    let distinct = vec![
        json!(1),
        json!("1"),
        json!(null),
        json!(0.0),
        json!([1, 2.0]),
        json!({"a": 1}),
        json!(u64::MAX),
        json!("é"),
        json!(false),
    ];
    optional(0.2, "enum", prop::sample::subsequence(distinct, 1..5).prop_map(Value::Array))
}
