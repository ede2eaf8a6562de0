//! Values of callers in a shell command, limited to what the judgement of the command asks for.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::draft::Draft;
use super::jinja::judge::{Allowed, Judged};
use super::jinja::names::{Kind, Names, Origin};
use crate::pack::import::any_command;
use crate::pack::import::code_lines::shell::{be_text, parameter};
use crate::pack::import::report::Effect;
use crate::pack::import::scripted::{Parameter, limit_values};
use crate::pack::import::shell::{Limit, Rewritten, ScriptValue};

/// Returns what the schema of a value lets through.
pub(super) fn allowed(draft: &Draft<'_>, names: &Names, origin: &Origin) -> Allowed {
    match origin {
        Origin::Parameter(source) => match bolt_name(draft, source).and_then(|bolt| draft.parameters.get(&bolt)) {
            Some(schema) => {
                let ScriptValue { limit, listed, plain, .. } = parameter(source, "", schema, String::new()).value;
                Allowed { limit, listed, plain }
            }
            None => Allowed { limit: Limit::Free, listed: false, plain: false },
        },
        Origin::Config(path) => {
            let kind = names.config.get(path).map_or(Kind::Other, |value| value.kind);
            Allowed { limit: of_kind(kind), listed: false, plain: false }
        }
    }
}

/// Returns the limit that the kind of a value is.
pub(super) fn of_kind(kind: Kind) -> Limit {
    match kind {
        Kind::Number => Limit::Number,
        Kind::Boolean => Limit::Word,
        Kind::Text | Kind::List | Kind::Other => Limit::Free,
    }
}

/// True if a schema lists all values.
pub(super) fn is_listed(schema: &Map<String, Value>) -> bool {
    schema.get("enum").is_some_and(Value::is_array)
}

/// Applies a judgement to the parameters.
pub(super) fn apply(draft: &mut Draft<'_>, judged: Judged) {
    let mut fixed = BTreeSet::new();
    for name in judged.options {
        fix_or_disable(draft, &name, &mut fixed);
    }
    for (name, is_plain) in judged.programs {
        if is_plain {
            fix_or_disable(draft, &name, &mut fixed);
        } else if fixed.insert(name.clone()) {
            any_command::note(&mut draft.sink, &["parameters", &name], &name, any_command::Given::Program);
        }
    }
    let mut parameters = parameters(draft);
    let index = |name: &String| parameters.iter().position(|parameter| parameter.source == *name);
    let indices = |names: &[String]| names.iter().filter_map(index).collect::<Vec<usize>>();
    let needs = judged.needs.iter().filter(|(name, _)| !fixed.contains(name));
    let done = Rewritten {
        needs: needs.filter_map(|(name, need)| Some((index(name)?, need.clone()))).collect(),
        operands: indices(&judged.operands),
        cut: indices(&judged.cut),
        ..Rewritten::default()
    };
    for (index, _) in &done.needs {
        be_text(&mut parameters[*index].schema);
    }
    limit_values(&mut parameters, &[done], &mut draft.sink);
    draft.parameters.extend(parameters.into_iter().map(|parameter| (parameter.bolt, parameter.schema)));
}

/// Makes a parameter with which callers would choose a program immutable, or disables the action if it has no default.
fn fix_or_disable(draft: &mut Draft<'_>, name: &str, fixed: &mut BTreeSet<String>) {
    if !fixed.insert(name.to_owned()) {
        return;
    }
    if fix(draft, name) {
        let message =
            format!("callers could choose a program with {name}, or options that run one; it is immutable now");
        draft.sink.add("parameter_fixed", Effect::Safer, &["parameters", name], message);
    } else {
        any_command::note(&mut draft.sink, &["parameters", name], name, any_command::Given::Program);
    }
}

/// Makes a parameter immutable, if it has a default.
pub(super) fn fix(draft: &mut Draft<'_>, name: &str) -> bool {
    let schema = bolt_name(draft, name).and_then(|bolt| draft.parameters.get_mut(&bolt));
    let Some(schema) = schema.filter(|schema| schema.contains_key("default")) else { return false };
    schema.insert("immutable".to_owned(), Value::Bool(true));
    true
}

pub(super) fn bolt_name(draft: &Draft<'_>, source: &str) -> Option<String> {
    draft.source_names.iter().find(|(_, known)| *known == source).map(|(bolt, _)| bolt.clone())
}

/// Returns the parameters of an action, as those of a script with variables of the environment.
pub(super) fn parameters(draft: &Draft<'_>) -> Vec<Parameter> {
    let of = |(bolt, schema): (&String, &Map<String, Value>)| {
        let source = draft.source_names.get(bolt).unwrap_or(bolt);
        parameter(source, bolt, schema, format!("BOLT_PARAM_{}", bolt.to_ascii_uppercase()))
    };
    draft.parameters.iter().map(of).collect()
}
