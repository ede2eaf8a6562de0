//! Places for values: what is written there, and by what a value or variable is read.

use super::super::flow::{Given, Here, POSITIONAL, Source, Use, positional};
use super::super::is_name;
use super::super::limit::Limit;
use super::super::programs;
use super::super::simple::{Reading, Redirect, Simple};
use super::{EXPANDED, Frame, Group, Mode, Outcome, Refused, Scanner, Token};

impl Scanner<'_> {
    /// Notes that `source` is read here, by everything that this place is a part of.
    pub(super) fn read(&mut self, source: &Source) {
        self.read_around(source, false);
    }

    /// Notes that `source` is read here; with `is_read`, but for the command of this place.
    pub(super) fn read_around(&mut self, source: &Source, mut is_read: bool) {
        let mut source = source.clone();
        let mut frame = self.frames.len();
        let (mut uses, mut options, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = self.expansion_at;
        // The source only chooses the text that the outer contexts get.
        let mut fetched = false;
        let mut is_later = self.is_later_element;
        let mut is_element = false;
        // True while the text at this place is what the outer contexts get.
        for (depth, mode) in self.modes.iter().rev().enumerate() {
            match mode {
                Mode::Arithmetic(..) => {
                    if !fetched {
                        uses.push(Use::Code(Limit::Number, "arithmetic".to_owned()));
                    }
                    // The outer contexts get a number.
                    break;
                }
                Mode::Here(id, _, script) => {
                    if !fetched {
                        uses.push(Use::Here(*id, Here { script: *script, begins: self.begins_line(at) }));
                    }
                    // The document belongs to a command that has been read already.
                    let program = self.done.facts.commands.get(*id).map_or("", |command| &command.program);
                    if !self.goes_on(program) {
                        break;
                    }
                    is_read = true;
                }
                Mode::Parameter(number) => {
                    let assigned = self.parameters.get(*number).and_then(|parameter| parameter.assigned.clone());
                    uses.extend(assigned.filter(|_| !fetched).map(|name| Use::Assigned(name, true)));
                }
                Mode::Array => is_element = true,
                Mode::Commands(_) => {
                    frame = frame.saturating_sub(1);
                    let Some(Frame { command, at: began, .. }) = self.frames.get(frame) else { break };
                    if std::mem::take(&mut is_read) {
                        (at, is_later, is_element) = (*began, false, false);
                        continue;
                    }
                    if fetched {
                        uses.extend(chosen(command));
                    } else if self.frames[frame].is_pattern && command.program.is_none() {
                        // A pattern of `case`.
                    } else {
                        let outer = depth > 0 && at != self.expansion_at;
                        match command.reading() {
                            Reading::Data if command.redirect == Some(Redirect::Input) && !outer => {
                                uses.extend(command.shell_input().map(Use::Fetched));
                                uses.push(Use::File);
                            }
                            Reading::Data
                                if command.redirect == Some(Redirect::HereString)
                                    || (outer && command.redirect.is_some()) =>
                            {
                                let begins = programs::names_program(&command.word);
                                uses.push(Use::Here(command.id, Here { script: false, begins }));
                            }
                            Reading::Code(..)
                                if command.program.is_none()
                                    && command.index_of().is_some_and(|array| self.associative.contains(array)) => {}
                            Reading::Data if command.is_test() => self.tests.push((command.number(), source.clone())),
                            Reading::Data => {
                                if source.variable().is_some() && depth == 0 && command.is_option() {
                                    let program = command.program.clone().unwrap_or_default();
                                    uses.push(Use::Code(Limit::Path, program));
                                }
                                if source.variable().is_some() && command.is_option() {
                                    uses.push(Use::Operand);
                                }
                                uses.push(Use::Argument(command.id, command.given()));
                            }
                            Reading::Assigned(name, first) => {
                                uses.push(Use::Assigned(name, first && !(is_element && is_later)))
                            }
                            Reading::Program if self.is_only_a_name(&source, frame) => uses.push(Use::Name(command.id)),
                            Reading::Program => uses.push(Use::Program),
                            Reading::Executed(name) => uses.push(Use::Executed(name)),
                            Reading::Code(limit, reader, names) => {
                                if let (Source::Value(index), Limit::Path) = (&source, limit)
                                    && command.word.chars().next_back().is_none_or(|c| " \t\n\"'".contains(c))
                                {
                                    options.push(*index);
                                }
                                if names {
                                    uses.push(Use::Program);
                                }
                                if programs::repeats(&reader) {
                                    let given = Given { begins: true, ..command.given() };
                                    uses.push(Use::Argument(command.id, given));
                                }
                                uses.push(Use::Code(limit, reader));
                            }
                        }
                    }
                    let program = command.program.as_deref();
                    if command.counts() || (at == self.expansion_at && self.is_counted("")) {
                        break;
                    }
                    if command.fetches() {
                        fetched |= !program.is_some_and(programs::repeats);
                    } else if program.is_some_and(|program| !self.goes_on(program)) {
                        break;
                    }
                    (at, is_later, is_element) = (*began, false, false);
                    if programs::cuts(program.unwrap_or_default()) || self.is_piped() {
                        found.extend(uses.drain(..).flat_map(|place| read_as(&source, place)));
                        source = cut(source);
                    }
                }
                Mode::Double | Mode::Single | Mode::Ansi | Mode::Key | Mode::Comment => {}
            }
        }
        self.done.operands.extend(options);
        found.extend(uses.into_iter().flat_map(|place| read_as(&source, place)));
        self.done.facts.uses.extend(found);
    }

    /// True if a source in the place of a program is one word, which no shell reads, and what the program writes is not captured.
    fn is_only_a_name(&self, source: &Source, frame: usize) -> bool {
        let Some(Frame { command, braces, groups, .. }) = self.frames.get(frame) else { return false };
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

    /// True for a value without quotes that is all of a command: its author means text with arguments.
    fn is_whole_command(&self, index: usize) -> bool {
        if !matches!(self.mode(), Mode::Commands(_)) || self.values[index].omitted {
            return false;
        }
        let mut rest = self.tokens[self.at.min(self.tokens.len())..].iter();
        let next = rest.find(|token| !matches!(token, Token::Char(' ' | '\t')));
        let ends = match next {
            None => true,
            Some(Token::Char(c)) => "\n;&|<>)#`".contains(*c),
            Some(Token::Value(_)) => false,
        };
        ends && self.frames.last().is_some_and(|frame| !frame.command.in_word)
    }

    /// True if a pipe follows in this line.
    fn is_piped(&self) -> bool {
        let rest = &self.tokens[self.at.min(self.tokens.len())..];
        let line = rest.iter().take(400).take_while(|token| **token != Token::Char('\n'));
        let line: String = line.map(|token| if let Token::Char(c) = token { *c } else { EXPANDED }).collect();
        line.replace("||", "").contains('|')
    }

    /// True if what follows `before` up to the end of the substitution counts what it is given.
    pub(super) fn is_counted(&self, before: &str) -> bool {
        let mut rest = before.to_owned();
        for token in self.tokens[self.at.min(self.tokens.len())..].iter().take(400) {
            match token {
                Token::Char(')' | '`') => break,
                Token::Char(c) if ";&\n(".contains(*c) => return false,
                Token::Char(c) => rest.push(*c),
                Token::Value(_) => rest.push(EXPANDED),
            }
        }
        let last = rest.rsplit('|').next().filter(|last| last.len() < rest.len()).unwrap_or_default();
        ["wc", "wc -l", "wc -c", "wc -w", "wc -m"].contains(&last.trim())
    }

    /// True if what a program is given may be what it writes.
    fn goes_on(&self, program: &str) -> bool {
        programs::repeats(program) || self.done.facts.functions.contains(program)
    }

    /// True right after the quote that begins a word.
    fn opens_word(&self, mode: Mode) -> bool {
        let quote = if mode == Mode::Double { '"' } else { '\'' };
        let outer = self.modes.len().checked_sub(2).map(|at| self.modes[at]);
        let before = self.done.out.strip_suffix(quote);
        matches!(mode, Mode::Double | Mode::Single)
            && matches!(outer, Some(Mode::Commands(_)))
            && before.is_some_and(|before| before.ends_with([' ', '\t']))
    }

    /// True if a command would begin at this place of the output, in a here-document that a shell reads.
    fn begins_line(&self, at: usize) -> bool {
        // Delimiters that lost their quotes since have moved what is after them.
        let text = self.done.out.get(..at).unwrap_or(&self.done.out);
        let tail = text.len().saturating_sub(4096);
        let from = (tail..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        programs::names_program(text[from..].rsplit('\n').next().unwrap_or_default())
    }

    /// True for a value that is all that an array is made of: the words of the value are its elements.
    fn is_whole_array(&self) -> bool {
        let mut rest = self.tokens[self.at.min(self.tokens.len())..].iter();
        let next = rest.find(|token| !matches!(token, Token::Char(' ' | '\t' | '\n')));
        self.done.out.trim_end_matches([' ', '\t', '\n']).ends_with('(') && next == Some(&Token::Char(')'))
    }

    pub(super) fn value(&mut self, index: usize) -> Outcome<()> {
        let value = &self.values[index];
        let expansion = format!("${{{}}}", value.variable);
        let mode = self.mode();
        if mode == Mode::Comment {
            self.done.out.push_str(&format!("${}", value.variable));
            return Ok(());
        }
        if matches!(mode, Mode::Here(..)) && self.python_value(index) {
            return Ok(());
        }
        let plain = matches!(mode, Mode::Commands(_));
        let starts = plain && !self.command().in_word;
        let begins = self.command().word.contains('{') && self.command().word.ends_with("..");
        let ends = self.command().word.ends_with('{') && self.peek() == Some('.') && self.peek_at(1) == Some('.');
        if plain && (begins || ends) {
            return Err(Refused::new("a value in a range of braces, which the shell reads before it"));
        }
        let ends = match self.tokens.get(self.at) {
            None => true,
            Some(Token::Char(c)) => c.is_ascii_whitespace() || ";|&)<>`".contains(*c),
            Some(Token::Value(_)) => false,
        };
        self.expansion_at = self.done.out.len();
        self.read(&Source::Value(index));
        if (starts || self.opens_word(mode)) && self.command().is_operand() {
            self.done.operands.push(index);
        }
        let in_loop = matches!(self.command().program.as_deref(), Some("for" | "select"));
        let splits = starts && ends && self.command().program.is_some() && self.command().redirect.is_none();
        let home = plain && self.command().word == "~" && self.done.out.ends_with('~');
        let text = match mode {
            Mode::Single => format!("'\"{expansion}\"'"),
            Mode::Ansi => format!("'\"{expansion}\"$'"),
            Mode::Double | Mode::Here(..) | Mode::Arithmetic(..) | Mode::Parameter(_) | Mode::Key => expansion,
            _ if home => {
                self.done.out.pop();
                // Of a name without an account the shell keeps the text.
                let fetched = format!("home=$(getent passwd \"{expansion}\" | cut -d: -f6)");
                format!("\"$({fetched}; printf %s \"${{home:-~{expansion}}}\")\"")
            }
            _ if splits && (value.words || in_loop) || mode == Mode::Array && self.is_whole_array() => {
                self.done.split.push(index);
                expansion
            }
            _ if splits && value.omitted => format!("${{{}:+\"{expansion}\"}}", value.variable),
            _ => format!("\"{expansion}\""),
        };
        self.done.out.push_str(&text);
        if !matches!(mode, Mode::Here(..)) {
            let command = self.command();
            command.in_word = true;
            command.word.push(EXPANDED);
        }
        Ok(())
    }
}

/// Returns a part of a source.
fn cut(source: Source) -> Source {
    match source {
        Source::Variable(name) => Source::Cut(name),
        source => source,
    }
}

/// Returns the uses of a source at a place: of all arguments the first one begins a text.
fn read_as(source: &Source, place: Use) -> Vec<(Source, Use)> {
    let is_all = matches!(source, Source::Variable(name) if matches!(name.as_str(), POSITIONAL | "*"));
    let first = || Source::Variable(positional(1));
    match place {
        Use::Program | Use::Name(_) if is_all => vec![(first(), place)],
        _ => vec![(source.clone(), place)],
    }
}

/// Returns what it means that the output of a program, which a source chooses, is at this place of a command.
fn chosen(command: &Simple) -> Option<Use> {
    match command.reading() {
        Reading::Program => Some(Use::Program),
        Reading::Code(Limit::Path, reader, _) => Some(Use::Fetched(reader)),
        Reading::Executed(name) => Some(Use::Executed(name)),
        Reading::Assigned(name, _) => Some(Use::FetchedInto(name)),
        Reading::Data if command.redirect.is_some() => command.shell_input().map(Use::Fetched),
        Reading::Data | Reading::Code(..) => None,
    }
}
