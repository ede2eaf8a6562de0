//! How a place in a command is read, in each state that the command may be in.

use super::super::contents::{Expansion, Ways};
use super::super::flow::{Given, Here, Source, Split, Use};
use super::super::is_name;
use super::super::limit::Limit;
use super::super::programs;
use super::super::simple::{Reading, Redirect, Simple};
use super::{EXPANDED, Frame, Group, Mode, Scanner};

/// Place of a source in a command.
pub(super) struct Place {
    pub(super) frame: usize,
    /// The place is that of a substitution.
    pub(super) outer: bool,
    /// The place is in a later element of an array.
    pub(super) is_later: bool,
    /// The source is split into words.
    pub(super) is_split: bool,
    /// All of the text that the source is in is split, whatever words it was made of.
    pub(super) is_resplit: bool,
}

impl Scanner<'_> {
    /// Returns what it means that a source is read at a place of a command in this state. Values that must be no options
    /// are added to `options`.
    pub(super) fn uses_of(
        &self,
        command: &Simple,
        source: &Source,
        place: &Place,
        options: &mut Vec<usize>,
    ) -> Vec<Use> {
        let mut uses = Vec::new();
        let reading = command.reading();
        match reading {
            Reading::Data if command.redirect == Some(Redirect::Input) && !place.outer => {
                uses.push(Use::File(command.id));
            }
            Reading::Data
                if command.redirect == Some(Redirect::HereString) || (place.outer && command.redirect.is_some()) =>
            {
                let begins = programs::names_program(&command.word);
                uses.push(Use::Here(command.id, Here { script: false, begins }));
            }
            Reading::Code(..)
                if command.program.is_none()
                    && command.index_of().is_some_and(|array| self.associative.contains(array)) => {}
            Reading::Data if command.is_test() => {}
            Reading::Data => {
                if (source.variable().is_some() || place.outer) && (command.is_option() || command.is_format()) {
                    uses.push(Use::Operand);
                }
                if matches!(command.program.as_deref(), Some("cd" | "pushd")) {
                    uses.push(Use::Directory);
                }
                uses.push(Use::Argument(command.id, command.given()));
            }
            Reading::Assigned(name, first) => {
                if programs::leads_to_programs(&name) {
                    uses.push(Use::Chosen);
                }
                uses.push(Use::Assigned(name, first && !place.is_later));
            }
            Reading::Program if self.is_only_a_name(source, command, place.frame) => uses.push(Use::Name(command.id)),
            Reading::Program => uses.push(Use::Program),
            Reading::Executed(name) => uses.push(Use::Executed(name)),
            Reading::Code(limit, reader, names) => {
                if let (Source::Value(index), Limit::Path) = (source, limit)
                    && command.word.chars().next_back().is_none_or(|c| " \t\n\"'".contains(c))
                {
                    options.push(*index);
                }
                if names {
                    uses.push(Use::Program);
                }
                if programs::repeats(&reader) {
                    uses.push(Use::Argument(command.id, Given { begins: true, ..command.given() }));
                }
                uses.push(Use::Code(limit, reader));
            }
        }
        if place.is_split && command.redirect.is_none() {
            uses.extend(self.further_words(command, source));
        }
        if command.is_told_directory() {
            uses.push(Use::Directory);
        }
        if command.is_told_where() {
            uses.push(Use::Chosen);
        }
        if place.is_resplit {
            uses.extend(self.split_word(command));
        }
        uses
    }

    /// Returns what it means that text is split where it is in a word of this command.
    fn split_word(&self, command: &Simple) -> Option<Use> {
        if command.redirect.is_some() || command.is_test() {
            return None;
        }
        let program = match command.reading() {
            Reading::Assigned(..) | Reading::Executed(_) => return None,
            Reading::Program => "the program that it names".to_owned(),
            Reading::Data | Reading::Code(..) => command.program.clone()?,
        };
        if programs::takes_any_words(&program) {
            return None;
        }
        let starts = command.starts_others() || command.reading() == Reading::Program;
        let program = program.replace(EXPANDED, "$");
        let limit = self.ifs.unwrap_or(Limit::Number);
        Some(Use::Split(Split { program, limit, begins: command.word.chars().all(|c| c == EXPANDED), starts }))
    }

    /// Returns what it means that a source may be further words from here on.
    fn further_words(&self, command: &Simple, source: &Source) -> Vec<Use> {
        let Some(program) = command.program.clone().filter(|_| !command.is_assignment()) else { return Vec::new() };
        // `-v`, which printf takes before its format only.
        let reads_names = match program.as_str() {
            "[" | "test" => true,
            "printf" | "wait" => command.number() == 1,
            _ => false,
        };
        let after = command.after_words();
        let is_list = self.is_list(source) || source.variable() == Some("*");
        let states = if is_list { &after[..1] } else { &after[..] };
        let readings: Vec<Reading> = states.iter().map(Simple::reading).collect();
        let names = readings.contains(&Reading::Program);
        let is_code = names || reads_names || readings.iter().any(|reading| matches!(reading, Reading::Code(..)));
        let is_given_words = matches!(source, Source::Value(_));
        if !is_code || command.reading() == Reading::Program && is_list {
            return Vec::new();
        }
        match (self.ifs, names && (is_list || is_given_words)) {
            // Its words are more than one, whatever limits them.
            (_, true) | (None, _) => vec![Use::Fetched(program)],
            (Some(limit), false) => vec![Use::Code(limit, program), Use::Operand],
        }
    }

    /// True for all elements of an array, or all positional parameters, whose name ends here.
    pub(super) fn is_list(&self, source: &Source) -> bool {
        let is_array = self.peek() == Some('[') && matches!(self.peek_at(1), Some('@' | '*'));
        matches!(source, Source::Variable(name) if name == "@" || is_array)
    }

    /// True if a source at this place is split into words: a variable without quotes.
    pub(super) fn splits(&self, source: &Source, crossed: bool) -> bool {
        match source {
            // Its words are not told from each other in a substitution, in which it is quoted.
            Source::Value(index) => {
                let is_word = self.frames.last().is_some_and(|frame| !frame.command.in_word);
                crossed || self.values[*index].words && is_word && matches!(self.mode(), Mode::Commands(_))
            }
            Source::Variable(name) | Source::Cut(name) => {
                crossed || is_name(name) || matches!(name.as_str(), "@" | "*") || is_digits(name)
            }
        }
    }

    /// Notes what the words are that an expansion may become, where they are read.
    pub(super) fn read_words(&mut self, ways: &Ways) {
        let frame = self.frames.len().saturating_sub(1);
        let command = self.command().clone();
        let mut found: Vec<(Source, Use)> = Vec::new();
        let mut options = Vec::new();
        for state in std::iter::once(command.clone()).chain(command.others()) {
            for way in &ways.ways {
                let mut state = state.clone();
                for (number, word) in way.iter().enumerate() {
                    let is_itself =
                        number == 0 && (way.len() == 1 && word.text == command.word || state.program.is_none());
                    let places = word.text.match_indices(EXPANDED).map(|(at, _)| at).zip(&word.expansions);
                    for (at, Expansion { source, several, .. }) in places {
                        let Some(source) = source.clone().filter(|_| !is_itself) else { continue };
                        state.word = word.text[..at].to_owned();
                        let is_split = *several;
                        let place = Place { frame, outer: false, is_later: false, is_split, is_resplit: false };
                        for used in self.uses_of(&state, &source, &place, &mut options) {
                            let used = if let Use::Name(_) = used { Use::Program } else { used };
                            let used = (source.clone(), used);
                            if !found.contains(&used) {
                                found.push(used);
                            }
                        }
                    }
                    state.take_word(&word.text);
                }
            }
        }
        self.done.operands.extend(options);
        self.done.facts.uses.extend(found);
    }

    /// True if a source in the place of a program is one word, which no shell reads, and what the program writes is not captured.
    fn is_only_a_name(&self, source: &Source, command: &Simple, frame: usize) -> bool {
        let Some(Frame { braces, groups, .. }) = self.frames.get(frame) else { return false };
        let lists = self.modes.iter().filter(|mode| matches!(mode, Mode::Commands(_))).count();
        // In braces it may be a part of a function, whose output is read where it is called.
        if lists != 1 || *braces > 0 || groups.contains(&Group::Subshell) {
            return false;
        }
        if !command.program.as_deref().is_none_or(|program| programs::PREFIXES.contains(&program)) {
            return false;
        }
        match source {
            Source::Value(index) => {
                let is_word = matches!(self.mode(), Mode::Commands(_) | Mode::Double | Mode::Single);
                is_word && !self.values[*index].words && !self.is_whole_command(*index)
            }
            // Without quotes it is several words, of which `eval` may be the first.
            Source::Variable(name) => is_name(name) && self.mode() == Mode::Double && self.peek() != Some('['),
            Source::Cut(_) => false,
        }
    }
}

fn is_digits(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}
