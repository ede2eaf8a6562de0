//! Arithmetic, whose bare names are variables, and the elements of arrays, whose indices are arithmetic.

use super::super::contents::ELEMENT;
use super::super::simple::assignment;
use super::{Mode, Scanner};

impl Scanner<'_> {
    pub(super) fn arithmetic(&mut self, open: usize, close: char, c: char) {
        let opening = if close == ')' { '(' } else { '[' };
        if c == opening {
            self.modes.pop();
            self.modes.push(Mode::Arithmetic(open + 1, close));
        } else if c == close && open > 0 {
            self.modes.pop();
            self.modes.push(Mode::Arithmetic(open - 1, close));
        } else if c == close {
            if close == ')' {
                // Otherwise it was a subshell in a substitution.
                self.is_unclear |= self.peek() != Some(')');
                self.take();
            }
            self.modes.pop();
        } else if c.is_ascii_alphabetic() || c == '_' {
            self.done.out.pop();
            self.at -= 1;
            self.variable();
        } else if c.is_ascii_digit() {
            // A number is no positional parameter here.
            while self.peek().is_some_and(|c| c.is_ascii_alphanumeric()) {
                self.take();
            }
        }
    }

    pub(super) fn array(&mut self, c: char) {
        match c {
            ')' => drop(self.modes.pop()),
            '"' => self.modes.push(Mode::Double),
            '\'' => self.modes.push(Mode::Single),
            ' ' | '\t' | '\n' => {
                let before = self.done.out[..self.done.out.len() - 1].chars().next_back();
                self.is_later_element |= before.is_some_and(|c| !c.is_whitespace() && c != '(');
                self.element();
            }
            '[' if self.done.out[..self.done.out.len() - 1].ends_with([' ', '\t', '\n', '(']) => {
                let name = assignment(&self.command().word).map(str::to_owned);
                let has_keys = name.is_some_and(|name| self.associative.contains(&name));
                self.modes.push(if has_keys { Mode::Key } else { Mode::Arithmetic(0, ']') });
            }
            '#' if self.done.out[..self.done.out.len() - 1].ends_with([' ', '\t', '\n', '(']) => {
                self.modes.push(Mode::Comment);
            }
            c => self.command().word.push(c),
        }
    }

    /// Begins an element.
    pub(super) fn element(&mut self) {
        let command = self.command();
        if !command.word.ends_with(ELEMENT) {
            command.word.push(ELEMENT);
        }
    }
}
