//! Checks an action file: reports all its errors, and the differences from StackStorm.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::base::finding::{Finding, is_runnable};
use crate::base::name::{ActionName, PackName, ParamName};
use crate::base::quantity::{Bytes, Span};
use crate::pack::deliver::CONFIG_KEY;
use crate::pack::param::bind::undeliverable;
use crate::pack::param::{Parameters, Schema};

use super::{
    Action, ActionFile, BoltSection, Class, Concurrency, EntryPoint, Limits, LimitsSection, Rate, WhenBusy, runner,
};

/// Maximum time-out of an action.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Maximum size kept of one output stream.
const MAX_OUTPUT: u64 = 1 << 30;
/// Maximum number of parameters of an action.
const MAX_PARAMETERS: usize = 100;

/// Maximum number of findings listed for one file.
const MAX_FINDINGS: usize = 100;

impl ActionFile {
    /// Checks a file of `pack`; `at` names it in findings. `None` if any finding is an error.
    pub fn check(&self, pack: &PackName, at: &str) -> (Option<Action>, Vec<Finding>) {
        let (action, mut found) = self.check_all(pack, at);
        if found.len() > MAX_FINDINGS {
            found.sort_by_key(|f| std::cmp::Reverse(f.severity));
            let message = format!("{} more findings are not listed", found.len() - MAX_FINDINGS);
            found.truncate(MAX_FINDINGS);
            found.push(Finding::note("more", at, message));
        }
        (action, found)
    }

    fn check_all(&self, pack: &PackName, at: &str) -> (Option<Action>, Vec<Finding>) {
        let mut found = Vec::new();
        for key in self.other.keys() {
            let message = format!("{key:?} is not a key of an action file; put Bolt's own keys under \"bolt\"");
            found.push(Finding::error("unknown_key", format!("{at}: {key}"), message));
        }
        if self.pack.as_ref().is_some_and(|named| named != pack.as_str()) {
            found.push(Finding::error(
                "other_pack",
                format!("{at}: pack"),
                format!("the file is in pack {pack}; remove the key or name that pack"),
            ));
        }
        if self.notify.is_some() {
            found.push(Finding::note(
                "notify",
                format!("{at}: notify"),
                "Bolt sends no notifications; read /v1/events",
            ));
        }
        let name = ActionName::new(&self.name)
            .map_err(|e| found.push(Finding::error("bad_name", format!("{at}: name"), e.to_string())));
        let runner = runner::of(self, at, &mut found);
        let entry_point = self.entry_point(at, runner.is_some(), &mut found);
        let (parameters, runner_timeout) = self.parameters(at, &mut found);
        let output_schema = self.output_schema(at, &mut found);
        let bolt = self.bolt.clone().unwrap_or_default();
        check_bounds(&bolt, at, &mut found);
        let class = bolt.class.unwrap_or_else(|| {
            let message = "missing; set diagnostic (reads only), remediation or maintenance; remediation is assumed";
            found.push(Finding::warning("no_class", format!("{at}: bolt.class"), message));
            Class::Remediation
        });
        let (Ok(name), Some(runner_type), Some(entry_point), true) = (name, runner, entry_point, is_runnable(&found))
        else {
            return (None, found);
        };
        let timeout = bolt.timeout.map(|t| t.0).or(runner_timeout).unwrap_or(Duration::from_secs(300));
        let action = Action {
            pack: pack.clone(),
            name,
            description: self.description.trim().to_owned(),
            runner_type,
            entry_point,
            enabled: self.enabled,
            parameters,
            output_schema,
            tags: self.tags.iter().map(tag).collect(),
            class,
            run_as: bolt.run_as.clone(),
            timeout: Span(timeout),
            grace: bolt.grace.unwrap_or(Span(Duration::from_secs(10))),
            start_within: bolt.start_within.unwrap_or(Span(Duration::from_secs(600))),
            limits: limits(bolt.limits.as_ref()),
            concurrency: bolt.concurrency.as_ref().map(|c| Concurrency {
                max: c.max,
                group: c.group.clone(),
                when_busy: c.when_busy.unwrap_or(WhenBusy::Queue),
            }),
            rate: bolt.rate.as_ref().map(|r| Rate { max: r.max, per: r.per }),
            output_max: bolt.output.as_ref().map_or(Bytes(16 << 20), |o| o.max),
            noop: bolt.noop,
            new_privileges: bolt.new_privileges,
            arguments: bolt.arguments.unwrap_or(true),
            leftovers: bolt.leftovers.unwrap_or_default(),
        };
        (Some(action), found)
    }

    fn entry_point(&self, at: &str, needed: bool, found: &mut Vec<Finding>) -> Option<EntryPoint> {
        if !needed {
            return None;
        }
        EntryPoint::new(self.entry_point.as_str())
            .map_err(|e| found.push(Finding::error("bad_entry_point", format!("{at}: entry_point"), e.to_string())))
            .ok()
    }

    /// Returns the parameters, and the time-out if the file overrides that of StackStorm's runner.
    fn parameters(&self, at: &str, found: &mut Vec<Finding>) -> (Parameters, Option<Duration>) {
        let mut parameters = Parameters::new();
        let mut timeout = None;
        if self.parameters.len() > MAX_PARAMETERS {
            let message = format!("an action has at most {MAX_PARAMETERS} parameters, not {}", self.parameters.len());
            found.push(Finding::error("too_many_parameters", format!("{at}: parameters"), message));
        }
        for (name, schema) in &self.parameters {
            let place = format!("{at}: parameters.{name}");
            found.extend(schema.findings(&place));
            if self.bolt.is_none() && runner::has_parameter(&self.runner_type, name) {
                if name == "timeout" {
                    timeout = schema.default.as_ref().and_then(Value::as_u64).map(Duration::from_secs);
                }
                found.push(runner::parameter(name, schema, place));
                continue;
            }
            if schema.immutable && schema.default.is_none() {
                let message = "immutable without a default never has a value; add a default";
                found.push(Finding::warning("immutable_without_default", place.clone(), message));
            }
            if schema.default.as_ref().is_some_and(holds_template) {
                let message =
                    "the default is a Jinja template, which Bolt does not evaluate; compute the value in the script";
                found.push(Finding::error("template_default", place.clone(), message));
            }
            found.extend(check_secret(name, schema, &place));
            if schema.position.is_some() && self.bolt.as_ref().is_some_and(|bolt| bolt.arguments == Some(false)) {
                let message = "has no effect, because bolt.arguments is false; read the value from standard input \
                               or BOLT_PARAM_*";
                found.push(Finding::warning("position_without_arguments", format!("{place}.position"), message));
            }
            found.extend(check_default(name, schema, &place));
            match ParamName::new(name) {
                Ok(name) => drop(parameters.insert(name, schema.clone())),
                Err(e) => found.push(Finding::error("bad_parameter_name", place, e.to_string())),
            }
        }
        check_clashes(&parameters, at, found);
        (parameters, timeout)
    }

    fn output_schema(&self, at: &str, found: &mut Vec<Finding>) -> Option<Schema> {
        let given = self.output_schema.as_ref()?;
        let place = format!("{at}: output_schema");
        let whole = given.get("type").is_some_and(|t| t.is_string() || t.is_array())
            || given.get("properties").is_some_and(|p| p.get("type").is_none());
        let full = if whole { given.clone() } else { serde_json::json!({"type": "object", "properties": given}) };
        match crate::base::document::from_value::<Schema>(&full) {
            Ok(schema) => {
                found.extend(schema.findings(&place));
                Some(schema)
            }
            Err(e) => {
                found.push(Finding::error("bad_output_schema", place, e.to_string()));
                None
            }
        }
    }
}

/// Checks that the default can be passed to the script.
fn check_default(name: &str, schema: &Schema, at: &str) -> Option<Finding> {
    let (name, default) = (ParamName::new(name).ok()?, schema.default.as_ref()?);
    let error = undeliverable(&name, schema, default)?;
    Some(Finding::error("default_not_deliverable", format!("{at}.default"), format!("the default: {error}")))
}

fn check_secret(name: &str, schema: &Schema, at: &str) -> Option<Finding> {
    let finding = |code, message: &str| Some(Finding::warning(code, at, message));
    if schema.holds_secret() && schema.position.is_some() {
        return finding("secret_position", "a secret is passed on standard input only; remove its position");
    }
    if schema.holds_secret() && schema.default.as_ref().is_some_and(|d| !d.is_null()) {
        return finding(
            "secret_default",
            "everyone who can read the pack can read this default; require the caller to give the secret",
        );
    }
    if !schema.holds_secret() && ["password", "passphrase", "private_key"].contains(&name) {
        return finding("secret_unmarked", "would be stored and shown; set secret: true if it is a secret");
    }
    None
}

fn holds_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{") || text.contains("{%"),
        Value::Array(items) => items.iter().any(holds_template),
        Value::Object(map) => map.values().any(holds_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Finds parameters that share an environment variable or a position.
fn check_clashes(parameters: &Parameters, at: &str, found: &mut Vec<Finding>) {
    let mut upper: BTreeMap<String, &ParamName> = BTreeMap::new();
    let mut positions: BTreeMap<u32, &ParamName> = BTreeMap::new();
    for (name, schema) in parameters {
        if name.as_str() == CONFIG_KEY {
            let message = "is the key of the site configuration on standard input; rename the parameter";
            found.push(Finding::error("parameter_reserved", format!("{at}: parameters.{name}"), message));
        }
        if let Some(other) = upper.insert(name.as_str().to_ascii_uppercase(), name) {
            let message = format!("{other} and {name} would be the same environment variable; rename one");
            found.push(Finding::error("parameter_clash", format!("{at}: parameters.{name}"), message));
        }
        if let Some(other) = schema.position.and_then(|p| positions.insert(p, name)) {
            let message = format!("{other} and {name} have the same position; change one");
            found.push(Finding::error("position_clash", format!("{at}: parameters.{name}"), message));
        }
    }
    check_positions(&positions, at, found);
}

/// Positions must be contiguous, starting from the lowest one, as in StackStorm.
fn check_positions(positions: &BTreeMap<u32, &ParamName>, at: &str, found: &mut Vec<Finding>) {
    let lowest = positions.keys().next().copied().unwrap_or_default();
    for (wanted, (given, name)) in (lowest..).zip(positions) {
        if wanted != *given {
            let message = format!(
                "positions must follow one another without a gap, as in StackStorm: {name} has {given}, and no parameter has {wanted}"
            );
            found.push(Finding::error("position_gap", format!("{at}: parameters.{name}.position"), message));
            return;
        }
    }
}

fn check_bounds(bolt: &BoltSection, at: &str, found: &mut Vec<Finding>) {
    let mut require = |fits: bool, key: &str, must: &str| {
        if !fits {
            found.push(Finding::error("out_of_bounds", format!("{at}: bolt.{key}"), format!("must be {must}")));
        }
    };
    let span =
        |s: Option<Span>, low: u64, high: Duration| s.is_none_or(|s| s.0 >= Duration::from_millis(low) && s.0 <= high);
    require(span(bolt.timeout, 100, MAX_TIMEOUT), "timeout", "between 100ms and 24h");
    require(span(bolt.grace, 0, Duration::from_secs(600)), "grace", "at most 10m");
    require(span(bolt.start_within, 1000, MAX_TIMEOUT), "start_within", "between 1s and 24h");
    if let Some(limits) = &bolt.limits {
        require(limits.memory.is_none_or(|m| m.0 >= 4 << 20), "limits.memory", "at least 4MiB");
        require(limits.pids.is_none_or(|p| (1..=100_000).contains(&p)), "limits.pids", "between 1 and 100000");
        require(
            limits.open_files.is_none_or(|f| (16..=1_000_000).contains(&f)),
            "limits.open_files",
            "between 16 and 1000000",
        );
        let weight = limits.io_weight.is_none_or(|w| (1..=10_000).contains(&w));
        require(weight, "limits.io_weight", "between 1 and 10000");
    }
    require(
        bolt.concurrency.as_ref().is_none_or(|c| (1..=1000).contains(&c.max)),
        "concurrency.max",
        "between 1 and 1000",
    );
    require(
        bolt.rate.as_ref().is_none_or(|r| r.max >= 1 && !r.per.0.is_zero()),
        "rate",
        "at least 1 per a time above 0",
    );
    let output = |o: &super::OutputSection| (4096..=MAX_OUTPUT).contains(&o.max.0);
    require(bolt.output.as_ref().is_none_or(output), "output.max", "between 4KiB and 1GiB");
}

fn limits(section: Option<&LimitsSection>) -> Limits {
    let default = Limits::default();
    let Some(given) = section else { return default };
    Limits {
        memory: given.memory.unwrap_or(default.memory),
        cpu: given.cpu.unwrap_or(default.cpu),
        pids: given.pids.unwrap_or(default.pids),
        open_files: given.open_files.unwrap_or(default.open_files),
        io_weight: given.io_weight,
    }
}

fn tag(tag: &Value) -> String {
    match tag {
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            let part = |key| map.get(key).and_then(Value::as_str).unwrap_or_default();
            format!("{}={}", part("name"), part("value"))
        }
        other => other.to_string(),
    }
}
