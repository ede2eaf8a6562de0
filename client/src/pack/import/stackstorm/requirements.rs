//! `requirements.txt`: what Bolt accepts is kept, the rest becomes a comment and a finding. Packages that StackStorm's own
//! environment has are added where actions import them.

use std::collections::BTreeSet;

use packs_schema::pack::contents::{REQUIREMENTS_FILE, requirements};

use crate::pack::import::plan::PlannedFile;
use crate::pack::import::report::{Effect, ImportFinding};
use crate::pack::import::source::SourceTree;

/// Modules that StackStorm's environment gives every action, and their distributions.
const PROVIDED: [(&str, &str); 14] = [
    ("six", "six"),
    ("requests", "requests"),
    ("yaml", "PyYAML"),
    ("jinja2", "Jinja2"),
    ("dateutil", "python-dateutil"),
    ("pytz", "pytz"),
    ("tzlocal", "tzlocal"),
    ("simplejson", "simplejson"),
    ("jsonschema", "jsonschema"),
    ("paramiko", "paramiko"),
    ("eventlet", "eventlet"),
    ("cryptography", "cryptography"),
    ("kombu", "kombu"),
    ("git", "GitPython"),
];

/// Requirements of the pack.
#[derive(Debug, Default)]
pub(super) struct Requirements {
    lines: Vec<String>,
    names: BTreeSet<String>,
    /// Lines that name an address or an option of pip.
    pub(super) refused: Vec<(usize, String)>,
    added: BTreeSet<&'static str>,
}

/// Reads the file.
pub(super) fn read(tree: &SourceTree, findings: &mut Vec<ImportFinding>) -> Requirements {
    let mut read = Requirements::default();
    let text = tree.text(REQUIREMENTS_FILE).unwrap_or_default();
    if let Ok(all) = requirements(text) {
        read.lines = text.lines().map(str::to_owned).collect();
        read.names = all.iter().map(|one| normalized(&one.name)).collect();
        return read;
    }
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        match requirements(line) {
            Ok(one) => {
                read.names.extend(one.iter().map(|one| normalized(&one.name)));
                read.lines.push(line.to_owned());
            }
            Err(_) => {
                let shown: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
                let message =
                    format!("{shown:?} names an address or an option; publish a wheel and name it and its version");
                let finding = ImportFinding::new("requirement_refused", Effect::Note, REQUIREMENTS_FILE, message);
                findings.push(finding.at(Some(index + 1)));
                read.lines.push(format!("# not imported: {shown}"));
                read.refused.push((index + 1, shown));
            }
        }
    }
    read
}

impl Requirements {
    /// Adds the distribution of a module that StackStorm's environment provides; true if there is one.
    pub(super) fn provide(&mut self, module: &str) -> bool {
        let Some((_, distribution)) = PROVIDED.iter().find(|(known, _)| *known == module) else { return false };
        if !self.names.contains(&normalized(distribution)) {
            self.added.insert(distribution);
        }
        true
    }

    /// True if a requirement is called like the module, or contains its name.
    pub(super) fn may_provide(&self, module: &str) -> bool {
        let module = normalized(module);
        self.names.iter().any(|name| name.contains(&module) || module.contains(name.as_str()))
    }

    /// Returns the file to write, if anything is required.
    pub(super) fn file(self, findings: &mut Vec<ImportFinding>) -> Option<(String, PlannedFile)> {
        let mut lines = self.lines;
        if !self.added.is_empty() {
            lines.push("# Of StackStorm's own environment:".to_owned());
            lines.extend(self.added.iter().map(|name| (*name).to_owned()));
            let names = self.added.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("{names}: added, since actions import them from StackStorm's own environment");
            findings.push(ImportFinding::new("requirement_added", Effect::Note, REQUIREMENTS_FILE, message));
        } else if self.names.is_empty() && self.refused.is_empty() {
            return None;
        }
        let message = "agents want one version and hashes of each; write them with `uv pip compile --generate-hashes`";
        findings.push(ImportFinding::new("requirements_unpinned", Effect::Note, REQUIREMENTS_FILE, message));
        Some((REQUIREMENTS_FILE.to_owned(), PlannedFile::text(lines.join("\n") + "\n")))
    }
}

fn normalized(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}
