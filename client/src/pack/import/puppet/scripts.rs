//! Properties of a task's script that its metadata does not tell: code made of values, processes that stay, programs
//! that it needs.

use super::parameters::Parameters;
use crate::pack::import::report::Effect;
use crate::pack::import::schema::Sink;
use crate::pack::import::scripted::{ReadBy, is_shell_script};
use crate::pack::import::secrets;

/// Maximum number of lines that are named.
const MAX_LINES: usize = 3;

/// Notes where the script at `path` makes code of values.
pub(super) fn note_code(path: &str, text: &str, sink: &mut Sink<'_>) {
    let lines = code(text).filter(|(_, line)| runs_text(line)).map(|(number, _)| format!("{path}:{number}"));
    let lines: Vec<String> = lines.take(MAX_LINES).collect();
    if !lines.is_empty() {
        let message = format!(
            "a value of a caller may become code of a shell at {}: read it, and restrict the parameters with a pattern",
            lines.join(", ")
        );
        sink.add("shell_code", Effect::Note, &[], message);
    }
}

/// Notes that the script at `path` needs Puppet itself.
pub(super) fn note_puppet(path: &str, text: &str, sink: &mut Sink<'_>) {
    if let Some((number, _)) = code(text).find(|(_, line)| needs_puppet(line)) {
        let message = format!("{path}:{number}: loads Puppet, so it runs only where Puppet's agent is installed");
        sink.add("needs_puppet", Effect::Note, &[], message);
    }
}

/// Returns the place where the script starts a process that stays behind.
pub(super) fn leaves_process(text: &str) -> Option<usize> {
    let stays = |line: &str| {
        let word =
            |wanted: &str| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|word| word == wanted);
        word("nohup")
            || word("disown")
            || word("setsid")
            || line.contains("Process.daemon")
            || line.contains("Process.detach")
    };
    code(text).find(|(_, line)| stays(line)).map(|(number, _)| number)
}

/// Notes where the shell script at `path` gives a secret of its environment to a program as an argument.
pub(super) fn note_secret_arguments(path: &str, text: &str, parameters: &Parameters, sink: &mut Sink<'_>) {
    if !is_shell_script(text, ReadBy::FirstLine("/bin/sh")) {
        return;
    }
    let secrets: Vec<_> =
        parameters.secrets.iter().map(|name| secrets::in_variable(name, format!("PT_{name}"))).collect();
    for message in secrets::in_script(text, path, &secrets) {
        sink.add(secrets::CODE, Effect::Note, &[], message);
    }
}

/// Notes that secrets are visible to some.
pub(super) fn note_secrets(parameters: &Parameters, in_environment: bool, sink: &mut Sink<'_>) {
    if in_environment && let Some(name) = parameters.secrets.first() {
        let message = format!(
            "{name} is in the environment of the task's processes, which root and the task's own account can read; in the \
             metadata, input_method stdin avoids that"
        );
        sink.add("secret_in_environment", Effect::Note, &["parameters", name], message);
    }
}

/// Lines with their numbers, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let all = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    all.filter(|(_, line)| !line.starts_with('#'))
}

/// True for a line that gives a variable to a shell as code.
fn runs_text(line: &str) -> bool {
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c));
    let words: Vec<&str> = line.split(separates).filter(|word| !word.is_empty()).collect();
    let evaluates = words.contains(&"eval") && line.contains('$');
    let shell =
        |word: &&str| ["sh", "bash", "dash", "ksh", "zsh", "su"].contains(&word.rsplit('/').next().unwrap_or(word));
    let dash_c = words.iter().position(shell).is_some_and(|at| words[at..].contains(&"-c")) && line.contains('$');
    evaluates || dash_c || line.contains("shell=True")
}

fn needs_puppet(line: &str) -> bool {
    ["require 'puppet'", "require \"puppet\"", "require 'facter'", "require \"facter\""]
        .iter()
        .any(|load| line.starts_with(load))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_made_of_values_is_found() {
        for line in [
            "output=$(eval ${command} 2>&1)",
            "eval array=($array_string)",
            "nohup bash -c \"wall \\\"$message\\\"\" </dev/null &",
            "subprocess.run(line, shell=True)",
            "/bin/sh -c \"$x\"",
        ] {
            assert!(runs_text(line), "{line}");
        }
        for line in ["evaluate $x", "bash script.sh $x", "sh -c 'true'", "eval \"static\"", "grep -c $x sh.txt"] {
            assert!(!runs_text(line), "{line}");
        }
        assert_eq!(leaves_process("#!/bin/sh\n# nohup\nnohup x &\n"), Some(3));
        assert_eq!(leaves_process("echo nohupped\n"), None);
    }
}
