//! Parameters of a command line, as `bolt run` and `bolt pack test` both take them: `NAME=VALUE`, `NAME=@FILE`, typed by the
//! action's schema. Secrets are refused on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use packs_schema::agent::rest::MAX_BODY;
use packs_schema::base::name::ParamName;
use packs_schema::pack::param::bind::{ParamError, bind};
use packs_schema::pack::param::{Parameters, Schema, cast};
use serde_json::{Map, Value};

use crate::files::{self, FileError};

/// `name=value` or `name=@file`.
#[derive(Clone)]
pub struct Given {
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

/// Error returned when parameters cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// A secret is given on the command line.
    #[error("{0} is secret: on the command line every account of this host could read it")]
    Secret(String),
    /// A parameter is given twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// The file of a value cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl GivenError {
    /// Returns how to fix it.
    pub fn hint(&self) -> Option<String> {
        match self {
            GivenError::Secret(name) => {
                Some(format!("write {name}=@FILE; and change the secret, since it is now in your shell's history"))
            }
            GivenError::Twice(_) => Some("give it once".to_owned()),
            GivenError::File(_) => None,
        }
    }
}

/// Adds the given parameters to `values`, each name once. A value that cannot be read as its type is added as text, and is in
/// the returned list.
pub fn add(
    values: &mut Map<String, Value>,
    given: &[Given],
    parameters: &Parameters,
) -> Result<Vec<ParamError>, GivenError> {
    let mut unread = Vec::new();
    for Given { name, text } in given {
        let unknown = Schema::default();
        let schema = ParamName::new(name.as_str()).ok().and_then(|name| parameters.get(&name)).unwrap_or(&unknown);
        let text = match text {
            Text::Literal(_) if schema.holds_secret() => return Err(GivenError::Secret(name.clone())),
            Text::Literal(text) => text.clone(),
            Text::File(path) => {
                let text = files::read_text(path, MAX_BODY as u64).map_err(|e| e.named_by(format!("{name}=@FILE")))?;
                text.strip_suffix('\n').map_or(text.clone(), str::to_owned)
            }
        };
        unread.extend(cast::problem(schema, &text).map(|message| ParamError {
            parameter: name.clone(),
            code: "invalid".to_owned(),
            message,
        }));
        if values.insert(name.clone(), cast::from_text(schema, &text)).is_some() {
            return Err(GivenError::Twice(name.clone()));
        }
    }
    Ok(unread)
}

/// Returns every error of `values`. A value that [`add`] could not read is reported as it was given, which is clearer than the
/// text that it became.
pub fn errors(parameters: &Parameters, values: &Map<String, Value>, unread: &[ParamError]) -> Vec<ParamError> {
    let as_given =
        |error: ParamError| unread.iter().find(|known| known.parameter == error.parameter).cloned().unwrap_or(error);
    bind(parameters, values).err().unwrap_or_default().into_iter().map(as_given).collect()
}

/// Returns the names of the parameters in `given` that are secret, or hold a secret, as `parameters` mark them.
pub fn secret_names(parameters: &Parameters, given: &Map<String, Value>) -> Vec<String> {
    // Parameters that cannot be bound are refused elsewhere; here none of them counts as public.
    let bound = bind(parameters, given).ok();
    let is_public = |name: &String, value: &Value| {
        value.is_null() || bound.as_ref().is_some_and(|bound| bound.public().get(name) == bound.values().get(name))
    };
    given.iter().filter(|(name, value)| !is_public(name, value)).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        let text = r#"{"n": {"type": "integer"}, "x": {"type": "number"}, "b": {"type": "boolean"},
            "l": {"type": "array", "items": {"type": "string", "enum": ["x", "y2"]}},
            "token": {"type": "string", "secret": true}, "pin": {"type": "integer", "secret": true}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn added(arguments: &[&str]) -> Result<(Value, Vec<String>), GivenError> {
        let given: Vec<Given> = arguments.iter().map(|a| a.parse().unwrap()).collect();
        let mut values = Map::new();
        let unread = add(&mut values, &given, &parameters())?;
        Ok((Value::Object(values), unread.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn a_value_that_is_not_of_its_type_is_told_with_what_fits() {
        for (argument, says) in [
            ("n=01", "n must be an integer, such as 10; \"01\" starts with 0"),
            ("n=1e3", "n must be an integer, such as 10; \"1e3\" is not one"),
            ("n=1.5", "n must be an integer, such as 10; \"1.5\" is not one"),
            ("n=99999999999999999999", "n must be an integer of 64 bits; \"99999999999999999999\" is too large"),
            ("x=ten", "x must be a number, such as 1.5; \"ten\" is not one"),
            ("b=maybe", "b must be true, yes, on or 1, or false, no, off or 0; \"maybe\" is not one"),
        ] {
            let (_, unread) = added(&[argument]).unwrap();
            assert_eq!(unread, [says], "{argument}");
        }
        let (values, unread) = added(&["b=on", "n=-3", "x=1e3", "l=x, y2"]).unwrap();
        assert_eq!(values, serde_json::json!({"b": true, "n": -3, "x": 1e3, "l": ["x", "y2"]}));
        assert_eq!(unread, [""; 0]);
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_in_no_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, "hunter2\n").unwrap();
        let (values, unread) =
            added(&[&format!("token=@{}", path.display()), &format!("pin=@{}", path.display())]).unwrap();
        assert_eq!(values["token"], "hunter2");
        assert_eq!(unread, ["pin must be an integer, such as 10"]);
        let refused = added(&["token=hunter2"]).unwrap_err();
        assert!(matches!(refused, GivenError::Secret(_)) && !format!("{refused:?} {refused}").contains("hunter2"));
        assert!(matches!(added(&["n=1", "n=2"]).unwrap_err(), GivenError::Twice(_)));
    }
}
