//! Here-documents that are programs in Python: a value that is all of a string literal becomes a variable of the
//! environment, which the program reads. It is no text of the program then. What the program does with it is not followed, so
//! that it counts as the name of a program, and only words and blanks are taken.

use super::{Scanner, Token};

/// Words by which a program makes code of text, or writes files of it.
const EVALUATING: &[&str] = &[
    "eval",
    "exec",
    "compile",
    "system",
    "popen",
    "Popen",
    "spawn",
    "import_module",
    "__import__",
    "getattr",
    "setattr",
    "pickle",
    "marshal",
    "ctypes",
    "runpy",
    "pty",
    "input",
    "open",
    "write",
    "environ",
    "globals",
    "locals",
    "os",
    "ssh",
    // Text for a shell, a shell, or values that come beside this one.
    "getoutput",
    "getstatusoutput",
    "fabric",
    "sh",
    "bash",
    "dash",
    "ksh",
    "zsh",
    "argv",
    "stdin",
];

/// Values in a program in Python.
#[derive(Debug, Default)]
pub(super) struct PythonValues {
    /// Tokens of values that are all of a literal.
    literals: Vec<usize>,
}

/// Place in a program.
enum State {
    Code,
    Comment,
    /// A literal in these quotes; `true` for three of them.
    Text(char, bool),
}

impl Scanner<'_> {
    /// Reads the here-document from here up to `end`. One that the shell changes besides has no values of this kind, and
    /// neither has a program that evaluates text.
    pub(super) fn python_values(&self, end: usize, quoted: bool) -> PythonValues {
        let tokens = &self.tokens[self.at..end];
        let text: String = tokens.iter().map(|token| if let Token::Char(c) = token { *c } else { '\u{1}' }).collect();
        let first = text.trim_start().lines().next().unwrap_or_default();
        let is_changed = !quoted && ["\\", "`", "$("].iter().any(|syntax| text.contains(syntax));
        let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let shell = text.matches("shell").count() > text.matches("shell=False").count();
        if !(first.starts_with("#!") && first.contains("python")) || is_changed || shell {
            return PythonValues::default();
        }
        if words.any(|word| EVALUATING.iter().any(|known| word == *known || word.starts_with("exec"))) {
            return PythonValues::default();
        }
        PythonValues { literals: literals(tokens).into_iter().map(|at| self.at + at).collect() }
    }

    /// Writes the expression for a value that is all of a literal; `false` for any other.
    pub(super) fn python_value(&mut self, index: usize) -> bool {
        let token = self.at - 1;
        let value = &self.values[index];
        // The program may write it where a shell reads it, or start a program with it.
        if !self.python.literals.contains(&token) || !(value.plain || value.listed) {
            return false;
        }
        // Without its quotes.
        self.done.out.pop();
        self.at += 1;
        self.done.out.push_str(&format!("__import__(\"os\").environ[\"{}\"]", value.variable));
        self.done.facts.started.push(index);
        true
    }
}

/// Returns the tokens that are all of a literal without a prefix. None if a literal does not end.
fn literals(tokens: &[Token]) -> Vec<usize> {
    let char_at = |at: usize| match tokens.get(at) {
        Some(Token::Char(c)) => Some(*c),
        _ => None,
    };
    let (mut state, mut found, mut at, mut plain) = (State::Code, Vec::new(), 0, true);
    while at < tokens.len() {
        let c = char_at(at);
        let three = |quote: char| char_at(at + 1) == Some(quote) && char_at(at + 2) == Some(quote);
        match (&state, c) {
            (State::Code, Some('#')) => state = State::Comment,
            (State::Code, Some(quote @ ('\'' | '"'))) => {
                let before = at.checked_sub(1).and_then(char_at);
                plain = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
                let is_long = three(quote);
                at += if is_long { 2 } else { 0 };
                state = State::Text(quote, is_long);
            }
            (State::Comment, Some('\n')) => state = State::Code,
            (State::Text(..), Some('\\')) => at += 1,
            (State::Text(quote, false), Some(c)) if c == *quote => state = State::Code,
            (State::Text(quote, true), Some(c)) if c == *quote && three(c) => {
                at += 2;
                state = State::Code;
            }
            (State::Text(_, false), Some('\n')) => return Vec::new(),
            (State::Text(quote, false), None) => {
                let begins = at.checked_sub(1).and_then(char_at) == Some(*quote);
                if plain && begins && char_at(at + 1) == Some(*quote) {
                    found.push(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    if matches!(state, State::Text(..)) { Vec::new() } else { found }
}
