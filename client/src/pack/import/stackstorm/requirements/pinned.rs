//! Writes `requirements.txt` with a version and hashes of each distribution.

use std::collections::{BTreeMap, BTreeSet};

use packs_schema::pack::contents::{REQUIREMENTS_FILE, requirements};

use super::{Address, Line, Requirements};
use crate::pack::import::ImportError;
use crate::pack::import::report::{Effect, ImportFinding};
use crate::pack::import::wheels::{Dependency, Pin, normalized};

/// Returns the text of the file.
pub(super) fn text(
    requirements: &Requirements,
    pins: &BTreeMap<String, Pin>,
    findings: &mut Vec<ImportFinding>,
) -> Result<String, ImportError> {
    let mut written = Written { pins, names: BTreeSet::new(), lines: Vec::new() };
    for line in &requirements.lines {
        match line {
            Line::Other(text) | Line::Named { text, hashed: true, .. } => written.lines.push(text.clone()),
            Line::Named { dependency, .. } => written.pin(dependency.as_ref()),
            Line::Address { line, address } => {
                written.lines.push(format!("# {}", address.shown));
                written.pin(address.distribution.as_ref());
                findings.extend(finding(*line, address, pins));
            }
            Line::Refused { shown, .. } => written.lines.push(format!("# not imported: {shown}")),
        }
    }
    if !requirements.added.is_empty() {
        written.lines.push("# Of StackStorm's own environment:".to_owned());
        for dependency in requirements.added.iter().map(|name| Dependency::parse(name)) {
            written.pin(dependency.as_ref());
        }
    }
    let others: Vec<&String> = pins.keys().filter(|name| !written.names.contains(*name)).collect();
    if !others.is_empty() {
        written.lines.push("# Needed by those above:".to_owned());
    }
    for name in others {
        written.pin(Dependency::parse(name).as_ref());
    }
    let text = written.lines.join("\n") + "\n";
    let from_address: BTreeSet<String> = requirements
        .addresses()
        .iter()
        .filter_map(|(_, it)| Some(normalized(&it.distribution.as_ref()?.name)))
        .collect();
    let rest: Vec<&Pin> = pins.iter().filter(|(name, _)| !from_address.contains(*name)).map(|(_, pin)| pin).collect();
    if !rest.is_empty() {
        let files: Vec<&str> = rest.iter().flat_map(|pin| &pin.files).map(|(file, _)| file.as_str()).collect();
        let message = format!(
            "pinned to wheels, since pip wants hashes of all or of none; the site needs these files as well: {}",
            files.join(", ")
        );
        findings.push(ImportFinding::new("requirements_pinned", Effect::Note, REQUIREMENTS_FILE, message));
    }
    checked(text)
}

/// Returns the text if every requirement in it has one version and hashes, as agents read it.
fn checked(text: String) -> Result<String, ImportError> {
    let refused = |problem: String| ImportError::refused(REQUIREMENTS_FILE, problem);
    let read =
        requirements(&text).map_err(|errors| refused(errors.first().map(ToString::to_string).unwrap_or_default()))?;
    match read.iter().find(|one| !one.hashed || !one.pinned) {
        Some(bare) => Err(refused(format!("line {}: {} has no hash or no version", bare.line, bare.name))),
        None => Ok(text),
    }
}

fn finding(line: usize, address: &Address, pins: &BTreeMap<String, Pin>) -> Option<ImportFinding> {
    let pin = pins.get(&normalized(&address.distribution.as_ref()?.name))?;
    let files: Vec<&str> = pin.files.iter().map(|(file, _)| file.as_str()).collect();
    let by = if address.named_by_repository { "; its name is taken from the address, which gives none" } else { "" };
    let message = format!(
        "{} became {}=={} with the hash of {}{by}: put that file into the site's index or directory of wheels ([python] in \
         agent.toml); another file of that name is not installed",
        address.shown,
        pin.name,
        pin.version,
        files.join(", ")
    );
    Some(ImportFinding::new("requirement_pinned", Effect::Safer, REQUIREMENTS_FILE, message).at(Some(line)))
}

struct Written<'a> {
    pins: &'a BTreeMap<String, Pin>,
    /// Normalised names that are written.
    names: BTreeSet<String>,
    lines: Vec<String>,
}

impl Written<'_> {
    /// Writes the pin of a requirement, unless it is there already.
    fn pin(&mut self, dependency: Option<&Dependency>) {
        let known = dependency.and_then(|it| Some((it, self.pins.get(&normalized(&it.name))?)));
        let Some((dependency, pin)) = known.filter(|(it, _)| self.names.insert(normalized(&it.name))) else { return };
        let markers: Vec<String> = pin.markers.iter().flatten().cloned().collect();
        let marker = match &markers[..] {
            [] => String::new(),
            [one] => format!(" ; {one}"),
            several => format!(" ; ({})", several.join(") or (")),
        };
        let hashes: Vec<String> = pin.files.iter().map(|(_, sha256)| format!("    --hash=sha256:{sha256}")).collect();
        let head = format!("{}=={}{marker}", dependency.with_extras(&pin.name), pin.version);
        self.lines.push(format!("{head} \\\n{}", hashes.join(" \\\n")));
    }
}
