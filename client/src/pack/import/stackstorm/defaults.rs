//! Defaults of parameters that are templates, for the supplied runners.

use serde_json::{Map, Value, json};

use super::draft::{Draft, Surroundings};
use super::jinja::{self, Base, Piece, ValueOf};
use super::schema::holds_secret;
use crate::pack::import::report::Effect;

/// Returns the defaults that the runner computes, as lists of pieces. A template that cannot be computed is dropped, and the
/// caller gives the value.
pub(super) fn register_templates(around: &Surroundings<'_>, draft: &mut Draft<'_>) -> Map<String, Value> {
    let mut templates = Map::new();
    for (name, template) in std::mem::take(&mut draft.templates) {
        let place = ["parameters", &draft.source_names[&name].clone()];
        match computable(around, draft, &template) {
            Ok(Some(pieces)) => {
                let message = format!("the default of {}, {template:?}, is computed when the action runs", place[1]);
                draft.sink.add("template_computed", Effect::Note, &place, message);
                templates.insert(name, pieces);
            }
            // StackStorm's context of the call, which has a default of none.
            Ok(None) => {
                let message =
                    format!("the default of {} is StackStorm's own context, which Bolt lacks; it is none", place[1]);
                draft.sink.add("template_default", Effect::Note, &place, message);
            }
            Err(refused) => {
                draft.sink.add(
                    "template_default",
                    Effect::Note,
                    &place,
                    template_message(place[1], &template, &refused),
                );
                ask_caller(draft, &name, place[1]);
            }
        }
    }
    templates
}

/// Returns the types of parameters with defaults that are computed, as texts are cast to them.
pub(super) fn types(draft: &Draft<'_>, templates: &Map<String, Value>) -> Map<String, Value> {
    const CAST: [&str; 6] = ["string", "integer", "number", "boolean", "array", "object"];
    let of = |name: &String| draft.parameters.get(name)?.get("type").filter(|kind| kind.is_string()).cloned();
    let known = templates.keys().filter_map(|name| Some((name.clone(), of(name)?)));
    known.filter(|(_, kind)| CAST.iter().any(|known| kind == known)).collect()
}

/// Makes callers give a value whose default cannot be computed. If the author fixed it, they must not, and the action is blocked.
pub(super) fn ask_caller(draft: &mut Draft<'_>, bolt: &str, source: &str) {
    let Some(schema) = draft.parameters.get_mut(bolt) else { return };
    let was_fixed = schema.remove("immutable") == Some(Value::Bool(true));
    schema.insert("required".to_owned(), Value::Bool(true));
    if was_fixed {
        let message =
            format!("{source} is immutable and its default cannot be computed here; write the value into the action");
        draft.block("immutable_template", &["parameters", source], message);
    }
}

/// Returns the pieces of a template whose text other programs may read, so that no secret may be in it.
pub(super) fn computed_pieces(
    around: &Surroundings<'_>,
    draft: &Draft<'_>,
    template: &str,
) -> Result<Value, jinja::Refused> {
    if let Some(secret) = secret_in(around, draft, template) {
        return Err(jinja::Refused::new(format!("the secret {secret}")));
    }
    computable(around, draft, template)?.ok_or_else(jinja::Refused::context)
}

/// Returns the first secret in a template, also by way of the defaults of other parameters.
pub(super) fn secret_in(around: &Surroundings<'_>, draft: &Draft<'_>, template: &str) -> Option<String> {
    let config = around.config.values();
    let (mut waiting, mut seen) = (vec![template.to_owned()], Vec::new());
    while let Some(template) = waiting.pop() {
        for piece in jinja::parse(&template).unwrap_or_default() {
            match piece {
                Piece::Value(ValueOf { base: Base::Config(path), .. }) => {
                    if config.get(&path[0]).is_some_and(|value| value.secret) {
                        return Some(format!("config_context.{}", path.join(".")));
                    }
                }
                Piece::Value(ValueOf { base: Base::Name(name), .. }) if !seen.contains(&name) => {
                    let known = draft.source_names.iter().find(|(_, source)| **source == name).map(|(bolt, _)| bolt);
                    let schema = known.and_then(|bolt| draft.parameters.get(bolt));
                    if schema.is_some_and(|schema| holds_secret(&Value::Object(schema.clone()))) {
                        return Some(name);
                    }
                    waiting.extend(known.and_then(|bolt| draft.templates.get(bolt)).cloned());
                    seen.push(name);
                }
                Piece::Value(_) | Piece::Text(_) | Piece::If(_) => {}
            }
        }
    }
    None
}

fn computable(around: &Surroundings<'_>, draft: &Draft<'_>, template: &str) -> Result<Option<Value>, jinja::Refused> {
    let config = around.config.values();
    let mut pieces = Vec::new();
    for piece in jinja::parse(template)? {
        match piece {
            Piece::Text(text) => pieces.push(json!({"text": text})),
            Piece::Value(value) => match value.base {
                Base::Context => return Ok(None),
                _ if !value.filters.is_empty() => return Err(jinja::Refused::new("a filter in a default")),
                Base::Config(path) if config.contains_key(&path[0]) => pieces.push(json!({"config": path})),
                Base::Name(name) => {
                    let known = draft.source_names.iter().find(|(_, source)| **source == name).map(|(bolt, _)| bolt);
                    let known = known.ok_or_else(|| jinja::Refused::new(format!("{name} is no parameter")))?;
                    pieces.push(json!({"parameter": known}));
                }
                Base::Config(path) => {
                    return Err(jinja::Refused::new(format!("{} is not in config.schema.yaml", path.join("."))));
                }
                Base::Server(path) => return Err(jinja::Refused::datastore(&path)),
            },
            Piece::If(_) => return Err(jinja::Refused::new("a condition in a default")),
        }
    }
    Ok(Some(Value::Array(pieces)))
}

/// Returns what a template says about a default that cannot be computed.
pub(super) fn template_message(name: &str, template: &str, error: &jinja::Refused) -> String {
    format!("the default of {name}, {template:?}, cannot be computed here ({error}); the caller gives the value")
}
