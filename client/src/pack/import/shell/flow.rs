//! Limits that values must have, given where they and the variables made of them are read.

use std::collections::{BTreeMap, BTreeSet};

use super::limit::Limit;
use super::{Refused, ScriptValue, programs};

mod graph;

use graph::{Graph, Taint};

/// Name of the variable that holds all positional parameters.
pub(super) const POSITIONAL: &str = "@";

/// Name of the input of commands that have none of their own.
pub(super) const INHERITED: &str = "<";

/// Source of text in a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Value(usize),
    Variable(String),
}

/// Place where a source is read as more than data, or may be.
#[derive(Debug)]
pub(super) enum Use {
    /// Names a program in text that is code, or a file of code.
    Program,
    /// Names the program of this command, and is nothing else: no shell reads it.
    Name(usize),
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
    /// Is an argument of this command, whose output may be the input of others; `true` where that would begin a command.
    Argument(usize, bool),
    /// Is in a here-document of this command.
    Here(usize, Here),
}

/// Place in a here-document.
#[derive(Debug, Clone, Copy)]
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
    /// Words that name files to write, and those that may name files to run.
    pub(super) written: BTreeSet<String>,
    pub(super) run: BTreeSet<String>,
    /// Lists of commands, from the first one to before the last, whose output is the input of a pipeline.
    pub(super) outputs: Vec<(std::ops::Range<usize>, usize)>,
    /// Values of arguments of the script.
    pub(super) arguments: Vec<usize>,
    /// Values in literals of a program in another language, which may start others.
    pub(super) started: Vec<usize>,
}

impl Facts {
    /// True if the script writes files with redirections.
    fn writes_files(&self) -> bool {
        const STREAMS: [&str; 5] = ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty", "-"];
        let is_none = |file: &String| STREAMS.contains(&&**file) || file.bytes().all(|b| b.is_ascii_digit());
        !self.written.iter().all(is_none)
    }

    /// Returns the program that downloads what this place names.
    fn downloads(&self, place: &Use) -> Option<&str> {
        let Use::Argument(id, _) = place else { return None };
        let command =
            self.commands.get(*id).filter(|command| command.fetches && !programs::repeats(&command.program))?;
        Some(&command.program)
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
    /// Values that a program in another language may start programs with.
    pub(super) started: BTreeSet<usize>,
}

/// Reader that takes text for code.
struct Reader {
    limit: Limit,
    name: String,
    /// The text names a program.
    program: bool,
}

/// Returns what values must be limited to, and which ones name programs.
pub(super) fn needs(facts: &Facts, values: &[ScriptValue], operands: &mut Vec<usize>) -> Result<Needs, Refused> {
    let graph = Graph::new(facts);
    let all = graph.origins(values, Taint::Part);
    // A variable that is run as a command names its program by its first word.
    let first = graph.origins(values, Taint::First);
    let fetched = graph.origins(values, Taint::Fetched);
    let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
    let mut named: Vec<(usize, usize)> = Vec::new();
    for (source, place) in &facts.uses {
        let of = |origins: &BTreeMap<String, BTreeSet<usize>>| match source {
            Source::Value(index) => vec![*index],
            Source::Variable(name) => origins.get(name).into_iter().flatten().copied().collect(),
        };
        let refused = |index: usize, what: &str| {
            let value = &values[index];
            let through = match source {
                Source::Variable(name) if name == POSITIONAL => ", by an argument of the script".to_owned(),
                Source::Variable(name) if *name != value.variable => format!(", by the variable {name}"),
                _ => String::new(),
            };
            Refused::new(format!("{} names {what}{through}", value.name))
        };
        let unlisted = |indices: Vec<usize>| indices.into_iter().find(|index| !values[*index].listed);
        match place {
            Use::Operand => operands.extend(of(&first)),
            Use::Executed(name) => {
                if let Some(index) = unlisted(of(&all)) {
                    return Err(refused(index, &format!("a program, by the variable {name}")));
                }
            }
            Use::Name(command) => {
                let unlisted: Vec<usize> = of(&first).into_iter().filter(|index| !values[*index].listed).collect();
                if let Some(index) = unlisted.first().filter(|_| graph.output_is_read(*command)) {
                    return Err(refused(*index, "a program"));
                }
                operands.extend(&unlisted);
                named.extend(unlisted.into_iter().map(|index| (index, *command)));
            }
            Use::Fetched(reader) => {
                if let Some(index) = unlisted(of(&first)) {
                    return Err(refused(index, &format!("what {reader} runs")));
                }
            }
            _ => {}
        }
        for reader in graph.read_by(place) {
            if reader.program {
                if let Some(index) = unlisted(of(&first)).filter(|_| !matches!(place, Use::Name(_))) {
                    return Err(refused(index, "a program"));
                }
                if let (Source::Variable(name), Some(index)) = (
                    source,
                    unlisted(match source {
                        Source::Variable(name) => fetched.get(name).into_iter().flatten().copied().collect(),
                        Source::Value(_) => Vec::new(),
                    }),
                ) {
                    let value = &values[index].name;
                    return Err(Refused::new(format!("{value} names what is run, by the variable {name}")));
                }
            }
            for index in of(&all) {
                let known = needs.get(&index).map_or(values[index].limit, |need| need.limit);
                if reader.limit > known {
                    needs.insert(index, Need { limit: reader.limit, reader: reader.name.clone(), followed: true });
                }
            }
        }
    }
    for (program, command) in &named {
        // The program may be a shell, or a command of this one that runs its arguments.
        for index in graph.given_to(*command, &all) {
            let known = needs.get(&index).map_or(values[index].limit, |need| need.limit);
            if known < Limit::Path {
                let reader = format!("the program that {} names", values[*program].name);
                needs.insert(index, Need { limit: Limit::Path, reader, followed: true });
            }
        }
    }
    let started: BTreeSet<usize> = facts.started.iter().copied().filter(|index| !values[*index].listed).collect();
    let Some((first, _)) = named.first() else {
        return Ok(Needs { limits: needs.into_iter().collect(), programs: BTreeSet::new(), started });
    };
    let beside = |index: usize, what: &str| Refused::new(format!("{} names a program, {what}", values[index].name));
    if let Some((index, _)) = named.iter().find(|(index, _)| needs.contains_key(index)) {
        return Err(beside(*index, "and is code besides"));
    }
    // A program could be one of these files.
    if facts.writes_files() {
        return Err(beside(*first, "in a script that writes files"));
    }
    let own = graph.origins(values, Taint::Own);
    for (source, place) in &facts.uses {
        let is_chosen = match source {
            Source::Value(index) => !values[*index].listed,
            Source::Variable(name) => own.get(name).into_iter().flatten().any(|index| !values[*index].listed),
        };
        if let Some(program) = facts.downloads(place).filter(|_| is_chosen) {
            return Err(beside(*first, &format!("in a script in which callers choose what {program} downloads")));
        }
    }
    let programs = named.into_iter().map(|(index, _)| index).collect();
    Ok(Needs { limits: needs.into_iter().collect(), programs, started })
}
