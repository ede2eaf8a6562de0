//! Limits that values must have, given where they and the variables made of them are read.

use std::collections::BTreeSet;

use super::ScriptValue;
use super::files::{self, Kind, Run, Written};
use super::limit::{Input, Limit};

mod graph;
mod named;
mod needs;
mod variable_names;

use graph::{Graph, Origins, Taint};

pub(super) use needs::{Needs, needs};

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
    /// Chooses the input of this command: its file, or what a program fetches for it.
    File(usize),
    /// Names the working directory of what follows.
    Directory,
    /// Is in quoted text beside the name of this command's program, which may read it as code; `true` where it names
    /// a program there.
    Beside(usize, bool),
    /// Is the value of this variable, which is run, or decides what is.
    Executed(String),
    /// Is code of this reader.
    Code(Limit, String),
    /// Chooses what is run: the text of an interpreter, a directory of programs, or what arithmetic evaluates.
    Chosen,
    /// Chooses code of this reader, which a program fetches.
    Fetched(String),
    /// Is the start of an argument, which must be no option.
    Operand,
    /// Is a word of a command, or a part of one, that is split into words.
    Split(Split),
    /// Becomes a part of the value of a variable; `true` in its first word.
    Assigned(String, bool),
    /// Chooses the value of a variable, which a program fetches.
    FetchedInto(String),
    /// Is in an argument of this command, whose output may be the input of others.
    Argument(usize, Given),
    /// Is in a here-document of this command.
    Here(usize, Here),
}

/// Word that an expansion without quotes is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) program: String,
    /// Limit by which a value stays one word.
    pub(super) limit: Limit,
    /// The expansion begins the word, so that its first word may be an option.
    pub(super) begins: bool,
    /// Options of the program may start others.
    pub(super) starts: bool,
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
    /// The argument is sent, and does not choose what is fetched.
    pub(super) is_sent: bool,
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
    /// The limit that its input needs, by what it is to the program.
    pub(super) input: Option<(Limit, Input)>,
    /// Its input is that of the list of commands around it.
    pub(super) inherits: bool,
    /// Its operands choose what it writes.
    pub(super) fetches: bool,
    /// Writes to a list of commands: `>(…)`.
    pub(super) feeds: bool,
    /// Begins or ends a list of commands.
    pub(super) is_compound: bool,
    /// Fills a variable that the script names at run time.
    pub(super) fills_any: bool,
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
    /// Reads a variable that the script names at run time.
    pub(super) reads_any: bool,
    /// Runs a variable as a command.
    pub(super) runs_variable: bool,
    /// Files of code that are run.
    pub(super) runs: Vec<Run>,
    /// Commands that run the files which they find.
    pub(super) finders: BTreeSet<usize>,
    /// Directories that the script goes to.
    pub(super) directories: Vec<String>,
    /// Commands, and words that may name files that they write out.
    pub(super) read: Vec<(usize, String)>,
    /// Commands, and the files that they write.
    pub(super) writes: Vec<(usize, Written)>,
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
    /// There is a value if code in another language, which a word is, gives text to a shell: `true` if that may begin a command.
    pub(super) starts_in_code: Option<bool>,
}

impl Facts {
    /// True if the script writes a file, and may run it.
    pub(super) fn runs_written(&self) -> bool {
        let is_read = |(command, file): &(usize, String)| {
            let pipeline = self.commands.get(*command).map(|command| command.pipeline);
            let later = self.commands.iter().skip(command + 1).filter(|command| Some(command.pipeline) == pipeline);
            self.written.contains(file)
                && later.into_iter().any(|command| command.input.is_some_and(|(_, input)| input >= Input::Code))
        };
        let is_run = |(_, written): &(usize, Written)| written.kind == Kind::Text && self.run_of(written).is_some();
        !self.written.is_disjoint(&self.run) || self.read.iter().any(is_read) || self.writes.iter().any(is_run)
    }

    /// True if a variable that is run may have the value of any other one.
    fn runs_any(&self) -> bool {
        self.runs_variable && (self.reads_any || self.commands.iter().any(|command| command.fills_any))
    }

    /// Returns the file that is run, of what is written there.
    fn run_of(&self, written: &Written) -> Option<&Run> {
        let runs = self.runs.iter().filter(|run| files::is_run(written, run, &self.directories));
        runs.max_by_key(|run| (run.input, run.limit))
    }

    /// True if it runs a file by a relative path, or a program that runs what lies in the working directory.
    pub(super) fn runs_relative(&self) -> bool {
        let is_listed = |command: &CommandFacts| {
            command.program == "xargs" && command.input.is_some_and(|(_, input)| input == Input::Shell)
        };
        self.runs.iter().any(Run::is_relative)
            || !self.finders.is_empty()
            || self.run.iter().any(|word| files::is_script(word))
            || self.commands.iter().any(is_listed)
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
