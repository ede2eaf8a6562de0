//! Scripts that reach for StackStorm's server: by variables of their environment, or by its command line.

use super::draft::Draft;
use crate::pack::import::code_lines::code;
use crate::pack::import::report::Effect;
use crate::pack::import::shell::has_word;

/// Beginning of the names of StackStorm's variables.
const PREFIX: &str = "ST2_";
/// Variables that an instance knows as well.
const KNOWN: [&str; 2] = ["ST2_ACTION_PACK_NAME", "ST2_ACTION_EXECUTION_ID"];
/// Commands of `st2`.
const COMMANDS: [&str; 8] = ["run", "execution", "key", "action", "trigger", "rule", "auth", "login"];

/// Notes where the scripts, by their paths, need the server.
pub(super) fn note<'a>(draft: &mut Draft<'_>, scripts: impl Iterator<Item = (&'a str, &'a str)>, place: &[&str]) {
    for (path, text) in scripts {
        let found = code(text).find_map(|(number, line)| Some((number, needed(line)?)));
        if let Some((number, what)) = found {
            let message = format!(
                "{path}:{number} needs {what} of StackStorm's server, which is not there: it fails or does nothing"
            );
            draft.sink.add("server_variable", Effect::Note, place, message);
        }
    }
}

/// True for a script that reads variables of StackStorm that an instance knows.
pub(super) fn reads_known(text: &str) -> bool {
    KNOWN.iter().any(|name| text.contains(name))
}

/// Returns lines of a script that set the variables.
pub(super) fn exports(pack: &str) -> String {
    let [name, execution] = KNOWN;
    format!("export {name}={pack} {execution}=\"${{BOLT_EXECUTION_ID:-}}\"\n")
}

fn needed(line: &str) -> Option<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = line.split(move |c: char| !is_part(c));
    let variable = words.find(|word| word.starts_with(PREFIX) && word.len() > PREFIX.len() && !KNOWN.contains(word));
    let runs = || COMMANDS.iter().any(|command| line.contains(&format!("st2 {command} "))) && has_word(line, "st2");
    variable.or_else(|| runs().then_some("the program st2"))
}
