//! Rules for processes that outlive the script: they are stopped with the action, unless its file sets `leftovers:
//! keep`.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::pack::action::{Action, LeftoverPolicy};

use super::Sink;
use super::shell::{Command, Word};
use super::text::python_lines;

const CODE: &str = "leaves_process";
/// Options that make a program run in the background.
const DAEMON_OPTIONS: [&str; 6] = ["-daemon", "--daemon", "--daemonize", "-daemonize", "--background", "--fork"];
/// Arguments that make a SysV init script start a service.
const STARTS: [&str; 4] = ["start", "restart", "try-restart", "force-reload"];

/// Checks a shell script.
pub(super) fn shell(action: &Action, commands: &[Command], sink: &mut Sink<'_>) {
    if action.leftovers == LeftoverPolicy::Keep {
        return;
    }
    // A script that waits for the process, or kills it, does not leave it behind.
    let is_reaped = commands.iter().flat_map(|c| &c.words).any(|word| matches!(word.plain(), "wait" | "kill"));
    for command in commands {
        let found = detached(&command.words).or_else(|| {
            let name = command.words.first().map(|word| format!("{} &", word.plain()));
            name.filter(|_| command.background && !is_reaped)
        });
        if let Some(found) = found {
            sink.warn(CODE, command.line, message(&found));
        }
    }
}

/// Returns the part of a command that leaves a process behind.
fn detached(words: &[Word]) -> Option<String> {
    let plain = || words.iter().map(Word::plain);
    let base = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    if let Some(program) = plain().map(base).find(|name| matches!(name.as_str(), "nohup" | "setsid" | "daemonize")) {
        let waits = plain().any(|word| matches!(word, "-w" | "--wait"));
        return (!(program == "setsid" && waits)).then_some(program);
    }
    if let Some(option) = plain().skip(1).find(|word| DAEMON_OPTIONS.contains(word)) {
        return Some(option.to_owned());
    }
    let mut rest = plain().skip_while(|word| base(word) != "service" && !is_init_script(word));
    let program = rest.next()?;
    let verb = rest.find(|word| STARTS.contains(word))?;
    Some(format!("{program} … {verb}"))
}

fn is_init_script(word: &str) -> bool {
    ["/etc/init.d/", "/etc/rc.d/"].iter().any(|directory| word.starts_with(directory))
}

static PYTHON: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(start_new_session\s*=\s*True|\bos\.setsid\b|\bos\.(?:fork|forkpty)\(|["'](?:nohup|setsid|daemonize|-daemon|--daemon|--daemonize)["']|["'](?:/etc/init\.d/[^"']*|service)["'][^#]*["'](?:start|restart)["'])"#,
    )
    .expect("a valid pattern")
});

/// Checks a Python script.
pub(super) fn python(action: &Action, text: &str, sink: &mut Sink<'_>) {
    if action.leftovers == LeftoverPolicy::Keep {
        return;
    }
    for (line, code) in python_lines(text) {
        if let Some(found) = PYTHON.captures(&code).and_then(|found| found.get(1)) {
            sink.warn(CODE, line, message(found.as_str()));
        }
    }
}

fn message(found: &str) -> String {
    format!(
        "`{found}` leaves a process, which is stopped when the action ends; start a service through the host's \
         service manager, or set bolt: {{leftovers: keep}} in the action's file"
    )
}
