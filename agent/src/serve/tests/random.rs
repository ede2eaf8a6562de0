//! Random requests that conform to the document: none is refused for its type, form or bounds.

use proptest::prelude::*;
use proptest::strategy::{BoxedStrategy, ValueTree};
use proptest::string::string_regex;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::*;

/// Requests to each route.
const EACH: usize = 12;

/// Values that fit a schema, as far as the document's requests use JSON Schema.
fn fitting(document: &Value, schema: &Value) -> BoxedStrategy<Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap().clone();
        return fitting(document, &target);
    }
    if let Some(values) = schema["enum"].as_array() {
        return prop::sample::select(values.clone()).boxed();
    }
    if let Some(value) = schema.get("const") {
        return Just(value.clone()).boxed();
    }
    if let Some(schemas) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        return prop::strategy::Union::new(schemas.iter().map(|schema| fitting(document, schema))).boxed();
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        // A list of types, which includes `null`.
        Value::Array(kinds) => kinds[0].as_str().unwrap().to_owned(),
        other => panic!("{other} is no type: {schema}"),
    };
    match kind.as_str() {
        "null" => Just(Value::Null).boxed(),
        "boolean" => any::<bool>().prop_map(Value::Bool).boxed(),
        "integer" => {
            let bound = |key: &str, otherwise| schema[key].as_i64().unwrap_or(otherwise);
            (bound("minimum", 0)..=bound("maximum", i64::MAX)).prop_map(|n| json!(n)).boxed()
        }
        "string" => {
            let longest = schema["maxLength"].as_u64().unwrap_or(40);
            match schema["pattern"].as_str() {
                Some(pattern) => {
                    let text = pattern.trim_start_matches('^').trim_end_matches('$');
                    string_regex(text).unwrap().prop_map(Value::String).boxed()
                }
                None => string_regex(&format!(".{{0,{longest}}}")).unwrap().prop_map(Value::String).boxed(),
            }
        }
        "object" => {
            let required: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let mut whole: BoxedStrategy<Map<String, Value>> = Just(Map::new()).boxed();
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                let (name, value) = (name.clone(), fitting(document, schema));
                let there = if required.contains(&name.as_str()) { Just(true).boxed() } else { any::<bool>().boxed() };
                whole = (whole, value, there)
                    .prop_map(move |(mut whole, value, there)| {
                        if there {
                            whole.insert(name.clone(), value);
                        }
                        whole
                    })
                    .boxed();
            }
            whole.prop_map(Value::Object).boxed()
        }
        other => panic!("no request has a {other} yet"),
    }
}

fn escaped(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Builds a request that conforms to an operation of the document.
fn request(document: &Value, method: &str, path: &str, operation: &Value, runner: &mut TestRunner) -> String {
    let (mut target, mut query, mut headers) = (path.to_owned(), Vec::new(), String::new());
    for parameter in operation["parameters"].as_array().unwrap() {
        let name = parameter["name"].as_str().unwrap();
        // A followed stream does not end, and the other two belong to it or exclude it.
        if ["follow", "offset", "range"].contains(&name) {
            continue;
        }
        let there = parameter["required"] == true || any::<bool>().new_tree(runner).unwrap().current();
        if !there {
            continue;
        }
        let value = fitting(document, &parameter["schema"]).new_tree(runner).unwrap().current();
        match parameter["in"].as_str().unwrap() {
            "path" => target = target.replace(&format!("{{{name}}}"), &escaped(&value)),
            "query" => query.push(format!("{name}={}", escaped(&value))),
            _ => {
                let text: String = value.as_str().unwrap().chars().filter(char::is_ascii_graphic).collect();
                headers.push_str(&format!("{name}: {text}\r\n"));
            }
        }
    }
    let mut body = String::new();
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let required = operation["requestBody"]["required"] == true;
        if required || any::<bool>().new_tree(runner).unwrap().current() {
            let (kind, schema) = content.iter().next().unwrap();
            if schema["schema"]["format"] != "binary" {
                body = fitting(document, &schema["schema"]).new_tree(runner).unwrap().current().to_string();
            }
            headers.push_str(&format!("content-type: {kind}\r\n"));
        }
    }
    let question = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let method = method.to_ascii_uppercase();
    format!(
        "{method} {target}{question} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_request_that_conforms_to_the_document_is_never_refused_for_its_form() {
    let api = scope::start().await;
    let root = leaf(&api.issuer, &["spiffe://x/root"], |_| {});
    let document = crate::api::openapi_document();
    let mut runner = TestRunner::deterministic();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for _ in 0..EACH {
                let request = request(&document, method, path, operation, &mut runner);
                let answer = api.raw(Some(&root), &request).await.unwrap();
                assert!(![400, 405, 415, 422, 500].contains(&status(&answer)), "{request}\n{answer}");
                let stated = operation["responses"].as_object().unwrap();
                assert!(
                    answer.contains("application/problem+json") || stated.contains_key(&status(&answer).to_string()),
                    "{request}\n{answer}"
                );
            }
        }
    }
    api.stop().await;
}
