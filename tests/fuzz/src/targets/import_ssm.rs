//! Documents of Systems Manager that are imported, as YAML or, after a `{`, as JSON. What an import writes lies in the pack.

use bolt_client::fuzz::{Imported, ssm};
use bolt_client::pack::import::Verdict;

use crate::repository;

pub(super) fn run(data: &[u8]) {
    let name = if data.trim_ascii_start().starts_with(b"{") { "document.json" } else { "document.yaml" };
    match ssm(name, data) {
        Ok(imported) => check(&imported),
        Err(error) => assert!(error.len() <= 4096, "an error of {} bytes", error.len()),
    }
}

/// Checks what importers of documents promise.
pub(super) fn check((files, report): &Imported) {
    let written = |path: &str| files.iter().any(|(known, _)| known == path);
    for (path, _) in files {
        let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(inside && !path.contains(char::is_control), "{path:?} is written");
    }
    for action in &report.actions {
        let runs = action.verdict() != Verdict::CannotRun;
        assert!(!runs || written(&format!("actions/{}.yaml", action.name)), "{} has no file", action.name);
        for finding in &action.findings {
            assert!(finding.message.len() <= 16_384, "a finding of {} bytes", finding.message.len());
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = repository::below("tests/fixtures/ssm/shapes", &[".yaml", ".json"]);
    seeds.retain(|seed| seed.len() <= 8192);
    seeds
}
