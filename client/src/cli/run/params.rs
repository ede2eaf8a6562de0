//! The parameters of a command line: typed by the action's schema; secrets never in an argument.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use packs_schema::name::ParamName;
use packs_schema::param::{Parameters, Schema, cast};
use packs_schema::rest::MAX_BODY;
use packs_schema::strict;
use serde_json::{Map, Value};

use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal;
use crate::files;

/// `name=value` or `name=@file`.
#[derive(Clone)]
pub(super) struct Given {
    name: String,
    text: Text,
}

#[derive(Clone)]
enum Text {
    Literal(String),
    File(PathBuf),
}

impl std::fmt::Debug for Given {
    // A literal may be a secret that is about to be refused.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("name", &self.name).finish_non_exhaustive()
    }
}

impl FromStr for Given {
    type Err = String;
    fn from_str(argument: &str) -> Result<Given, String> {
        let (name, text) = argument.split_once('=').ok_or("write a parameter as NAME=VALUE")?;
        let name = ParamName::new(name).map_err(|e| e.to_string())?.to_string();
        let text = match text.strip_prefix('@') {
            Some(rest) if rest.starts_with('@') => Text::Literal(rest.to_owned()),
            Some(path) => Text::File(path.into()),
            None => Text::Literal(text.to_owned()),
        };
        Ok(Given { name, text })
    }
}

/// All that was given, each name once.
pub(super) fn collect(
    given: &[Given],
    file: Option<&Path>,
    parameters: &Parameters,
) -> Result<Map<String, Value>, Failure> {
    let mut values = match file {
        Some(file) => from_file(file)?,
        None => Map::new(),
    };
    for Given { name, text } in given {
        let unknown = Schema::default();
        let schema = ParamName::new(name.as_str()).ok().and_then(|name| parameters.get(&name)).unwrap_or(&unknown);
        let text = match text {
            Text::Literal(_) if schema.holds_secret() => {
                let message = format!("{name} is secret: on the command line everybody on this host could read it");
                let hint = format!(
                    "write {name}=@FILE, put it into --params-file, or leave it out to be asked; \
                     and change the secret, since it now stands in your shell's history"
                );
                return Err(Failure::new(Exit::Usage, message).hint(hint));
            }
            Text::Literal(text) => text.clone(),
            Text::File(path) => {
                let text = files::read_text(path, MAX_BODY as u64).map_err(|e| Failure::from_error(Exit::Usage, &e))?;
                text.strip_suffix('\n').map_or(text.clone(), str::to_owned)
            }
        };
        if values.insert(name.clone(), cast::from_text(schema, &text)).is_some() {
            return Err(Failure::new(Exit::Usage, format!("{name} is given twice")).hint("give it once"));
        }
    }
    Ok(values)
}

fn from_file(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        let read = io::stdin().lock().take(MAX_BODY as u64 + 1).read_to_string(&mut text);
        read.map_err(|e| Failure::new(Exit::Usage, format!("cannot read the parameters from standard input: {e}")))?;
        text
    } else {
        files::read_text(path, MAX_BODY as u64).map_err(|e| Failure::from_error(Exit::Usage, &e))?
    };
    let from = if path == Path::new("-") { "standard input".to_owned() } else { crate::show::path(path) };
    match strict::parse(text.as_bytes()) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(other) => {
            Err(Failure::new(Exit::Usage, format!("{from} must hold one JSON object, not {}", strict::kind(&other))))
        }
        Err(e) => Err(Failure::new(Exit::Usage, format!("{from} is not JSON: {e}"))),
    }
}

/// Asks for the secrets that must be given and were not, when there is somebody to ask.
pub(super) async fn ask_for_secrets(parameters: &Parameters, values: &mut Map<String, Value>) -> Result<(), Failure> {
    for (name, schema) in parameters {
        let wanted = schema.secret && schema.is_required() && schema.default.is_none() && !schema.immutable;
        if !wanted || values.contains_key(name.as_str()) || !terminal::can_ask() {
            continue;
        }
        let answer =
            terminal::ask_secret(&format!("{name} (secret, not shown)")).await.map_err(|e| match e.kind() {
                io::ErrorKind::Interrupted => Failure::interrupted(),
                _ => Failure::new(Exit::Usage, format!("cannot ask for {name}: {e}")),
            })?;
        values.insert(name.to_string(), cast::from_text(schema, &answer));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        let text = r#"{"count": {"type": "integer"}, "token": {"type": "string", "secret": true}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn collected(arguments: &[&str]) -> Result<Map<String, Value>, Failure> {
        let given: Vec<Given> = arguments.iter().map(|a| a.parse().unwrap()).collect();
        collect(&given, None, &parameters())
    }

    #[test]
    fn values_get_their_parameters_type() {
        assert_eq!(
            Value::Object(collected(&["count=3", "other=x=y", "at=@@a"]).unwrap()),
            serde_json::json!({
                "count": 3, "other": "x=y", "at": "@a"
            })
        );
        assert!(collected(&["count=1", "count=2"]).unwrap_err().message.contains("twice"));
        assert!("novalue".parse::<Given>().is_err() && "-x=1".parse::<Given>().is_err());
    }

    #[test]
    fn a_secret_comes_from_a_file_and_never_from_an_argument() {
        let failure = collected(&["token=hunter2"]).unwrap_err();
        assert!(!failure.to_string().contains("hunter2") && failure.to_string().contains("token=@FILE"), "{failure}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, "hunter2\n").unwrap();
        let values = collected(&[&format!("token=@{}", path.display())]).unwrap();
        assert_eq!(values["token"], "hunter2");
    }

    #[test]
    fn a_file_holds_one_object_without_duplicates() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        for (text, right) in [(r#"{"a": 1}"#, true), (r#"{"a": 1, "a": 2}"#, false), ("[]", false), ("{", false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(collect(&[], Some(&path), &parameters()).is_ok(), right, "{text}");
        }
    }
}
