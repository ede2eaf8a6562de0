//! Options of a job: schemas of Bolt, and the environment variables that hold them.

use serde_json::{Map, Value, json};

use super::leftover;
use crate::pack::import::names::parameter_name;
use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, fit_default, keep_if_readable, note_expansion, truth};
use crate::pack::import::scripted::{Parameter, is_secret, is_words, limit_of_text, note_undeclared_secret};
use crate::pack::import::shell::{Limit, ScriptValue};

/// Reads the options; each with the text between several values.
pub(super) fn read(job: &Value, sink: &mut Sink<'_>) -> Vec<(Parameter, Option<String>)> {
    let given: Vec<(String, Value)> = match job.get("options") {
        Some(Value::Array(options)) => {
            let named = |option: &Value| Some((option.get("name")?.as_str()?.to_owned(), option.clone()));
            options.iter().filter_map(named).collect()
        }
        Some(Value::Object(options)) => options.iter().map(|(name, option)| (name.clone(), option.clone())).collect(),
        _ => Vec::new(),
    };
    let mut known: Vec<String> = Vec::new();
    let mut read = Vec::new();
    for (name, option) in given {
        let Some(bolt) = parameter_name(&name, known.iter()) else {
            sink.add("parameter_name", Effect::Blocks, &[], format!("the option {name:?} cannot have a name of Bolt"));
            continue;
        };
        if bolt != name {
            sink.add("renamed", Effect::Note, &[], format!("the option {name} is called {bolt} in Bolt"));
        }
        known.push(bolt.clone());
        leftover::note_option(&name, &option, sink);
        read.push(one(&name, bolt, &option, sink));
    }
    read
}

fn one(name: &str, bolt: String, option: &Value, sink: &mut Sink<'_>) -> (Parameter, Option<String>) {
    let text = |key: &str| option.get(key).and_then(as_text).filter(|text| !text.is_empty());
    let flag = |key: &str| option.get(key).and_then(truth).unwrap_or(false);
    let place = ["options", name];
    let secret = flag("secure");
    let several = flag("multivalued") && !secret;
    let delimiter = several.then(|| text("delimiter").unwrap_or_else(|| " ".to_owned()));
    let mut of_text = Map::new();
    restrictions(name, option, &mut of_text, sink);
    if secret {
        let exposed = flag("valueExposed");
        let message = if exposed {
            format!("{name} is secure: its value is in no log and no record")
        } else {
            format!("{name} is secure and hidden from scripts in Rundeck; here scripts get it, and it is in no log")
        };
        sink.add("secret", if exposed { Effect::Note } else { Effect::Safer }, &place, message);
    }
    if !secret && is_secret(name) && !of_text.contains_key("enum") {
        note_undeclared_secret(name, "secure: true", &place, sink);
    }
    let limit = limit_of_text(&of_text);
    let (listed, restricted) =
        (of_text.contains_key("enum"), of_text.contains_key("enum") || of_text.contains_key("pattern"));
    let mut schema = Map::from_iter([("type".to_owned(), json!(if several { "array" } else { "string" }))]);
    if let Some(description) = text("description") {
        schema.insert("description".to_owned(), json!(description.trim()));
    }
    match several {
        true => {
            of_text.insert("type".to_owned(), json!("string"));
            schema.insert("items".to_owned(), Value::Object(of_text));
        }
        false => schema.extend(of_text),
    }
    if secret {
        schema.insert("secret".to_owned(), json!(true));
    }
    default(name, text("value").or_else(|| text("defaultValue")), &delimiter, secret, &mut schema, sink);
    if flag("required") && !schema.contains_key("default") {
        schema.insert("required".to_owned(), json!(true));
        let open = !several && !restricted;
        if open {
            schema.insert("minLength".to_owned(), json!(1));
        }
    }
    if text("storagePath").is_some() {
        let message = format!("the default of {name} is in Rundeck's key storage; the caller gives the value");
        sink.add("default_reference", Effect::Note, &place, message);
        schema.insert("required".to_owned(), json!(true));
    }
    if text("type").as_deref() == Some("file") || text("optionType").as_deref() == Some("file") {
        sink.add("file_option", Effect::Blocks, &place, format!("{name} is a file that callers upload"));
    }
    let variable =
        format!("RD_OPTION_{}", name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let words = several && delimiter.as_deref() == Some(" ") || !several && is_words(name);
    let limit = if several { limit.min(delimiter.as_deref().map_or(Limit::Free, Limit::of)) } else { limit };
    let value = ScriptValue {
        name: name.to_owned(),
        variable,
        limit,
        listed: listed && !several,
        plain: false,
        words,
        omitted: false,
    };
    (Parameter { source: name.to_owned(), bolt, schema, restricted, value }, delimiter)
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn restrictions(name: &str, option: &Value, schema: &mut Map<String, Value>, sink: &mut Sink<'_>) {
    let place = ["options", name];
    let enforced = ["enforced", "enforcedvalues"].iter().any(|key| option.get(*key).and_then(truth) == Some(true));
    let separator = option.get("valuesListDelimiter").and_then(Value::as_str).unwrap_or(",");
    let values: Vec<String> = match option.get("values") {
        Some(Value::Array(values)) => values.iter().filter_map(as_text).collect(),
        Some(Value::String(values)) if !values.is_empty() => {
            values.split(separator).map(|value| value.trim().to_owned()).collect()
        }
        _ => Vec::new(),
    };
    let mut distinct: Vec<String> = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    if enforced && !distinct.is_empty() {
        keep_if_readable(schema, "enum", json!(distinct), &place, sink);
    }
    let remote = ["valuesUrl", "valuesUrlLong", "valuesFrom"].iter().any(|key| option.get(*key).is_some());
    if remote {
        let message = format!("the values of {name} come from an address that is not asked: any value is taken");
        sink.add("remote_values", Effect::Note, &place, message);
    } else if let Some(plugin) = option.get("optionValuesPluginType").and_then(as_text).filter(|name| !name.is_empty())
    {
        let message =
            format!("the values of {name} come from the plugin {plugin}, which is not asked: any value is taken");
        sink.add("remote_values", Effect::Note, &place, message);
    }
    // Rundeck's patterns match the whole value.
    if let Some(regex) = option.get("regex").and_then(Value::as_str).filter(|regex| !regex.is_empty()) {
        keep_if_readable(schema, "pattern", json!(format!("^(?:{regex})$")), &place, sink);
    }
}

fn default(
    name: &str,
    given: Option<String>,
    delimiter: &Option<String>,
    secret: bool,
    schema: &mut Map<String, Value>,
    sink: &mut Sink<'_>,
) {
    let place = ["options", name];
    let Some(given) = given else { return };
    if secret {
        let message = format!("the default of the secret {name} is dropped; the caller gives the value");
        sink.add("default_secret", Effect::Safer, &place, message);
        schema.insert("required".to_owned(), json!(true));
        return;
    }
    if given.contains("${") {
        let message = format!("the default of {name} is computed by Rundeck; the caller gives the value");
        sink.add("template_default", Effect::Note, &place, message);
        schema.insert("required".to_owned(), json!(true));
        return;
    }
    if given.contains(['\'', '"']) {
        let message = format!(
            "the default of {name} has quotes in it, which a shell of Rundeck's may have removed; here they are a part of the \
             value: remove them from the default if they are not meant"
        );
        sink.add("quotes_in_default", Effect::Note, &place, message);
    }
    note_expansion(name, &given, &place, sink);
    let value = match delimiter {
        Some(delimiter) => given.split(delimiter.as_str()).filter(|value| !value.is_empty()).map(Value::from).collect(),
        None => Value::String(given),
    };
    schema.insert("default".to_owned(), value);
    fit_default(schema, &place, sink);
}
