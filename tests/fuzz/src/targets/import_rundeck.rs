//! Jobs of Rundeck that are imported, as YAML or, after a `<`, as XML.

use bolt_client::fuzz::rundeck;

use super::import_ssm;
use crate::repository;

pub(super) fn run(data: &[u8]) {
    let name = if data.trim_ascii_start().starts_with(b"<") { "jobs.xml" } else { "jobs.yaml" };
    match rundeck(name, data) {
        Ok(imported) => import_ssm::check(&imported),
        Err(error) => assert!(error.len() <= 4096, "an error of {} bytes", error.len()),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = repository::below("tests/fixtures/rundeck/shapes", &[".yaml", ".xml"]);
    seeds.retain(|seed| seed.len() <= 8192);
    seeds
}
