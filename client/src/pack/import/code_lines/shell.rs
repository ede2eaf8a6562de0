//! Shell scripts that are run as they are, whose values come as variables or arguments.
//!
//! Nothing of such a script is rewritten, and none is refused: a parameter that is the whole of what is run disables the
//! action, one that becomes code in part is limited where a pattern can do that, and the rest is named.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::pack::import::any_command::{self, Given};
use crate::pack::import::report::Effect;
use crate::pack::import::schema::Sink;
use crate::pack::import::scripted::{Parameter, ReadBy, is_shell_script, limit_of_text, limit_values, rewritten};
use crate::pack::import::shell::{Limit, Need, Part, Rewritten, ScriptValue, is_plain_pattern};

/// Shell of scripts without a first line that names one.
const READER: ReadBy<'_> = ReadBy::FirstLine("/bin/sh");
/// Maximum number of values of which each is looked at alone.
const MAX_ALONE: usize = 50;

/// Shell script, and where the values of parameters are in it.
#[derive(Debug)]
pub(in crate::pack::import) struct Script<'a> {
    pub(in crate::pack::import) path: &'a str,
    pub(in crate::pack::import) text: &'a str,
    /// Variables, or numbers of arguments, with the indices of the parameters in their values.
    pub(in crate::pack::import) variables: Vec<(String, Vec<usize>)>,
    /// Parameters in arguments of which the number is not known.
    pub(in crate::pack::import) arguments: Vec<usize>,
}

/// Value that a variable or argument of the script holds, and the parameters in it.
struct Held {
    value: ScriptValue,
    parameters: Vec<usize>,
}

impl Script<'_> {
    /// Limits the parameters to what the script needs, and notes those with which callers choose what is run.
    pub(in crate::pack::import) fn follow(&self, parameters: &mut [Parameter], place: &[&str], sink: &mut Sink<'_>) {
        if parameters.is_empty() || !is_shell_script(self.text, READER) {
            return;
        }
        let mut values = self.values(parameters);
        let mut judged = self.rewritten(&values);
        if judged.is_none() {
            for index in self.run_alone(&values) {
                self.disable(&values[index], parameters, Given::Command, sink);
                values[index].value.listed = true;
            }
            judged = self.rewritten(&values);
        }
        let Some(done) = judged else { return };
        for index in &done.programs {
            self.disable(&values[*index], parameters, Given::Program, sink);
        }
        self.limit(&done, &values, parameters, place, sink);
    }

    /// Returns the values of the script.
    fn values(&self, parameters: &[Parameter]) -> Vec<Held> {
        let of = |variable: String, indices: &[usize]| {
            let parts = indices.iter().map(|index| &parameters[*index].value);
            let name: Vec<&str> = parts.clone().map(|value| value.name.as_str()).collect();
            let limit = if let [one] = indices { parameters[*one].value.limit } else { Limit::Free };
            let value = ScriptValue {
                name: name.join(", "),
                variable,
                limit,
                listed: parts.clone().all(|value| value.listed),
                plain: indices.len() == 1 && parts.clone().all(|value| value.plain),
                words: false,
                omitted: false,
            };
            Held { value, parameters: indices.to_vec() }
        };
        let variables = self.variables.iter().map(|(variable, indices)| of(variable.clone(), indices));
        // No script reads these by a name.
        let arguments = self.arguments.iter().map(|index| of(format!("ARGUMENT_{index}"), &[*index]));
        variables.chain(arguments).collect()
    }

    /// Returns what the script needs; `None` if it would be refused with these values.
    fn rewritten(&self, values: &[Held]) -> Option<Rewritten> {
        let all: Vec<ScriptValue> = values.iter().map(|one| one.value.clone()).collect();
        let arguments: Vec<usize> = (self.variables.len()..values.len()).collect();
        rewritten(&[Part::Text(self.text.replace("\r\n", "\n"))], &all, &arguments, READER).ok()
    }

    /// Returns the values for which alone the script would be refused: they name what is run.
    fn run_alone(&self, values: &[Held]) -> Vec<usize> {
        let listed = |except: Option<usize>| -> Vec<Held> {
            let one = |(index, one): (usize, &Held)| {
                let mut value = one.value.clone();
                value.listed |= Some(index) != except;
                Held { value, parameters: one.parameters.clone() }
            };
            values.iter().enumerate().map(one).collect()
        };
        // A script that cannot be read is refused for any value.
        if self.rewritten(&listed(None)).is_none() {
            return Vec::new();
        }
        let open = (0..values.len()).filter(|index| !values[*index].value.listed).take(MAX_ALONE);
        open.filter(|index| self.rewritten(&listed(Some(*index))).is_none()).collect()
    }

    fn disable(&self, value: &Held, parameters: &[Parameter], given: Given, sink: &mut Sink<'_>) {
        let open = value.parameters.iter().map(|index| &parameters[*index]).find(|parameter| !parameter.value.listed);
        if let Some(parameter) = open {
            let name = &parameter.source;
            any_command::note_once(sink, &["parameters", name], name, given);
        }
    }

    /// Limits the parameters that become code in part. Which one an argument is must be known.
    fn limit(
        &self,
        done: &Rewritten,
        values: &[Held],
        parameters: &mut [Parameter],
        place: &[&str],
        sink: &mut Sink<'_>,
    ) {
        let mut limited = Rewritten::default();
        let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (index, need) in &done.needs {
            let value = &values[*index];
            let is_known = *index < self.variables.len() || self.arguments.len() == 1;
            for one in &value.parameters {
                let parameter = &mut parameters[*one];
                if parameter.value.listed || parameter.value.limit >= need.limit {
                    continue;
                }
                // Where it is not followed that a value is code, a limit could take from the script what it is for.
                let is_code = is_known && need.followed;
                if is_code {
                    be_text(&mut parameter.schema);
                }
                if is_code && can_limit(parameter, need) {
                    limited.needs.push((*one, need.clone()));
                } else if is_code && is_open_text(parameter) {
                    self.disable(value, parameters, Given::Command, sink);
                } else {
                    named.entry(need.reader.clone()).or_default().insert(parameters[*one].source.clone());
                }
            }
        }
        let needed = |index: &usize| limited.needs.iter().any(|(known, _)| known == index);
        let of = |list: &[usize]| -> Vec<usize> {
            list.iter().flat_map(|index| &values[*index].parameters).copied().filter(needed).collect()
        };
        (limited.operands, limited.cut) = (of(&done.operands), of(&done.cut));
        limit_values(parameters, &[limited], sink);
        for (reader, names) in named {
            let names: Vec<String> = names.into_iter().collect();
            let message = format!(
                "{}: {reader} may run a value as code, of {}: read it, and restrict the parameters with a pattern",
                self.path,
                names.join(", ")
            );
            sink.add("shell_code", Effect::Note, place, message);
        }
    }
}

/// True if a pattern can enforce a limit on a parameter that has none of its own.
fn can_limit(parameter: &Parameter, need: &Need) -> bool {
    let default = parameter.schema.get("default").and_then(Value::as_str).unwrap_or_default();
    is_open_text(parameter) && Limit::of(default) >= need.limit
}

fn is_open_text(parameter: &Parameter) -> bool {
    !parameter.restricted && parameter.schema.get("type").is_some_and(|kind| kind == "string")
}

/// Makes a value without a type text, which a pattern can limit.
pub(in crate::pack::import) fn be_text(schema: &mut Map<String, Value>) {
    let is_open = !schema.contains_key("type") && schema.get("default").is_none_or(Value::is_string);
    if is_open {
        schema.insert("type".to_owned(), json!("string"));
    }
}

/// Returns a parameter of a script that has its value in this variable.
pub(in crate::pack::import) fn parameter(
    source: &str,
    bolt: &str,
    schema: &Map<String, Value>,
    variable: String,
) -> Parameter {
    let kind = schema.get("type").and_then(Value::as_str);
    let items = schema.get("items").and_then(Value::as_object);
    let limit = match (kind, items) {
        (Some("string"), _) => limit_of_text(schema),
        (Some("integer" | "number"), _) => Limit::Number,
        (Some("boolean"), _) => Limit::Word,
        // StackStorm joins items by commas.
        (Some("array"), Some(items)) => limit_of_text(items).min(Limit::Path),
        _ => Limit::Free,
    };
    let is_fixed = schema.get("immutable") == Some(&Value::Bool(true));
    let is_listed = |schema: &Map<String, Value>| schema.get("enum").is_some_and(Value::is_array);
    let pattern = schema.get("pattern").and_then(Value::as_str);
    let listed = is_fixed || is_listed(schema) || items.is_some_and(is_listed);
    let plain = kind == Some("string") && pattern.is_some_and(is_plain_pattern);
    Parameter {
        source: source.to_owned(),
        bolt: bolt.to_owned(),
        schema: schema.clone(),
        restricted: is_fixed || schema.contains_key("enum") || pattern.is_some(),
        value: ScriptValue { name: source.to_owned(), variable, limit, listed, plain, words: false, omitted: false },
    }
}

/// True if a shell script reads its arguments in a way that does not tell which one is where.
pub(in crate::pack::import) fn reads_all_arguments(text: &str) -> bool {
    const ALL: [&str; 7] = ["$@", "${@", "$*", "${*", "getopts", "BASH_ARGV", "${!"];
    // A loop without `in` is one over the arguments.
    let loops = |line: &str| {
        let words: Vec<&str> = line.split([' ', '\t', ';']).filter(|word| !word.is_empty()).collect();
        words
            .iter()
            .position(|word| ["for", "select"].contains(word))
            .is_some_and(|at| words.get(at + 2) != Some(&"in"))
    };
    ALL.iter().any(|way| text.contains(way)) || super::code(text).any(|(_, line)| loops(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the codes of what is found about a script whose two parameters are its arguments, or its variables.
    fn found(text: &str, variables: [&str; 2], schemas: [Value; 2]) -> (Vec<&'static str>, Vec<String>) {
        let mut parameters: Vec<Parameter> = std::iter::zip(["x", "y"], schemas)
            .map(|(name, schema)| parameter(name, name, schema.as_object().unwrap(), format!("V_{name}")))
            .collect();
        let mut sink = Sink { file: "a.yaml", text: "", findings: Vec::new() };
        let is_known = !reads_all_arguments(text) || variables[0] != "1";
        let of = |(at, name): (usize, &&str)| ((*name).to_owned(), vec![at]);
        let variables = if is_known { variables.iter().enumerate().map(of).collect() } else { Vec::new() };
        let arguments = if is_known { Vec::new() } else { vec![0, 1] };
        Script { path: "a.sh", text, variables, arguments }.follow(&mut parameters, &[], &mut sink);
        let pattern =
            |one: &Parameter| one.schema.get("pattern").and_then(Value::as_str).unwrap_or_default().to_owned();
        (sink.findings.iter().map(|finding| finding.code).collect(), parameters.iter().map(pattern).collect())
    }

    fn texts() -> [Value; 2] {
        [json!({"type": "string"}), json!({"type": "string"})]
    }

    #[test]
    fn a_parameter_that_is_all_of_what_a_script_runs_disables_the_action() {
        for text in [
            "$1",
            "\"$1\"",
            "sudo $1",
            "echo \"$1\" | sh",
            "eval \"$1\"",
            "bash -c \"$1\"",
            "c=$1\n$c\n",
            "shift\n$1\n",
            "\"$@\"",
            "cd \"$1\"; make",
        ] {
            let (codes, _) = found(text, ["1", "2"], texts());
            assert!(codes.contains(&"any_command"), "{text}: {codes:?}");
        }
        for text in ["$PT_x", "eval \"$PT_x\"", "bash -c \"$PT_x\"", "echo \"${PT_x}\" | bash", "c=${PT_x}; $c"] {
            let (codes, patterns) = found(&format!("#!/bin/bash\n{text}\n"), ["PT_x", "PT_y"], texts());
            assert_eq!((codes, patterns[1].as_str()), (vec!["any_command"], ""), "{text}");
        }
        let listed = [json!({"type": "string", "enum": ["ls", "pwd"]}), json!({"type": "string"})];
        assert_eq!(found("$1", ["1", "2"], listed).0, Vec::<&str>::new());
        for text in ["echo \"$1\"", "ls -- \"$1\"", "#!/usr/bin/perl\neval $x;\n", "cp \"$1\" \"$2\""] {
            assert_eq!(found(text, ["1", "2"], texts()).0, Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn a_parameter_that_is_code_in_part_is_limited_where_it_is_known() {
        let number = ["^-?[0-9]*$", ""].map(str::to_owned).to_vec();
        assert_eq!(found("[[ $1 -gt 3 ]]", ["1", "2"], texts()), (vec!["value_limited"], number.clone()));
        assert_eq!(found("#!/bin/bash\nlet PT_x+=1\n", ["PT_x", "PT_y"], texts()), (vec!["value_limited"], number));
        let untyped = [json!({}), json!({"type": "string"})];
        assert_eq!(found("eval \"echo $1\"", ["1", "2"], untyped).0, ["value_limited"]);
        // Which of them is evaluated is not known.
        let (codes, patterns) = found("for a; do [[ $a -gt 3 ]]; done", ["1", "2"], texts());
        assert_eq!((codes, patterns), (vec!["shell_code"], vec![String::new(), String::new()]));
        let (codes, patterns) = found("echo \"$1\" > /tmp/x; alias a=b", ["1", "2"], texts());
        assert_eq!((codes, &*patterns[0]), (vec!["shell_code"], ""), "it is not followed to the alias");
        let own = [json!({"type": "string", "pattern": "^.+$"}), json!({"type": "string"})];
        assert_eq!(found("[[ $1 -gt 3 ]]", ["1", "2"], own).0, ["shell_code"]);
    }
}
