//! Facts about a simple command that has been read: its input, its output, and the files that it names.

use super::{DECLARATIONS, EXPANDED, PREFIXES, Reading, Redirect, Simple, is_name, last_component};
use crate::pack::import::shell::files::{self, Run, Written};
use crate::pack::import::shell::flow::CommandFacts;
use crate::pack::import::shell::grammar::{self, Arguments, Grammar, Role, STDIN};
use crate::pack::import::shell::limit::{Input, Limit};
use crate::pack::import::shell::{programs, readers, starters};

impl Simple {
    /// Returns the file that the word at hand is written to.
    pub(in crate::pack::import::shell) fn file(&self) -> Option<String> {
        let writes = self.redirect == Some(Redirect::File) || self.program.as_deref() == Some("tee");
        (writes && self.in_word).then(|| self.word.clone())
    }

    /// Returns the file that is the input, which the word at hand names.
    pub(in crate::pack::import::shell) fn input_file(&self) -> Option<String> {
        (self.redirect == Some(Redirect::Input) && self.in_word).then(|| self.word.clone())
    }

    /// Returns the last word if it is a file of code that is run, or read by `read`.
    pub(in crate::pack::import::shell) fn run_file(&self, word: &str) -> Option<String> {
        let program = self.program.as_deref().unwrap_or_default();
        let reads = ["source", ".", "chmod", "crontab", "at"].contains(&program)
            || readers::grammar(program).is_some_and(|grammar| grammar.first == Role::Program)
            || self.words.len() == 1;
        (reads && !word.is_empty()).then(|| word.to_owned())
    }

    /// True for the operand of an option of a prefix that names the directory of what it starts: `env -C`.
    pub(in crate::pack::import::shell) fn is_told_directory(&self) -> bool {
        let program = self.program.as_deref().filter(|program| PREFIXES.contains(program)).unwrap_or_default();
        let option = if program == "sudo" { "-D" } else { "-C" };
        let is_next = self.taken && (self.last == option || self.last == "--chdir");
        !program.is_empty() && (is_next || self.word.starts_with("--chdir=") || self.word.starts_with(option))
    }

    /// Returns the word at hand if it is code of another shell.
    pub(in crate::pack::import::shell) fn code_of_shell(&self) -> Option<&str> {
        let evaluates = matches!(self.program.as_deref(), Some("eval" | "trap"));
        let is_shell = evaluates || self.arguments.as_ref().is_some_and(|arguments| arguments.grammar.shell);
        (is_shell && matches!(self.reading(), Reading::Code(..))).then_some(self.word.as_str())
    }

    /// True for a word by which its program is told where the files lie that it runs.
    pub(in crate::pack::import::shell) fn is_told_where(&self) -> bool {
        let program = self.program.as_deref().filter(|_| self.redirect.is_none());
        let arguments = self.words.get(1..).unwrap_or_default();
        program.is_some_and(|program| programs::is_told_where(program, arguments, &self.last, &self.word))
    }

    /// True for an interpreter, or a program that starts one.
    pub(in crate::pack::import::shell) fn is_interpreter(&self) -> bool {
        self.arguments.as_ref().is_some_and(Arguments::is_interpreter)
    }

    /// Notes the path that the last word is.
    pub(in crate::pack::import::shell) fn note_path(&mut self, path: String) {
        if !self.words.is_empty() {
            self.paths.resize(self.words.len(), String::new());
            self.paths[self.words.len() - 1] = path;
        }
    }

    /// True if words of its own may start programs: its options do, or it starts them by its arguments.
    pub(in crate::pack::import::shell) fn starts_others(&self) -> bool {
        let program = self.program.as_deref().unwrap_or_default();
        programs::starts_by_options(program) || self.arguments.is_some() || program.contains(EXPANDED)
    }

    /// Returns how the word at hand is run, whatever names it.
    pub(in crate::pack::import::shell) fn run_as(&self) -> Option<Run> {
        let is_run = |state: &&Simple| {
            state.in_word && state.redirect.is_none() && !state.word.is_empty() && state.reading() == Reading::Program
        };
        let others = self.others();
        let state = std::iter::once(self).chain(&others).find(is_run)?;
        let grammar = state.arguments.as_ref().map(|arguments| arguments.grammar);
        let sources = matches!(state.program.as_deref(), Some("source" | "."));
        let interpreter = grammar.filter(|grammar| !grammar.names.is_empty());
        let is_shell = interpreter.is_none_or(|grammar| grammar.shell);
        let limit = interpreter.map_or(Limit::Path, |grammar| grammar.limit.max(Limit::Path));
        let input = if is_shell { Input::Shell } else { Input::Code };
        Some(Run { path: state.word.clone(), is_program: interpreter.is_none() && !sources, limit, input })
    }

    /// True if its output repeats the files that its arguments name.
    pub(in crate::pack::import::shell) fn writes_out(&self) -> bool {
        let program = self.program.as_deref().unwrap_or_default();
        !self.is_interpreter() && (programs::repeats(program) || program.ends_with("cat"))
    }

    /// True if it makes files of those that its arguments name.
    pub(in crate::pack::import::shell) fn makes_files(&self) -> bool {
        const UNPACKING: [&str; 8] = ["tar", "bsdtar", "unzip", "7z", "7za", "unrar", "gunzip", "jar"];
        let program = self.program.as_deref().unwrap_or_default();
        programs::copies(program) || UNPACKING.contains(&program)
    }

    /// True if it fills a variable that the script names at run time.
    fn fills_any(&self) -> bool {
        let is_named = |word: &String| word.split('=').next().is_some_and(|name| name.contains(EXPANDED));
        match self.program.as_deref() {
            Some("read" | "mapfile" | "readarray" | "getopts") => self.words.iter().skip(1).any(is_named),
            Some("printf") => {
                self.words.get(1).is_some_and(|word| word == "-v") && self.words.get(2).is_some_and(is_named)
            }
            Some(program) if DECLARATIONS.contains(&program) => {
                program != "export" && self.declares('n') || self.words.iter().skip(1).any(is_named)
            }
            _ => false,
        }
    }

    /// Returns the files that it writes by its arguments.
    pub(in crate::pack::import::shell) fn copies(&self) -> Vec<Written> {
        let word = |(at, word): (usize, &String)| match self.paths.get(at) {
            _ if at == 0 => self.program.clone().unwrap_or_default(),
            Some(path) if !path.is_empty() => path.clone(),
            _ => word.clone(),
        };
        files::written_by(&self.words.iter().enumerate().map(word).collect::<Vec<String>>())
    }

    /// Returns the run of what a build tool finds in the working directory.
    pub(in crate::pack::import::shell) fn builds(&self) -> Option<Run> {
        let program = self.program.as_deref().unwrap_or_default();
        let is_build = programs::runs_directory(program, self.words.get(1..).unwrap_or_default());
        let path = "./(build)".to_owned();
        is_build.then_some(Run { path, is_program: false, limit: Limit::Path, input: Input::Code })
    }

    /// Returns the last word if it may be a file that the program writes out.
    pub(in crate::pack::import::shell) fn read_file(&self, word: &str) -> Option<String> {
        let program = self.program.as_deref().unwrap_or_default();
        let reads = programs::fetches(program) || programs::repeats(program) && programs::cuts(program);
        (reads && self.words.len() > 1 && !word.is_empty()).then(|| word.to_owned())
    }

    /// True where it writes a number, whatever it is given.
    pub(in crate::pack::import::shell) fn counts(&self) -> bool {
        let count = |word: &String| {
            word == "--count" || (word.starts_with('-') && !word.starts_with("--") && word.contains('c'))
        };
        match self.program.as_deref() {
            Some("grep" | "egrep" | "fgrep") => self.words.iter().any(count),
            Some("wc") => true,
            _ => false,
        }
    }

    /// True if its operands choose what it writes.
    pub(in crate::pack::import::shell) fn fetches(&self) -> bool {
        let program = self.program.as_deref().unwrap_or_default();
        (programs::fetches(program) || programs::lists(program))
            && (program != "aws" || self.words.iter().any(|word| programs::fetches_from_aws(word)))
    }

    /// Returns a value if it may write its input: `true` if that may be a part of a line.
    pub(in crate::pack::import::shell) fn repeats_input(&self) -> Option<bool> {
        let program = self.program.as_deref().unwrap_or_default();
        let is_whole = matches!(self.words.as_slice(), [program] if program == "cat");
        let encodes = program == "base64"
            && !self
                .words
                .iter()
                .any(|word| word.starts_with("-d") || word.starts_with("-D") || word.starts_with("--d"));
        let repeats = programs::repeats(program) && programs::cuts(program) && !encodes;
        ((is_whole || repeats) && self.facts(0).input.is_none()).then_some(!is_whole)
    }

    /// Returns the variable of `for name` without `in`.
    pub(in crate::pack::import::shell) fn loops_over_arguments(&self) -> Option<&str> {
        match (self.program.as_deref(), self.words.as_slice()) {
            (Some("for" | "select"), [_, name]) => Some(name),
            _ => None,
        }
    }

    /// True if the program reads code from its input.
    pub(in crate::pack::import::shell) fn reads_code(&self) -> bool {
        self.facts(0).input.is_some_and(|(_, input)| input >= Input::Code)
    }

    /// Returns what is known of the command at its end, whatever it is.
    pub(in crate::pack::import::shell) fn facts(&self, pipeline: usize) -> CommandFacts {
        let mut facts = self.own_facts(pipeline);
        for other in &self.others {
            let other = other.own_facts(pipeline);
            facts.input = facts.input.max(other.input);
            facts.fetches |= other.fetches;
            facts.fills_any |= other.fills_any;
            facts.reads.extend(other.reads);
        }
        facts
    }

    /// Returns what its input is to a shell whose code is an argument: that code may read it.
    fn input_of_code(&self) -> Option<(Limit, Input)> {
        let is_option = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.contains('c');
        let announced = self.words.iter().enumerate().filter(|(_, word)| is_option(word));
        let codes = announced.filter_map(|(at, _)| self.words[at + 1..].iter().find(|word| !word.starts_with('-')));
        codes.filter_map(|code| read_by_code(code)).max()
    }

    fn own_facts(&self, pipeline: usize) -> CommandFacts {
        let reads = matches!(self.program.as_deref(), Some("read" | "mapfile" | "readarray"));
        let mut names: Vec<String> = self.words.iter().skip(1).filter(|word| reads && is_name(word)).cloned().collect();
        if reads && names.is_empty() {
            names.extend(["REPLY".to_owned(), "MAPFILE".to_owned()]);
        }
        let reads_whole =
            names.len() == 1 && self.words.windows(2).any(|words| words[0] == "-d" && words[1].is_empty());
        let program = self.program.clone().unwrap_or_default();
        let input = match &self.arguments {
            // They trim or count, and give nothing to a program.
            Some(_) if program == "xargs" && self.words.len() == 1 => None,
            // Takes numbers of processes, and nothing else.
            Some(_) if program == "xargs" && self.words.iter().any(|word| word == "kill") => None,
            // Hands its input to a program as arguments, and perhaps as a part of code: `sh -c '{}'`.
            Some(arguments) if matches!(program.as_str(), "xargs" | "parallel") => {
                let replaced = self.words.iter().position(|word| word.starts_with("-I"));
                let replaced = replaced.map_or("{}", |at| match &self.words[at][2..] {
                    "" => self.words.get(at + 1).map_or("{}", String::as_str),
                    text => text,
                });
                let placed = |word: &String| {
                    word.split_once(replaced).is_some_and(|(before, _)| programs::names_program(before))
                };
                let mut words = self.words.iter().skip(1).filter(|word| !word.starts_with("-I"));
                // The appended word names a file of code.
                let is_file = arguments.is_interpreter() && arguments.role("") == Role::Program;
                let input = if is_file || words.any(placed) { Input::Shell } else { Input::Words };
                Some((Limit::Path, input))
            }
            None if matches!(program.as_str(), "source" | ".") => self
                .words
                .get(1)
                .is_some_and(|word| STDIN.contains(&word.as_str()))
                .then_some((Limit::Path, Input::Shell)),
            Some(arguments)
                if self.is_ssh() && arguments.operands() > 1 && !self.words.iter().any(|word| names_shell(word)) =>
            {
                None
            }
            Some(arguments)
                if starters::contains(&program)
                    && arguments.grammar.names.is_empty()
                    && !self
                        .words
                        .iter()
                        .any(|word| ["exec", "run", "attach", "apply", "create", "start"].contains(&word.as_str())) =>
            {
                None
            }
            Some(arguments) if starters::contains(&program) && arguments.grammar.names.is_empty() => {
                let makes = self.words.iter().any(|word| ["apply", "create"].contains(&word.as_str()));
                Some((Limit::Path, if makes { Input::Code } else { Input::Words }))
            }
            Some(arguments) if !self.loose => {
                let own = arguments.reads_input().then(|| input_of(arguments.grammar));
                own.or_else(|| if arguments.has_code() { self.input_of_code() } else { None })
            }
            // A program that starts a shell, and itself reads input as code, such as `su`.
            Some(_) if readers::grammar(&program).is_some_and(reads_always) => readers::grammar(&program).map(input_of),
            Some(arguments) if arguments.has_code() => self.input_of_code(),
            // The variable that it fills is not known.
            None if reads && self.words.iter().skip(1).any(|word| word.contains(EXPANDED)) => {
                Some((Limit::Path, Input::Words))
            }
            None if matches!(program.as_str(), "sudo" | "env" | "nice" | "nohup") => Some((Limit::Path, Input::Shell)),
            _ => None,
        };
        CommandFacts {
            program,
            pipeline,
            reads: names,
            reads_whole,
            input,
            inherits: !self.has_input,
            fetches: self.fetches(),
            feeds: self.feeds,
            is_compound: self.is_compound,
            fills_any: self.fills_any(),
        }
    }
}

/// Returns what its input is to a program that reads code there.
fn input_of(grammar: &Grammar) -> (Limit, Input) {
    (grammar.limit.max(Limit::Path), if grammar.shell { Input::Shell } else { Input::Code })
}

/// True for a program that reads code from its input, whatever its arguments are.
fn reads_always(grammar: &Grammar) -> bool {
    !grammar.names.is_empty() && grammar.input == grammar::Input::Always
}

/// Returns what input is to code of a shell that reads it: by a program that it starts, or into variables.
fn read_by_code(code: &str) -> Option<(Limit, Input)> {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c));
    let read = |word: &str| {
        let name = last_component(word);
        match name.as_str() {
            "source" | "." => {
                let is_input = ["/dev/stdin", "/fd/0"].iter().any(|input| code.contains(input));
                is_input.then_some((Limit::Path, Input::Shell))
            }
            "read" | "mapfile" | "readarray" | "xargs" if code.contains("((") || code.contains("[[") => {
                Some((Limit::Number, Input::Words))
            }
            "read" | "mapfile" | "readarray" | "xargs" => Some((Limit::Path, Input::Words)),
            name => readers::grammar(name)
                .filter(|grammar| !grammar.names.is_empty() && grammar.input != grammar::Input::Never)
                .map(input_of),
        }
    };
    let found: Vec<(Limit, Input)> = code.split(separates).filter_map(read).collect();
    let limit = found.iter().map(|(limit, _)| *limit).max()?;
    found.iter().map(|(_, input)| *input).max().map(|input| (limit, input))
}

/// True for a word with the name of a shell, or of a program that starts one: of a command for another host.
fn names_shell(word: &str) -> bool {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c));
    word.split(separates).any(|name| {
        let name = last_component(name);
        readers::SHELLS.contains(&name.as_str()) || ["su", "sudo"].contains(&name.as_str())
    })
}
