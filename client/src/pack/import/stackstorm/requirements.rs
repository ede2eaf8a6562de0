//! `requirements.txt`: names and versions are kept, options of pip become comments. Packages that StackStorm's own
//! environment has are added where actions import them.
//!
//! Agents take no address. With a directory of wheels (`wheels`) that has all that is needed, each requirement becomes the
//! version and the hash of a wheel there; without one, a line with an address becomes a comment, and the report says by
//! which commands a person builds the wheels. The name stays and the hash pins the file, so another distribution of that
//! name, on whatever index, is not installed.

mod address;
mod pinned;

use std::collections::{BTreeMap, BTreeSet};

use packs_schema::base::strict::shorten;
use packs_schema::pack::contents::{REQUIREMENTS_FILE, requirements};

use self::address::Address;
use crate::pack::import::ImportError;
use crate::pack::import::plan::PlannedFile;
use crate::pack::import::report::{Effect, ImportFinding, REQUIREMENT_REFUSED};
use crate::pack::import::source::SourceTree;
use crate::pack::import::wheels::{self, Chosen, Dependency, Need, Pin, Wheels, normalized};

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
#[derive(Debug, Clone, Default)]
pub(super) struct Requirements {
    lines: Vec<Line>,
    names: BTreeSet<String>,
    added: BTreeSet<&'static str>,
    /// Why addresses are refused, and what to do; `None` as long as wheels are taken to be there.
    refusal: Option<String>,
}

/// Line, with what is joined to it.
#[derive(Debug, Clone)]
enum Line {
    /// Comment, or nothing.
    Other(String),
    /// Requirement that agents accept.
    Named { line: usize, text: String, dependency: Option<Dependency>, hashed: bool },
    /// Distribution from an address.
    Address { line: usize, address: Address },
    /// Option of pip, or a path.
    Refused { line: usize, shown: String },
}

/// Result of the look for wheels.
#[derive(Debug)]
pub(super) enum Provision {
    /// Version and wheels of everything that is needed.
    Pinned(BTreeMap<String, Pin>),
    /// Names of what the directory of wheels lacks; nothing without such a directory.
    AsWritten(Vec<String>),
}

/// Reads the file. Addresses are taken to be provided.
pub(super) fn read(tree: &SourceTree) -> Requirements {
    let mut read = Requirements::default();
    for (line, text) in joined_lines(tree.text(REQUIREMENTS_FILE).unwrap_or_default()) {
        let known = match requirements(&text) {
            Ok(none) if none.is_empty() => Line::Other(text),
            Ok(one) => {
                read.names.extend(one.iter().map(|one| normalized(&one.name)));
                let hashed = one.iter().all(|one| one.hashed);
                let dependency = Dependency::parse(&in_one_line(&text));
                Line::Named { line, text, dependency, hashed }
            }
            Err(_) => match Address::parse(&in_one_line(&text)) {
                Some(address) => Line::Address { line, address },
                None => Line::Refused { line, shown: shorten(&in_one_line(&text), 200) },
            },
        };
        read.lines.push(known);
    }
    read
}

/// Returns lines with those that a final `\` joins to them, each with the number of its first line.
fn joined_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (index, line) in text.lines().enumerate() {
        match lines.last_mut().filter(|_| continues) {
            Some((_, before)) => *before = format!("{before}\n{line}"),
            None => lines.push((index + 1, line.to_owned())),
        }
        continues = line.ends_with('\\') && !line.trim_start().starts_with('#');
    }
    lines
}

/// Returns a requirement without its comment and its hashes.
fn in_one_line(text: &str) -> String {
    let joined = text.replace("\\\n", " ");
    let bare = joined.split(" #").next().unwrap_or_default();
    bare.split(" --hash").next().unwrap_or_default().trim().to_owned()
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

    /// Returns why a module that nothing else provides cannot be had, or from which address it comes.
    pub(super) fn of_unknown(&self, module: &str) -> Option<Result<String, String>> {
        let refused = self.lines.iter().find_map(|line| match line {
            Line::Refused { line, shown } => {
                Some(format!("it imports {module}, and requirements.txt:{line} is an option or a path ({shown})"))
            }
            _ => None,
        });
        let addresses = self.addresses();
        let module_name = normalized(module);
        let likely = |address: &Address| {
            address.distribution.as_ref().is_some_and(|it| normalized(&it.name).contains(&module_name))
        };
        let Some((line, address)) = addresses.iter().find(|(_, it)| likely(it)).or(addresses.first()) else {
            return refused.map(|refused| Err(format!("{refused}; name a distribution and its version there")));
        };
        let shown = &address.shown;
        match (&self.refusal, refused) {
            (Some(_), _) => Some(Err(format!(
                "it imports {module}, and requirements.txt:{line} names an address ({shown}); make wheels by the commands of the \
                 finding there, and import again with --wheels"
            ))),
            (None, Some(refused)) => Some(Err(format!("{refused}; name a distribution and its version there"))),
            (None, None) => Some(Ok(format!(
                "it imports {module}, and requirements.txt:{line} names an address ({shown}); a wheel with a hash takes its place"
            ))),
        }
    }

    fn addresses(&self) -> Vec<(usize, &Address)> {
        let address = |line| match line {
            &Line::Address { line, ref address } => Some((line, address)),
            _ => None,
        };
        self.lines.iter().filter_map(address).collect()
    }

    /// Chooses wheels for all requirements, if there is a directory of them.
    pub(super) fn provision(&self, wheels: Option<&Wheels>) -> Result<Provision, ImportError> {
        let Some(wheels) = wheels else { return Ok(Provision::AsWritten(Vec::new())) };
        let (mut needs, mut missing, mut given) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut need = |line: usize, dependency: &Option<Dependency>, exactly_one| match dependency.clone() {
            Some(dependency) => {
                needs.push(Need { dependency, named_by: format!("{REQUIREMENTS_FILE}:{line}"), exactly_one });
            }
            None => missing.push(format!("the name of what {REQUIREMENTS_FILE}:{line} requires")),
        };
        for line in &self.lines {
            match line {
                Line::Named { line, dependency, hashed: false, .. } => need(*line, dependency, false),
                Line::Address { line, address } => need(*line, &address.distribution, true),
                Line::Named { hashed: true, dependency, .. } => {
                    given.extend(dependency.iter().map(|dependency| normalized(&dependency.name)));
                }
                Line::Other(_) | Line::Refused { .. } => {}
            }
        }
        let added = self.added.iter().filter_map(|name| Dependency::parse(name));
        needs.extend(added.map(|dependency| Need { dependency, named_by: "an action".to_owned(), exactly_one: false }));
        if !missing.is_empty() {
            return Ok(Provision::AsWritten(missing));
        }
        Ok(match wheels::choose(wheels, &needs, &given)? {
            Chosen::Complete(pins) => Provision::Pinned(pins),
            Chosen::Missing(missing) => Provision::AsWritten(missing),
        })
    }

    /// Returns what is refused where `provision` has no wheels for an address; `None` if there is no address.
    pub(super) fn refusing(&self, provision: &Provision, tree: &SourceTree) -> Option<Requirements> {
        let Provision::AsWritten(missing) = provision else { return None };
        if self.addresses().is_empty() {
            return None;
        }
        Some(Requirements { refusal: Some(self.remedy(missing)), ..read(tree) })
    }

    /// Returns what is missing, and the commands by which a person provides it.
    fn remedy(&self, missing: &[String]) -> String {
        let lacks = match missing {
            [] => String::new(),
            missing => format!("the directory of wheels lacks {}; ", missing.join(", ")),
        };
        let mut unnamed = self.addresses().into_iter().filter(|(_, address)| address.distribution.is_none());
        let name = match unnamed.next() {
            Some((line, _)) => format!("write #egg=NAME, the name of its distribution, at the end of line {line}; "),
            None => String::new(),
        };
        let command = match self.arguments() {
            Some(arguments) => format!("`python3 -m pip wheel --wheel-dir wheels {}`", arguments.join(" ")),
            None => {
                "`python3 -m pip wheel --wheel-dir wheels …` with the address and all other requirements".to_owned()
            }
        };
        format!(
            "{lacks}{name}build wheels of all requirements, on a machine for the purpose, since this runs code from the address: \
             {command}; then import again with `--wheels wheels`. A wheel of another name than the address says: write that name \
             after it, as #egg=NAME"
        )
    }

    /// Returns all requirements without hashes as words of a shell; `None` if one of them cannot be written so.
    fn arguments(&self) -> Option<Vec<String>> {
        let word = |line: &Line| match line {
            Line::Address { address, .. } => Some(address.word()),
            Line::Named { dependency, hashed: false, .. } => {
                let word = |it: &Dependency| format!("'{}{}'", it.with_extras(&it.name), it.versions);
                Some(dependency.as_ref().map(word))
            }
            Line::Named { hashed: true, .. } | Line::Other(_) | Line::Refused { .. } => None,
        };
        let added = self.added.iter().map(|name| Some((*name).to_owned()));
        self.lines.iter().filter_map(word).chain(added).collect()
    }

    /// Returns the file to write, if anything is required.
    pub(super) fn file(
        self,
        provision: &Provision,
        findings: &mut Vec<ImportFinding>,
    ) -> Result<Option<(String, PlannedFile)>, ImportError> {
        self.report_refused(findings);
        let requires = !self.added.is_empty() || self.lines.iter().any(|line| !matches!(line, Line::Other(_)));
        if !requires {
            return Ok(None);
        }
        if !self.added.is_empty() {
            let names = self.added.iter().copied().collect::<Vec<_>>().join(", ");
            let message = format!("{names}: added, since actions import them from StackStorm's own environment");
            findings.push(ImportFinding::new("requirement_added", Effect::Note, REQUIREMENTS_FILE, message));
        }
        let text = match provision {
            Provision::Pinned(pins) => pinned::text(&self, pins, findings)?,
            Provision::AsWritten(missing) => self.as_written(missing, findings),
        };
        Ok(Some((REQUIREMENTS_FILE.to_owned(), PlannedFile::text(text))))
    }

    fn report_refused(&self, findings: &mut Vec<ImportFinding>) {
        for line in &self.lines {
            let (line, message) = match (line, &self.refusal) {
                (Line::Refused { line, shown }, _) => {
                    let remedy = "the site says where packages come from, [python] in agent.toml; name distributions and versions";
                    (line, format!("{shown:?} is an option or a path, and not imported: {remedy}"))
                }
                (Line::Address { line, address }, Some(remedy)) => {
                    (line, format!("{:?} is an address, which agents do not take: {remedy}", address.shown))
                }
                _ => continue,
            };
            let finding = ImportFinding::new(REQUIREMENT_REFUSED, Effect::Note, REQUIREMENTS_FILE, message);
            findings.push(finding.at(Some(*line)));
        }
    }

    fn as_written(&self, missing: &[String], findings: &mut Vec<ImportFinding>) -> String {
        let shown = |line: &Line| match line {
            Line::Other(text) | Line::Named { text, .. } => text.clone(),
            Line::Refused { shown, .. } => format!("# not imported: {shown}"),
            Line::Address { address, .. } => format!("# not imported: {}", address.shown),
        };
        let mut lines: Vec<String> = self.lines.iter().map(shown).collect();
        if !self.added.is_empty() {
            lines.push("# Of StackStorm's own environment:".to_owned());
            lines.extend(self.added.iter().map(|name| (*name).to_owned()));
        }
        let bare = |line: &Line| matches!(line, Line::Named { hashed: false, .. });
        if self.added.is_empty() && !self.lines.iter().any(bare) {
            return lines.join("\n") + "\n";
        }
        let message = match (missing, self.arguments()) {
            ([_, ..], Some(arguments)) if self.refusal.is_none() => format!(
                "agents want hashes of each; the directory of wheels lacks {}: `python3 -m pip wheel --wheel-dir wheels {}`, then \
                 import again with `--wheels wheels`",
                missing.join(", "),
                arguments.join(" ")
            ),
            _ => "agents want one version and hashes of each; write them with `uv pip compile --generate-hashes`"
                .to_owned(),
        };
        findings.push(ImportFinding::new("requirements_unpinned", Effect::Note, REQUIREMENTS_FILE, message));
        lines.join("\n") + "\n"
    }
}
