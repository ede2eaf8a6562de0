//! Facts about a simple command that has been read: its input, its output, and the files that it names.

use super::{EXPANDED, Redirect, Simple, is_name, last_component};
use crate::pack::import::shell::flow::CommandFacts;
use crate::pack::import::shell::grammar::{Role, STDIN};
use crate::pack::import::shell::limit::Limit;
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

    /// Returns the last word if it names a file of code.
    pub(in crate::pack::import::shell) fn code_file(&self, word: &str) -> Option<String> {
        let program = self.program.as_deref().unwrap_or_default();
        let is_first = self.operands == 1 && self.words.len() > 1;
        let names = is_first && (["source", "."].contains(&program) || readers::SHELLS.contains(&program))
            || self.words.len() == 1 && word.contains('/');
        (names && !word.chars().all(|c| c == EXPANDED)).then(|| word.to_owned())
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
        programs::fetches(program)
            && (program != "aws" || self.words.iter().any(|word| word == "s3" || word == "s3api"))
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

    /// Returns the name of the program if it reads code of a shell from its input.
    pub(in crate::pack::import::shell) fn shell_input(&self) -> Option<String> {
        let facts = self.facts(0);
        facts.input.is_some_and(|(_, shell)| shell).then_some(facts.program)
    }

    /// Returns what is known of the command at its end, whatever it is.
    pub(in crate::pack::import::shell) fn facts(&self, pipeline: usize) -> CommandFacts {
        let mut facts = self.own_facts(pipeline);
        for other in &self.others {
            let other = other.own_facts(pipeline);
            facts.input = facts.input.max(other.input);
            facts.fetches |= other.fetches;
            facts.reads.extend(other.reads);
        }
        facts
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
            // Hands its input to a program as arguments, and perhaps as a part of code: `sh -c '{}'`.
            Some(_) if matches!(program.as_str(), "xargs" | "parallel") => {
                let replaced = self.words.iter().position(|word| word.starts_with("-I"));
                let replaced = replaced.map_or("{}", |at| match &self.words[at][2..] {
                    "" => self.words.get(at + 1).map_or("{}", String::as_str),
                    text => text,
                });
                let placed = |word: &String| {
                    word.split_once(replaced).is_some_and(|(before, _)| programs::names_program(before))
                };
                Some((Limit::Path, self.words.iter().skip(1).filter(|word| !word.starts_with("-I")).any(placed)))
            }
            None if matches!(program.as_str(), "source" | ".") => {
                self.words.get(1).is_some_and(|word| STDIN.contains(&word.as_str())).then_some((Limit::Path, true))
            }
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
            Some(arguments) if !self.loose => {
                let grammar = arguments.grammar;
                arguments.reads_input().then_some((grammar.limit.max(Limit::Path), grammar.shell))
            }
            // The variable that it fills is not known.
            None if reads && self.words.iter().skip(1).any(|word| word.contains(EXPANDED)) => {
                Some((Limit::Path, false))
            }
            None if matches!(program.as_str(), "sudo" | "env" | "nice" | "nohup") => Some((Limit::Path, true)),
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
        }
    }
}

/// True for a word with the name of a shell, or of a program that starts one: of a command for another host.
fn names_shell(word: &str) -> bool {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c));
    word.split(separates).any(|name| {
        let name = last_component(name);
        readers::SHELLS.contains(&name.as_str()) || ["su", "sudo"].contains(&name.as_str())
    })
}
