//! States of a simple command: an expansion without quotes may be several words or none, and one that names a program may
//! be another command line altogether. Each word after it is read in all states.

use super::{Redirect, Simple};
use crate::pack::import::shell::contents::{Expansion, Ways, Word};
use crate::pack::import::shell::programs::PREFIXES;

/// Most states of a command.
const MAX_STATES: usize = 32;

impl Simple {
    /// Adds an expansion to the word at hand.
    pub(in crate::pack::import::shell) fn expand(&mut self, expansion: Expansion) {
        self.in_word = true;
        self.word.push(super::EXPANDED);
        self.expansions.push(expansion);
    }

    /// Names what the last expansion is.
    pub(in crate::pack::import::shell) fn name_expansion(&mut self, name: impl FnOnce(&mut Expansion)) {
        if let Some(last) = self.expansions.last_mut() {
            name(last);
        }
    }

    /// Returns the word at hand.
    pub(in crate::pack::import::shell) fn whole_word(&self) -> Word {
        Word { text: self.word.clone(), expansions: self.expansions.clone() }
    }

    /// Returns what the command may be besides, with the word at hand.
    pub(in crate::pack::import::shell) fn others(&self) -> Vec<Simple> {
        let with_word = |other: &Simple| Simple {
            id: self.id,
            word: self.word.clone(),
            in_word: self.in_word,
            redirect: self.redirect,
            expansions: self.expansions.clone(),
            ..other.clone()
        };
        self.others.iter().map(with_word).collect()
    }

    /// True if how the next words are read depends on this one.
    pub(in crate::pack::import::shell) fn depends_on_words(&self) -> bool {
        let depends = |state: &Simple| {
            let program = state.program.as_deref();
            state.arguments.is_some() || program.is_none_or(|program| PREFIXES.contains(&program))
        };
        self.redirect.is_none() && (depends(self) || self.others.iter().any(depends))
    }

    /// Ends the word at hand, and returns it; with `ways`, it may be any of these words. False if there are too many.
    pub(in crate::pack::import::shell) fn end_word(&mut self, ways: Option<&Ways>) -> (Option<String>, bool) {
        self.expansions.clear();
        if !std::mem::take(&mut self.in_word) {
            return (None, true);
        }
        let word = std::mem::take(&mut self.word);
        if self.redirect.take().is_some() {
            return (None, true);
        }
        let Some(ways) = ways else {
            for other in &mut self.others {
                other.step(word.clone());
            }
            return (self.step(word), true);
        };
        let others = std::mem::take(&mut self.others);
        let mut states: Vec<Simple> = Vec::new();
        for state in std::iter::once(&*self).chain(&others) {
            for way in &ways.ways {
                let mut next = state.clone();
                for word in way {
                    next.step(word.text.clone());
                }
                if !states.iter().any(|other| other.reads_like(&next)) {
                    states.push(next);
                }
            }
        }
        let fits = states.len() <= MAX_STATES;
        states.truncate(MAX_STATES);
        if !states.is_empty() {
            let first = states.remove(0);
            *self = first;
        }
        self.others = states;
        (Some(word), fits)
    }

    fn reads_like(&self, other: &Simple) -> bool {
        let arguments = match (&self.arguments, &other.arguments) {
            (Some(one), Some(two)) => one.reads_like(two),
            (None, None) => true,
            _ => false,
        };
        let of = |state: &Simple| {
            (
                state.operands.min(3),
                state.taken,
                state.loose,
                state.forwards,
                state.runs_arguments,
                state.starts_arguments,
            )
        };
        let last = |state: &Simple| {
            let counts = state.last.starts_with('-') || PREFIXES.contains(&state.last.as_str());
            if counts { state.last.clone() } else { String::new() }
        };
        let named = |state: &Simple| (state.program.clone(), last(state));
        arguments && of(self) == of(other) && named(self) == named(other)
    }

    /// Reads a whole word.
    pub(in crate::pack::import::shell) fn take_word(&mut self, word: &str) {
        self.word.clear();
        self.in_word = false;
        self.step(word.to_owned());
    }

    /// True in an assignment before the program, or of a declaration.
    pub(in crate::pack::import::shell) fn is_assignment(&self) -> bool {
        self.program.is_none() || matches!(self.reading(), super::Reading::Assigned(..))
    }

    /// Returns the states after this one and further words that a caller may choose.
    pub(in crate::pack::import::shell) fn after_words(&self) -> Vec<Simple> {
        let step = |state: &Simple, text: &str| {
            let mut next = Simple { redirect: None::<Redirect>, ..state.clone() };
            next.word.clear();
            next.step(text.to_owned());
            next
        };
        let (operand, option) = (super::EXPANDED.to_string(), format!("-{}", super::EXPANDED));
        let (one, other) = (step(self, &operand), step(self, &option));
        let third = step(&one, &option);
        vec![one, other, third]
    }
}
