//! Places for values: what is written there, and by what a value or variable is read.

use super::super::contents::Expansion;
use super::super::flow::{Here, POSITIONAL, Source, Use, positional};
use super::super::limit::Limit;
use super::super::programs;
use super::super::simple::{Reading, Simple};
use super::reading::Place;
use super::{EXPANDED, Frame, Mode, Outcome, Refused, Scanner, Token};

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
        let mut given_to: Vec<(Source, String)> = Vec::new();
        let mut at = self.expansion_at;
        // The source only chooses the text that the outer contexts get.
        let mut fetched = false;
        let mut is_later = self.is_later_element;
        let mut is_element = false;
        // In quotes; in the command around a substitution.
        let (mut quoted, mut crossed) = (false, false);
        // True while the text at this place is what the outer contexts get.
        for (depth, mode) in self.modes.iter().rev().enumerate() {
            match mode {
                Mode::Arithmetic(..) => {
                    let code = || Use::Code(Limit::Number, "arithmetic".to_owned());
                    uses.push(if fetched { Use::Chosen } else { code() });
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
                        (quoted, crossed) = (false, true);
                        continue;
                    }
                    if fetched {
                        uses.extend(chosen(command, quoted));
                        if command.is_test() && command.reading() == Reading::Data {
                            self.tests.push((command.number(), source.clone(), true));
                        }
                    } else if self.frames[frame].is_pattern && command.program.is_none() {
                        // A pattern of `case`.
                    } else {
                        let place = Place {
                            frame,
                            outer: depth > 0 && at != self.expansion_at,
                            is_later: is_element && is_later,
                            is_split: (!quoted || !crossed && self.is_list(&source)) && self.splits(&source, crossed),
                            is_resplit: !quoted && (crossed || source.variable().is_some()),
                        };
                        if command.is_test() && command.reading() == Reading::Data {
                            self.tests.push((command.number(), source.clone(), false));
                        }
                        for state in std::iter::once(command.clone()).chain(command.others()) {
                            let given = state.given_to().map(|program| (source.clone(), program.to_owned()));
                            given_to.extend(given.filter(|given| !given_to.contains(given)));
                            for place in self.uses_of(&state, &source, &place, &mut options) {
                                if !uses.contains(&place) {
                                    uses.push(place);
                                }
                            }
                        }
                    }
                    let states = command.others();
                    let program = command.program.as_deref();
                    if command.counts()
                        || self.writes_seconds(command)
                        || (at == self.expansion_at && self.is_counted(""))
                    {
                        break;
                    }
                    if command.fetches() && !command.given().is_sent && !self.writes_status() {
                        fetched |= !program.is_some_and(programs::repeats);
                    } else if program.is_some_and(|program| !self.goes_on(program))
                        && !states
                            .iter()
                            .any(|state| state.program.as_deref().is_some_and(|program| self.goes_on(program)))
                    {
                        break;
                    }
                    (at, is_later, is_element) = (*began, false, false);
                    (quoted, crossed) = (false, true);
                    if programs::cuts(program.unwrap_or_default()) || self.is_piped() {
                        found.extend(uses.drain(..).flat_map(|place| read_as(&source, place)));
                        source = cut(source);
                    }
                }
                Mode::Double | Mode::Single | Mode::Ansi => quoted = true,
                Mode::Key | Mode::Comment => {}
            }
        }
        self.done.operands.extend(options);
        self.done.facts.given.extend(given_to);
        found.extend(uses.into_iter().flat_map(|place| read_as(&source, place)));
        self.done.facts.uses.extend(found);
    }

    /// True for a value without quotes that is all of a command: its author means text with arguments.
    pub(super) fn is_whole_command(&self, index: usize) -> bool {
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

    /// True for a date that is written as a number: `date -d "$x" +%s`.
    fn writes_seconds(&self, command: &Simple) -> bool {
        let rest = self.tokens[self.at.min(self.tokens.len())..].iter().take(100);
        let rest = rest.map(|token| if let Token::Char(c) = token { *c } else { EXPANDED });
        let rest: String = rest.take_while(|c| !"|)`;\n".contains(*c)).collect();
        let is_seconds = |word: &str| word.trim_matches(['"', '\'']) == "+%s";
        command.program.as_deref() == Some("date")
            && (command.arguments_of_call().iter().any(|word| is_seconds(word)) || rest.split(' ').any(is_seconds))
    }

    /// True for a download that writes the status of an answer, and the answer to a file.
    fn writes_status(&self) -> bool {
        const STATUS: [&str; 6] = ["http_code", "response_code", "time_", "size_", "num_", "exitcode"];
        let before = &self.done.out[self.frames.last().map_or(0, |frame| frame.at)..];
        let rest = self.tokens[self.at.min(self.tokens.len())..].iter().take(400);
        let rest = rest.map(|token| if let Token::Char(c) = token { *c } else { EXPANDED });
        let text: String = before.chars().chain(rest.take_while(|c| !"|)`;\n".contains(*c))).collect();
        let mut variables = text.split("%{").skip(1).peekable();
        text.contains("/dev/null")
            && !text.contains('|')
            && variables.peek().is_some()
            && variables.all(|variable| STATUS.iter().any(|status| variable.starts_with(status)))
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
            if (value.words || value.omitted) && self.command().is_option() {
                self.done.by_options.push(index);
            }
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
            let several = splits && (value.words || in_loop);
            let none = several || splits && value.omitted;
            self.command().expand(Expansion { source: Some(Source::Value(index)), several, none });
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
fn chosen(command: &Simple, quoted: bool) -> Option<Use> {
    match command.reading() {
        Reading::Program => Some(Use::Program),
        Reading::Code(_, reader, _) if programs::only_reads(&reader) => None,
        Reading::Code(Limit::Path, reader, _) => Some(Use::Fetched(reader)),
        // All of the code of an interpreter.
        Reading::Code(_, reader, _) if command.word.is_empty() && command.is_interpreter() => {
            Some(Use::Fetched(reader))
        }
        Reading::Code(..) => Some(Use::Chosen),
        Reading::Executed(name) => Some(Use::Executed(name)),
        Reading::Assigned(name, _) => Some(Use::FetchedInto(name)),
        Reading::Data if command.redirect.is_some() => Some(Use::File(command.id)),
        Reading::Data => (!quoted && command.is_option()).then_some(Use::Chosen),
    }
}
