//! `bolt pack new`: a pack with one action, which passes lint and runs, made from a template.
//!
//! The template `ansible` lies in `scaffold/ansible/` as the files that a pack is given; `{name}` in them is its name. Its code is
//! the author's from then on. It has nothing of Ansible in it: the pack's virtual environment does, by its `requirements.txt`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use clap::ValueEnum;
use packs_schema::base::name::PackName;

use super::PackError;

const PACK: &str = "# What the pack is. `ref` is its name in references such as {name}.uptime.
name: {name}
ref: {name}
version: 0.1.0            # semantic; a version that was published never changes again
description: Looks at the load of a host.
author: Your Team
email: team@example.com
";

const ACTION: &str = "# What callers may run, and how. Run it here: bolt pack test . uptime
name: uptime
description: How long the host has been up, and its load.
runner_type: local-shell-script
entry_point: uptime.sh
parameters:
  processes: {type: integer, minimum: 0, maximum: 50, default: 3, description: How many busy processes to list.}
bolt:
  class: diagnostic       # reads only; else remediation or maintenance
  timeout: 30s
  limits: {memory: 64MiB, pids: 16}
output_schema:
  load: {type: number}
";

const SCRIPT: &str = r#"#!/bin/sh
# Parameters come as BOLT_PARAM_<NAME>, as arguments, and as one JSON object on standard input.
# What is written to the file $BOLT_RESULT is the structured result: one JSON object.
set -eu

read -r load rest </proc/loadavg
read -r seconds rest </proc/uptime
echo "up ${seconds%.*} seconds, load $load"
if [ "$BOLT_PARAM_PROCESSES" -gt 0 ] && command -v ps >/dev/null; then
    ps -eo pcpu,pid,user,comm --sort=-pcpu 2>/dev/null | head -n "$((BOLT_PARAM_PROCESSES + 1))"
fi
printf '{"load": %s}\n' "$load" >"$BOLT_RESULT"
"#;

/// Files of a template: path, text, mode.
type Files = &'static [(&'static str, &'static str, u32)];

const SCRIPT_FILES: Files =
    &[("pack.yaml", PACK, 0o644), ("actions/uptime.yaml", ACTION, 0o644), ("actions/uptime.sh", SCRIPT, 0o755)];

const ANSIBLE_FILES: Files = &[
    ("pack.yaml", include_str!("scaffold/ansible/pack.yaml"), 0o644),
    ("requirements.txt", include_str!("scaffold/ansible/requirements.txt"), 0o644),
    ("actions/apply.yaml", include_str!("scaffold/ansible/actions/apply.yaml"), 0o644),
    ("actions/apply.py", include_str!("scaffold/ansible/actions/apply.py"), 0o755),
    ("actions/lib/playbook.py", include_str!("scaffold/ansible/actions/lib/playbook.py"), 0o644),
    ("ansible/ansible.cfg", include_str!("scaffold/ansible/ansible/ansible.cfg"), 0o644),
    ("ansible/apply.yml", include_str!("scaffold/ansible/ansible/apply.yml"), 0o644),
    ("ansible/callback_plugins/bolt.py", include_str!("scaffold/ansible/ansible/callback_plugins/bolt.py"), 0o644),
    ("ansible/templates/settings.conf.j2", include_str!("scaffold/ansible/ansible/templates/settings.conf.j2"), 0o644),
];

/// Kind of pack to begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// A shell script that reads the load of the host.
    #[default]
    Script,
    /// An Ansible playbook, run on the host by the pack's own environment.
    Ansible,
}

impl Template {
    fn files(self) -> Files {
        match self {
            Template::Script => SCRIPT_FILES,
            Template::Ansible => ANSIBLE_FILES,
        }
    }

    /// Arguments of `bolt pack test`, after the pack's directory, that try its action.
    pub fn trial(self) -> &'static str {
        match self {
            Template::Script => "uptime",
            Template::Ansible => "apply directory=/tmp/settings --noop --index URL",
        }
    }
}

/// Makes the pack `name` in the directory `target`, which must not exist.
pub fn scaffold(name: &PackName, template: Template, target: &Path) -> Result<(), PackError> {
    if target.symlink_metadata().is_ok() {
        return Err(PackError::Exists(target.to_owned()));
    }
    for (path, text, mode) in template.files() {
        let path = target.join(path);
        let directory = path.parent().unwrap_or(target);
        fs::create_dir_all(directory).map_err(PackError::file("create", directory))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(*mode).open(&path);
        file.and_then(|mut file| file.write_all(text.replace("{name}", name.as_str()).as_bytes()))
            .map_err(PackError::file("write", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Runs `checks.py` with the interpreter that is here; each of its tests has a name.
    #[test]
    fn the_code_of_the_template_ansible_passes_its_checks() {
        let checked = Command::new("python3")
            .args(["-I", "-B", "../tests/fixtures/ansible/checks.py", "src/pack/scaffold/ansible"])
            .output()
            .expect("python3 is there");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && said.contains("\nOK"), "{said}");
    }
}
