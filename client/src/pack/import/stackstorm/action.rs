//! Reads an action file: what all runners have in common, then the conversion of its kind.

use std::collections::BTreeMap;

use packs_schema::base::name::ActionName;
use serde_json::Value;

use super::draft::{Draft, Surroundings};
use super::requirements::Requirements;
use super::runner::{self, Kind};
use super::{command, python, script};
use crate::pack::import::ImportError;
use crate::pack::import::converted::Converted;
use crate::pack::import::names::short;
use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, truth};

/// Converts the action file at `path`; `None` if it describes no single action.
pub(super) fn convert(
    around: &Surroundings<'_>,
    path: &str,
    value: &Value,
    requirements: &mut Requirements,
) -> Result<Option<Converted>, ImportError> {
    let text = |key: &str| value.get(key).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    let runner_type = match value.get("runner_type").and_then(Value::as_str) {
        Some(runner_type) => runner_type.to_owned(),
        None => return Ok(None),
    };
    let kind = Kind::of(&runner_type);
    if kind == Kind::Workflow {
        return Ok(None);
    }
    let name = action_name(path, value.get("name"))?;
    let mut sink = Sink { file: path, text: around.tree.text(path).unwrap_or_default(), findings: Vec::new() };
    if text("name").is_some_and(|given| given != name) {
        sink.add("renamed", Effect::Note, &["name"], format!("the action is called {name} in Bolt"));
    }
    if value.get("bolt").is_some_and(|section| !section.is_null()) {
        let message = "it is an action of Bolt already, whose section bolt an import would drop; use the pack as it is";
        sink.add("bolt_action", Effect::Blocks, &["bolt"], message);
    }
    if let Kind::Other(why) = kind {
        sink.add(
            "runner",
            Effect::Blocks,
            &["runner_type"],
            format!("the runner {runner_type} is not imported: {why}"),
        );
        return Ok(Some(Converted::not_runnable(&name, path, &runner_type, sink.findings)));
    }
    if value.get("output_schema").is_some_and(Value::is_object) {
        let message = "the schema of the result is dropped: StackStorm does not hold results against it by default";
        sink.add("output_schema", Effect::Note, &["output_schema"], message);
    }
    let mut given = value.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let settings = runner::take(kind, &runner_type, &mut given, &mut sink);
    let mut draft = Draft {
        path,
        description: text("description").filter(|_| !value["description"].is_null()).unwrap_or_default(),
        tags: value.get("tags").and_then(Value::as_array).cloned().unwrap_or_default(),
        enabled: value.get("enabled").is_none_or(|enabled| truth(enabled) != Some(false)),
        entry_point: text("entry_point").filter(|_| !value["entry_point"].is_null()).unwrap_or_default(),
        name,
        settings,
        parameters: BTreeMap::new(),
        source_names: BTreeMap::new(),
        leftovers: false,
        templates: BTreeMap::new(),
        sink,
    };
    if !draft.settings.sudo {
        let message = "runs as an account of its own; name one that may do more in bolt.run_as";
        draft.sink.add("account", Effect::Note, &[], message);
    }
    for (name, schema) in &given {
        draft.add_parameter(name, schema);
    }
    draft.renumber();
    let run = match kind {
        Kind::Python => python::convert(around, &mut draft, requirements),
        Kind::Script => script::convert(around, &mut draft),
        Kind::Command => command::convert(around, &mut draft),
        Kind::Workflow | Kind::Other(_) => None,
    };
    Ok(Some(draft.finish(&runner_type, run)))
}

/// Returns the name in Bolt: `.` and blanks become `_`. Other invalid names refuse the source.
fn action_name(path: &str, given: Option<&Value>) -> Result<String, ImportError> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.trim_end_matches(".yaml").trim_end_matches(".yml").trim_end_matches(".meta");
    let given = given.and_then(Value::as_str).unwrap_or(stem);
    let name = ActionName::new(short(&given.trim().replace(['.', ' '], "_")));
    name.map(String::from).map_err(|source| ImportError::Name { file: path.to_owned(), source })
}
