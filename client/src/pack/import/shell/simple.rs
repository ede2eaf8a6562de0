//! Simple command being read: its program, the words so far, and how it would read the word at hand.

pub(super) use super::contents::EXPANDED;
use super::contents::{Expansion, Word};
use super::flow::Given;
use super::grammar::{Arguments, Role};
use super::is_name;
use super::limit::Limit;
use super::programs::{self, DECLARATIONS, KEYWORDS, PREFIXES, Place};
use super::readers;
use super::starters;

mod facts;
mod states;

/// Maximum number of words that are remembered of a command.
const MAX_WORDS: usize = 64;

/// Redirection whose target is the next word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirect {
    File,
    /// `<`
    Input,
    /// `<<<`: the word is standard input.
    HereString,
}

/// Simple command being read.
#[derive(Debug, Default, Clone)]
pub(super) struct Simple {
    /// Index among the commands of the script.
    pub(super) id: usize,
    pub(super) program: Option<String>,
    /// The word being read; what expands is one character that no name has.
    pub(super) word: String,
    pub(super) in_word: bool,
    /// Expansions in the word.
    pub(super) expansions: Vec<Expansion>,
    pub(super) redirect: Option<Redirect>,
    /// Has an input of its own: a redirection, or the command before it in a pipeline.
    pub(super) has_input: bool,
    /// Writes to a list of commands: `>(…)`.
    pub(super) feeds: bool,
    /// A keyword before its program begins or ends a list of commands.
    pub(super) is_compound: bool,
    /// First command of the list that ends before it.
    pub(super) closed: Option<usize>,
    words: Vec<String>,
    /// The same as paths, as far as they are known.
    paths: Vec<String>,
    last: String,
    operands: usize,
    arguments: Option<Arguments>,
    /// A shell was named among the arguments of a program that need not start it.
    loose: bool,
    /// A function that may run its arguments: `"$@"`.
    pub(super) forwards: bool,
    /// Other states, where expansions before may be other words, several or none.
    others: Vec<Simple>,
    /// Assignments before its program, or in its declaration.
    pub(super) assignments: Vec<Word>,
    /// The code in an argument runs those after it, or starts them.
    runs_arguments: bool,
    starts_arguments: bool,
    /// Options of a declaration.
    flags: String,
    /// The next word belongs to an option of a prefix.
    taken: bool,
    /// Another program starts it: `sudo`, `env`.
    is_started: bool,
}

/// How a word is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// As data.
    Data,
    /// As the value of a variable; `true` in its first word.
    Assigned(String, bool),
    /// As the name of the program.
    Program,
    /// As the value of this variable, which names programs or is run.
    Executed(String),
    /// As code, by this program; `true` where a program's name is in it.
    Code(Limit, String, bool),
}

impl Simple {
    pub(super) fn new(id: usize) -> Simple {
        Simple { id, ..Simple::default() }
    }

    /// True inside `[[ ]]`.
    pub(super) fn is_test(&self) -> bool {
        self.program.as_deref() == Some("[[")
    }

    /// Number of the word at hand.
    pub(super) fn number(&self) -> usize {
        self.words.len()
    }

    /// True after the option of a declaration: `declare -A`.
    pub(super) fn declares(&self, option: char) -> bool {
        self.flags.contains(option)
    }

    /// Returns the words after the program.
    pub(super) fn arguments_of_call(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// Removes the last word, which was no argument.
    pub(super) fn forget_last(&mut self) {
        self.words.pop();
    }

    /// Returns how text at this place is in an argument.
    pub(super) fn given(&self) -> Given {
        let operands = usize::from(self.program.as_deref() == Some("printf"));
        let begins_word = programs::names_program(&self.word);
        Given {
            begins: self.operands <= operands && begins_word,
            begins_word,
            number: Some(self.words.len()),
            is_sent: programs::sends(self.program.as_deref().unwrap_or_default(), &self.last),
        }
    }

    /// True at the start of an argument that this program may take for an option by which it starts programs.
    pub(super) fn is_option(&self) -> bool {
        let program = self.program.as_deref().unwrap_or_default();
        let begins = self.word.chars().all(|c| c == EXPANDED);
        self.redirect.is_none() && begins && programs::starts_by_options(program)
    }

    /// Returns the program that gets the word at hand as an argument; none if the shell itself does what is named.
    pub(super) fn given_to(&self) -> Option<&str> {
        let program = self.program.as_deref().filter(|_| self.redirect.is_none())?;
        (self.is_started || !programs::is_builtin(program)).then_some(program)
    }

    /// Notes what the code of a word does with the arguments after it.
    pub(super) fn note_code(&mut self, runs: bool, names: bool) {
        self.runs_arguments |= runs;
        self.starts_arguments |= names;
    }

    /// Returns how the word at hand is read, with what was read of it so far.
    pub(super) fn reading(&self) -> Reading {
        if self.redirect.is_some() {
            return Reading::Data;
        }
        let Some(program) = self.program.as_deref() else {
            return self.assigned().unwrap_or(Reading::Program);
        };
        if PREFIXES.contains(&program) {
            return self.after_prefix(program);
        }
        if DECLARATIONS.contains(&program) {
            return self.assigned().unwrap_or_else(|| Reading::Code(Limit::Word, program.to_owned(), false));
        }
        if program == "printf"
            && let [_, option, name, ..] = self.words.as_slice()
            && option == "-v"
        {
            if name.contains(EXPANDED) {
                return Reading::Code(Limit::Path, "the variable that printf fills".to_owned(), false);
            }
            return Reading::Assigned(name.clone(), self.words.len() <= 4 && programs::names_program(&self.word));
        }
        if matches!(program, "for" | "select") && self.operands > 0 {
            return self.words.get(1).map_or(Reading::Data, |name| Reading::Assigned(name.clone(), true));
        }
        self.argument(program)
    }

    /// Returns the array in whose index the word at hand is: `array[`.
    pub(super) fn index_of(&self) -> Option<&str> {
        let (name, index) = self.word.split_once('[')?;
        (is_name(name) && !index.contains(']')).then_some(name)
    }

    fn assigned(&self) -> Option<Reading> {
        if self.index_of().is_some() {
            return Some(Reading::Code(Limit::Number, "the index of an array".to_owned(), false));
        }
        let name = assignment(&self.word)?;
        if programs::is_executed(name) {
            return Some(Reading::Executed(name.to_owned()));
        }
        let value = self.word.split_once('=').map_or("", |(_, value)| value);
        Some(Reading::Assigned(name.to_owned(), programs::names_program(value)))
    }

    fn after_prefix(&self, program: &str) -> Reading {
        if programs::splits_command(program, if self.taken { &self.last } else { &self.word }) {
            return Reading::Code(Limit::Path, program.to_owned(), programs::names_program(&self.word));
        }
        match self.assigned() {
            Some(assigned) => assigned,
            None if self.taken || self.word.starts_with('-') && self.operands == 0 => Reading::Data,
            // The duration of `timeout`.
            None if program == "timeout" && self.operands == 0 => Reading::Data,
            None if program == "command" && self.last.eq_ignore_ascii_case("-v") => Reading::Data,
            None => Reading::Program,
        }
    }

    fn argument(&self, program: &str) -> Reading {
        let Some(arguments) = &self.arguments else {
            let place = Place { operands: self.operands, last: &self.last, word: &self.word };
            let (role, limit) = programs::argument(program, &place);
            let begins = program != "eval" || self.operands == 0;
            return self.as_read(role, limit, limit == Limit::Path, begins, program);
        };
        // A variable may name an interpreter.
        if self.loose && program.contains(EXPANDED) && CODE_OPTIONS.contains(&self.last.as_str()) {
            let names = programs::names_program(&self.word);
            return Reading::Code(Limit::Number, shown(program), names);
        }
        let names = (PREFIXES.contains(&self.last.as_str()) && self.last != "exec")
            || ["-exec", "-execdir", "-ok", "-okdir", "--"].contains(&self.last.as_str())
            || (arguments.operands() == 2 && self.words.get(1).is_some_and(|word| word == "exec"));
        let grammar = arguments.grammar;
        let role = match arguments.role(&self.word) {
            _ if starters::contains(program) && self.word.chars().all(|c| c == EXPANDED) && names => Role::Program,
            // Arguments of a program that starts others somewhere else, or that need not start a shell, are data.
            Role::Unknown if starters::contains(program) && grammar.names.is_empty() => Role::Data,
            Role::Unknown | Role::Program if self.loose => Role::Data,
            Role::Unknown
                if starters::starts_second(program) && grammar.names.is_empty() && arguments.operands() == 1 =>
            {
                Role::Program
            }
            Role::Program if starters::starts_second(program) && program != "chroot" => Role::Unknown,
            Role::Unknown
                if starters::starts(program)
                    && grammar.names.is_empty()
                    && arguments.operands() == 0
                    && !self.word.starts_with('-')
                    && !starters::starts_second(program)
                    && !starters::takes_word(&self.last) =>
            {
                Role::Program
            }
            Role::Unknown if starters::starts(program) && grammar.names.is_empty() && self.last == "--" => {
                Role::Program
            }
            // The word may belong to an option.
            Role::Program if starters::starts(program) && starters::takes_word(&self.last) => Role::Unknown,
            // Options of ssh, but for commands.
            Role::Program
                if self.is_ssh() && self.last == "-o" && self.word.contains('=') && !self.word.ends_with("ommand=") =>
            {
                Role::Unknown
            }
            Role::Data if self.starts_arguments => Role::Program,
            Role::Data if self.runs_arguments => Role::Unknown,
            role => role,
        };
        let begins = !self.is_ssh() || arguments.operands() == 1 || programs::runs_next(&self.last);
        let limit = if grammar.names.contains(&"sed") { programs::limit_in_sed(&self.word) } else { grammar.limit };
        self.as_read(role, limit, grammar.shell, begins, program)
    }

    fn is_ssh(&self) -> bool {
        self.arguments.as_ref().is_some_and(|arguments| arguments.grammar.names.contains(&"ssh"))
    }

    fn as_read(&self, role: Role, limit: Limit, shell: bool, begins: bool, program: &str) -> Reading {
        let code = |names: bool| Reading::Code(limit, shown(program), names);
        match role {
            Role::Data => Reading::Data,
            Role::Program => Reading::Program,
            Role::Unknown => code(false),
            Role::Code => code(shell && begins && programs::names_program(&self.word)),
        }
    }

    /// True where the format of `printf` begins, which may be its option `-v`.
    pub(super) fn is_format(&self) -> bool {
        self.redirect.is_none()
            && self.program.as_deref() == Some("printf")
            && self.words.len() == 1
            && self.word.chars().all(|c| c == EXPANDED)
    }

    /// True for a word of its own that the program takes for an option if it begins with `-`.
    pub(super) fn is_operand(&self) -> bool {
        let takes = |program: &String| programs::takes_options(program) && !DECLARATIONS.contains(&program.as_str());
        if self.is_format() {
            return true;
        }
        self.redirect.is_none() && self.program.as_ref().is_some_and(takes)
    }

    /// Reads a whole word, and returns it.
    fn step(&mut self, word: String) -> Option<String> {
        let taken = std::mem::take(&mut self.taken);
        match self.program.as_deref() {
            None if KEYWORDS.contains(&word.as_str()) => {
                self.is_compound = true;
                return Some(word);
            }
            None if assignment(&word).is_some() => return Some(word),
            None => self.start(&word),
            Some(prefix) if PREFIXES.contains(&prefix) => {
                let first_of_timeout = prefix == "timeout" && self.operands == 0;
                if taken || assignment(&word).is_some() {
                } else if word.starts_with('-') && self.operands == 0 {
                    self.taken = programs::prefix_takes_word(prefix, &word);
                } else if first_of_timeout {
                    self.operands += 1;
                } else {
                    self.is_started |= programs::starts_process(prefix);
                    self.words.clear();
                    self.operands = 0;
                    self.start(&word);
                }
            }
            Some(program) => {
                if DECLARATIONS.contains(&program) && word.starts_with('-') && self.flags.len() < 64 {
                    self.flags.push_str(&word);
                }
                self.operands += usize::from(!word.starts_with('-'));
                self.read_argument(&word);
            }
        }
        self.last.clone_from(&word);
        if self.words.len() < MAX_WORDS {
            self.words.push(word.clone());
        }
        Some(word)
    }

    fn start(&mut self, word: &str) {
        let program = last_component(word);
        // A variable may name a shell.
        self.loose = word.contains(EXPANDED);
        self.arguments =
            if self.loose { Some(readers::shell()) } else { readers::grammar(&program) }.map(Arguments::new);
        self.is_compound |= COMPOUND.contains(&program.as_str());
        self.program = Some(program);
    }

    fn read_argument(&mut self, word: &str) {
        let name = last_component(word);
        let (program, grammar) = (self.program.as_deref().unwrap_or_default(), readers::grammar(&name));
        let is_shell = readers::SHELLS.contains(&name.as_str());
        let starts = starters::starts(program) && self.arguments.as_ref().is_none_or(|a| a.grammar.names.is_empty());
        if let Some(grammar) = grammar
            && (is_shell || starts || self.forwards)
            && !self.is_ssh()
            && self
                .arguments
                .as_ref()
                .is_none_or(|a| !readers::SHELLS.iter().any(|shell| a.grammar.names.contains(shell)))
        {
            let is_first = self.words.len() == 1;
            self.loose = !(starters::starts(program) || self.forwards && is_first);
            self.arguments = Some(Arguments::new(grammar));
        } else if let Some(arguments) = &mut self.arguments {
            arguments.word(word);
        }
    }
}

/// Options of interpreters whose operand is code.
const CODE_OPTIONS: &[&str] = &["-c", "-e", "-E", "-lc", "-ec", "--eval", "--execute", "--command"];

/// Words that begin compound commands, and are programs to the scanner.
const COMPOUND: &[&str] = &["for", "case", "select", "function"];

/// Returns the variable of a word that is an assignment.
pub(super) fn assignment(word: &str) -> Option<&str> {
    let (name, _) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let name = name.split_once('[').filter(|(_, index)| index.ends_with(']')).map_or(name, |(name, _)| name);
    is_name(name).then_some(name)
}

/// Returns a program as messages name it.
fn shown(program: &str) -> String {
    if program.chars().all(|c| c == EXPANDED) {
        return "the program that a variable names".to_owned();
    }
    program.replace(EXPANDED, "$")
}

fn last_component(word: &str) -> String {
    word.rsplit('/').next().unwrap_or_default().to_owned()
}
