//! Limits that values must have, given where they and the variables made of them are read.

use std::collections::{BTreeMap, BTreeSet};

use super::limit::Limit;
use super::{Refused, ScriptValue, programs};

/// Source of text in a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Value(usize),
    Variable(String),
}

/// Place where a source is read as more than data, or may be.
#[derive(Debug)]
pub(super) enum Use {
    /// Names the program.
    Program,
    /// Is code of this reader.
    Code(Limit, String),
    /// Becomes a part of the value of a variable; `true` in its first word.
    Assigned(String, bool),
    /// Is an argument of this command, whose output may be the input of others.
    Argument(usize),
    /// Is in a here-document of this command; `true` for one that begins like a script.
    Here(usize, bool),
}

/// Simple command.
#[derive(Debug, Default)]
pub(super) struct CommandFacts {
    pub(super) program: String,
    pub(super) operands: usize,
    pub(super) pipeline: usize,
    /// Variables that it fills from its input.
    pub(super) reads: Vec<String>,
}

/// Facts about a script.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) uses: Vec<(Source, Use)>,
    /// Commands by their number.
    pub(super) commands: Vec<CommandFacts>,
}

/// Limit that a value must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) struct Need {
    pub(in crate::pack::import) limit: Limit,
    /// The reader that would take the value for code.
    pub(in crate::pack::import) reader: String,
}

/// Returns the limits that go beyond the schemas of values, by the index of the value.
pub(super) fn needs(facts: &Facts, values: &[ScriptValue]) -> Result<Vec<(usize, Need)>, Refused> {
    let all = origins(facts, values, false);
    // A variable that is run as a command names its program by its first word.
    let programs = origins(facts, values, true);
    let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
    for (source, place) in &facts.uses {
        let from: Vec<usize> = match source {
            Source::Value(index) => vec![*index],
            Source::Variable(name) => {
                let origins = if matches!(place, Use::Program) { &programs } else { &all };
                origins.get(name).into_iter().flatten().copied().collect()
            }
        };
        for index in from {
            let value = &values[index];
            if matches!(place, Use::Program) && !value.listed {
                let through = match source {
                    Source::Variable(name) if *name != value.variable => format!(", by the variable {name}"),
                    _ => String::new(),
                };
                return Err(Refused::new(format!("{} names a program{through}", value.name)));
            }
            for (limit, reader) in read_by(facts, place) {
                let known = needs.get(&index).map_or(value.limit, |need| need.limit);
                if limit > known {
                    needs.insert(index, Need { limit, reader });
                }
            }
        }
    }
    Ok(needs.into_iter().collect())
}

/// Returns the readers that take a source at this place for code.
fn read_by(facts: &Facts, place: &Use) -> Vec<(Limit, String)> {
    match place {
        Use::Code(limit, reader) => vec![(*limit, reader.clone())],
        Use::Argument(id) => piped(facts, *id),
        Use::Here(id, script) => {
            let mut readers = piped(facts, *id);
            let command = facts.commands.get(*id);
            let input = command.and_then(|c| Some((programs::input(&c.program, c.operands)?, c.program.clone())));
            readers.extend(input);
            if *script {
                readers.push((Limit::Path, "the script that a here-document writes".to_owned()));
            }
            readers
        }
        Use::Program | Use::Assigned(..) => Vec::new(),
    }
}

/// Returns the later commands of the pipeline that take their input for code.
fn piped(facts: &Facts, id: usize) -> Vec<(Limit, String)> {
    let Some(command) = facts.commands.get(id) else { return Vec::new() };
    let later = facts.commands.iter().skip(id + 1).filter(|other| other.pipeline == command.pipeline);
    later.filter_map(|c| Some((programs::input(&c.program, c.operands)?, c.program.clone()))).collect()
}

/// Returns the values that each variable may hold a part of; with `first`, in its first word.
fn origins(facts: &Facts, values: &[ScriptValue], first: bool) -> BTreeMap<String, BTreeSet<usize>> {
    let mut origins: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (index, value) in values.iter().enumerate() {
        origins.entry(value.variable.clone()).or_default().insert(index);
    }
    let mut flows: BTreeSet<(&Source, &str)> = BTreeSet::new();
    for (source, place) in &facts.uses {
        match place {
            Use::Assigned(name, begins) if *begins || !first => drop(flows.insert((source, name))),
            Use::Here(id, _) | Use::Argument(id) => {
                let Some(command) = facts.commands.get(*id) else { continue };
                let readers = facts.commands.iter().enumerate().filter(|(other, facts)| {
                    *other == *id && matches!(place, Use::Here(..))
                        || *other > *id && facts.pipeline == command.pipeline
                });
                flows.extend(readers.flat_map(|(_, reader)| &reader.reads).map(|name| (source, name.as_str())));
            }
            Use::Program | Use::Code(..) | Use::Assigned(..) => {}
        }
    }
    // Each round follows flows one step further.
    loop {
        let mut changed = false;
        for (source, into) in &flows {
            let from: BTreeSet<usize> = match source {
                Source::Value(index) => BTreeSet::from([*index]),
                Source::Variable(name) => origins.get(name).cloned().unwrap_or_default(),
            };
            let known = origins.entry((*into).to_owned()).or_default();
            let before = known.len();
            known.extend(from);
            changed |= known.len() > before;
        }
        if !changed {
            return origins;
        }
    }
}
