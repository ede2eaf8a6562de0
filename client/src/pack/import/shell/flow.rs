//! Limits that values must have, given where they and the variables made of them are read.

use std::collections::{BTreeMap, BTreeSet};

use super::limit::Limit;
use super::{Refused, ScriptValue, programs};

mod graph;
mod named;

use graph::{Graph, Origins, Taint};

/// Name of the variable that holds all positional parameters. Each has a variable of its own besides, its number.
pub(super) const POSITIONAL: &str = "@";

/// Number of the last positional parameter that is told from those after it.
const LAST_POSITIONAL: usize = 9;

/// Returns the variable of a positional parameter.
pub(super) fn positional(number: usize) -> String {
    number.min(LAST_POSITIONAL).to_string()
}

/// True for the variables of positional parameters.
fn is_positional(variable: &str) -> bool {
    matches!(variable, "@" | "*") || variable.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the variable of the input of a pipeline's commands, which has no name of a variable.
pub(super) fn piped_to(pipeline: usize) -> String {
    format!("|{pipeline}")
}

/// Returns the variable of what a function writes, which has no name of a variable.
pub(super) fn output_of(function: &str) -> String {
    format!("{function}()")
}

/// Name of the input of commands that have none of their own.
pub(super) const INHERITED: &str = "<";

/// Source of text in a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Value(usize),
    Variable(String),
    /// A part of the value of a variable, which may be any one.
    Cut(String),
}

impl Source {
    /// Returns the variable that is read.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Source::Value(_) => None,
            Source::Variable(name) | Source::Cut(name) => Some(name),
        }
    }
}

/// Place where a source is read as more than data, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use {
    /// Names a program in text that is code, or a file of code.
    Program,
    /// Names the program of this command, and is nothing else: no shell reads it.
    Name(usize),
    /// Names the file that is the input of a command.
    File,
    /// Names the working directory of what follows.
    Directory,
    /// Is in quoted text beside the name of this command's program, which may read it as code; `true` where it names
    /// a program there.
    Beside(usize, bool),
    /// Is the value of this variable, which is run, or decides what is.
    Executed(String),
    /// Is code of this reader.
    Code(Limit, String),
    /// Chooses code of this reader, which a program fetches.
    Fetched(String),
    /// Is the start of an argument, which must be no option.
    Operand,
    /// Becomes a part of the value of a variable; `true` in its first word.
    Assigned(String, bool),
    /// Chooses the value of a variable, which a program fetches.
    FetchedInto(String),
    /// Is in an argument of this command, whose output may be the input of others.
    Argument(usize, Given),
    /// Is in a here-document of this command.
    Here(usize, Here),
}

/// Place in an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    /// A command would begin here in what the program writes.
    pub(super) begins: bool,
    /// A command would begin here in this argument.
    pub(super) begins_word: bool,
    /// Number of the argument. None where it depends on how many words are before it.
    pub(super) number: Option<usize>,
}

/// Place in a here-document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Here {
    /// The document begins like a script.
    pub(super) script: bool,
    /// A command would begin here.
    pub(super) begins: bool,
}

/// Simple command.
#[derive(Debug, Default)]
pub(super) struct CommandFacts {
    pub(super) program: String,
    pub(super) pipeline: usize,
    /// Variables that it fills from its input.
    pub(super) reads: Vec<String>,
    /// True if one variable gets all of its input.
    pub(super) reads_whole: bool,
    /// The limit that code in its input needs; `true` for code of a shell.
    pub(super) input: Option<(Limit, bool)>,
    /// Its input is that of the list of commands around it.
    pub(super) inherits: bool,
    /// Its operands choose what it writes.
    pub(super) fetches: bool,
    /// Writes to a list of commands: `>(…)`.
    pub(super) feeds: bool,
    /// Begins or ends a list of commands.
    pub(super) is_compound: bool,
}

/// Facts about a script.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) uses: Vec<(Source, Use)>,
    /// Commands by their number.
    pub(super) commands: Vec<CommandFacts>,
    pub(super) functions: BTreeSet<String>,
    /// Functions, and the commands of their bodies.
    pub(super) bodies: Vec<(String, std::ops::Range<usize>)>,
    /// Words that name files to write, and those that may name files to run.
    pub(super) written: BTreeSet<String>,
    pub(super) run: BTreeSet<String>,
    /// Words that name files of code.
    pub(super) code: BTreeSet<String>,
    /// Commands, and words that may name files that they write out.
    pub(super) read: Vec<(usize, String)>,
    /// Commands, and the files that they write.
    pub(super) written_by: Vec<(usize, String)>,
    /// Lists of commands, from the first one to before the last, whose output is the input of a pipeline.
    pub(super) outputs: Vec<(std::ops::Range<usize>, usize)>,
    /// Values of arguments of the script.
    pub(super) arguments: Vec<usize>,
    /// Values in literals of a program in another language, which may start others.
    pub(super) started: Vec<usize>,
    /// Sources in arguments of programs, and the programs.
    pub(super) given: Vec<(Source, String)>,
    /// Texts in single quotes that are code of other shells.
    pub(super) quoted: Vec<String>,
}

impl Facts {
    /// True if the script writes a file, and may run it.
    pub(super) fn runs_written(&self) -> bool {
        let is_read = |(command, file): &(usize, String)| {
            let pipeline = self.commands.get(*command).map(|command| command.pipeline);
            let later = self.commands.iter().skip(command + 1).filter(|command| Some(command.pipeline) == pipeline);
            self.written.contains(file)
                && later.into_iter().any(|command| command.input.is_some_and(|(_, shell)| shell))
        };
        !self.written.is_disjoint(&self.run) || self.read.iter().any(is_read)
    }

    /// True if it runs a file by a relative path, or a program that runs what lies in the working directory.
    pub(super) fn runs_relative(&self) -> bool {
        const ENDS: [&str; 6] = [".sh", ".bash", ".py", ".pl", ".rb", ".js"];
        // An expansion is a control character, and may be any path.
        let relative = |word: &&String| !word.starts_with(|c: char| "/~$-".contains(c) || c.is_control());
        let runs = |word: &String| word.contains('/') || ENDS.iter().any(|end| word.ends_with(end));
        self.code.iter().any(|word| relative(&word))
            || self.run.iter().filter(relative).any(runs)
            || self.commands.iter().any(|command| programs::runs_directory(&command.program))
    }

    /// Returns the commands that write a file of code.
    fn writing_code(&self) -> BTreeSet<usize> {
        let writes = self.written_by.iter().filter(|(_, file)| self.code.contains(file));
        writes.map(|(command, _)| *command).collect()
    }

    /// True for a command whose input is that of commands in it: a list, or a function.
    fn is_list(&self, command: &CommandFacts) -> bool {
        command.is_compound
            || matches!(command.program.as_str(), "" | "exec")
            || self.functions.contains(&command.program)
    }
}

/// Limit that a value must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) struct Need {
    pub(in crate::pack::import) limit: Limit,
    /// The reader that would take the value for code.
    pub(in crate::pack::import) reader: String,
    /// The value was followed to the reader. Otherwise the script may evaluate it on a way that is not followed.
    pub(in crate::pack::import) followed: bool,
}

/// Needs of a script.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Limits that go beyond the schemas of values, by the index of the value.
    pub(super) limits: Vec<(usize, Need)>,
    /// Values that name programs, and become no code.
    pub(super) programs: BTreeSet<usize>,
    /// Values that a program in another language may start programs with, and directories of programs that are run.
    pub(super) started: BTreeSet<usize>,
    /// Values of which a part may be an argument of its own.
    pub(super) cut: BTreeSet<usize>,
}

/// Reader that takes text for code.
struct Reader {
    limit: Limit,
    name: String,
    /// The text names a program.
    program: bool,
}

/// Command whose program a value names.
struct Named {
    value: usize,
    command: usize,
}

/// Returns what values must be limited to, and which ones name programs.
pub(super) fn needs(facts: &Facts, values: &[ScriptValue], operands: &mut Vec<usize>) -> Result<Needs, Refused> {
    let graph = Graph::new(facts);
    let all = graph.origins(values, Taint::Part, None);
    // A variable that is run as a command names its program by its first word.
    let first = graph.origins(values, Taint::First, Some(&all));
    let fetched = graph.origins(values, Taint::Fetched, None);
    let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
    let mut named: Vec<Named> = Vec::new();
    let mut cut = BTreeSet::new();
    let (is_relative, mut directories) = (facts.runs_relative(), Vec::new());
    for (source, place) in &facts.uses {
        let parts = of(source, &all);
        let firsts = if matches!(source, Source::Cut(_)) { parts.clone() } else { of(source, &first) };
        let refused = |index: usize, what: &str| {
            let value = &values[index];
            let through = match source.variable() {
                Some(name) if is_positional(name) => ", by an argument of the script".to_owned(),
                Some(name) if name != value.variable => format!(", by the variable {name}"),
                _ => String::new(),
            };
            Refused::new(format!("{} names {what}{through}", value.name))
        };
        let unlisted = |indices: &[usize]| indices.iter().copied().find(|index| !values[*index].listed);
        match place {
            Use::Operand => {
                operands.extend(&firsts);
                let renamed = |index: &usize| source.variable().is_some_and(|name| name != values[*index].variable);
                cut.extend(firsts.iter().copied().filter(renamed));
            }
            Use::Executed(name) => {
                if let Some(index) = unlisted(&parts) {
                    return Err(refused(index, &format!("a program, by the variable {name}")));
                }
            }
            Use::Name(command) => {
                // All of it is the name.
                let unlisted: Vec<usize> = parts.iter().copied().filter(|index| !values[*index].listed).collect();
                if let Some(index) = unlisted.first().filter(|_| graph.output_is_read(*command)) {
                    return Err(refused(*index, "a program"));
                }
                operands.extend(&unlisted);
                named.extend(unlisted.into_iter().map(|value| Named { value, command: *command }));
            }
            Use::Directory if is_relative => directories.extend(&parts),
            Use::Fetched(reader) => {
                if let Some(index) = unlisted(&firsts) {
                    return Err(refused(index, &format!("what {reader} runs")));
                }
            }
            _ => {}
        }
        for reader in graph.read_by(place) {
            if reader.program {
                if let Some(index) = unlisted(&firsts).filter(|_| !matches!(place, Use::Name(_))) {
                    return Err(refused(index, "a program"));
                }
                if let Some(name) = source.variable()
                    && let Some(index) = unlisted(&of(source, &fetched))
                {
                    let value = &values[index].name;
                    return Err(Refused::new(format!("{value} names what is run, by the variable {name}")));
                }
            }
            for index in parts.iter().copied() {
                let known = needs.get(&index).map_or(values[index].limit, |need| need.limit);
                if reader.limit > known {
                    needs.insert(index, Need { limit: reader.limit, reader: reader.name.clone(), followed: true });
                }
            }
        }
    }
    if !named.is_empty() {
        named::check(&graph, values, &all, &named, &mut needs)?;
    }
    let started = facts.started.iter().chain(&directories).copied().filter(|index| !values[*index].listed).collect();
    let programs = named.into_iter().map(|named| named.value).collect();
    Ok(Needs { limits: needs.into_iter().collect(), programs, started, cut })
}

/// Returns the values in arguments of programs, with the program, in the order of the script.
pub(super) fn given(facts: &Facts, values: &[ScriptValue]) -> Vec<(usize, String)> {
    let origins = Graph::new(facts).origins(values, Taint::Part, None);
    // Arguments of functions are followed.
    let programs = facts.given.iter().filter(|(_, program)| !facts.functions.contains(program));
    programs
        .flat_map(|(source, program)| of(source, &origins).into_iter().map(|value| (value, program.clone())))
        .collect()
}

/// Returns the values of a source.
fn of(source: &Source, origins: &Origins) -> Vec<usize> {
    match source {
        Source::Value(index) => vec![*index],
        Source::Variable(name) | Source::Cut(name) => origins.get(name).into_iter().flatten().copied().collect(),
    }
}
