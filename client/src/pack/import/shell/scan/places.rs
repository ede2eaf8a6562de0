//! Places for values: what is written there, and by what a value or variable is read.

use super::super::flow::{Source, Use};
use super::super::limit::Limit;
use super::super::programs;
use super::super::simple::{Reading, Redirect};
use super::{EXPANDED, Mode, Outcome, Scanner, Token};

impl Scanner<'_> {
    /// Notes that `source` is read here, by everything that this place is a part of.
    pub(super) fn read(&mut self, source: &Source) {
        let mut frame = self.frames.len();
        let mut uses = Vec::new();
        // True while the text at this place is what the outer contexts get.
        for mode in self.modes.iter().rev() {
            match mode {
                Mode::Arithmetic(..) => {
                    uses.push(Use::Code(Limit::Number, "arithmetic".to_owned()));
                    // The outer contexts get a number.
                    break;
                }
                Mode::Here(id, _, script) => {
                    uses.push(Use::Here(*id, *script));
                    // The document belongs to the command, whose input it is.
                    break;
                }
                Mode::Commands(_) => {
                    frame = frame.saturating_sub(1);
                    let Some(command) = self.frames.get(frame).map(|frame| &frame.command) else { break };
                    match command.reading() {
                        Reading::Data if command.redirect == Some(Redirect::HereString) => {
                            uses.push(Use::Here(command.id, false));
                        }
                        Reading::Data if command.is_test() => self.tests.push((command.number(), source.clone())),
                        Reading::Data => uses.push(Use::Argument(command.id)),
                        Reading::Assigned(name, first) => uses.push(Use::Assigned(name, first)),
                        Reading::Program => uses.push(Use::Program),
                        Reading::Code(limit, reader) => uses.push(Use::Code(limit, reader)),
                    }
                    let program = command.program.as_deref();
                    if program.is_some_and(|program| !programs::repeats(program)) {
                        break;
                    }
                }
                Mode::Double | Mode::Single | Mode::Ansi | Mode::Parameter | Mode::Array | Mode::Comment => {}
            }
        }
        self.done.facts.uses.extend(uses.into_iter().map(|place| (source.clone(), place)));
    }

    pub(super) fn value(&mut self, index: usize) -> Outcome<()> {
        let value = &self.values[index];
        let expansion = format!("${{{}}}", value.variable);
        let mode = self.mode();
        if mode == Mode::Comment {
            self.done.out.push_str(&format!("${}", value.variable));
            return Ok(());
        }
        let plain = matches!(mode, Mode::Commands(_));
        let starts = plain && !self.command().in_word;
        let ends = match self.tokens.get(self.at) {
            None => true,
            Some(Token::Char(c)) => c.is_ascii_whitespace() || ";|&)<>`".contains(*c),
            Some(Token::Value(_)) => false,
        };
        self.read(&Source::Value(index));
        if starts && self.command().is_operand() {
            self.done.operands.push(index);
        }
        let in_loop = self.command().program.as_deref() == Some("for");
        let splits = starts && ends && self.command().program.is_some() && self.command().redirect.is_none();
        let home = plain && self.command().word == "~" && self.done.out.ends_with('~');
        let text = match mode {
            Mode::Single => format!("'\"{expansion}\"'"),
            Mode::Ansi => format!("'\"{expansion}\"$'"),
            Mode::Double | Mode::Here(..) | Mode::Arithmetic(..) | Mode::Parameter => expansion,
            _ if home => {
                self.done.out.pop();
                format!("\"$(getent passwd \"{expansion}\" | cut -d: -f6)\"")
            }
            _ if splits && (value.words || in_loop) => {
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
