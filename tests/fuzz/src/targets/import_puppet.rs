//! A Puppet module that is imported: its metadata, a task with its metadata and program, and an alias of a type. What is planned
//! passes the check of agents, stays within the pack, and is the same each time.

use bolt_client::fuzz::puppet;
use packs_schema::pack::contents::check_path;
use serde_json::Value;

use crate::{join, parts, repository};

pub(super) fn run(data: &[u8]) {
    let [module, task, program, alias] = parts(data);
    let all = [
        ("metadata.json", module),
        ("tasks/a.json", task),
        ("tasks/a.sh", program),
        ("files/x", b"x"),
        ("types/t.pp", alias),
    ];
    let given: Vec<(&str, &[u8])> = all.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let planned = puppet(&given);
    assert_eq!(planned, puppet(&given));
    match planned {
        Ok(files) => {
            for (path, _) in &files {
                assert!(check_path(path).is_ok(), "{path:?}");
            }
            let registry = files.iter().find(|(path, _)| path == "actions/bolt_puppet/tasks.json").expect("a registry");
            let registry: Value = serde_json::from_slice(&registry.1).expect("JSON");
            for implementation in registry["tasks"]["a"]["implementations"].as_array().into_iter().flatten() {
                let program = implementation["file"].as_str().expect("a path");
                assert!(files.iter().any(|(path, _)| path == program), "{program:?}");
            }
        }
        Err(error) => assert!(error.len() <= 16 << 10, "an error of {} bytes", error.len()),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let at = |path: &str| repository::read(&format!("tests/fixtures/puppet/modules/shapes/{path}"));
    let (module, alias) = (at("metadata.json"), at("types/level.pp"));
    let tasks = ["both", "broken", "command", "defaults", "env", "files", "init", "kinds", "linux", "noop", "remote", "secrets"];
    tasks
        .iter()
        .map(|name| join(&[&module, &at(&format!("tasks/{name}.json")), b"#!/bin/sh\necho \"$PT_a\"\n", &alias]))
        .filter(|seed| seed.len() <= 8192)
        .collect()
}
