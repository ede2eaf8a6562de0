//! Code in quotes, which this shell does not expand: what it evaluates when another shell, or `eval`, reads it.

use super::super::flow::{POSITIONAL, Source, Use, positional};
use super::super::limit::Limit;
use super::super::programs;
use super::super::simple::Reading;
use super::super::{has_word, is_name};
use super::starting::starts_programs;
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
    "typeset",
    "test -v",
    "[ -v",
    "PATH=",
    "PS4",
];
/// Programs that run text, or start others, wherever they are in code.
const RUNNING: &[&str] = &[
    "sh", "bash", "dash", "ksh", "zsh", "su", "ssh", "xargs", "env", "find", "tar", "read", "python", "python3",
    "node", "php", "lua", "docker", "podman", "kubectl",
];
/// Programs to which letters and digits are code, too.
const STRICT: &[&str] = &["sed", "perl", "awk", "gawk", "mawk", "ruby"];
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
        let started = starts_programs(&reader, &text);
        self.done.facts.starts_in_code = self.done.facts.starts_in_code.max(started);
        if limit == Limit::Path && self.command().code_of_shell().is_some() {
            self.directories_in_code();
            self.runs_in_code(&text);
        }
        if limit == Limit::Path {
            self.literal_code(&text, &reader);
        } else if STARTING.iter().any(|construct| text.contains(construct)) {
            self.command().note_code(true, false);
        }
    }

    /// Notes what names a directory to which code in the word at hand goes.
    fn directories_in_code(&mut self) {
        let word = self.command().whole_word();
        let places = word.text.match_indices(EXPANDED).map(|(at, _)| at).zip(&word.expansions);
        for (at, expansion) in places {
            let before =
                word.text[..at].rsplit([';', '&', '|', '\n', '(', '{']).next().unwrap_or_default().trim_start();
            let goes = ["cd ", "pushd "].iter().any(|command| before.starts_with(command));
            if let Some(source) = expansion.source.clone().filter(|_| goes) {
                self.done.facts.uses.push((source, Use::Directory));
            }
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
        let has = |names: &[&str]| names.iter().any(|name| has_word(text, name));
        let (strict, index) = (has(STRICT), text.contains("${") && text.contains('['));
        let evaluates = strict || index || has(RUNNING) || EVALUATING.iter().any(|construct| text.contains(construct));
        let limit = if strict { Limit::Number } else { Limit::Path };
        // A variable of the code that is run may have the value of any other one.
        let runs = runs_variable(text);
        let is_arithmetic = index
            || ["((", "$[", "[[", "let ", "declare", "typeset", "local"]
                .iter()
                .any(|construct| text.contains(construct));
        let (mut starts, mut started) = (false, Vec::new());
        for (at, _) in text.match_indices('$').take(100) {
            let rest = text[at + 1..].trim_start_matches('{');
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let names = runs || is_run(&text[..at]);
            let before = text[..at].trim_end_matches(['"', '\'', '{']).trim_end_matches('$');
            let goes = before.trim_end_matches(['"', '\'']).ends_with("cd ");
            if goes && is_name(&name) {
                self.done.facts.uses.push((Source::Variable(name.clone()), Use::Directory));
            } else if goes && text.contains("./") {
                starts = true;
            }
            if is_name(&name) {
                if names {
                    self.done.facts.uses.push((Source::Variable(name.clone()), Use::Program));
                }
                if evaluates {
                    self.code(&name, limit, reader);
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

    /// Notes what code that a shell reads from a here-document does with the arguments of that shell, the command of this number.
    pub(super) fn arguments_in_code(&mut self, text: &str, reader: &str, command: usize) {
        let is_argument = |rest: &str| rest.starts_with(['@', '*']) || rest.starts_with(|c: char| c.is_ascii_digit());
        let places = text.match_indices('$').map(|(at, _)| at).take(100);
        let places: Vec<usize> = places.filter(|at| is_argument(text[at + 1..].trim_start_matches('{'))).collect();
        if places.is_empty() {
            return;
        }
        let starts = runs_variable(text) || places.iter().any(|at| is_run(&text[..*at]));
        let calculates = calculates(text);
        let is_given = |(_, place): &&(Source, Use)| matches!(place, Use::Argument(id, _) if *id == command);
        let uses = &mut self.done.facts.uses;
        let given: Vec<Source> = uses.iter().filter(is_given).map(|(source, _)| source.clone()).collect();
        for source in given {
            uses.extend(starts.then(|| (source.clone(), Use::Program)));
            uses.extend(calculates.then(|| (source, Use::Code(Limit::Number, reader.to_owned()))));
        }
    }
}

/// True for code that calculates, in which names are those of variables.
fn calculates(code: &str) -> bool {
    const ARITHMETIC: &[&str] = &["((", "$[", "let ", "[$", "declare -i", "typeset -i", "local -i"];
    const COMPARING: &[&str] = &["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v"];
    let has = |constructs: &[&str]| constructs.iter().any(|construct| code.contains(construct));
    has(ARITHMETIC) || code.contains("[[") && has(COMPARING)
}

/// True if text behind `before` names a program.
fn is_run(before: &str) -> bool {
    let before = before.trim_end_matches(['"', '\'']);
    programs::names_program(before) && !before.ends_with('=')
}

/// True for code that runs a variable of its own: one that the code assigns, or text that it gives to a shell.
fn runs_variable(code: &str) -> bool {
    const SHELLS: &[&str] = &["sh", "bash", "dash", "ksh", "zsh"];
    let is_shell = |word: &str| SHELLS.contains(&word.rsplit('/').next().unwrap_or(word));
    let piped = code.split('|').skip(1).filter_map(|rest| rest.split_whitespace().next()).any(is_shell);
    if piped || code.contains("<<<") && SHELLS.iter().any(|shell| has_word(code, shell)) {
        return true;
    }
    code.match_indices('$').take(100).any(|(at, _)| {
        let rest = code[at + 1..].trim_start_matches('{');
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let assigned = || {
            let ways = [format!("{name}="), format!("for {name} "), format!("read {name}"), format!("read -r {name}")];
            ways.iter().any(|way| code.contains(way))
        };
        is_run(&code[..at]) && (rest.starts_with(['@', '*']) || is_name(&name) && assigned())
    })
}
