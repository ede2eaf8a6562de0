//! Ways of text through a script: from values through variables, pipelines and lists of commands to what reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Here, INHERITED, POSITIONAL, Reader, Source, Use};
use crate::pack::import::shell::ScriptValue;
use crate::pack::import::shell::limit::Limit;

/// How a value is in a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taint {
    /// As a part.
    Part,
    /// As a part of the first word.
    First,
    /// By choosing what a program fetched into it.
    Fetched,
    /// As a part, without arguments of functions, which are followed as one.
    Own,
}

/// Commands that read code from their input: of each kind the last one, and its program.
type Readers<'a> = BTreeMap<(Limit, bool), (usize, &'a str)>;

/// Input of later commands of a pipeline.
struct Pipeline<'a> {
    commands: Vec<usize>,
    readers: Readers<'a>,
    /// Number of the last command that is a list.
    list: Option<usize>,
    /// Number of the last command that writes to a list.
    feeds: Option<usize>,
}

pub(super) struct Graph<'a> {
    facts: &'a Facts,
    pipelines: BTreeMap<usize, Pipeline<'a>>,
    /// Commands whose input is not their own.
    inheriting: Readers<'a>,
}

impl Graph<'_> {
    pub(super) fn new(facts: &Facts) -> Graph<'_> {
        let mut pipelines: BTreeMap<usize, Pipeline<'_>> = BTreeMap::new();
        let mut inheriting = Readers::new();
        for (id, command) in facts.commands.iter().enumerate() {
            let pipeline = pipelines.entry(command.pipeline).or_insert_with(|| Pipeline {
                commands: Vec::new(),
                readers: BTreeMap::new(),
                list: None,
                feeds: None,
            });
            pipeline.commands.push(id);
            if let Some(kind) = command.input {
                pipeline.readers.insert(kind, (id, &command.program));
                if command.inherits {
                    inheriting.insert(kind, (id, command.program.as_str()));
                }
            }
            if command.feeds {
                pipeline.feeds = Some(id);
            }
            if facts.is_list(command) {
                pipeline.list = Some(id);
            }
        }
        Graph { facts, pipelines, inheriting }
    }

    /// Returns the readers that take a source at this place for code.
    pub(super) fn read_by(&self, place: &Use) -> Vec<Reader> {
        let reader = |limit, name: &str, program| Reader { limit, name: name.to_owned(), program };
        match place {
            Use::Program | Use::Name(_) => vec![Reader { limit: Limit::Free, name: String::new(), program: true }],
            Use::Code(limit, name) => vec![reader(*limit, name, false)],
            Use::Argument(id, begins) => {
                let fetches = self.facts.commands.get(*id).is_some_and(|command| command.fetches);
                let later = self.later(*id);
                later
                    .into_iter()
                    .map(|((limit, shell), (_, name))| reader(limit, name, shell && (*begins || fetches)))
                    .collect()
            }
            Use::Here(id, Here { script, begins }) => {
                let mut inputs = self.later(*id);
                let command = self.facts.commands.get(*id);
                inputs.extend(command.and_then(|command| Some((command.input?, (*id, command.program.as_str())))));
                if command.is_some_and(|command| self.facts.is_list(command)) {
                    inputs.extend(&self.inheriting);
                }
                let mut readers: Vec<Reader> = inputs
                    .into_iter()
                    .map(|((limit, shell), (_, name))| reader(limit, name, shell && *begins))
                    .collect();
                if *script {
                    readers.push(reader(Limit::Path, "the script that a here-document writes", *begins));
                }
                readers
            }
            Use::Operand | Use::Assigned(..) | Use::Executed(_) | Use::Fetched(_) | Use::FetchedInto(_) => Vec::new(),
        }
    }

    /// True if the output of a command is the input of a list of commands.
    fn is_input(&self, id: usize) -> bool {
        let Some(command) = self.facts.commands.get(id) else { return false };
        let Some(pipeline) = self.pipelines.get(&command.pipeline) else { return false };
        pipeline.list.is_some_and(|list| list > id) || pipeline.feeds.is_some_and(|feeds| feeds >= id)
    }

    /// Returns the commands after `id` in its pipeline that read code from their input.
    fn later(&self, id: usize) -> Readers<'_> {
        let pipeline = self.facts.commands.get(id).and_then(|command| self.pipelines.get(&command.pipeline));
        let mut readers = Readers::new();
        if let Some(pipeline) = pipeline {
            readers.extend(pipeline.readers.iter().filter(|(_, (last, _))| *last > id));
        }
        if self.is_input(id) {
            readers.extend(&self.inheriting);
        }
        for (_, pipeline) in self.facts.outputs.iter().filter(|(list, _)| list.contains(&id)) {
            readers.extend(self.pipelines.get(pipeline).into_iter().flat_map(|pipeline| &pipeline.readers));
        }
        readers
    }

    /// True if other commands read what this one writes.
    pub(super) fn output_is_read(&self, id: usize) -> bool {
        let pipeline = self.facts.commands.get(id).and_then(|command| self.pipelines.get(&command.pipeline));
        pipeline.is_some_and(|pipeline| pipeline.commands.iter().any(|other| *other > id))
            || self.facts.outputs.iter().any(|(list, _)| list.contains(&id))
    }

    /// Returns the values in arguments and input of a command and of others in its pipeline.
    pub(super) fn given_to(&self, id: usize, origins: &BTreeMap<String, BTreeSet<usize>>) -> BTreeSet<usize> {
        let Some(command) = self.facts.commands.get(id) else { return BTreeSet::new() };
        let inherited = command.inherits.then(|| INHERITED.to_owned());
        let names = inherited.into_iter().chain([pipe(command.pipeline)]);
        names.filter_map(|name| origins.get(&name)).flatten().copied().collect()
    }

    /// Returns the values that each variable holds in this way.
    pub(super) fn origins(&self, values: &[ScriptValue], taint: Taint) -> BTreeMap<String, BTreeSet<usize>> {
        let mut origins: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        if taint != Taint::Fetched {
            for (index, value) in values.iter().enumerate() {
                origins.entry(value.variable.clone()).or_default().insert(index);
            }
            origins.entry(POSITIONAL.to_owned()).or_default().extend(&self.facts.arguments);
        }
        for (source, place) in &self.facts.uses {
            for (into, begins, fetched) in self.fills(place) {
                if taint == Taint::Own && into == POSITIONAL {
                    continue;
                }
                match source {
                    Source::Variable(name) if !fetched && (begins || taint != Taint::First) => {
                        edges.entry(name.clone()).or_default().insert(into);
                    }
                    Source::Value(index)
                        if fetched == (taint == Taint::Fetched) && (begins || taint != Taint::First) =>
                    {
                        origins.entry(into).or_default().insert(*index);
                    }
                    Source::Variable(name) if fetched && taint == Taint::Fetched => {
                        let of = values.iter().position(|value| value.variable == *name);
                        origins.entry(into).or_default().extend(of);
                    }
                    _ => {}
                }
            }
        }
        for command in &self.facts.commands {
            let from = if command.inherits {
                vec![INHERITED.to_owned(), pipe(command.pipeline)]
            } else {
                vec![pipe(command.pipeline)]
            };
            for name in from {
                edges.entry(name).or_default().extend(command.reads.iter().cloned());
            }
        }
        if self.facts.commands.iter().any(|command| command.program == "getopts") {
            edges.entry(POSITIONAL.to_owned()).or_default().insert("OPTARG".to_owned());
        }
        let mut waiting: Vec<String> = origins.keys().cloned().collect();
        while let Some(name) = waiting.pop() {
            let from = origins.get(&name).cloned().unwrap_or_default();
            for into in edges.get(&name).into_iter().flatten() {
                let known = origins.entry(into.clone()).or_default();
                let before = known.len();
                known.extend(&from);
                if known.len() > before {
                    waiting.push(into.clone());
                }
            }
        }
        origins
    }

    /// Returns the variables that text at this place fills, whether it is in their first word, and whether it is fetched.
    fn fills(&self, place: &Use) -> Vec<(String, bool, bool)> {
        match place {
            Use::Assigned(name, begins) => vec![(name.clone(), *begins, false)],
            Use::FetchedInto(name) => vec![(name.clone(), true, true)],
            Use::Argument(id, begins) => {
                let Some(command) = self.facts.commands.get(*id) else { return Vec::new() };
                let mut into = vec![(pipe(command.pipeline), *begins, false)];
                let outputs = self.facts.outputs.iter().filter(|(list, _)| list.contains(id));
                into.extend(outputs.map(|(_, pipeline)| (pipe(*pipeline), *begins, false)));
                if self.is_input(*id) {
                    into.push((INHERITED.to_owned(), *begins, false));
                }
                if self.facts.functions.contains(&command.program) || command.program == "set" {
                    // Which argument is the first one changes with `shift`.
                    let shifts = self.facts.commands.iter().any(|command| command.program == "shift");
                    into.push((POSITIONAL.to_owned(), *begins || shifts, false));
                }
                into
            }
            Use::Here(id, here) => {
                let Some(command) = self.facts.commands.get(*id) else { return Vec::new() };
                let mut into: Vec<_> = command.reads.iter().map(|name| (name.clone(), here.begins, false)).collect();
                into.push((pipe(command.pipeline), here.begins, false));
                if self.facts.is_list(command) {
                    into.push((INHERITED.to_owned(), here.begins, false));
                }
                into
            }
            Use::Program | Use::Name(_) | Use::Code(..) | Use::Executed(_) | Use::Fetched(_) | Use::Operand => {
                Vec::new()
            }
        }
    }
}

/// Name of the input of a pipeline's commands, which no variable has.
fn pipe(pipeline: usize) -> String {
    format!("|{pipeline}")
}
