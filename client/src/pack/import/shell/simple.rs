//! Simple command being read: its program, the words so far, and how it would read the word at hand.

use super::flow::CommandFacts;
use super::is_name;
use super::limit::Limit;
use super::programs::{self, DECLARATIONS, KEYWORDS, PREFIXES, Place};

/// Maximum number of words that are remembered of a command.
const MAX_WORDS: usize = 64;

/// Redirection whose target is the next word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirect {
    File,
    /// `<<<`: the word is standard input.
    HereString,
}

/// Simple command being read.
#[derive(Debug, Default)]
pub(super) struct Simple {
    /// Index among the commands of the script.
    pub(super) id: usize,
    pub(super) program: Option<String>,
    /// The word being read; what expands is one character that no name has.
    pub(super) word: String,
    pub(super) in_word: bool,
    pub(super) redirect: Option<Redirect>,
    words: Vec<String>,
    operands: usize,
    /// The next word belongs to an option of a prefix.
    taken: bool,
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
    /// As code, by this program.
    Code(Limit, String),
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

    /// Returns how the word at hand is read, with what was read of it so far.
    pub(super) fn reading(&self) -> Reading {
        if self.redirect.is_some() {
            return Reading::Data;
        }
        let assigned = assignment(&self.word).map(|name| {
            let value = self.word.split_once('=').map_or("", |(_, value)| value);
            Reading::Assigned(name.to_owned(), !value.contains(char::is_whitespace))
        });
        let Some(program) = self.program.as_deref() else {
            return assigned.unwrap_or(Reading::Program);
        };
        if PREFIXES.contains(&program) {
            return match assigned {
                Some(assigned) => assigned,
                None if self.taken || self.word.starts_with('-') => Reading::Data,
                // The duration of `timeout`.
                None if program == "timeout" && self.operands == 0 => Reading::Data,
                None => Reading::Program,
            };
        }
        if DECLARATIONS.contains(&program) {
            return assigned.unwrap_or_else(|| Reading::Code(Limit::Word, program.to_owned()));
        }
        if program == "for" && self.operands > 0 {
            return self.words.get(1).map_or(Reading::Data, |name| Reading::Assigned(name.clone(), true));
        }
        let before = |back: usize| {
            self.words.len().checked_sub(back).and_then(|at| self.words.get(at)).map_or("", String::as_str)
        };
        let place = Place { operands: self.operands, before: [before(1), before(2)], word: &self.word };
        match programs::argument(program, &place) {
            Some(limit) => Reading::Code(limit, program.to_owned()),
            None => Reading::Data,
        }
    }

    /// True for a word of its own that the program takes for an option if it begins with `-`.
    pub(super) fn is_operand(&self) -> bool {
        let takes = |program: &String| programs::takes_options(program) && !DECLARATIONS.contains(&program.as_str());
        self.redirect.is_none() && self.program.as_ref().is_some_and(takes)
    }

    /// Ends the word at hand, and returns it.
    pub(super) fn end_word(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.in_word) {
            return None;
        }
        let word = std::mem::take(&mut self.word);
        if self.redirect.take().is_some() {
            return None;
        }
        let taken = std::mem::take(&mut self.taken);
        match self.program.as_deref() {
            None if KEYWORDS.contains(&word.as_str()) || assignment(&word).is_some() => return Some(word),
            None => self.program = Some(last_component(&word)),
            Some(prefix) if PREFIXES.contains(&prefix) => {
                let first_of_timeout = prefix == "timeout" && self.operands == 0;
                if taken || assignment(&word).is_some() {
                } else if word.starts_with('-') {
                    self.taken = programs::prefix_takes_word(prefix, &word);
                } else if first_of_timeout {
                    self.operands += 1;
                } else {
                    self.program = Some(last_component(&word));
                    self.words.clear();
                    self.operands = 0;
                }
            }
            Some(_) => self.operands += usize::from(!word.starts_with('-')),
        }
        if self.words.len() < MAX_WORDS {
            self.words.push(word.clone());
        }
        Some(word)
    }

    /// Returns what is known of the command at its end.
    pub(super) fn facts(&self, pipeline: usize) -> CommandFacts {
        let reads = matches!(self.program.as_deref(), Some("read" | "mapfile" | "readarray"));
        let names = self.words.iter().skip(1).filter(|word| reads && is_name(word)).cloned().collect();
        CommandFacts {
            program: self.program.clone().unwrap_or_default(),
            operands: self.operands,
            pipeline,
            reads: names,
        }
    }
}

/// Returns the variable of a word that is an assignment.
pub(super) fn assignment(word: &str) -> Option<&str> {
    let (name, _) = word.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let name = name.split_once('[').filter(|(_, index)| index.ends_with(']')).map_or(name, |(name, _)| name);
    is_name(name).then_some(name)
}

fn last_component(word: &str) -> String {
    word.rsplit('/').next().unwrap_or_default().to_owned()
}
