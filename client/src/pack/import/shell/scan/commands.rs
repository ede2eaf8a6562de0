//! Lists of commands: words, separators, redirections, subshells, `case` and `[[ ]]`.

use super::super::contents::{Expansion, Kind};
use super::super::flow::{Given, INHERITED, POSITIONAL, Source, Use, piped_to};
use super::super::is_name;
use super::super::limit::Limit;
use super::super::programs::KEYWORDS;
use super::super::simple::{Redirect, Simple, assignment};
use super::{Group, Mode, Outcome, Scanner};

impl Scanner<'_> {
    pub(super) fn in_commands(&mut self, close: Option<char>, c: char) -> Outcome<()> {
        let test = self.command().is_test();
        match c {
            '\'' | '"' => {
                self.command().in_word = true;
                self.modes.push(if c == '"' { Mode::Double } else { Mode::Single });
            }
            ' ' | '\t' => self.end_word(),
            '\n' => return self.newline(),
            '#' if !self.command().in_word => self.modes.push(Mode::Comment),
            '|' | '&' | '(' | ')' | '<' | '>' if test => self.end_word(),
            ';' => {
                self.end_command(true);
                self.frame().conditional = false;
                let ends = self.done.out.ends_with(";;") || self.done.out.ends_with(";&");
                if ends && self.frame().groups.last() == Some(&Group::Case) && !self.frame().is_pattern {
                    self.frame().is_pattern = true;
                    self.done.contents.next_branch();
                }
            }
            '|' if self.peek() == Some('|') => {
                self.take();
                self.end_command(true);
                self.frame().conditional = true;
            }
            '|' => {
                if self.peek() == Some('&') {
                    self.take();
                }
                self.end_command(false);
                self.frame().conditional = true;
            }
            '&' if self.done.out.ends_with(">&") || self.done.out.ends_with("<&") => {}
            '&' if self.peek() == Some('>') => self.end_word(),
            '&' => {
                self.end_command(true);
                self.frame().conditional = self.peek() == Some('&') || self.done.out.ends_with("&&");
            }
            '(' if self.frame().is_pattern && !self.command().in_word && self.command().program.is_none() => {}
            '(' => self.open(),
            ')' => {
                self.end_word();
                let group = self.frame().groups.last().copied();
                if group == Some(Group::Subshell) {
                    self.frame().groups.pop();
                    self.end_command(true);
                    self.command().is_compound = true;
                    self.close_list();
                } else if group == Some(Group::Case) {
                    self.frame().is_pattern = false;
                    if self.command().program.as_deref() == Some("*") {
                        self.done.contents.is_else();
                    }
                    self.end_command(true);
                } else if close == Some(')') {
                    self.leave();
                } else {
                    self.end_command(true);
                }
            }
            '<' => return self.less(),
            '>' => {
                self.end_word_before_redirection();
                if self.peek() == Some('(') {
                    self.take();
                    self.command().feeds = true;
                    self.enter(')');
                } else {
                    while matches!(self.peek(), Some('>' | '|')) {
                        self.take();
                    }
                    self.command().redirect = Some(Redirect::File);
                }
            }
            c => {
                let command = self.command();
                command.in_word = true;
                command.word.push(c);
            }
        }
        Ok(())
    }

    pub(super) fn open(&mut self) {
        let next = self.peek();
        let command = self.command();
        if command.in_word
            && command.program.is_none()
            && (KEYWORDS.contains(&command.word.as_str()) || command.word == "for")
        {
            self.end_word();
        }
        let command = self.command();
        let arithmetic = !command.in_word
            && next == Some('(')
            && (command.program.is_none() || matches!(command.program.as_deref(), Some("for" | "time")));
        if arithmetic {
            self.take();
            self.modes.push(Mode::Arithmetic(0, ')'));
        } else if command.in_word && command.word.ends_with('=') && assignment(&command.word).is_some() {
            self.is_later_element = false;
            self.element();
            self.modes.push(Mode::Array);
        } else {
            // A subshell, or a function, whose name is the word before.
            self.end_word();
            let mut ahead = (0..).map_while(|ahead| self.peek_at(ahead));
            let closes = ahead.find(|c| !matches!(c, ' ' | '\t')) == Some(')');
            let name = self.command().program.clone().filter(|_| closes);
            self.done.facts.functions.extend(name.clone());
            self.command().is_compound = true;
            self.open_list(Kind::Other);
            self.end_command(true);
            self.frame().groups.push(Group::Subshell);
            self.frame().function = name;
        }
    }

    /// A number before a redirection is a descriptor.
    pub(super) fn end_word_before_redirection(&mut self) {
        let command = self.command();
        if command.in_word && command.word.bytes().all(|byte| byte.is_ascii_digit()) {
            command.in_word = false;
            command.word.clear();
        }
        self.end_word();
    }

    pub(super) fn less(&mut self) -> Outcome<()> {
        self.end_word_before_redirection();
        // A descriptor may be that of the list around the command.
        self.command().has_input |= !matches!(self.peek(), Some('(' | '&'));
        match (self.peek(), self.peek_at(1)) {
            (Some('<'), Some('<')) => {
                self.take();
                self.take();
                self.command().redirect = Some(Redirect::HereString);
            }
            (Some('<'), _) => {
                self.take();
                return self.here_document();
            }
            (Some('('), _) => {
                self.take();
                self.command().expand(Expansion { source: None, several: false, none: false });
                self.enter(')');
            }
            (Some('>'), _) => {
                self.take();
                self.command().redirect = Some(Redirect::File);
            }
            _ => self.command().redirect = Some(Redirect::Input),
        }
        Ok(())
    }

    pub(super) fn newline(&mut self) -> Outcome<()> {
        self.end_command(true);
        self.frame().conditional = false;
        self.here_documents()
    }

    pub(super) fn end_word(&mut self) {
        self.code_in_word();
        let test = self.command().is_test();
        let number = self.command().number();
        let (file, input) = (self.command().file(), self.command().input_file());
        let whole = self.command().whole_word();
        let paths = self.note_files(&whole, file, input);
        let ways = self.ways(&whole);
        let (word, fits) = self.command().end_word(ways.as_ref());
        self.is_overfull |= !fits;
        let Some(word) = word else { return };
        self.assigned(&whole);
        let called = self.command().program.as_ref().is_some_and(|program| *program == word);
        if called && self.forwards && self.done.facts.functions.contains(&word) {
            self.command().forwards = true;
        }
        let (run, read) = (self.command().run_file(&word), self.command().read_file(&word));
        self.done.facts.run.extend(run);
        let id = self.command().id;
        self.read_back(&paths);
        self.command().note_path(paths.into_iter().next().unwrap_or_default());
        self.done.facts.read.extend(read.map(|file| (id, file)));
        let command = self.command();
        let (program, is_first) = (command.program.clone(), command.number() <= 1);
        if program.as_deref().is_none_or(|program| is_first && program == word) {
            self.keyword(&word);
        }
        self.declared(&word);
        self.bare_names(&word);
        if test {
            let names = word.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|name| is_name(name));
            self.tests.extend(names.map(|name| (number, Source::Variable(name.to_owned()), false)));
        }
        match (program.as_deref(), word.as_str()) {
            (Some("[["), "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge") if test => self.operators.push(number),
            (Some("[["), "]]") => self.end_test(),
            (Some("case"), "in") => {
                self.end_command(true);
                self.frame().groups.push(Group::Case);
                self.frame().is_pattern = true;
            }
            (Some("for" | "select"), "do") if number == 2 => {
                self.command().forget_last();
                self.end_command(true);
            }
            (Some("esac"), "esac") => {
                let frame = self.frame();
                frame.groups.pop_if(|group| *group == Group::Case);
                frame.is_pattern = false;
            }
            (Some("function"), name) if name != "function" => {
                self.done.facts.functions.insert(name.to_owned());
                self.frame().function = Some(name.to_owned());
                self.end_command(true);
            }
            _ => {}
        }
    }

    /// bash evaluates operands of arithmetic operators in `[[ ]]`.
    pub(super) fn end_test(&mut self) {
        let (tests, operators) = (std::mem::take(&mut self.tests), std::mem::take(&mut self.operators));
        for (number, source, fetched) in tests {
            let matched = "BASH_REMATCH".to_owned();
            let place = if fetched { Use::FetchedInto(matched) } else { Use::Assigned(matched, true) };
            self.done.facts.uses.push((source.clone(), place));
            if operators.iter().any(|operator| number + 1 == *operator || number == operator + 1) {
                let code = || Use::Code(Limit::Number, "arithmetic of [[".to_owned());
                self.done.facts.uses.push((source, if fetched { Use::Chosen } else { code() }));
            }
        }
        self.end_command(true);
    }

    pub(super) fn end_command(&mut self, ends_pipeline: bool) {
        self.end_word();
        let pipeline = self.pipeline;
        let command = self.command();
        let (id, facts, closed) = (command.id, command.facts(pipeline), command.closed);
        self.note_contents(&facts);
        self.note_copies(id);
        if let Some(first) = closed.filter(|_| !ends_pipeline) {
            self.done.facts.outputs.push((first..id, pipeline));
        }
        if let Some(cuts) = self.command().repeats_input() {
            self.expansion_at = self.done.out.len();
            let input = |name: String| if cuts { Source::Cut(name) } else { Source::Variable(name) };
            if self.command().has_input {
                let given = Given { begins: true, begins_word: true, number: None, is_sent: true };
                self.done.facts.uses.push((input(piped_to(pipeline)), Use::Argument(id, given)));
            } else {
                self.read(&input(INHERITED.to_owned()));
            }
        }
        self.read_output(&facts.program);
        // A loop without `in` reads the positional parameters.
        let over_arguments = self.command().loops_over_arguments().map(str::to_owned);
        if let Some(name) = over_arguments {
            let source = Source::Variable(POSITIONAL.to_owned());
            self.done.facts.uses.push((source, Use::Assigned(name, true)));
        }
        let mut next = id;
        if !facts.program.is_empty() || !facts.inherits || facts.is_compound {
            self.done.facts.commands[id] = facts;
            next = self.new_command();
        }
        *self.command() = Simple::new(next);
        self.command().has_input = !ends_pipeline;
        if ends_pipeline {
            self.pipeline += 1;
        }
    }
}
