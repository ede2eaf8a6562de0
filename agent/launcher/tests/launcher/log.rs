//! The launcher's log when api and sync are compromised: neither their requests nor the content of their directories can forge a
//! line.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use packs_schema::agent::launch::{Operation, Outcome, Start};
use packs_schema::base::log_line::{MAX_LINE, is_unsafe};
use serde_json::{Value, json};

use crate::driver::{Host, put, wait_for};

/// A forged log line, a terminal escape that clears the screen, and reversed text.
const FORGED: &str =
    "x\u{1b}[2J\r\nlevel=error program=bolt-launch event=\"forged\" pid=1\n\u{202e}\u{2028}\u{9b}31m\u{feff}";

/// Returns [`FORGED`] after so much text that a reader that splits long lines would begin a line with it.
fn long() -> String {
    ["x".repeat(4080), "\nlevel=error program=bolt-launch event=\"forged\"\n".repeat(500)].concat()
}

/// Checks one line: `level=warn program=bolt-launch event="…"`, and further fields that are plain or one quoted string each.
fn check(line: &str) {
    assert!(line.len() < MAX_LINE && !line.contains(is_unsafe), "{} bytes: {line:?}", line.len());
    if line.starts_with("bolt-launch: ") {
        return;
    }
    let levels = ["info", "warn", "error"].map(|level| format!("level={level} program=bolt-launch event=\""));
    assert!(levels.iter().any(|start| line.starts_with(start)) && !line.contains(" event=\"forged\""), "{line:?}");
    // Outside of quotes there are only plain words.
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        assert!(quoted || c.is_ascii_graphic() || c == ' ', "{line:?}");
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    assert!(!quoted || line.ends_with('…'), "{line:?}");
}

fn hostile_names(dir: &Path) {
    for place in ["state/exec", "run", "run/accounts", "run/accepted", "packs", "packs/demo", "packs/.venvs"] {
        let place = dir.join(place);
        let name = FORGED.replace('/', "");
        let made =
            fs::create_dir_all(&place).and_then(|()| fs::create_dir(place.join(OsStr::from_bytes(name.as_bytes()))));
        made.unwrap();
        fs::write(place.join(OsStr::from_bytes(b"\xff\nlevel=info")), FORGED).unwrap();
    }
}

#[test]
fn compromised_processes_cannot_forge_log_lines() {
    let mut host = Host::logged(hostile_names);
    let mut refusals = 0;
    for text in [FORGED.to_owned(), long()] {
        // Requests from the api.
        host.action("it", "#!/bin/sh\n", json!({"parameters": {"word": {"type": "string", "enum": ["a"]}}}));
        for parameters in [json!({ &text: 1 }), json!({ "word": &text }), json!({ "word": { &text: &text } })] {
            let start = Start { traceparent: Some(text.clone()), ..host.request("it", parameters) };
            host.refused(&start);
            host.ask(Operation::Accept(Box::new(start)));
            refusals += 1;
        }
        // Files written by the sync.
        for changes in [
            json!({ "entry_point": &text }),
            json!({ "run_as": &text }),
            json!({ "runner_type": &text }),
            json!({ "name": &text }),
            json!({ "timeout": &text }),
            json!({ "limits": { &text: &text } }),
            json!({ "parameters": { &text: { "type": &text } } }),
            json!({ &text: &text }),
        ] {
            host.action("it", "#!/bin/sh\n", changes);
            let start = host.request("it", json!({}));
            if matches!(host.start(&start), Outcome::Refused { .. }) {
                refusals += 1;
            }
        }
        host.action("it", "#!/bin/sh\n", json!({}));
        for (file, content) in [("pack.json", text.clone()), ("config.json", json!({ &text: &text }).to_string())] {
            let path = host.version().join(".bolt").join(file);
            let before = fs::read(&path).ok();
            put(&path, content.as_bytes(), 0o644);
            let start = host.request("it", json!({}));
            if matches!(host.start(&start), Outcome::Refused { .. }) {
                refusals += 1;
            }
            match before {
                Some(before) => put(&path, &before, 0o644),
                None => fs::remove_file(&path).unwrap(),
            }
        }
        // Execution directories of the api: symbolic links at the paths that the launcher creates.
        let start = host.request("it", json!({}));
        let dir = host.path(&format!("state/exec/{}", start.execution));
        std::os::unix::fs::symlink(OsStr::from_bytes(FORGED.as_bytes()), dir.join("lock")).unwrap();
        host.refused(&start);
        refusals += 1;
    }
    let unsupported = json!({ "format": 999, "seq": 7, "ask": FORGED }).to_string();
    host.send_frame(unsupported.as_bytes());
    let log = || fs::read_to_string(host.path("launcher.log")).unwrap();
    wait_for("the last refusal", || (log().lines().count() >= refusals).then_some(()));
    let last: Value = json!({ FORGED: [FORGED, long()] });
    host.send_frame(last.to_string().as_bytes());
    assert!(!host.disconnect().success());

    let log = fs::read_to_string(host.path("launcher.log")).unwrap();
    assert!(log.ends_with('\n'), "{log}");
    log.strip_suffix('\n').unwrap().split('\n').for_each(check);
    let refused = log.lines().filter(|line| line.contains("event=\"refused\"")).count();
    let repeated = log.lines().filter(|line| line.contains("forged") || line.contains("xxxxxxxx")).count();
    assert!(
        refused >= refusals && repeated > 5,
        "{repeated} of {refused} repeat hostile text: the test shows little\n{log}"
    );
}
