//! Parameters of a task: types of Puppet become schemas of the parameter language.

use std::collections::BTreeMap;

use packs_schema::base::strict::shorten;
use serde_json::{Map, Value};

use super::known::{Aliases, of_json_name, shape};
use super::shape::Shape;
use super::types::{self, Expr, TypeError};
use crate::pack::import::names::parameter_name;
use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, fit_default, keep_if_readable, truth};
use crate::pack::import::scripted::is_secret;
use crate::pack::import::{ImportError, any_command, secrets};

/// Parameters of a task.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// Schemas by Bolt's name.
    pub(super) schemas: BTreeMap<String, Map<String, Value>>,
    /// Names in the source by Bolt's name.
    pub(super) names: BTreeMap<String, String>,
    /// Parameters with which a caller may give any command.
    pub(super) commands: Vec<String>,
    /// Parameters with a secret.
    pub(super) secrets: Vec<String>,
}

/// Converts the declared parameters.
pub(super) fn declared(
    given: &Map<String, Value>,
    aliases: &Aliases,
    sink: &mut Sink<'_>,
) -> Result<Parameters, ImportError> {
    let mut parameters = Parameters::default();
    for (name, options) in given {
        parameters.add(name, options, aliases, sink)?;
    }
    Ok(parameters)
}

/// Makes parameters of the variables that scripts read, for a task that declares none.
pub(super) fn found<'a>(scripts: impl Iterator<Item = &'a str>, sink: &mut Sink<'_>) -> Parameters {
    let mut parameters = Parameters::default();
    for script in scripts {
        for (at, _) in script.match_indices("PT_").take(500) {
            let inside = script[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let name: String =
                script[at + 3..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if inside
                || !name.starts_with(|c: char| c.is_ascii_lowercase())
                || parameters.names.values().any(|known| *known == name)
            {
                continue;
            }
            let Some(bolt) =
                parameter_name(&name, parameters.schemas.keys()).filter(|_| parameters.schemas.len() < 100)
            else {
                continue;
            };
            let schema = Map::from_iter([("type".to_owned(), Value::from("string"))]);
            parameters.note_command(&bolt, &schema);
            parameters.names.insert(bolt.clone(), name);
            parameters.schemas.insert(bolt, schema);
        }
    }
    let names: Vec<&str> = parameters.names.values().map(String::as_str).collect();
    let message = match names.is_empty() {
        true => "it declares no parameters, so callers give none; Puppet would take any".to_owned(),
        false => {
            let names = shorten(&names.join(", "), 300);
            format!(
                "it declares no parameters; those that it reads are texts now ({names}), where Puppet would take any"
            )
        }
    };
    sink.add("parameters_undeclared", Effect::Note, &[], message);
    parameters
}

impl Parameters {
    fn add(&mut self, name: &str, options: &Value, aliases: &Aliases, sink: &mut Sink<'_>) -> Result<(), ImportError> {
        let place = ["parameters", name];
        let Some(bolt) = parameter_name(name, self.schemas.keys()) else {
            let message = format!("the parameter {:?} cannot have a name of Bolt", shorten(name, 80));
            sink.add("parameter_name", Effect::Blocks, &place, message);
            return Ok(());
        };
        if bolt != name {
            sink.add("renamed", Effect::Note, &place, format!("{} is called {bolt} in Bolt", shorten(name, 80)));
        }
        let mut shape = self.type_of(name, options, aliases, sink)?;
        for lost in &shape.looser {
            let message = format!("{name} is checked less than by Puppet: the schema lacks {lost}");
            sink.add("checked_less", Effect::Note, &place, message);
        }
        if shape.anchored {
            let message = format!(
                "the pattern of {name} has ^ or $, which match at each line in Ruby; they hold for the whole text now"
            );
            sink.add("pattern_anchored", Effect::Safer, &place, message);
        }
        let default = options.get("default").filter(|default| !default.is_null());
        let needed = !shape.null && default.is_none();
        // Absence is what Puppet means by a value of undef.
        let only_null = Shape { null: true, ..Shape::default() };
        shape.null = shape == only_null;
        let mut schema = Map::new();
        for (keyword, value) in shape.schema() {
            keep_if_readable(&mut schema, &keyword, value, &place, sink);
        }
        if let Some(description) = options.get("description").and_then(Value::as_str) {
            schema.insert("description".to_owned(), Value::from(description));
        }
        if let Some(default) = default {
            schema.insert("default".to_owned(), default.clone());
            fit_default(&mut schema, &place, sink);
        }
        if needed {
            schema.insert("required".to_owned(), Value::Bool(true));
        }
        let sensitive = options.get("sensitive").and_then(truth);
        let declared = shape.secret || sensitive == Some(true);
        let holds_text = schema.get("type").is_none_or(|kind| kind.to_string().contains("\"string\""));
        let by_name = !declared && sensitive.is_none() && holds_text && is_secret(name) && !schema.contains_key("enum");
        if by_name {
            let message = format!(
                "{} is a secret by its name, though not Sensitive: Bolt itself writes its value into no log and no record",
                shorten(name, 80)
            );
            sink.add("secret", Effect::Safer, &place, message);
        }
        let is_said = declared || by_name || sensitive.is_some();
        let member = if is_said { None } else { secrets::member(&schema).map(str::to_owned) };
        if let Some(member) = &member {
            let message = format!(
                "{} holds {}, a secret by its name, though not Sensitive: Bolt itself writes its value into no log and no record",
                shorten(name, 80),
                shorten(member, 80)
            );
            sink.add("secret", Effect::Safer, &place, message);
        }
        if declared || by_name || member.is_some() {
            schema.insert("secret".to_owned(), Value::Bool(true));
            self.secrets.push(bolt.clone());
        }
        self.note_command(&bolt, &schema);
        self.names.insert(bolt.clone(), name.to_owned());
        self.schemas.insert(bolt, schema);
        Ok(())
    }

    fn note_command(&mut self, bolt: &str, schema: &Map<String, Value>) {
        if any_command::is_command(bolt, schema) {
            self.commands.push(bolt.to_owned());
        }
    }

    /// Returns the shape of the declared type. One that exceeds a limit refuses the source.
    fn type_of(
        &self,
        name: &str,
        options: &Value,
        aliases: &Aliases,
        sink: &mut Sink<'_>,
    ) -> Result<Shape, ImportError> {
        let place = ["parameters", name];
        let Some(given) = options.get("type").filter(|given| !given.is_null()) else { return Ok(Shape::any()) };
        let Some(text) = given.as_str() else {
            sink.add(
                "unknown_type",
                Effect::Note,
                &place,
                format!("the type of {name} is no text; any value is accepted"),
            );
            return Ok(Shape::any());
        };
        match parsed(text).and_then(|expr| shape(&expr, aliases)) {
            Ok(shape) => Ok(shape),
            Err(TypeError::Limit(problem)) => {
                Err(ImportError::refused(sink.file, format!("the parameter {}: {problem}", shorten(name, 80))))
            }
            Err(TypeError::Syntax(problem)) => {
                // A secret stays one, whatever else its type says.
                let (names_sensitive, text) = (text.contains("Sensitive"), shorten(text, 80));
                let message =
                    format!("the type {text:?} of {name} is not understood ({problem}); any value is accepted");
                sink.add("unknown_type", Effect::Note, &place, message);
                Ok(Shape { secret: names_sensitive, ..Shape::any() })
            }
        }
    }
}

/// Parses a type, also one that is named as in JSON.
fn parsed(text: &str) -> Result<Expr, TypeError> {
    of_json_name(text).map_or_else(|| types::parse(text), types::parse)
}
