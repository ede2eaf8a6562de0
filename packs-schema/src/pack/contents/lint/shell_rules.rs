//! Rules for shell scripts: values that the shell splits or runs as code, secrets that are visible in the process list,
//! and changes by an action that claims to make none.

use std::collections::BTreeSet;

use crate::pack::action::{Action, Class};

use super::shell::{Command, Word, commands, in_function, is_keyword};
use super::text::may_be_harmful;
use super::{Sink, leftover_rules};

/// Prefixes of a command.
const PREFIXES: [&str; 8] = ["sudo", "exec", "command", "nohup", "nice", "ionice", "env", "builtin"];
/// Builtins, whose arguments are not visible in the process list.
const BUILTIN: [&str; 21] = [
    "echo", "printf", "[", "test", "read", "export", "local", "declare", "readonly", "unset", "set", "shift", "return",
    "exit", "case", "for", "in", ":", "true", "false", "trap",
];
/// Commands where splitting is intended or does not happen.
const MAY_SPLIT: [&str; 9] = ["for", "case", "export", "local", "declare", "readonly", "return", "exit", "shift"];
/// Programs that run code from an argument, and the option for it.
const INTERPRETERS: [(&str, &str); 12] = [
    ("sh", "-c"),
    ("bash", "-c"),
    ("dash", "-c"),
    ("ksh", "-c"),
    ("zsh", "-c"),
    ("su", "-c"),
    ("perl", "-e"),
    ("ruby", "-e"),
    ("python", "-c"),
    ("python3", "-c"),
    ("runuser", "-c"),
    ("watch", ""),
];
/// Commands that change a host.
const CHANGES: [&str; 26] = [
    "rm", "rmdir", "mv", "unlink", "shred", "truncate", "dd", "mkfs", "chmod", "chown", "chgrp", "chattr", "kill",
    "pkill", "killall", "reboot", "shutdown", "halt", "poweroff", "mount", "umount", "swapoff", "useradd", "userdel",
    "usermod", "crontab",
];
/// Commands that change a host with one of these arguments.
const CHANGES_WITH: [(&str, &[&str]); 11] = [
    (
        "systemctl",
        &[
            "start",
            "stop",
            "restart",
            "reload",
            "try-restart",
            "enable",
            "disable",
            "mask",
            "unmask",
            "kill",
            "isolate",
        ],
    ),
    ("service", &["start", "stop", "restart", "reload", "force-reload"]),
    ("apt", &["install", "remove", "purge", "upgrade", "autoremove"]),
    ("apt-get", &["install", "remove", "purge", "upgrade", "autoremove"]),
    ("yum", &["install", "remove", "update", "clean"]),
    ("dnf", &["install", "remove", "update", "clean"]),
    ("docker", &["rm", "rmi", "stop", "kill", "restart", "prune"]),
    ("kubectl", &["delete", "apply", "scale", "drain", "cordon", "patch"]),
    ("nodetool", &["clearsnapshot", "cleanup", "drain", "decommission", "removenode", "repair", "flush"]),
    ("sed", &["-i", "--in-place"]),
    ("sysctl", &["-w", "--write"]),
];

pub(super) fn rules(action: &Action, text: &str, sink: &mut Sink<'_>) {
    let commands = commands(text);
    leftover_rules::shell(action, &commands, sink);
    let functions = in_function(text);
    let known = Known::of(action, &commands);
    for command in &commands {
        let words = program(&command.words);
        let name = words.first().map_or("", |word| word.plain().rsplit('/').next().unwrap_or_default());
        let outside = !functions.get(command.line).copied().unwrap_or_default();
        unquoted(name, command, &known, outside, sink);
        code(name, words, &known, outside, sink);
        secrets(action, name, words, sink);
        if action.class == Class::Diagnostic {
            changes(name, words, command, &known, sink);
        }
    }
}

/// Returns the command without prefixes and assignments.
fn program(words: &[Word]) -> &[Word] {
    let is_before =
        |word: &Word| is_keyword(&word.raw) || PREFIXES.contains(&word.raw.as_str()) || word.assigned().is_some();
    let start = words.iter().position(|word| !is_before(word)).unwrap_or(words.len());
    &words[start..]
}

/// Known variables of a script.
struct Known {
    /// Variables with arbitrary values of a caller.
    free: BTreeSet<String>,
    /// Variables with the path of a temporary file.
    temporary: BTreeSet<String>,
    /// Positional parameters with arbitrary values of a caller.
    positions: BTreeSet<String>,
}

impl Known {
    fn of(action: &Action, commands: &[Command]) -> Known {
        let open = || action.parameters.iter().filter(|(_, schema)| !schema.holds_secret());
        let free = open().filter(|(_, schema)| may_be_harmful(schema));
        let mut positional: Vec<(u32, bool)> =
            open().filter_map(|(_, schema)| Some((schema.position?, may_be_harmful(schema)))).collect();
        positional.sort_unstable();
        let numbered = positional.iter().enumerate().filter(|(_, (_, free))| *free);
        let mut positions: BTreeSet<String> = numbered.map(|(index, _)| (index + 1).to_string()).collect();
        if open().any(|(_, schema)| may_be_harmful(schema)) {
            positions.extend(["@".to_owned(), "*".to_owned()]);
        }
        let free = free.map(|(name, _)| format!("BOLT_PARAM_{}", name.as_str().to_ascii_uppercase())).collect();
        let mut known = Known { free, temporary: BTreeSet::new(), positions };
        for (name, word) in commands.iter().flat_map(|c| &c.words).filter_map(|word| Some((word.assigned()?, word))) {
            if word.variables.iter().any(|variable| known.free.contains(&variable.name)) {
                known.free.insert(name.to_owned());
            }
            let value = word.raw.split_once('=').map_or("", |(_, value)| value).trim_matches(['"', '\'']);
            if value.starts_with('\u{2026}') && makes_temporary(commands, word.line) || value.starts_with("/tmp/") {
                known.temporary.insert(name.to_owned());
            }
        }
        known
    }

    fn is_from_caller(&self, name: &str, outside: bool) -> bool {
        self.free.contains(name) || outside && self.positions.contains(name)
    }
}

fn makes_temporary(commands: &[Command], line: usize) -> bool {
    commands.iter().any(|c| c.line == line && c.words.iter().any(|word| word.plain() == "mktemp"))
}

fn unquoted(name: &str, command: &Command, known: &Known, outside: bool, sink: &mut Sink<'_>) {
    if MAY_SPLIT.contains(&name) {
        return;
    }
    let plain = command.words.iter().filter(|word| word.assigned().is_none()).chain(&command.writes);
    for word in plain {
        let Some(bare) = word.variables.iter().find(|v| !v.quoted && known.is_from_caller(&v.name, outside)) else {
            continue;
        };
        let name = &bare.name;
        sink.warn(
            "shell_unquoted",
            word.line,
            format!("${name} is not quoted, so the shell splits a caller's value at blanks and expands * and ?; write \"${name}\""),
        );
    }
}

fn code(name: &str, words: &[Word], known: &Known, outside: bool, sink: &mut Sink<'_>) {
    let arguments = words.get(1..).unwrap_or_default();
    let callers =
        |word: &Word| word.variables.iter().find(|v| known.is_from_caller(&v.name, outside)).map(|v| v.name.clone());
    if name == "eval" || name == "ssh" {
        if let Some(variable) = arguments.iter().find_map(callers) {
            let does = if name == "eval" { "eval runs" } else { "the shell at the other end of ssh runs" };
            let message = format!(
                "{does} a caller's value in ${variable} as code; avoid {name}, or restrict the value with enum or pattern"
            );
            sink.warn("shell_code", words[0].line, message);
        }
        return;
    }
    let Some((_, option)) = INTERPRETERS.iter().find(|(program, _)| *program == name) else { return };
    let at = arguments.iter().position(|word| word.raw == *option || option.len() == 2 && is_bundle(&word.raw, option));
    // The code is the word after the option; further words are data.
    let program = if option.is_empty() { arguments.first() } else { at.and_then(|at| arguments.get(at + 1)) };
    if let Some(variable) = program.and_then(callers) {
        let message = format!(
            "{name} {option} runs a caller's value in ${variable} as code; pass it as an argument after the code and use \"$1\" there"
        );
        sink.warn("shell_code", words[0].line, message);
    }
}

/// True for combined options, such as `-ec` for `-c`.
fn is_bundle(word: &str, option: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.len() < 6 && word.ends_with(&option[1..])
}

fn secrets(action: &Action, name: &str, words: &[Word], sink: &mut Sink<'_>) {
    if name.is_empty() || BUILTIN.contains(&name) {
        return;
    }
    for word in words.get(1..).unwrap_or_default() {
        let secret = |variable: &str| {
            let mut names = action.parameters.iter().filter(|(_, schema)| schema.holds_secret());
            names.any(|(secret, _)| secret.as_str().eq_ignore_ascii_case(variable))
        };
        if let Some(variable) = word.variables.iter().find(|v| secret(&v.name)) {
            let message = format!(
                "${} is a secret, and all accounts of the host can read the command line of {name}; \
                 pass it on standard input or in a file that only its owner reads",
                variable.name
            );
            sink.warn("secret_argument", word.line, message);
        }
    }
}

fn changes(name: &str, words: &[Word], command: &Command, known: &Known, sink: &mut Sink<'_>) {
    let arguments = words.get(1..).unwrap_or_default();
    let listed_with_verbs = CHANGES_WITH.iter().find(|(program, _)| *program == name);
    let verb = listed_with_verbs.and_then(|(_, verbs)| arguments.iter().find(|word| verbs.contains(&word.plain())));
    let files = || arguments.iter().filter(|word| !word.raw.starts_with('-'));
    // Files that the action created itself may be removed.
    let own = || files().count() > 0 && files().all(|word| is_own(word, known));
    // kill -0 only tests whether a process exists.
    let only_probes = name == "kill" && arguments.iter().any(|word| matches!(word.plain(), "-0" | "-l"));
    let base = name.split('.').next().unwrap_or_default();
    let listed =
        CHANGES.contains(&base) && !only_probes && !(matches!(name, "mount" | "crontab") && files().count() == 0);
    if verb.is_some() || listed && !own() {
        let what = verb.map_or(name.to_owned(), |verb| format!("{name} {}", verb.plain()));
        sink.warn("diagnostic_writes", words[0].line, changed(&what));
    }
    if name == "tee" && !own() && files().count() > 0 {
        sink.warn("diagnostic_writes", words[0].line, changed("tee"));
    }
    for target in &command.writes {
        let to_device = ["/dev/null", "/dev/std", "/dev/fd/", "/dev/tty"].iter().any(|d| target.plain().starts_with(d));
        if target.plain().starts_with('/') && !to_device && !is_own(target, known) {
            sink.warn("diagnostic_writes", target.line, changed(&format!("> {}", target.plain())));
        }
    }
}

fn changed(what: &str) -> String {
    format!(
        "`{what}` changes the host, but the action is a diagnostic, which callers run anywhere; set class: remediation or maintenance"
    )
}

fn is_own(word: &Word, known: &Known) -> bool {
    let plain = word.plain();
    plain.starts_with("/tmp/")
        || word.variables.first().is_some_and(|v| v.name == "BOLT_RESULT" || known.temporary.contains(&v.name))
}
