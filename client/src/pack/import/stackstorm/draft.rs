//! Action being converted: filled by `action`, completed by its kind (`python`, `script`, `command`), written here.

use std::collections::BTreeMap;

use packs_schema::base::name::PackName;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::runner::Settings;
use super::schema::{clean, holds_secret};
use crate::pack::import::converted::{ActionText, Converted};
use crate::pack::import::names::parameter_name;
use crate::pack::import::plan::PlannedFile;
use crate::pack::import::python_facts::Facts;
use crate::pack::import::report::{ActionReport, Effect};
use crate::pack::import::schema::Sink;
use crate::pack::import::scripted::{is_secret, note_undeclared_secret};
use crate::pack::import::source::SourceTree;
use crate::pack::import::{any_command, secrets};

/// The pack around an action.
pub(super) struct Surroundings<'a> {
    pub(super) pack: &'a PackName,
    pub(super) tree: &'a SourceTree,
    pub(super) facts: &'a Facts,
    pub(super) config: &'a Config,
}

/// Action being converted.
pub(super) struct Draft<'a> {
    pub(super) path: &'a str,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) tags: Vec<Value>,
    pub(super) enabled: bool,
    pub(super) entry_point: String,
    pub(super) settings: Settings,
    /// Schemas by Bolt's name.
    pub(super) parameters: BTreeMap<String, Map<String, Value>>,
    /// Names in the source by Bolt's name.
    pub(super) source_names: BTreeMap<String, String>,
    /// Processes that its script starts may stay after its end.
    pub(super) leftovers: bool,
    /// Defaults that are Jinja templates, by Bolt's name.
    pub(super) templates: BTreeMap<String, String>,
    pub(super) sink: Sink<'a>,
}

/// How the action is run in Bolt.
pub(super) struct Run {
    pub(super) runner_type: &'static str,
    pub(super) entry_point: String,
    /// Pass parameters as arguments.
    pub(super) arguments: bool,
    pub(super) memory: &'static str,
    pub(super) files: BTreeMap<String, PlannedFile>,
    pub(super) registered: Option<Value>,
}

impl Draft<'_> {
    pub(super) fn add_parameter(&mut self, name: &str, schema: &Value) {
        let (schema, template) = clean(schema, &["parameters", name], &mut self.sink);
        let Some(bolt) = parameter_name(name, self.parameters.keys()) else {
            let message = format!("the parameter {name:?} cannot have a name of Bolt");
            return self.sink.add("parameter_name", Effect::Blocks, &["parameters", name], message);
        };
        if bolt != name {
            self.sink.add("renamed", Effect::Note, &["parameters", name], format!("{name} is called {bolt} in Bolt"));
        }
        let is_text = schema.get("type").is_none_or(|kind| kind == "string");
        let is_open = !["secret", "enum", "immutable"].iter().any(|keyword| schema.contains_key(*keyword));
        if is_text && is_open && is_secret(name) {
            note_undeclared_secret(name, "secret: true", &["parameters", name], &mut self.sink);
        }
        if let Some(member) = secrets::member(&schema).filter(|_| !holds_secret(&Value::Object(schema.clone()))) {
            note_undeclared_secret(member, "secret: true", &["parameters", name], &mut self.sink);
        }
        if let Some(template) = template {
            self.templates.insert(bolt.clone(), template);
        }
        self.source_names.insert(bolt.clone(), name.to_owned());
        self.parameters.insert(bolt, schema);
    }

    /// Makes positions follow one another from 0, in their order.
    pub(super) fn renumber(&mut self) {
        let mut positions: Vec<(u64, String)> = self.positions();
        positions.sort();
        let wanted = positions.iter().zip(0..).all(|((given, _), wanted)| *given == wanted);
        for ((_, name), position) in positions.iter().zip(0_u64..) {
            if let Some(schema) = self.parameters.get_mut(name) {
                schema.insert("position".to_owned(), Value::from(position));
            }
        }
        if !wanted {
            let message = "positions do not follow one another from 0; they were numbered again in their order";
            self.sink.add("positions", Effect::Note, &["parameters"], message);
        }
    }

    /// Returns positions and names of positional parameters.
    pub(super) fn positions(&self) -> Vec<(u64, String)> {
        let of =
            |(name, schema): (&String, &Map<String, Value>)| Some((schema.get("position")?.as_u64()?, name.clone()));
        let mut positions: Vec<_> = self.parameters.iter().filter_map(of).collect();
        positions.sort();
        positions
    }

    /// Returns a parameter with a secret.
    pub(super) fn secret_parameter(&self) -> Option<String> {
        let secret = |schema: &Map<String, Value>| holds_secret(&Value::Object(schema.clone()));
        self.parameters.iter().find(|(_, schema)| secret(schema)).map(|(name, _)| name.clone())
    }

    /// Reports that the action cannot run.
    pub(super) fn block(&mut self, code: &'static str, place: &[&str], message: impl Into<String>) {
        self.sink.add(code, Effect::Blocks, place, message);
    }

    pub(super) fn finish(self, runner: &str, run: Option<Run>) -> Converted {
        let text = run.as_ref().map(|run| self.text(run));
        let report = ActionReport {
            name: self.name,
            file: self.path.to_owned(),
            runner: runner.to_owned(),
            findings: self.sink.findings,
        };
        let runs = report.findings.iter().all(|finding| finding.effect != Effect::Blocks);
        let run = run.filter(|_| runs);
        Converted {
            report,
            action_file: text.filter(|_| runs),
            registered: run.as_ref().and_then(|run| run.registered.clone()),
            files: run.map(|run| run.files).unwrap_or_default(),
        }
    }

    /// Returns the text of the action's file.
    fn text(&self, run: &Run) -> String {
        let parameters: Map<String, Value> = self
            .parameters
            .iter()
            .map(|(name, schema)| {
                let mut schema = schema.clone();
                if !run.arguments {
                    schema.remove("position");
                }
                (name.clone(), Value::Object(schema))
            })
            .collect();
        let mut bolt = json!({
            "class": "remediation",
            "timeout": format!("{}s", self.settings.timeout_seconds),
            "limits": {"memory": run.memory},
            "lint": {"allow": {"no_noop": "imported; its source knows no dry run"}},
        });
        if run.registered.is_some() && !self.parameters.is_empty() {
            bolt["lint"]["allow"]["unused_parameter"] = json!("the supplied runner passes it on");
        }
        if self.settings.sudo {
            bolt["run_as"] = json!("root");
        }
        if self.leftovers {
            bolt["leftovers"] = json!("keep");
        }
        if !run.arguments {
            bolt["arguments"] = json!(false);
        }
        let written = ActionText {
            name: &self.name,
            description: &self.description,
            runner_type: run.runner_type,
            entry_point: &run.entry_point,
            enabled: self.enabled && !any_command::disables(&self.sink.findings),
            tags: &self.tags,
            parameters,
            bolt,
        };
        written.text(&format!("StackStorm: {}", self.path))
    }
}

/// Returns the path of an entry point in the pack, or `None` if it leads out of it.
pub(super) fn entry_path(entry_point: &str) -> Option<String> {
    let mut parts = vec!["actions"];
    for part in entry_point.trim().split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (parts.len() > 1 && parts[0] == "actions").then(|| parts.join("/"))
}
