//! Compares the document with the route table, the types and the interface.

use std::collections::BTreeSet;
use std::str::FromStr;

use packs_schema::agent::rest::{ARCHIVE_TYPE, AccessTarget, Code};
use packs_schema::base::name::{
    ActionName, ActionRef, ChannelName, Digest, ExecutionId, GroupName, IdempotencyKey, InstanceId, PackName,
    PackVersion, Principal, RunId,
};
use proptest::prelude::*;
use proptest::string::string_regex;

use serde_json::{Value, json};

use super::{DOCUMENT, document, problems, shapes};
use crate::api::routes::{ROUTES, Takes};

#[test]
fn the_served_document_is_that_of_the_route_table_and_the_types() {
    let made = document();
    if std::env::var_os("BOLT_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json"), text).unwrap();
        return;
    }
    let served: Value = serde_json::from_slice(DOCUMENT).unwrap();
    let changed = served["paths"] == made["paths"];
    assert!(served == made, "openapi.json is not current (paths are: {changed}); BOLT_BLESS=1 writes it");
}

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

#[test]
fn every_problem_is_listed_for_an_operation_with_its_status() {
    let document = document();
    let mut listed = BTreeSet::new();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
        for code in problems::of(route.operation) {
            assert!(operation["x-bolt-problems"].as_array().unwrap().contains(&code.as_str().into()), "{}", route.path);
            assert!(operation["responses"][code.status().to_string()].is_object(), "{}: {code}", route.path);
            assert!(listed.insert((route.operation as usize, code.as_str())), "{}: {code} twice", route.path);
        }
    }
    for code in Code::ALL {
        // No operation answers for a path or a method that does not exist.
        let is_routing = matches!(code, Code::NotFound | Code::MethodNotAllowed);
        assert_eq!(listed.iter().any(|(_, other)| *other == code.as_str()), !is_routing, "{code}");
    }
}

/// Walks all values with their paths.
fn walk(value: &Value, path: &str, see: &mut dyn FnMut(&str, &str, &Value)) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            see(path, key, value);
            walk(value, &format!("{path}/{key}"), see);
        }),
        Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| {
            see(path, &n.to_string(), value);
            walk(value, &format!("{path}/{n}"), see);
        }),
        _ => {}
    }
}

#[test]
fn no_schema_is_a_boolean() {
    // Keys whose value is a boolean and no schema.
    let flags =
        ["required", "default", "additionalProperties", "uniqueItems", "deprecated", "readOnly", "nullable", "const"];
    walk(&document(), "", &mut |path, key, value| {
        assert!(!value.is_boolean() || flags.contains(&key), "{path}/{key} is {value}");
    });
}

#[test]
fn types_and_constraints_of_every_route_are_stated() {
    let document = document();
    for route in ROUTES {
        for (name, _) in route.query {
            assert!(
                shapes::in_query(route.operation, name).is_some(),
                "{}: query parameter {name} has no type",
                route.path
            );
        }
        let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
        if let Some(takes) = &route.request {
            let body = &operation["requestBody"];
            let kind = if matches!(takes, Takes::Archive) { ARCHIVE_TYPE } else { "application/json" };
            assert!(body["content"][kind]["schema"].is_object() && body["required"].is_boolean(), "{body}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let schemas = response["content"].as_object().into_iter().flatten().map(|(_, content)| &content["schema"]);
            let is_problem = response["$ref"] == "#/components/responses/Problem";
            assert!(is_problem || schemas.clone().count() > 0, "{}: {status}", route.path);
            assert!(schemas.clone().all(Value::is_object), "{}: {status}", route.path);
        }
    }
    for (name, _) in shapes::NAMES {
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_null() || schema["pattern"].is_string(), "{name}");
    }
    let create = &document["components"]["schemas"]["CreateExecution"]["properties"];
    assert_eq!((&create["timeout_ms"]["minimum"], &create["note"]["maxLength"]), (&json!(1), &json!(500)));
}

/// A pattern without its anchors, as a generator of texts takes it.
pub(crate) fn texts(pattern: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).unwrap()
}

fn takes<T: FromStr>(of: &str, runner: &mut proptest::test_runner::TestRunner) {
    runner
        .run(&texts(shapes::pattern(of)), |text| {
            prop_assert!(text.parse::<T>().is_ok(), "{of} does not take {text:?}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn text_that_matches_a_pattern_is_accepted_by_its_type() {
    let runner = &mut proptest::test_runner::TestRunner::default();
    takes::<AccessTarget>("AccessTarget", runner);
    takes::<ActionName>("ActionName", runner);
    takes::<ActionRef>("ActionRef", runner);
    takes::<ChannelName>("ChannelName", runner);
    takes::<Digest>("Digest", runner);
    takes::<ExecutionId>("ExecutionId", runner);
    takes::<GroupName>("GroupName", runner);
    takes::<IdempotencyKey>("IdempotencyKey", runner);
    takes::<InstanceId>("InstanceId", runner);
    takes::<PackName>("PackName", runner);
    takes::<PackVersion>("PackVersion", runner);
    takes::<Principal>("Principal", runner);
    takes::<RunId>("RunId", runner);
}

/// A generator of clients from PyPI; `.ci/run` installs it and sets `BOLT_OPENAPI_PYTHON_CLIENT`.
#[test]
fn a_client_generator_accepts_the_document() {
    let program = std::env::var_os("BOLT_OPENAPI_PYTHON_CLIENT").map(std::path::PathBuf::from);
    let Some(program) = program.filter(|path| path.exists()) else {
        // Past the capture of the test harness, as loudly as the other suites say it.
        let said = "SKIPPED a_client_generator_accepts_the_document: BOLT_OPENAPI_PYTHON_CLIENT names no program\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("openapi.json"), dir.path().join("client"));
    std::fs::write(&file, document().to_string()).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["generate", "--meta", "none", "--path"]).arg(&file).arg("--output-path").arg(&out);
    // The generator runs its formatter from its own directory.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    // The generator does not support streams of lines and archives: it skips them with a warning. Nothing else is skipped.
    let known = |line: &&str| line.contains("type application/x-ndjson)") || line.contains("type application/gzip");
    let warnings = said.lines().filter(|line| line.starts_with("WARNING parsing")).count();
    assert_eq!(
        said.lines().filter(|line| line.contains("Unsupported content")).filter(known).count(),
        warnings,
        "{said}"
    );
    for route in ROUTES {
        let name = format!("{:?}", route.operation);
        let snake: String = name
            .chars()
            .flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] })
            .collect();
        let file = out.join("api/default").join(format!("{}.py", snake.trim_start_matches('_')));
        assert!(file.exists(), "{} was not made: {said}", file.display());
    }
    let compiled = std::process::Command::new("/usr/bin/python3").args(["-m", "compileall", "-q"]).arg(&out).status();
    assert!(compiled.unwrap().success(), "what was made is no Python");
}
