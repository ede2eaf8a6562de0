//! Rules for Python scripts, line by line.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::pack::action::{Action, Class};

use super::Sink;
use super::text::python_lines;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// Call of a shell, with its arguments.
static SYSTEM: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"\b(os\.system|os\.popen|commands\.getoutput|subprocess\.getoutput|subprocess\.getstatusoutput)\((.*)")
});
static SHELL: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bshell\s*=\s*(True|1)\b"));
static EVAL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(^|[^.\w])(eval|exec)\((.*)"));
/// String literal as the only argument.
static LITERAL: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^\s*[rb]?("[^"]*"|'[^']*')\s*\)"#));
static STARTS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(subprocess\.\w+|os\.exec\w+|os\.spawn\w+)\((.*)"));
static CHANGES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(os\.(remove|unlink|rmdir|removedirs|rename|renames|replace|kill|killpg|truncate|ftruncate|chmod|chown|reboot)|shutil\.(rmtree|move|chown))\(",
    )
});
static WRITES: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\bopen\(([^()]*),\s*(mode\s*=\s*)?["'][rbt]*[wax+][bt+]*["']"#));
static METHODS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\.(write_text|write_bytes|unlink|rmdir)\("));
static COMMANDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"["'](systemctl|service)["']\s*,\s*["'](start|stop|restart|reload|enable|disable|mask|kill)["']|\[\s*["'](/\w+)*/?(rm|kill|pkill|killall|reboot|shutdown|mkfs)["']\s*,"#,
    )
});
/// Targets that every action may write.
const OWN: [&str; 5] = ["BOLT_RESULT", "/tmp/", "/dev/null", "tempfile", "result"];

pub(super) fn rules(action: &Action, text: &str, sink: &mut Sink<'_>) {
    let secrets: Vec<Regex> = action
        .parameters
        .iter()
        .filter(|(_, schema)| schema.holds_secret())
        // A variable or key of this name, not part of another word or of an option such as --token.
        .map(|(name, _)| pattern(&format!(r"(^|[^\w-]){name}([^\w=:-]|$)")))
        .collect();
    for (line, code) in python_lines(text) {
        shells(action, line, &code, sink);
        let started = STARTS.captures(&code).and_then(|found| found.get(2)).map_or("", |arguments| arguments.as_str());
        // input= is the right way to pass a secret.
        let arguments = started.split("input=").next().unwrap_or_default();
        if secrets.iter().any(|secret| secret.is_match(arguments)) {
            let message = "a secret is passed on a command line, which all accounts of the host can read; pass it \
                           with input= or in a file that only its owner reads";
            sink.warn("secret_argument", line, message.to_owned());
        }
        if action.class == Class::Diagnostic {
            changes(line, &code, sink);
        }
    }
}

fn shells(action: &Action, line: usize, code: &str, sink: &mut Sink<'_>) {
    if action.parameters.is_empty() {
        return;
    }
    let call = SYSTEM.captures(code);
    let arguments = call.as_ref().and_then(|call| call.get(2)).map_or("", |m| m.as_str());
    if let Some(name) = call.as_ref().and_then(|call| call.get(1)).filter(|_| !LITERAL.is_match(arguments)) {
        let message = format!(
            "{} passes text, including a caller's values, to a shell; use subprocess.run([\u{2026}]) with a list",
            name.as_str()
        );
        sink.warn("python_shell", line, message);
    }
    if SHELL.is_match(code) {
        let message = "shell=True passes text, including a caller's values, to a shell; pass a list without a shell";
        sink.warn("python_shell", line, message.to_owned());
    }
    let call = EVAL.captures(code);
    let arguments = call.as_ref().and_then(|call| call.get(3)).map_or("", |m| m.as_str());
    if let Some(name) = call.as_ref().and_then(|call| call.get(2)).filter(|_| !LITERAL.is_match(arguments)) {
        let message = format!("{}() runs text as code; read values with json or int()", name.as_str());
        sink.warn("python_eval", line, message);
    }
}

fn changes(line: usize, code: &str, sink: &mut Sink<'_>) {
    if OWN.iter().any(|own| code.contains(own)) {
        return;
    }
    let only_probes = code.contains(", 0)") && code.contains("os.kill(");
    let found =
        [&CHANGES, &WRITES, &METHODS, &COMMANDS].into_iter().find_map(|rule| rule.find(code)).filter(|_| !only_probes);
    if let Some(found) = found {
        let message = format!(
            "`{}` changes the host, but the action is a diagnostic, which callers run anywhere; set class: remediation or maintenance",
            found.as_str().trim()
        );
        sink.warn("diagnostic_writes", line, message);
    }
}
