//! Parameters of a command line, typed by the action's schema. Secrets are never taken from an argument.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use packs_schema::agent::rest::MAX_BODY;
use packs_schema::base::name::ParamName;
use packs_schema::base::strict;
use packs_schema::pack::param::bind::ParamError;
use packs_schema::pack::param::{Parameters, cast};
use serde_json::{Map, Value};

use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal;
use crate::files;
use crate::parameters;
pub(super) use crate::parameters::Given;

/// Input that is read once, also when it is checked against two definitions: the parameters' file, which may be standard
/// input, and answers on the terminal. Has no `Debug`: it holds secrets.
#[derive(Default)]
pub(super) struct Input {
    file: Map<String, Value>,
    answers: BTreeMap<ParamName, String>,
}

impl Input {
    /// Reads the parameters' file.
    pub(super) fn read(file: Option<&Path>) -> Result<Input, Failure> {
        let file = file.map(from_file).transpose()?.unwrap_or_default();
        Ok(Input { file, answers: BTreeMap::new() })
    }
}

/// Returns all parameters, each name once, and errors for those that cannot be read as their type.
pub(super) fn collect(
    given: &[Given],
    input: &Input,
    schema: &Parameters,
) -> Result<(Map<String, Value>, Vec<ParamError>), Failure> {
    let mut values = input.file.clone();
    let unread = parameters::add(&mut values, given, schema).map_err(|e| {
        let failure = Failure::from_error(Exit::Usage, &e);
        match e.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Ok((values, unread))
}

fn from_file(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        let read = io::stdin().lock().take(MAX_BODY as u64 + 1).read_to_string(&mut text);
        read.map_err(|e| Failure::new(Exit::Usage, format!("cannot read the parameters from standard input: {e}")))?;
        text
    } else {
        files::read_text(path, MAX_BODY as u64)
            .map_err(|e| Failure::from_error(Exit::Usage, &e.named_by("--params-file")))?
    };
    let from = if path == Path::new("-") { "standard input".to_owned() } else { crate::show::path(path) };
    match strict::parse(text.as_bytes()) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(other) => Err(Failure::new(
            Exit::Usage,
            format!("{from} must hold one JSON object, not {}", strict::type_name(&other)),
        )),
        Err(e) => Err(Failure::new(Exit::Usage, format!("{from} is not JSON: {e}"))),
    }
}

/// Asks for required secrets that were not given, if there is a terminal.
pub(super) async fn ask_for_secrets(
    parameters: &Parameters,
    values: &mut Map<String, Value>,
    input: &mut Input,
) -> Result<(), Failure> {
    for (name, schema) in parameters {
        let wanted = schema.secret && schema.is_required() && schema.default.is_none() && !schema.immutable;
        if !wanted || values.contains_key(name.as_str()) || !terminal::can_ask() {
            continue;
        }
        if !input.answers.contains_key(name) {
            let answer =
                terminal::ask_secret(&format!("{name} (secret, not shown)")).await.map_err(|e| match e.kind() {
                    io::ErrorKind::Interrupted => Failure::interrupted(),
                    _ => Failure::new(Exit::Usage, format!("cannot ask for {name}: {e}")),
                })?;
            input.answers.insert(name.clone(), answer);
        }
        values.insert(name.to_string(), cast::from_text(schema, &input.answers[name]));
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
        Ok(collect(&given, &Input::default(), &parameters())?.0)
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
            assert_eq!(Input::read(Some(&path)).is_ok(), right, "{text}");
        }
    }
}
