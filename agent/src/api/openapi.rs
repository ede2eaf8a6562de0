//! `openapi.json` (OpenAPI 3.1), made from the route table when someone asks.

use packs_schema::rest::{ARCHIVE_TYPE, PROBLEM_TYPE, Problem};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::routes::{Content, ROUTES, Route, Takes};

/// The document.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.path.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        entry[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut generator);
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Bolt agent",
            "version": crate::VERSION,
            "description": "Runs actions of signed packs on one instance. Every request needs a client certificate with exactly one URI name.",
        },
        "security": [{"mutualTLS": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"mutualTLS": {"type": "mutualTLS"}},
            "responses": {
                "Problem": {
                    "description": "What was wrong and what to do about it (RFC 9457).",
                    "content": {PROBLEM_TYPE: {"schema": problem}},
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(route.query.iter().map(|(name, doc)| {
        json!({"name": name, "in": "query", "required": false, "description": doc, "schema": {"type": "string"}})
    }));
    let content = match &route.response {
        Content::Json(schema) => json!({"application/json": {"schema": schema(generator)}}),
        Content::Lines(schema) => json!({"application/x-ndjson": {"schema": schema(generator)}}),
        Content::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        Content::Bytes => json!({"application/octet-stream": {}}),
        Content::Document => json!({"application/json": {"schema": {"type": "object"}}}),
    };
    let verbs: Vec<String> = route.verbs.iter().map(ToString::to_string).collect();
    let verb = if verbs.is_empty() { "none".to_owned() } else { verbs.join(" or ") };
    let mut value = json!({
        "operationId": format!("{:?}", route.operation),
        "summary": route.doc,
        "x-bolt-verb": verb,
        "parameters": parameters,
        "responses": {
            route.status.to_string(): {"description": "done", "content": content},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    });
    match &route.request {
        None => {}
        Some(Takes::Json(schema)) => {
            value["requestBody"] = json!({"content": {"application/json": {"schema": schema(generator)}}});
        }
        Some(Takes::Archive) => value["requestBody"] = json!({"required": true, "content": {ARCHIVE_TYPE: {}}}),
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_document_and_every_reference_leads_somewhere() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
            assert_eq!(operation["operationId"], format!("{:?}", route.operation));
        }
        let operations: usize =
            document["paths"].as_object().unwrap().values().map(|methods| methods.as_object().unwrap().len()).sum();
        assert_eq!(operations, ROUTES.len());
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
