//! Properties of a task's script that its metadata does not tell: programs that it needs, and who sees its secrets.

use serde_json::{Map, Value};

use super::parameters::Parameters;
use crate::pack::import::any_command;
use crate::pack::import::code_lines::shell::{Script, parameter};
use crate::pack::import::code_lines::{code, python};
use crate::pack::import::report::Effect;
use crate::pack::import::schema::Sink;
use crate::pack::import::scripted::{ReadBy, is_shell_script};
use crate::pack::import::secrets;

/// Notes that the script at `path` needs Puppet itself.
pub(super) fn note_puppet(path: &str, text: &str, sink: &mut Sink<'_>) {
    if let Some((number, _)) = code(text).find(|(_, line)| needs_puppet(line)) {
        let message = format!("{path}:{number}: loads Puppet, so it runs only where Puppet's agent is installed");
        sink.add("needs_puppet", Effect::Note, &[], message);
    }
}

/// Notes where the script at `path` gives a secret to a program as an argument.
pub(super) fn note_secret_arguments(path: &str, text: &str, parameters: &Parameters, sink: &mut Sink<'_>) {
    let secrets: Vec<_> =
        parameters.secrets.iter().map(|name| secrets::in_variable(name, format!("PT_{name}"))).collect();
    let messages = match is_shell_script(text, ReadBy::FirstLine("/bin/sh")) {
        true => secrets::in_script(text, path, &secrets),
        false => secrets::in_program(text, path, &secrets, |one| one.name.as_str()),
    };
    for message in messages {
        sink.add(secrets::CODE, Effect::Note, &[], message);
    }
}

/// Follows the values of a shell script from its variables.
pub(super) fn follow(path: &str, text: &str, parameters: &mut Parameters, sink: &mut Sink<'_>) {
    let names = &parameters.names;
    let of = |(bolt, schema): (&String, &Map<String, Value>)| {
        parameter(&names[bolt], bolt, schema, format!("PT_{}", names[bolt]))
    };
    let mut all: Vec<_> = parameters.schemas.iter().map(of).collect();
    let variables = all.iter().enumerate().map(|(index, one)| (one.value.variable.clone(), vec![index])).collect();
    Script { path, text, variables, arguments: Vec::new() }.follow(&mut all, &[], sink);
    parameters.schemas.extend(all.into_iter().map(|one| (one.bolt, one.schema)));
}

/// Notes the parameters that are the whole of what a program in Python runs.
pub(super) fn note_commands(text: &str, parameters: &Parameters, sink: &mut Sink<'_>) {
    let open = parameters.schemas.iter().filter(|(_, schema)| any_command::is_open(schema));
    let names: Vec<&str> = open.map(|(bolt, _)| parameters.names[bolt].as_str()).collect();
    for name in python::run_whole(text, names.iter().copied()) {
        any_command::note_once(sink, &["parameters", name], name, any_command::Given::Command);
    }
}

/// Notes that secrets are visible to some.
pub(super) fn note_secrets(parameters: &Parameters, in_environment: bool, sink: &mut Sink<'_>) {
    for name in parameters.secrets.iter().filter(|_| in_environment) {
        let message = format!(
            "{name} is in the environment of the task's processes, which root and the task's own account can read; in the \
             metadata, input_method stdin avoids that"
        );
        sink.add(secrets::IN_ENVIRONMENT, Effect::Note, &["parameters", name], message);
    }
}

fn needs_puppet(line: &str) -> bool {
    ["require 'puppet'", "require \"puppet\"", "require 'facter'", "require \"facter\""]
        .iter()
        .any(|load| line.starts_with(load))
}
