//! Code in quotes, which this shell does not expand: what it evaluates when another shell, or `eval`, reads it.

use super::super::flow::{POSITIONAL, Source, Use, positional};
use super::super::is_name;
use super::super::limit::Limit;
use super::super::programs;
use super::super::simple::Reading;
use super::{EXPANDED, Scanner};

/// Constructs by which code evaluates what it reads.
const EVALUATING: &[&str] = &[
    "eval",
    "((",
    "$[",
    "[[",
    "let ",
    "source ",
    ". ",
    "trap ",
    "sh ",
    "xargs",
    "-exec",
    "ssh ",
    "su ",
    "declare",
    "local",
    "printf -v",
    "@P",
    "${!",
];
/// The same in other languages.
const STARTING: &[&str] = &[
    "system",
    "popen",
    "subprocess",
    "exec",
    "eval",
    "getline",
    "spawn",
    "compile",
    "`",
    "%x",
    "qx",
    "| \"",
    "|\"",
    "Runtime",
];

impl Scanner<'_> {
    /// Notes what the word at hand, which ends, evaluates where it is code.
    pub(super) fn code_in_word(&mut self) {
        let command = self.command();
        if !command.in_word || command.word.is_empty() || command.program.is_none() {
            return;
        }
        self.quoted_beside();
        let command = self.command();
        let Reading::Code(limit, reader, _) = command.reading() else { return };
        let text = command.word.clone();
        if limit == Limit::Path {
            self.literal_code(&text, &reader);
        } else if STARTING.iter().any(|construct| text.contains(construct)) {
            self.command().note_code(true, false);
        }
    }

    /// Notes the variables in quoted text beside a program that an expansion names: it may read the text as code.
    fn quoted_beside(&mut self) {
        let command = self.command();
        if !command.program.as_deref().is_some_and(|program| program.contains(EXPANDED)) {
            return;
        }
        let (id, text) = (command.id, command.word.clone());
        for (at, _) in text.match_indices('$').take(100) {
            let rest = text[at + 1..].trim_start_matches('{');
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let names = programs::names_program(text[..at].trim_end_matches(['"', '\'']));
            if is_name(&name) {
                self.done.facts.uses.push((Source::Variable(name), Use::Beside(id, names)));
            }
        }
    }

    /// Notes what code of a shell evaluates.
    pub(super) fn literal_code(&mut self, text: &str, reader: &str) {
        let evaluates = EVALUATING.iter().any(|construct| text.contains(construct));
        let is_arithmetic =
            ["((", "$[", "[[", "let ", "declare", "local"].iter().any(|construct| text.contains(construct));
        let (mut starts, mut started) = (false, Vec::new());
        for (at, _) in text.match_indices('$').take(100) {
            let rest = text[at + 1..].trim_start_matches('{');
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let before = text[..at].trim_end_matches(['"', '\'']);
            let names = programs::names_program(before) && !before.ends_with('=');
            if is_name(&name) {
                if names {
                    self.done.facts.uses.push((Source::Variable(name.clone()), Use::Program));
                }
                if evaluates {
                    self.code(&name, Limit::Path, reader);
                }
            } else if names && (rest.starts_with(['@', '*']) || rest.starts_with(|c: char| c.is_ascii_digit())) {
                starts = true;
                let number = rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(1);
                started.push(positional(number));
            }
        }
        if is_arithmetic {
            let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|name| is_name(name));
            for name in names.take(1_000) {
                self.code(name, Limit::Number, reader);
            }
        }
        if ["eval", "trap"].contains(&reader) {
            // They have the arguments of the script.
            if starts {
                let uses = started.into_iter().map(|name| (Source::Variable(name), Use::Program));
                self.done.facts.uses.extend(uses);
            } else if evaluates && text.contains('$') {
                self.code(POSITIONAL, Limit::Path, reader);
            }
        } else {
            self.command().note_code(evaluates, starts);
        }
    }
}
