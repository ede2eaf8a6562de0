//! A StackStorm pack that is imported: its metadata, an action with the program that it may name, and the schema of its
//! configuration. What an import writes lies in the pack, passes the check of agents, and is the same each time.

use bolt_client::fuzz::stackstorm;
use packs_schema::pack::contents::check_path;

use super::import_ssm;
use crate::{join, parts, repository};

pub(super) fn run(data: &[u8]) {
    let [pack, action, program, config] = parts(data);
    let all = [
        ("pack.yaml", pack),
        ("actions/a.yaml", action),
        ("actions/a.py", program),
        ("actions/a.sh", program),
        ("config.schema.yaml", config),
        ("rules/r.yaml", b"name: r"),
    ];
    let given: Vec<(&str, &[u8])> = all.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let planned = stackstorm(&given);
    match &planned {
        Ok(imported) => {
            import_ssm::check(imported);
            for (path, _) in &imported.0 {
                assert!(check_path(path).is_ok(), "{path:?}");
            }
        }
        Err(error) => assert!(error.len() <= 16 << 10, "an error of {} bytes", error.len()),
    }
    assert_eq!(planned, stackstorm(&given));
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let at = |path: &str| repository::read(&format!("tests/fixtures/stackstorm/shapes/{path}"));
    let (pack, config) = (at("pack.yaml"), at("config.schema.yaml"));
    let program = b"#!/bin/sh\necho \"$1\"\n";
    let mut seeds: Vec<Vec<u8>> = repository::below("tests/fixtures/stackstorm/shapes/actions", &[".yaml"])
        .into_iter()
        .map(|action| join(&[&pack, &action, program, &config]))
        .collect();
    seeds.retain(|seed| seed.len() <= 8192);
    seeds
}
