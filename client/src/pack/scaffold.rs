//! `bolt pack new`: a pack with one action, which passes lint and runs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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

/// Makes the pack `name` in the directory `target`, which must not exist.
pub fn scaffold(name: &PackName, target: &Path) -> Result<(), PackError> {
    if target.symlink_metadata().is_ok() {
        return Err(PackError::Exists(target.to_owned()));
    }
    let actions = target.join("actions");
    fs::create_dir_all(&actions).map_err(PackError::file("create", &actions))?;
    for (path, text, mode) in [
        (target.join("pack.yaml"), PACK.replace("{name}", name.as_str()), 0o644),
        (actions.join("uptime.yaml"), ACTION.to_owned(), 0o644),
        (actions.join("uptime.sh"), SCRIPT.to_owned(), 0o755),
    ] {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(PackError::file("write", &path))?;
    }
    Ok(())
}
