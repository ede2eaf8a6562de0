//! Lists of commands: which are open, and what is piped out of them; functions and declarations.

use super::super::contents::Kind;
use super::super::flow::{Given, Source, Use, output_of};
use super::super::is_name;
use super::super::limit::Limit;
use super::super::programs::DECLARATIONS;
use super::super::simple::assignment;
use super::Scanner;

impl Scanner<'_> {
    /// Notes a word in the place of a program, or a keyword before it, that begins or ends a list.
    pub(super) fn keyword(&mut self, word: &str) {
        let frame = self.frame();
        match word {
            "{" => frame.braces += 1,
            "}" => frame.braces = frame.braces.saturating_sub(1),
            _ => {}
        }
        match word {
            "if" | "case" => self.open_list(Kind::Branches),
            "{" if self.frame().function.is_none() && !self.frame().conditional => self.open_list(Kind::Sequence),
            "while" | "until" | "for" | "select" | "{" => self.open_list(Kind::Other),
            "fi" | "done" | "}" | "esac" => self.close_list(),
            "elif" => self.done.contents.next_branch(),
            "else" => {
                self.done.contents.next_branch();
                self.done.contents.is_else();
            }
            _ => {}
        }
    }

    pub(super) fn open_list(&mut self, kind: Kind) {
        let first = self.command().id;
        let function = self.frame().function.take();
        let kind = if self.frame().conditional { Kind::Other } else { kind };
        self.done.contents.open(kind);
        self.frame().lists.push((first, function));
        let associative = self.associative.clone();
        self.frame().associative.push(associative);
    }

    pub(super) fn close_list(&mut self) {
        let Some((first, function)) = self.frame().lists.pop() else { return };
        // Declared in a list that is not always run here, or in a scope of its own, it counts in the list only.
        if let Some(before) = self.frame().associative.pop() {
            self.associative.retain(|name| before.contains(name));
        }
        // After the last `;;` no branch is open.
        if !self.frame().is_pattern {
            self.done.contents.next_branch();
        }
        self.done.contents.close();
        let last = self.command().id;
        self.command().closed = Some(first);
        self.done.facts.bodies.extend(function.map(|name| (name, first..last)));
    }

    /// Notes that what a function writes is read where it is called.
    pub(super) fn read_output(&mut self, program: &str) {
        if !self.done.facts.functions.contains(program) {
            return;
        }
        let source = Source::Variable(output_of(program));
        let given = Given { begins: true, begins_word: true, number: None, is_sent: false };
        let id = self.command().id;
        self.done.facts.uses.push((source.clone(), Use::Argument(id, given)));
        // The command itself has been read.
        if !(self.done.out.ends_with('|') && self.is_counted("|")) {
            self.expansion_at = self.done.out.len();
            self.read_around(&source, true);
        }
    }

    /// Notes the attributes that a declaration gives to a variable.
    pub(super) fn declared(&mut self, word: &str) {
        let command = self.command();
        if !command.program.as_deref().is_some_and(|program| DECLARATIONS.contains(&program)) {
            return;
        }
        let Some(name) = assignment(word).or_else(|| is_name(word).then_some(word)) else { return };
        let (keys, integer, reference) = (command.declares('A'), command.declares('i'), command.declares('n'));
        let command_is_list = command.declares('a');
        let conditional = self.frame().conditional;
        if keys && !conditional {
            self.associative.insert(name.to_owned());
        } else {
            self.associative.remove(name);
        }
        if command_is_list || keys {
            self.lists.insert(name.to_owned());
        }
        // The shell evaluates the value of a list that is declared with one: `declare -a x="$y"`. Elements in parentheses end the word.
        let value = word.split_once('=').map_or("", |(_, value)| value);
        if self.lists.contains(name) && !value.is_empty() {
            self.code(name, Limit::Path, "declare -a");
        }
        if integer {
            self.integers.insert(name.to_owned());
            self.code(name, Limit::Number, "declare -i");
        }
        if reference {
            self.code(name, Limit::Word, "declare -n");
        }
    }

    /// Notes the variables that the shell evaluates by their bare names in this word: `array[name]=…`, `let name`.
    pub(super) fn bare_names(&mut self, word: &str) {
        if self.command().program.as_deref() == Some("let") {
            return self.evaluated(word, "let");
        }
        if self.command().program.as_deref() == Some("unset") {
            self.associative.remove(word);
        }
        let Some(name) = assignment(word) else { return };
        if self.integers.contains(name) {
            let value = word.split_once('=').map_or("", |(_, value)| value);
            self.evaluated(value, "declare -i");
        }
        if let Some((_, index)) = word.split_once('=').and_then(|(name, _)| name.split_once('['))
            && !self.associative.contains(name)
        {
            self.evaluated(index, "the index of an array");
        }
    }

    fn evaluated(&mut self, text: &str, reader: &str) {
        for name in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|name| is_name(name)) {
            self.code(name, Limit::Number, reader);
        }
    }
}
