//! Text of a step: places for parameters, and the shell that runs it.

use serde_json::Value;

use super::parameters::is_reference;
use crate::pack::import::scripted::{self, Blocked, Parameter, ReadBy};
use crate::pack::import::shell::{Part, Rewritten};
use crate::pack::import::steps::Piece;

/// Shell that the agent of Systems Manager takes for a script without a first line that names one.
pub(super) const SHELL: &str = "/bin/sh";
/// Reader of scripts.
const READER: ReadBy<'_> = ReadBy::FirstLine(SHELL);

/// Returns the index of the parameter that is all of `runCommand`.
pub(super) fn of_caller(command: &Value, parameters: &[Parameter]) -> Option<usize> {
    match command {
        Value::String(text) => match parts(text.trim(), parameters).as_slice() {
            [Part::Value(index)] => Some(*index),
            _ => None,
        },
        Value::Array(lines) => match lines.as_slice() {
            [line @ Value::String(_)] => of_caller(line, parameters),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the text of `runCommand`, whose lines may be lists of lines.
pub(super) fn text(command: &Value, parameters: &[Parameter]) -> Result<String, Blocked> {
    let mut lines = Vec::new();
    collect(command, parameters, &mut lines)?;
    Ok(lines.join("\n") + "\n")
}

fn collect(command: &Value, parameters: &[Parameter], lines: &mut Vec<String>) -> Result<(), Blocked> {
    match command {
        Value::String(text) => {
            if let [Part::Value(index)] = parts(text, parameters).as_slice()
                && parameters[*index].is_list()
            {
                let message = format!("callers would give lines of the script with {}", parameters[*index].source);
                return Err(("any_command", message + "; write an action for each command that is needed"));
            }
            lines.push(text.clone());
        }
        Value::Array(items) => items.iter().try_for_each(|item| collect(item, parameters, lines))?,
        Value::Null => lines.push(String::new()),
        Value::Bool(_) | Value::Number(_) => lines.push(command.to_string()),
        Value::Object(_) => {
            let message = "a line of the command is a map; put it into quotes";
            return Err(("bad_command", message.to_owned()));
        }
    }
    Ok(())
}

/// Rewrites the text of a script, which begins with a shebang afterwards.
pub(super) fn rewritten(text: &str, parameters: &[Parameter]) -> Result<Rewritten, Blocked> {
    if is_reference(text) {
        let message = "it reads a value of Parameter Store; make it a parameter that the caller gives";
        return Err(("parameter_store", message.to_owned()));
    }
    let values: Vec<_> = parameters.iter().map(|parameter| parameter.value.clone()).collect();
    scripted::rewritten(&parts(&text.replace("\r\n", "\n"), parameters), &values, &[], READER)
}

/// True for the text of a rewritten script that a shell reads.
pub(super) fn is_shell(text: &str) -> bool {
    scripted::is_shell_script(text, READER)
}

/// Splits text at the places for declared parameters. Others stay text, as with Systems Manager.
pub(super) fn parts(text: &str, parameters: &[Parameter]) -> Vec<Part> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find("{{") {
        let inside = &rest[at + 2..];
        let name_from = inside.len() - inside.trim_start().len();
        let named = inside.trim_start();
        let length = named.find(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c)).unwrap_or(named.len());
        let after = named[length..].trim_start();
        let index = parameters.iter().position(|parameter| parameter.source == named[..length]);
        match index.filter(|_| after.starts_with("}}")) {
            Some(index) => {
                plain.push_str(&rest[..at]);
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Value(index));
                rest = &after[2..];
            }
            None => {
                // `{{{ name }}` has its place one brace later.
                let skip = if name_from == 0 && named.starts_with('{') { 1 } else { 2 };
                plain.push_str(&rest[..at + skip]);
                rest = &rest[at + skip..];
            }
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    parts
}

/// Returns the names in places of a text that are no parameters, each once.
pub(super) fn undefined(text: &str, parameters: &[Parameter]) -> Vec<String> {
    /// Longest name, and maximum number of names.
    const LONGEST: usize = 100;
    const MAX_NAMES: usize = 20;
    let mut names: Vec<String> = Vec::new();
    for (at, _) in text.match_indices("{{") {
        let inside = text[at + 2..].trim_start_matches([' ', '\t']);
        let length = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(inside.len());
        let name = &inside[..length];
        let is_place = inside[length..].trim_start_matches([' ', '\t']).starts_with("}}");
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic()) && length <= LONGEST;
        let known =
            parameters.iter().any(|parameter| parameter.source == name) || names.iter().any(|known| known == name);
        if is_place && named && !known && names.len() < MAX_NAMES {
            names.push(name.to_owned());
        }
    }
    names
}

/// Returns a text with places that is no script.
pub(super) fn pieces(value: &Value, parameters: &[Parameter]) -> Vec<Piece> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let piece = |part: Part| match part {
        Part::Text(text) => Piece::Text(text),
        Part::Value(index) => Piece::Variable(parameters[index].value.variable.clone()),
    };
    parts(&text, parameters).into_iter().map(piece).collect()
}
