//! Escapes, `$` and backquotes.

use super::super::contents::Expansion;
use super::super::flow::{Source, positional};
use super::super::is_name;
use super::{Mode, Outcome, Refused, Scanner, Token};

impl Scanner<'_> {
    pub(super) fn escaped(&mut self) -> Outcome<()> {
        match self.tokens.get(self.at) {
            Some(Token::Value(_)) => Err(Refused::new("a value after a backslash")),
            Some(Token::Char('`')) if self.is_in_backquotes() => Err(Refused::new("backquotes within backquotes")),
            Some(Token::Char('\n')) => {
                self.take();
                Ok(())
            }
            _ => {
                let in_text = matches!(self.mode(), Mode::Here(..));
                if let Some(c) = self.take().filter(|_| !in_text) {
                    let command = self.command();
                    command.in_word = true;
                    command.word.push(c);
                }
                Ok(())
            }
        }
    }

    pub(super) fn dollar(&mut self) -> Outcome<()> {
        let plain = matches!(self.mode(), Mode::Commands(_) | Mode::Array);
        let in_text = matches!(self.mode(), Mode::Here(..));
        self.expansion_at = self.done.out.len() - 1;
        if !in_text {
            let (several, is_list) = (self.is_split(), self.peek() == Some('@'));
            self.command().expand(Expansion { source: None, several: several || is_list, none: several || is_list });
        }
        if matches!(self.tokens.get(self.at), Some(Token::Value(_))) {
            return Err(Refused::new("a value as a part of a variable's name"));
        }
        match self.peek() {
            Some('(') => {
                self.take();
                if self.peek() == Some('(') {
                    self.take();
                    self.modes.push(Mode::Arithmetic(0, ')'));
                } else {
                    self.enter(')');
                }
            }
            Some('[') if !in_text => {
                self.take();
                self.modes.push(Mode::Arithmetic(0, ']'));
            }
            Some('{') => {
                self.take();
                return self.parameter();
            }
            Some('\'') if plain => {
                self.take();
                self.modes.push(Mode::Ansi);
            }
            _ => {
                let name = self.variable();
                self.note_expansion(&name);
                if is_name(&name) && matches!(self.tokens.get(self.at), Some(Token::Value(_))) {
                    return Err(Refused::new("a value as a part of a variable's name"));
                }
            }
        }
        Ok(())
    }

    /// Reads the name of a variable, and notes that it is read here.
    pub(super) fn variable(&mut self) -> String {
        let name = self.name();
        if !name.is_empty() {
            self.read(&if self.is_cut(&name) { Source::Cut(name.clone()) } else { Source::Variable(name.clone()) });
        }
        name
    }

    /// True where only a part of a variable is read, whose name ends here: `${x#…}`, `${x[1]}`.
    fn is_cut(&self, name: &str) -> bool {
        if !matches!(self.tokens.get((self.at - name.len()).wrapping_sub(1)), Some(Token::Char('{' | '!' | '#'))) {
            return false;
        }
        match (self.peek(), self.peek_at(1)) {
            (Some('#' | '%' | '/' | '^' | ',' | '~' | '@'), _) => true,
            (Some(':'), next) => !next.is_some_and(|c| "-?+=".contains(c)),
            // All elements may be one in the middle as well, but are read in their order.
            (Some('['), next) => {
                !(matches!(next, Some('@' | '*')) && self.peek_at(2) == Some(']') && self.peek_at(3) == Some('}'))
            }
            _ => false,
        }
    }

    /// Reads the name of a variable.
    pub(super) fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
            if name.starts_with(|c: char| c.is_ascii_digit()) && !c.is_ascii_digit() {
                break;
            }
            name.push(c);
            self.take();
        }
        if name.is_empty()
            && let Some(c) = self.peek().filter(|c| matches!(c, '@' | '*'))
        {
            name.push(c);
            self.take();
        }
        match name.parse() {
            Ok(number) if number > 0 => positional(number),
            _ => name,
        }
    }

    /// True where an unescaped backquote ends a substitution.
    pub(super) fn is_in_backquotes(&self) -> bool {
        let close = |mode: &Mode| if let Mode::Commands(close) = mode { Some(*close) } else { None };
        self.modes.iter().rev().find_map(close) == Some(Some('`'))
    }

    pub(super) fn backquote(&mut self) {
        let inside = self.modes.iter().rposition(|mode| matches!(mode, Mode::Commands(_)));
        let closes = inside.is_some_and(|at| self.modes[at] == Mode::Commands(Some('`')));
        match (closes, inside) {
            (true, Some(at)) => {
                self.modes.truncate(at + 1);
                self.leave();
            }
            _ => {
                if !matches!(self.mode(), Mode::Here(..)) {
                    let several = self.is_split();
                    self.command().expand(Expansion { source: None, several, none: several });
                }
                self.enter('`');
            }
        }
    }
}
