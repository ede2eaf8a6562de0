//! Properties of scripts that their sources do not tell: processes that stay behind, and `sudo`.

use super::code_lines::code;
use super::report::Effect;
use super::schema::Sink;
use super::shell::has_word;
use super::steps::Step;

/// Notes that steps leave processes or use `sudo`; true if processes stay. `is_root`: the action runs as root.
pub(super) fn note_steps(steps: &[Step], is_root: bool, place: &[&str], sink: &mut Sink<'_>) -> bool {
    let first = |has: fn(&str) -> Option<usize>| {
        let scripts = &mut steps.iter().flat_map(Step::scripts);
        scripts.find(|(_, script)| has(script).is_some()).map(|(name, _)| format!("{name:?}"))
    };
    let (leaves, sudo) = (first(leaves_process), first(uses_sudo));
    note(leaves, sudo.filter(|_| !is_root), place, sink)
}

/// Notes that the script at `path` leaves processes or uses `sudo`; true if processes stay.
pub(super) fn note_script(path: &str, text: &str, is_root: bool, place: &[&str], sink: &mut Sink<'_>) -> bool {
    let at = |line: usize| format!("{path}:{line}:");
    note(leaves_process(text).map(at), uses_sudo(text).filter(|_| !is_root).map(at), place, sink)
}

fn note(leaves: Option<String>, sudo: Option<String>, place: &[&str], sink: &mut Sink<'_>) -> bool {
    if let Some(script) = sudo {
        let message = format!(
            "{script} uses sudo, which fails as an account of the execution's own: set bolt.run_as to root, or to an account that \
             sudoers names and bolt.new_privileges to true"
        );
        sink.add("sudo", Effect::Note, place, message);
    }
    let Some(script) = leaves else { return false };
    let message = format!("{script} starts a process that stays after its end; it is kept (bolt.leftovers)");
    sink.add("leaves_process", Effect::Note, place, message);
    true
}

/// Returns the line on which a script starts a process that stays behind.
fn leaves_process(text: &str) -> Option<usize> {
    let stays = |line: &str| {
        ["nohup", "disown", "setsid"].iter().any(|wanted| has_word(line, wanted))
            || line.contains("Process.daemon")
            || line.contains("Process.detach")
    };
    code(text).find(|(_, line)| stays(line)).map(|(number, _)| number)
}

fn uses_sudo(text: &str) -> Option<usize> {
    code(text).find(|(_, line)| has_word(line, "sudo")).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_stay_and_sudo_are_found() {
        assert_eq!(leaves_process("#!/bin/sh\n# nohup\nnohup x &\n"), Some(3));
        assert_eq!(leaves_process("echo nohupped; cat nohup.out\n"), None);
        assert_eq!(uses_sudo("#!/bin/sh\n# sudo\nx | sudo tee y\n"), Some(3));
        assert_eq!(uses_sudo("visudo; cat /etc/sudo.conf sudo-rs\n"), None);
    }
}
