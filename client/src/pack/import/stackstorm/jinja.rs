//! The part of Jinja that published packs use in parameters: text, values with filters, `if`, `raw` and comments. A template
//! is parsed here and never rendered; whatever else it contains is refused by name.

pub(super) mod filters;
pub(super) mod judge;
pub(super) mod names;
mod scan;
pub(super) mod shell;
mod words;

use std::fmt;

use crate::pack::import::shell::Limit;

/// Maximum nesting of `if`.
const MAX_DEPTH: usize = 8;

/// Piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Value(ValueOf),
    If(Vec<Branch>),
}

/// Branch of an `if`; the last one may have no condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) condition: Option<Condition>,
    pub(super) body: Vec<Piece>,
}

/// Condition: a name alone, or compared with a literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) name: String,
    pub(super) negated: bool,
    /// `None`: the value counts as true.
    pub(super) equals: Option<Literal>,
}

/// `{{ base | filter }}`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueOf {
    pub(super) base: Base,
    pub(super) filters: Vec<Filter>,
}

impl ValueOf {
    /// Returns the filter that puts blanks into a value: where nothing quotes it, its author means several words.
    pub(super) fn makes_words(&self) -> Option<&Filter> {
        let put = |filter: &&Filter| match (filter.name.as_str(), &filter.arguments[..]) {
            ("join", [Literal::Text(text)]) | ("replace", [_, Literal::Text(text)]) => {
                text.contains(char::is_whitespace)
            }
            _ => false,
        };
        self.filters.iter().find(put)
    }
}

impl ValueOf {
    /// True if a filter may put characters into the value that a shell gives a meaning to.
    fn adds_code(&self) -> bool {
        let adds = |filter: &Filter| match (filter.name.as_str(), &filter.arguments[..]) {
            ("join", [Literal::Text(text)]) | ("replace", [_, Literal::Text(text)]) => Limit::of(text) < Limit::Path,
            _ => false,
        };
        self.filters.iter().any(adds)
    }
}

/// Source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// A parameter.
    Name(String),
    /// A value of the pack's configuration.
    Config(Vec<String>),
    /// StackStorm's context of the call.
    Context,
    /// StackStorm's datastore.
    Server(String),
}

/// Filter with its literal arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) name: String,
    pub(super) arguments: Vec<Literal>,
}

/// Literal of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    Text(String),
    Bool(bool),
    Number(String),
    None,
}

/// Part of a template that is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(String);

impl Refused {
    pub(super) fn new(what: impl Into<String>) -> Refused {
        Refused(packs_schema::base::strict::shorten(&what.into(), 120))
    }
}

impl Refused {
    /// A value of StackStorm's datastore, which scripts and Python actions reach through its server.
    pub(super) fn datastore(path: &str) -> Refused {
        Refused::new(format!("{path} is in StackStorm's datastore, which Bolt does not have"))
    }

    /// StackStorm's context of the call.
    pub(super) fn context() -> Refused {
        Refused::new("action_context is StackStorm's own, which Bolt does not have")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Outcome<T> = Result<T, Refused>;

/// Parses a template.
pub(super) fn parse(text: &str) -> Outcome<Vec<Piece>> {
    let mut parser = Parser { rest: text, trim_next: false };
    let (pieces, end) = parser.pieces(0)?;
    match end {
        End::Text => Ok(pieces),
        End::Statement(statement) => Err(Refused::new(format!("{{% {statement} %}} without its beginning"))),
    }
}

struct Parser<'a> {
    rest: &'a str,
    /// A `-` before the closing bracket removes the white space after it.
    trim_next: bool,
}

enum End {
    Text,
    Statement(String),
}

impl<'a> Parser<'a> {
    fn pieces(&mut self, depth: usize) -> Outcome<(Vec<Piece>, End)> {
        if depth > MAX_DEPTH {
            return Err(Refused::new("conditions nested deeply"));
        }
        let mut pieces = Vec::new();
        loop {
            let next = ["{{", "{%", "{#"].iter().filter_map(|open| Some((self.rest.find(open)?, *open))).min();
            let Some((at, open)) = next else {
                self.text(self.rest, &mut pieces);
                self.rest = "";
                return Ok((pieces, End::Text));
            };
            let text = &self.rest[..at];
            self.rest = &self.rest[at + 2..];
            let left = self.rest.strip_prefix('-');
            self.rest = left.unwrap_or(self.rest);
            self.text(if left.is_some() { text.trim_end() } else { text }, &mut pieces);
            match open {
                "{#" => drop(self.until("#}")?),
                "{{" => pieces.push(Piece::Value(value(self.until("}}")?)?)),
                _ => {
                    let statement = self.until("%}")?;
                    match statement.split_whitespace().next().unwrap_or_default() {
                        "raw" => {
                            let end =
                                self.rest.find("{% endraw %}").ok_or_else(|| Refused::new("raw without endraw"))?;
                            push_text(&self.rest[..end], &mut pieces);
                            self.rest = &self.rest[end + "{% endraw %}".len()..];
                        }
                        "if" => pieces.push(self.condition(statement, depth)?),
                        "elif" | "else" | "endif" => return Ok((pieces, End::Statement(statement.to_owned()))),
                        other => return Err(Refused::new(format!("the statement {other:?}"))),
                    }
                }
            }
        }
    }

    fn text(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let text = if std::mem::take(&mut self.trim_next) { text.trim_start() } else { text };
        push_text(text, pieces);
    }

    fn until(&mut self, close: &str) -> Outcome<&'a str> {
        let at = self.rest.find(close).ok_or_else(|| Refused::new(format!("no {close} after its beginning")))?;
        let inside = &self.rest[..at];
        self.rest = &self.rest[at + 2..];
        let trimmed = inside.strip_suffix('-');
        self.trim_next = trimmed.is_some();
        Ok(trimmed.unwrap_or(inside).trim())
    }

    fn condition(&mut self, statement: &str, depth: usize) -> Outcome<Piece> {
        let mut branches = Vec::new();
        let mut condition = Some(condition(statement["if".len()..].trim())?);
        loop {
            let (body, end) = self.pieces(depth + 1)?;
            branches.push(Branch { condition: condition.take(), body });
            let End::Statement(statement) = end else { return Err(Refused::new("if without endif")) };
            if statement == "endif" {
                return Ok(Piece::If(branches));
            }
            if branches.last().is_some_and(|branch| branch.condition.is_none()) {
                return Err(Refused::new("a branch after else"));
            }
            if let Some(next) = statement.strip_prefix("elif") {
                condition = Some(self::condition(next.trim())?);
            }
        }
    }
}

/// Adds text. What a comment or `raw` cuts in two is one text, as the shell reads it: `$` and `(`.
fn push_text(text: &str, pieces: &mut Vec<Piece>) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

fn condition(text: &str) -> Outcome<Condition> {
    let refuse = || Refused::new(format!("the condition {text:?}"));
    let (text, negated) = match text.strip_prefix("not ") {
        Some(rest) => (rest.trim(), true),
        None => (text, false),
    };
    for (operator, opposite) in [("==", false), ("!=", true)] {
        if let Some((name, literal)) = text.split_once(operator) {
            let name = name.trim();
            let equals = Some(self::literal(literal.trim()).ok_or_else(refuse)?);
            let name = Some(name).filter(|name| is_name(name)).ok_or_else(refuse)?.to_owned();
            return Ok(Condition { name, negated: negated != opposite, equals });
        }
    }
    match is_name(text) {
        true => Ok(Condition { name: text.to_owned(), negated, equals: None }),
        false => Err(refuse()),
    }
}

fn value(text: &str) -> Outcome<ValueOf> {
    let mut parts = split(text, '|').into_iter();
    let path = parts.next().unwrap_or_default().trim().to_owned();
    if !path.split('.').all(is_name) {
        return Err(Refused::new(format!("the expression {text:?}")));
    }
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    let base = match (names[0].as_str(), names.len()) {
        ("action_context", _) => Base::Context,
        ("st2kv" | "system" | "user", 2..) => Base::Server(path),
        ("config_context", 2..) => Base::Config(names[1..].to_vec()),
        (_, 1) => Base::Name(path),
        _ => return Err(Refused::new(format!("the expression {text:?}"))),
    };
    let filters = parts.map(|part| filter(part.trim())).collect::<Outcome<_>>()?;
    Ok(ValueOf { base, filters })
}

fn filter(text: &str) -> Outcome<Filter> {
    let refuse = || Refused::new(format!("the filter {text:?}"));
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name.trim(), rest.trim().strip_suffix(')').ok_or_else(refuse)?),
        None => (text, ""),
    };
    if !is_name(name) {
        return Err(refuse());
    }
    let arguments = split(arguments, ',').into_iter().map(|argument| argument.trim().to_owned());
    let arguments = arguments.filter(|argument| !argument.is_empty());
    let arguments = arguments.map(|argument| literal(&argument).ok_or_else(refuse)).collect::<Outcome<_>>()?;
    Ok(Filter { name: name.to_owned(), arguments })
}

fn literal(text: &str) -> Option<Literal> {
    match text {
        "true" | "True" => return Some(Literal::Bool(true)),
        "false" | "False" => return Some(Literal::Bool(false)),
        "none" | "None" => return Some(Literal::None),
        _ => {}
    }
    for quote in ['\'', '"'] {
        if let Some(inside) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return (!inside.contains([quote, '\\'])).then(|| Literal::Text(inside.to_owned()));
        }
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    number.then(|| Literal::Number(text.to_owned()))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Splits at `separator` outside quotes and brackets.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut quote, mut depth) = (vec![String::new()], None, 0_usize);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, c) if c == separator && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests;
