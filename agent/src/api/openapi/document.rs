//! Makes the document from the route table, the types and the lists beside this file.

use hyper::Method;
use packs_schema::agent::rest::{
    ARCHIVE_TYPE, BYTES_TYPE, Code, EVENT_CURSOR, IDEMPOTENCY_KEY, PROBLEM_TYPE, Problem, REQUEST_ID,
};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{problems, shapes};
use crate::api::routes::{Content, Operation, ROUTES, Route, Takes};

/// Builds the document.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    // Query parameters refer to these.
    generator.subschema_for::<packs_schema::agent::execution::State>();
    generator.subschema_for::<packs_schema::agent::grants::Verb>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.path.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        entry[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut generator);
    }
    let mut schemas = generator.take_definitions(true);
    shapes::constrain(&mut schemas);
    let mut document = json!({
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
                    "description": "Problem and what to do about it (RFC 9457).",
                    "headers": {
                        REQUEST_ID: {"schema": {"type": "string"}},
                        "retry-after": {"description": "Seconds after which to retry.", "schema": {"type": "integer"}},
                    },
                    "content": {PROBLEM_TYPE: {"schema": problem}},
                },
            },
        },
    });
    shapes::without_booleans(&mut document);
    document
}

/// Returns the statuses, besides that of the table, of responses that are not problems.
fn further_statuses(operation: Operation) -> &'static [u16] {
    match operation {
        Operation::CreateExecution => &[200],
        Operation::PushPack | Operation::UnpushPack => &[202],
        Operation::Health => &[503],
        Operation::GetStdout | Operation::GetStderr => &[206],
        _ => &[],
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": shapes::in_path(name)}))
        .collect();
    parameters.extend(route.query.iter().map(|(name, doc)| {
        let (schema, required) =
            shapes::in_query(route.operation, name).unwrap_or_else(|| (json!({"type": "string"}), false));
        json!({"name": name, "in": "query", "required": required, "description": doc, "schema": schema})
    }));
    let header = |name: &str, doc: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": doc, "schema": schema});
    match route.operation {
        Operation::CreateExecution => {
            let schema = json!({"type": "string", "pattern": shapes::pattern("IdempotencyKey")});
            let doc =
                "The same key of the same caller with the same body gives the same execution; with another body, 422.";
            parameters.push(header(IDEMPOTENCY_KEY, doc, schema));
            let schema = json!({"type": "string"});
            parameters.push(header("traceparent", "W3C Trace Context, passed to the action.", schema));
        }
        Operation::GetStdout | Operation::GetStderr => {
            let schema = json!({"type": "string", "pattern": "^bytes=([0-9]{1,15}-[0-9]{0,15}|-[1-9][0-9]{0,14})$"});
            parameters.push(header("range", "One range of bytes (RFC 9110); without follow.", schema));
        }
        _ => {}
    }
    parameters
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let content = match &route.response {
        Content::Json(schema) => json!({"application/json": {"schema": schema(generator)}}),
        Content::Lines(schema) => json!({"application/x-ndjson": {"schema": schema(generator)}}),
        Content::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        Content::Bytes => json!({BYTES_TYPE: {"schema": {"type": "string", "format": "binary"}}}),
        Content::Document => json!({"application/json": {"schema": {"type": "object"}}}),
    };
    let verbs: Vec<String> = route.verbs.iter().map(ToString::to_string).collect();
    let verb = if verbs.is_empty() { "none".to_owned() } else { verbs.join(" or ") };
    let mut headers =
        json!({REQUEST_ID: {"description": "Id of the request, as in the agent's log.", "schema": {"type": "string"}}});
    match route.operation {
        Operation::CreateExecution => {
            headers["location"] = json!({"description": "Path of the execution.", "schema": {"type": "string"}});
        }
        Operation::Events => {
            headers[EVENT_CURSOR] =
                json!({"description": "Cursor after which the response begins.", "schema": {"type": "string"}});
        }
        _ => {}
    }
    let mut responses = json!({"default": {"$ref": "#/components/responses/Problem"}});
    for status in further_statuses(route.operation).iter().chain([&route.status]) {
        responses[status.to_string()] =
            json!({"description": describe(*status), "headers": headers, "content": content});
    }
    for code in problems::of(route.operation) {
        let status = code.status().to_string();
        if responses.get(&status).is_none() {
            responses[status] = json!({"$ref": "#/components/responses/Problem"});
        }
    }
    let mut value = json!({
        "operationId": format!("{:?}", route.operation),
        "summary": route.doc,
        "x-bolt-verb": verb,
        "x-bolt-problems": problems::of(route.operation).map(Code::as_str).collect::<Vec<_>>(),
        "parameters": parameters(route),
        "responses": responses,
    });
    match &route.request {
        None => {}
        Some(Takes::Json(schema)) => {
            // A kill needs no body; a start names at least the action.
            let required = route.method == Method::POST && route.operation != Operation::KillExecution;
            value["requestBody"] =
                json!({"required": required, "content": {"application/json": {"schema": schema(generator)}}});
        }
        Some(Takes::Archive) => {
            let schema = json!({"type": "string", "format": "binary"});
            let content = json!({ARCHIVE_TYPE: {"schema": schema.clone()}, BYTES_TYPE: {"schema": schema}});
            value["requestBody"] = json!({"required": true, "content": content});
        }
    }
    value
}

fn describe(status: u16) -> &'static str {
    match status {
        202 => "Accepted: the work goes on after the response.",
        206 => "The requested range.",
        503 => "The agent is not ready.",
        _ => "Success.",
    }
}
