//! `${…}`: which variable it reads, and what the shell computes, assigns or expands besides.

use super::super::flow::{Source, Use};
use super::super::limit::Limit;
use super::{Mode, Outcome, Refused, Scanner, Token};

/// `${…}` being read.
#[derive(Debug)]
pub(super) struct Parameter {
    name: String,
    /// Its operator has been read.
    has_operator: bool,
    /// The operator takes a pattern.
    has_pattern: bool,
    /// The text after the operator may become the value of the variable.
    pub(super) assigned: Option<String>,
}

impl Scanner<'_> {
    /// Reads `${` up to the operator.
    pub(super) fn parameter(&mut self) -> Outcome<()> {
        let mut indirect = false;
        while let Some(c @ ('#' | '!')) = self.peek() {
            indirect |= c == '!';
            self.take();
        }
        if matches!(self.tokens.get(self.at), Some(Token::Value(_))) {
            return Err(Refused::new("a value as the name of a variable"));
        }
        // A length is a number.
        let is_length = !indirect && self.done.out.ends_with("${#");
        let name = if is_length { self.name() } else { self.variable() };
        self.note_expansion(&name);
        if matches!(self.tokens.get(self.at), Some(Token::Value(_))) {
            return Err(Refused::new("a value as a part of a variable's name"));
        }
        let is_index = self.peek() == Some('[') && !name.is_empty();
        if indirect {
            self.code(&name, Limit::Word, "${!…}");
            // With an index it lists the keys of an array, with `*` or `@` names.
            self.done.facts.reads_any |= !is_index && !matches!(self.peek(), Some('*' | '@'));
        }
        let has_keys = self.associative.contains(&name);
        self.parameters.push(Parameter { name, has_operator: false, has_pattern: false, assigned: None });
        self.modes.push(Mode::Parameter(self.parameters.len() - 1));
        if is_index {
            self.take();
            self.modes.push(if has_keys { Mode::Key } else { Mode::Arithmetic(0, ']') });
        }
        Ok(())
    }

    /// Reads the first character after the name and its index.
    pub(super) fn operator(&mut self, number: usize, c: char) {
        let next = self.peek();
        let Some(parameter) = self.parameters.get_mut(number).filter(|parameter| !parameter.has_operator) else {
            return;
        };
        parameter.has_operator = true;
        parameter.has_pattern = matches!(c, '#' | '%' | '/' | '^' | ',');
        let name = parameter.name.clone();
        match c {
            '=' => parameter.assigned = Some(name),
            ':' if next == Some('=') => parameter.assigned = Some(name),
            ':' if !next.is_some_and(|c| "-?+".contains(c)) => {
                // An offset is arithmetic, up to the end.
                self.modes.pop();
                self.modes.push(Mode::Arithmetic(0, '}'));
            }
            '@' if next == Some('P') => self.code(&name, Limit::Path, "${…@P}"),
            _ => {}
        }
    }

    /// True if `'` quotes here: outside of `"…"`, and in patterns.
    pub(super) fn quotes_in_parameter(&self, number: usize) -> bool {
        let commands = self.modes.iter().rposition(|mode| matches!(mode, Mode::Commands(_))).unwrap_or(0);
        let is_text = self.modes[commands..].iter().any(|mode| matches!(mode, Mode::Double | Mode::Here(..)));
        !is_text || self.parameters.get(number).is_some_and(|parameter| parameter.has_pattern)
    }

    /// Notes that the value of a variable is code, wherever it was assigned.
    pub(super) fn code(&mut self, variable: &str, limit: Limit, reader: &str) {
        let source = Source::Variable(variable.to_owned());
        self.done.facts.uses.push((source, Use::Code(limit, reader.to_owned())));
    }
}
