//! Ways of text through a script: from values through variables, pipelines and lists of commands to what reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CommandFacts, Facts, Given, Here, INHERITED, LAST_POSITIONAL, POSITIONAL, Source, Use, is_positional, output_of,
    piped_to, positional,
};
use crate::pack::import::shell::files::Kind;
use crate::pack::import::shell::limit::{Input, Limit};
use crate::pack::import::shell::{ScriptValue, programs};

mod calls;
mod written;

use written::{ToFile, files_of};

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

/// Values that variables hold.
pub(super) type Origins = BTreeMap<String, BTreeSet<usize>>;

/// Commands that read code from their input: of each kind the last one, and its program.
type Readers<'a> = BTreeMap<(Limit, Input), (usize, &'a str)>;

/// Reader that takes text for code.
pub(super) struct Reader {
    pub(super) limit: Limit,
    pub(super) name: String,
    /// The text names a program.
    pub(super) program: bool,
    /// The text only chooses code, of another language than a shell's.
    pub(super) chosen: bool,
}

/// Input of later commands of a pipeline.
struct Pipeline<'a> {
    commands: Vec<usize>,
    readers: Readers<'a>,
    /// Number of the last command that is a list.
    list: Option<usize>,
    /// Number of the last command that writes to a list.
    feeds: Option<usize>,
}

/// Variable that text at a place fills.
struct Fill {
    variable: String,
    /// The text is in its first word.
    begins: bool,
    /// The text chooses what a program fetches.
    fetched: bool,
}

pub(super) struct Graph<'a> {
    pub(super) facts: &'a Facts,
    pipelines: BTreeMap<usize, Pipeline<'a>>,
    /// Commands whose input is not their own.
    inheriting: Readers<'a>,
    /// Files that each command writes, or a later one of its output.
    files: BTreeMap<usize, Vec<ToFile>>,
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
        let files = files_of(facts, &pipelines);
        Graph { facts, pipelines, inheriting, files }
    }

    /// Returns the readers that take a source at this place for code.
    pub(super) fn read_by(&self, place: &Use) -> Vec<Reader> {
        let reader = |limit, name: &str, program| Reader { limit, name: name.to_owned(), program, chosen: false };
        match place {
            Use::Program | Use::Name(_) => vec![reader(Limit::Free, "", true)],
            Use::Code(limit, name) => vec![reader(*limit, name, false)],
            Use::Argument(id, given) => {
                let fetches = !given.is_sent && self.facts.commands.get(*id).is_some_and(|command| command.fetches);
                let begins = given.begins || fetches || self.is_cut(*id);
                let later = self.later(*id);
                let writes = self.runs_text(*id).map(|(limit, input)| {
                    let names = input == Input::Shell && begins || fetches;
                    reader(limit, "a file of code that the script writes", names)
                });
                let names = |input: Input| input == Input::Shell && begins;
                let readers = later.into_iter().map(|((limit, input), (_, name))| Reader {
                    chosen: input == Input::Code && fetches,
                    ..reader(limit, name, names(input))
                });
                readers.chain(writes).collect()
            }
            Use::Here(id, Here { script, begins }) => {
                let begins = *begins || self.is_cut(*id);
                let mut inputs = self.later(*id);
                inputs.extend(self.input_of(*id));
                let mut readers: Vec<Reader> = inputs
                    .into_iter()
                    .map(|((limit, input), (_, name))| reader(limit, name, input == Input::Shell && begins))
                    .collect();
                readers.extend(self.runs_text(*id).map(|(limit, input)| {
                    reader(limit, "a file of code that the script writes", input == Input::Shell && begins)
                }));
                if *script {
                    readers.push(reader(Limit::Path, "the script that a here-document writes", begins));
                }
                readers
            }
            Use::File(id) => {
                let inputs = self.input_of(*id).into_iter().filter(|((_, input), _)| *input >= Input::Code);
                let chosen = |input| input == Input::Code;
                let read = |(limit, input), name: &str| Reader {
                    chosen: chosen(input),
                    ..reader(limit, name, !chosen(input))
                };
                inputs.map(|(kind, (_, name))| read(kind, name)).collect()
            }
            Use::Operand
            | Use::Split(_)
            | Use::Chosen
            | Use::Assigned(..)
            | Use::Executed(_)
            | Use::Fetched(_)
            | Use::FetchedInto(_)
            | Use::Directory
            | Use::Beside(..) => Vec::new(),
        }
    }

    /// Returns the readers of the input of a command: itself, and those in it.
    fn input_of(&self, id: usize) -> Readers<'_> {
        let Some(command) = self.facts.commands.get(id) else { return Readers::new() };
        let mut inputs = Readers::new();
        inputs.extend(command.input.map(|input| (input, (id, command.program.as_str()))));
        if self.facts.is_list(command) {
            inputs.extend(&self.inheriting);
        }
        inputs
    }

    /// True if a command, or one after it in its pipeline, may write any part of what it is given. What began no command
    /// may begin one then.
    fn is_cut(&self, id: usize) -> bool {
        let pipeline = self.facts.commands.get(id).and_then(|command| self.pipelines.get(&command.pipeline));
        let cuts = |other: &usize| {
            let command = &self.facts.commands[*other];
            *other >= id && command.input.is_none() && programs::cuts(&command.program)
        };
        pipeline.is_some_and(|pipeline| pipeline.commands.iter().any(cuts))
    }

    /// True if a command, or one after it in its pipeline, may make any text of letters and digits.
    pub(super) fn is_decoded(&self, id: usize) -> bool {
        let pipeline = self.facts.commands.get(id).and_then(|command| self.pipelines.get(&command.pipeline));
        let decodes = |other: &usize| *other >= id && programs::decodes(&self.facts.commands[*other].program);
        pipeline.is_some_and(|pipeline| pipeline.commands.iter().any(decodes))
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

    /// True if a command before `id` in its pipeline, or around it, is this one, and may write files that it is given.
    pub(super) fn feeds(&self, command: usize, id: usize) -> bool {
        let (Some(from), Some(to)) = (self.facts.commands.get(command), self.facts.commands.get(id)) else {
            return false;
        };
        let is_before = command < id && from.pipeline == to.pipeline || to.inherits && self.is_input(command);
        is_before && !["echo", "printf"].contains(&from.program.as_str())
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
        let names = inherited.into_iter().chain([piped_to(command.pipeline)]);
        names.filter_map(|name| origins.get(&name)).flatten().copied().collect()
    }

    /// Returns the values that each variable holds in this way; given those that it holds as parts, for the
    /// first word and for what is fetched.
    pub(super) fn origins(&self, values: &[ScriptValue], taint: Taint, parts: Option<&Origins>) -> Origins {
        let mut origins = Origins::new();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let positions: Vec<String> = (1..=LAST_POSITIONAL).map(positional).collect();
        if taint != Taint::Fetched {
            for (index, value) in values.iter().enumerate() {
                origins.entry(value.variable.clone()).or_default().insert(index);
            }
            for name in positions.iter().map(String::as_str).chain([POSITIONAL]) {
                origins.entry(name.to_owned()).or_default().extend(&self.facts.arguments);
            }
        }
        for (source, place) in &self.facts.uses {
            if let Some(shift) = self.passed_on(source, place).filter(|_| taint != Taint::Own) {
                for (at, name) in positions.iter().enumerate() {
                    edges.entry(name.clone()).or_default().insert(positional(at + 1 + shift));
                }
            }
            for Fill { variable: into, begins, fetched } in self.fills(source, place) {
                if taint == Taint::Own && is_positional(&into) || taint == Taint::First && !begins {
                    continue;
                }
                match (source, parts) {
                    (Source::Cut(name), Some(parts)) if !fetched && taint == Taint::First => {
                        origins.entry(into).or_default().extend(parts.get(name).into_iter().flatten());
                    }
                    (Source::Variable(name) | Source::Cut(name), _) if !fetched => {
                        edges.entry(name.clone()).or_default().insert(into);
                    }
                    (Source::Value(index), _) if fetched == (taint == Taint::Fetched) => {
                        origins.entry(into).or_default().insert(*index);
                    }
                    (Source::Variable(name) | Source::Cut(name), _) if taint == Taint::Fetched => {
                        let parts = parts.and_then(|parts| parts.get(name)).into_iter().flatten();
                        origins.entry(into.clone()).or_default().extend(parts);
                        edges.entry(name.clone()).or_default().insert(into);
                    }
                    _ => {}
                }
            }
        }
        for command in &self.facts.commands {
            let inherited = command.inherits.then(|| INHERITED.to_owned());
            for name in inherited.into_iter().chain([piped_to(command.pipeline)]) {
                // Which part of a line, or which line, a variable gets is not followed.
                for into in &command.reads {
                    let read = parts.filter(|_| taint == Taint::First && !command.reads_whole);
                    let read = read.and_then(|parts| parts.get(&name)).into_iter().flatten();
                    origins.entry(into.clone()).or_default().extend(read);
                }
                edges.entry(name).or_default().extend(command.reads.iter().cloned());
            }
        }
        let calls = |program: &str| self.facts.commands.iter().any(|command| command.program == program);
        edges.entry(POSITIONAL.to_owned()).or_default().extend(["*".to_owned(), "BASH_ARGV".to_owned()]);
        if calls("getopts") {
            for name in positions.iter().map(String::as_str).chain([POSITIONAL]) {
                edges.entry(name.to_owned()).or_default().insert("OPTARG".to_owned());
            }
        }
        if calls("shift") {
            for (at, name) in positions.iter().enumerate() {
                edges.entry(name.clone()).or_default().extend(positions[..at].iter().cloned());
            }
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

    /// Returns the variables that text at this place fills.
    fn fills(&self, source: &Source, place: &Use) -> Vec<Fill> {
        let fill = |variable: String, begins: bool| Fill { variable, begins, fetched: false };
        match place {
            Use::Assigned(name, begins) => vec![fill(name.clone(), *begins)],
            Use::FetchedInto(name) => vec![Fill { variable: name.clone(), begins: true, fetched: true }],
            Use::Argument(id, given) => {
                let Some(command) = self.facts.commands.get(*id) else { return Vec::new() };
                let begins = given.begins || self.is_cut(*id);
                let mut into = self.written_by(*id, begins);
                if self.is_input(*id) {
                    into.push(fill(INHERITED.to_owned(), begins));
                }
                if command.fetches && !given.is_sent {
                    let names: Vec<String> =
                        into.iter().filter(|fill| !fill.fetched).map(|fill| fill.variable.clone()).collect();
                    into.extend(names.into_iter().map(|variable| Fill { variable, begins: true, fetched: true }));
                }
                into.extend(self.arguments(source, command, given).map(|name| fill(name, given.begins_word)));
                into
            }
            Use::File(id) => {
                let Some(command) = self.facts.commands.get(*id) else { return Vec::new() };
                let inherited = self.facts.is_list(command).then(|| INHERITED.to_owned());
                let names = command.reads.iter().cloned().chain([piped_to(command.pipeline)]).chain(inherited);
                names.map(|variable| Fill { variable, begins: true, fetched: true }).collect()
            }
            Use::Here(id, here) => {
                let Some(command) = self.facts.commands.get(*id) else { return Vec::new() };
                let begins = here.begins || self.is_cut(*id);
                let mut into: Vec<_> =
                    command.reads.iter().map(|name| fill(name.clone(), begins || !command.reads_whole)).collect();
                into.extend(self.written_by(*id, begins));
                if self.facts.is_list(command) {
                    into.push(fill(INHERITED.to_owned(), begins));
                }
                into
            }
            _ => Vec::new(),
        }
    }

    /// Returns the variables of what a command writes: the input of its pipeline and of those behind its list, and the
    /// output of its function.
    fn written_by(&self, id: usize, begins: bool) -> Vec<Fill> {
        let command = self.facts.commands.get(id);
        let own = command.map(|command| piped_to(command.pipeline));
        let goes_on = command.is_some_and(|command| {
            programs::repeats(&command.program)
                || self.facts.functions.contains(&command.program)
                || command.program.is_empty()
        });
        let lists = self.facts.outputs.iter().filter(|(list, _)| list.contains(&id)).map(|(_, next)| piped_to(*next));
        let bodies =
            self.facts.bodies.iter().filter(|(_, body)| goes_on && body.contains(&id)).map(|(name, _)| output_of(name));
        let names = own.into_iter().chain(lists).chain(bodies).map(|variable| (variable, false));
        let files = self.files.get(&id).into_iter().flatten();
        let files = files.map(|file| (file.variable.clone(), file.kind != Kind::Text));
        names.chain(files).map(|(variable, fetched)| Fill { variable, begins: begins || fetched, fetched }).collect()
    }
}
