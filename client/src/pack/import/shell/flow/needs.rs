//! Limits that values need, and values that choose a program, given where they are read.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Origins, Reader, Taint};
use super::named::{self, Named};
use super::variable_names::reads_names;
use super::{Facts, Need, Source, Split, Use, is_positional, of};
use crate::pack::import::shell::files::{self, Files, InFile, Written};
use crate::pack::import::shell::limit::Limit;
use crate::pack::import::shell::{Refused, ScriptValue, programs};

/// Needs of a script.
#[derive(Debug, Default)]
pub(in crate::pack::import::shell) struct Needs {
    /// Limits that go beyond the schemas of values, by the index of the value.
    pub(in crate::pack::import::shell) limits: Vec<(usize, Need)>,
    /// Values that name programs, and become no code.
    pub(in crate::pack::import::shell) programs: BTreeSet<usize>,
    /// Values that a program in another language may start programs with, and those that choose what is run: a
    /// directory of programs, what is downloaded, what is copied to a file that is run.
    pub(in crate::pack::import::shell) started: BTreeSet<usize>,
    /// Values of which a part may be an argument of its own.
    pub(in crate::pack::import::shell) cut: BTreeSet<usize>,
    /// Files that it writes, and those that it runs.
    pub(in crate::pack::import::shell) files: Files,
    /// Values of several words, of which none may be an option.
    pub(in crate::pack::import::shell) by_options: BTreeSet<usize>,
    /// Values that a shell reads as a part of code, whatever else reads them.
    pub(in crate::pack::import::shell) by_shell: BTreeSet<usize>,
}

/// Returns what values must be limited to, and which ones name programs. Adds to `operands` those that must be no options.
pub(in crate::pack::import::shell) fn needs(
    facts: &Facts,
    values: &[ScriptValue],
    operands: &mut Vec<usize>,
) -> Result<Needs, Refused> {
    let graph = Graph::new(facts);
    let all = graph.origins(values, Taint::Part, None);
    // A variable that is run as a command names its program by its first word.
    let first = graph.origins(values, Taint::First, Some(&all));
    let fetched = graph.origins(values, Taint::Fetched, Some(&all));
    let is_relative = facts.runs_relative();
    let mut reading = Reading {
        values,
        graph: &graph,
        all: &all,
        first,
        fetched,
        is_relative,
        operands,
        limits: BTreeMap::new(),
        named: Vec::new(),
        done: Needs::default(),
    };
    for (source, place) in &facts.uses {
        reading.place(source, place)?;
        for reader in graph.read_by(place) {
            reading.reader(source, place, &reader)?;
        }
    }
    let (texts, runs) = (facts.writes.iter().map(|(_, written)| written.clone()), facts.runs.clone());
    let in_file = |written: &Written| {
        let source = Source::Variable(files::text_of(&written.path));
        let firsts = of(&source, &reading.first);
        InFile::new(&of(&source, &all), &firsts, &of(&source, &reading.fetched), values)
    };
    let written = texts.map(|written| (written.clone(), in_file(&written))).collect();
    reading.done.files = Files { written, runs, directories: facts.directories.clone() };
    let Reading { mut limits, named, mut done, .. } = reading;
    if !named.is_empty() {
        named::check(&graph, values, &all, &named, &mut limits)?;
    }
    if facts.runs_any() {
        let is_read = |index: &usize| {
            let is_value = |(source, _): &(Source, Use)| match source {
                Source::Value(other) => other == index,
                Source::Variable(name) | Source::Cut(name) => *name == values[*index].variable,
            };
            facts.arguments.contains(index) || facts.uses.iter().any(is_value)
        };
        done.started.extend((0..values.len()).filter(is_read));
    }
    done.started.extend(&facts.started);
    done.started.retain(|index| !values[*index].listed);
    done.programs = named.into_iter().map(|named| named.value).collect();
    done.limits = limits.into_iter().collect();
    Ok(done)
}

/// Needs being collected.
struct Reading<'a> {
    values: &'a [ScriptValue],
    graph: &'a Graph<'a>,
    all: &'a Origins,
    first: Origins,
    fetched: Origins,
    /// The script runs what lies in its working directory.
    is_relative: bool,
    operands: &'a mut Vec<usize>,
    limits: BTreeMap<usize, Need>,
    named: Vec<Named>,
    done: Needs,
}

impl Reading<'_> {
    /// Reads a place by what it is itself.
    fn place(&mut self, source: &Source, place: &Use) -> Result<(), Refused> {
        let parts = of(source, self.all);
        let firsts = self.firsts(source);
        match place {
            Use::Operand => {
                self.operands.extend(&firsts);
                self.note_cut(source, &firsts);
            }
            Use::Split(split) => self.split(source, split, &parts),
            Use::Executed(name) => {
                if let Some(index) = self.unlisted(&parts) {
                    return Err(self.refused(source, index, &format!("a program, by the variable {name}")));
                }
                self.start_fetched(source);
            }
            Use::Name(command) => {
                // All of it is the name.
                let unlisted: Vec<usize> = parts.iter().copied().filter(|index| !self.values[*index].listed).collect();
                if let Some(index) = unlisted.first().filter(|_| self.graph.output_is_read(*command)) {
                    return Err(self.refused(source, *index, "a program"));
                }
                self.operands.extend(&unlisted);
                self.named.extend(unlisted.into_iter().map(|value| Named { value, command: *command }));
            }
            Use::Directory if self.is_relative => {
                self.done.started.extend(&parts);
                self.start_fetched(source);
            }
            Use::Chosen => {
                self.done.started.extend(&parts);
                self.start_fetched(source);
            }
            Use::Argument(id, given) if !given.is_sent && self.graph.chooses_code(*id) => {
                self.done.started.extend(&parts);
                self.start_fetched(source);
            }
            Use::File(id) if self.graph.chooses_code(*id) => self.done.started.extend(&parts),
            Use::Fetched(reader) => {
                if let Some(index) = self.unlisted(&firsts) {
                    return Err(self.refused(source, index, &format!("what {reader} runs")));
                }
                self.start_fetched(source);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a place by a reader that gets its text as code.
    fn reader(&mut self, source: &Source, place: &Use, reader: &Reader) -> Result<(), Refused> {
        if reader.chosen {
            self.done.started.extend(of(source, self.all));
            self.start_fetched(source);
            // Its own text is not what is read.
            return Ok(());
        }
        if reader.program {
            if let Some(index) = self.unlisted(&self.firsts(source)).filter(|_| !matches!(place, Use::Name(_))) {
                return Err(self.refused(source, index, "a program"));
            }
            if let Some(name) = source.variable()
                && let Some(index) = self.unlisted(&of(source, &self.fetched))
            {
                let value = &self.values[index].name;
                let through = if is_word(name) { format!(", by the variable {name}") } else { String::new() };
                return Err(Refused::new(format!("{value} names what is run{through}")));
            }
        } else if !programs::only_reads(&reader.name) {
            self.start_fetched(source);
        }
        for index in of(source, self.all) {
            self.limit(index, reader.limit, &reader.name, true);
        }
        Ok(())
    }

    /// Reads a word of a command that is split. Each value in it must be one word, and no option.
    fn split(&mut self, source: &Source, split: &Split, parts: &[usize]) {
        if split.starts {
            self.start_fetched(source);
        }
        for index in parts.iter().copied().filter(|index| !self.values[*index].listed) {
            // Several words by its author's intent.
            if self.values[index].words {
                self.done.by_options.extend(split.starts.then_some(index));
                continue;
            }
            self.limit(index, split.limit, &format!("an option of {}", split.program), split.starts);
            if split.begins {
                self.operands.push(index);
            }
        }
        if split.begins {
            self.note_cut(source, parts);
        }
    }

    fn limit(&mut self, index: usize, limit: Limit, reader: &str, followed: bool) {
        if limit >= Limit::Path && reads_names(reader) {
            self.done.by_shell.insert(index);
        }
        let before = self.limits.get(&index);
        let known = before.map_or(self.values[index].limit, |need| need.limit);
        let is_new = followed && before.is_some_and(|need| !need.followed);
        if self.values[index].listed || limit < known || limit == known && !is_new {
            return;
        }
        let followed = followed || before.is_some_and(|need| need.followed);
        self.limits.insert(index, Need { limit, reader: reader.to_owned(), followed });
    }

    /// Notes that values choose what is run, by what a program fetches into this source.
    fn start_fetched(&mut self, source: &Source) {
        if source.variable().is_some() {
            self.done.started.extend(of(source, &self.fetched));
        }
    }

    fn note_cut(&mut self, source: &Source, values: &[usize]) {
        let renamed = |index: &usize| source.variable().is_some_and(|name| name != self.values[*index].variable);
        self.done.cut.extend(values.iter().copied().filter(renamed));
    }

    fn firsts(&self, source: &Source) -> Vec<usize> {
        if matches!(source, Source::Cut(_)) { of(source, self.all) } else { of(source, &self.first) }
    }

    fn unlisted(&self, indices: &[usize]) -> Option<usize> {
        indices.iter().copied().find(|index| !self.values[*index].listed)
    }

    fn refused(&self, source: &Source, index: usize, what: &str) -> Refused {
        let value = &self.values[index];
        let through = match source.variable() {
            Some(name) if is_positional(name) => ", by an argument of the script".to_owned(),
            Some(name) if name != value.variable && is_word(name) => format!(", by the variable {name}"),
            _ => String::new(),
        };
        Refused::new(format!("{} names {what}{through}", value.name))
    }
}

/// True for a variable of the script. Others stand for the input and output of commands.
fn is_word(name: &str) -> bool {
    crate::pack::import::shell::is_name(name)
}
