//! Places for options and for what Rundeck knows of a job and its node, in commands, scripts and arguments.

use serde_json::Value;

use crate::pack::import::scripted::{Blocked, Parameter};
use crate::pack::import::shell::{Limit, Part, ScriptValue};
use crate::pack::import::steps::{Piece, Variable};

/// Contexts of Rundeck; a name in braces that begins with one is no variable of a shell.
const CONTEXTS: [&str; 11] =
    ["option", "unquotedoption", "job", "node", "data", "globals", "execution", "export", "file", "user", "result"];

/// Notation of places that Rundeck reads in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// `${option.x}`: in commands and arguments.
    Braces,
    /// `@option.x@`: in scripts.
    AtSigns,
}

/// Values that scripts of a job may have places for.
#[derive(Debug)]
pub(super) struct Context {
    /// Options first, in the order of the parameters.
    pub(super) values: Vec<ScriptValue>,
    /// Where the environment variables of the others come from.
    pub(super) variables: Vec<(String, Variable)>,
}

impl Context {
    pub(super) fn new(job: &Value, parameters: &[Parameter]) -> Context {
        let text = |key: &str| job.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let project = job.get("project").or_else(|| job.get("context").and_then(|context| context.get("project")));
        let known = [
            ("job.name", Variable::Text(text("name")), true),
            ("job.group", Variable::Text(text("group")), true),
            ("job.project", Variable::Text(project.and_then(Value::as_str).unwrap_or_default().to_owned()), true),
            ("job.id", Variable::Text(text("uuid")), true),
            ("job.loglevel", Variable::Text(text("loglevel")), true),
            ("job.execid", Variable::Environment("BOLT_EXECUTION_ID".to_owned()), false),
            ("job.executionid", Variable::Environment("BOLT_EXECUTION_ID".to_owned()), false),
            ("node.name", Variable::Environment("BOLT_INSTANCE_ID".to_owned()), false),
            ("node.hostname", Variable::Hostname, false),
        ];
        let mut context =
            Context { values: parameters.iter().map(|p| p.value.clone()).collect(), variables: Vec::new() };
        for (name, variable, listed) in known {
            let word = match &variable {
                Variable::Text(text) => Limit::of(text),
                _ => Limit::Word,
            };
            let named = format!("RD_{}", name.to_ascii_uppercase().replace('.', "_"));
            context.values.push(ScriptValue {
                name: name.to_owned(),
                variable: named.clone(),
                limit: word,
                listed,
                plain: false,
                words: false,
                omitted: false,
            });
            context.variables.push((named, variable));
        }
        context
    }

    /// True for a text with a place in the other notation, which authors take for this one.
    pub(super) fn misplaced(text: &str, notation: Notation) -> bool {
        let other = if notation == Notation::Braces { '@' } else { '$' };
        let mut rest = text;
        while let Some((before, _, after)) = next(rest) {
            if rest[before.len()..].starts_with(other) {
                return true;
            }
            rest = after;
        }
        false
    }

    /// Splits text at its places.
    pub(super) fn parts(&self, text: &str, parameters: &[Parameter]) -> Result<Vec<Part>, Blocked> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, name, after)) = next(rest) {
            plain.push_str(before);
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Value(self.index(name, parameters)?));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(parts)
    }

    fn index(&self, name: &str, parameters: &[Parameter]) -> Result<usize, Blocked> {
        let option = name.strip_prefix("option.").or_else(|| name.strip_prefix("unquotedoption."));
        let index = match option {
            Some(option) => parameters.iter().position(|parameter| parameter.source == option),
            None => self.values.iter().skip(parameters.len()).position(|value| value.name == name),
        };
        match (option, index) {
            (Some(_), Some(index)) => Ok(index),
            (None, Some(index)) => Ok(parameters.len() + index),
            (Some(option), None) => {
                Err(("unknown_option", format!("it uses the option {option}, which the job has not")))
            }
            (None, None) => {
                let message = format!("it uses {name}, which an instance does not know; make it an option");
                Err(("context", message))
            }
        }
    }

    /// Returns text with places that is no script.
    pub(super) fn pieces(&self, text: &str, parameters: &[Parameter]) -> Result<Vec<Piece>, Blocked> {
        let piece = |part: Part| match part {
            Part::Text(text) => Piece::Text(text),
            Part::Value(index) => Piece::Variable(self.values[index].variable.clone()),
        };
        Ok(self.parts(text, parameters)?.into_iter().map(piece).collect())
    }
}

/// Returns the next place: the text before it, its name, and the text after it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = text[from..].find(['$', '@']) {
        let at = from + found;
        let (open, close) = if text[at..].starts_with('@') { (1, '@') } else { (2, '}') };
        from = at + 1;
        if open == 2 && !text[at..].starts_with("${") {
            continue;
        }
        let inside = &text[at + open..];
        let length = inside.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap_or(inside.len());
        let name = &inside[..length];
        let context = name.split_once('.').is_some_and(|(context, _)| CONTEXTS.contains(&context));
        if context && inside[length..].starts_with(close) {
            return Some((&text[..at], name, &inside[length + 1..]));
        }
    }
    None
}
