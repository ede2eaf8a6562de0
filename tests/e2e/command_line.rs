//! `bolt` as people and their scripts meet it: what it prints where, and how it ends.

mod fleets;
mod interrupts;
mod run_output;
mod watching;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bolt_client::pki::Validity;
use bolt_tests::{Bolt, CommandOutput, PackSource, World};
use packs_schema::base::name::Principal;
use serde_json::Value;

use crate::calls::caller;

const DAY: Duration = Duration::from_secs(86_400);

/// Ended with `code`, and said each of `words` on standard error.
fn ended(said: &CommandOutput, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!said.stderr.contains("panicked"), "{said:?}");
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    ended(&bolt.run(["run", "probe.hello"]), 0, &["i-1: succeeded"]);
    let failed = bolt.run(["run", "probe.fail"]);
    ended(&failed, 1, &["i-1: failed"]);
    assert!(failed.answer().contains("1 instance failed (exit 7): i-1\nabout to fail\n"), "{failed:?}");

    ended(&bolt.run(["run", "probe.hello", "--nope"]), 2, &["--nope", "--help"]);
    ended(&bolt.run(["run", "hello"]), 2, &["<pack>.<action>"]);
    ended(&bolt.run(["run", "probe.typed", "name=A", "count=x"]), 2, &["name ", "count must be an integer"]);
    ended(&bolt.run(["run", "probe.typed", "name=a", "token=hunter2"]), 2, &["token is secret", "token=@FILE"]);
    ended(&bolt.run(["run", "probe.off"]), 2, &["disabled"]);
    ended(
        &bolt.run(["run", "probe.hello", "--where", "zone == 'nowhere'"]),
        2,
        &["none of the 1 instances", "nowhere"],
    );
    ended(&bolt.run(["run", "probe.hello", "--on", "i-9"]), 2, &["no instance i-9"]);
    ended(&Bolt::new(&world.path().join("gone.toml")).run(["ps"]), 2, &["gone.toml"]);

    // A glob is refused before any instance is asked, by each command alike.
    for command in ["run", "actions"] {
        let said = bolt.run([command, "probe.*", "--on", "i-1", "--cert", "/nonexistent"]);
        ended(&said, 2, &["'probe.*'", "`bolt actions probe` lists all"]);
    }
    ended(&bolt.run(["run", "probe.helo"]), 4, &["no instance has an action probe.helo", "did you mean probe.hello?"]);
    ended(&bolt.run(["run", "probe.nothing-like-it"]), 4, &["pack probe has", "probe.typed"]);
    ended(&bolt.run(["show", "abcdef"]), 4, &["none has an execution that ends in abcdef"]);
    let guest = caller(&world, "guest");
    let (certificate, key) = (guest.certificate.display().to_string(), guest.key.display().to_string());
    let as_guest = ["--cert", &certificate, "--key", &key, "run", "probe.hello"];
    ended(&bolt.run(as_guest), 4, &["i-1", "spiffe://bolt.local/guest", "forbidden", "grants.toml"]);

    let principal = Principal::new("spiffe://bolt.local/late").unwrap();
    let mut validity = Validity::days(1);
    validity.not_before -= 10 * DAY;
    validity.not_after -= 5 * DAY;
    let late = world.site.caller("late", &principal, validity).unwrap();
    let (old, its_key) = (late.certificate.display().to_string(), late.key.display().to_string());
    ended(
        &bolt.run(["--cert", &old, "--key", &its_key, "ps"]),
        3,
        &["it refused our certificate", "expired", "--cert"],
    );

    fs::set_permissions(&guest.key, fs::Permissions::from_mode(0o644)).unwrap();
    ended(&bolt.run(as_guest), 2, &["guest.key can be read by others", "chmod 600"]);
    let authority = world.scratch("other").display().to_string();
    ended(&bolt.run(["pki", "init", &authority]), 0, &[]);
    ended(&bolt.run(["--ca", &format!("{authority}/ca.pem"), "ps"]), 3, &["not in the configured CA file", "--ca"]);
}

#[test]
fn what_cannot_be_printed_is_said_or_passed_over_in_silence() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    bolt.run(["run", "probe.hello"]);
    for arguments in [&["ps"][..], &["ps", "--json"], &["run", "probe.hello"], &["actions"], &["--help"], &["man"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let child = bolt.command(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        ended(&CommandOutput::from(child.wait_with_output().unwrap()), 5, &["cannot print", "No space left"]);

        let mut child = bolt.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let said = CommandOutput::from(child.wait_with_output().unwrap());
        ended(&said, 141, &[]);
        assert!(!said.stderr.contains("bolt:"), "{said:?}");
    }
}

#[test]
fn every_command_prints_one_json_value() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let (_, run) = bolt.json(["run", "probe.hello"]);
    let id = run["instances"][0]["execution"]["id"].as_str().unwrap();
    let repository = world.site.repository().display().to_string();
    let pack = PackSource::probe().write(&world.scratch("json")).display().to_string();
    let authority = world.path().join("json-ca").display().to_string();
    for (arguments, code, keys) in [
        (&["instances"][..], 0, &["counts", "instances", "missing"][..]),
        (&["instances", "--check"], 0, &["counts", "instances", "missing"]),
        (&["actions"], 0, &["actions", "failed"]),
        (&["actions", "probe.typed"], 0, &["action", "failed", "instances"]),
        (&["packs"], 0, &["failed", "instances"]),
        (&["sync"], 0, &["asked", "failed"]),
        (&["ps"], 0, &["executions", "failed", "more"]),
        (&["history", "--state", "failed"], 0, &["executions", "failed", "more"]),
        (
            &["run", "probe.fail"],
            1,
            &["action", "instances", "noop", "run", "stopped", "summary", "took_ms", "version", "versions"],
        ),
        (
            &["repo", "status", "--repo", &repository],
            0,
            &["channels", "roles", "root_fingerprint", "verified", "versions"],
        ),
        (&["repo", "log", "--repo", &repository], 0, &["entries", "verified"]),
        (&["pack", "lint", &pack], 0, &["builds", "findings"]),
        (&["pki", "init", &authority], 0, &["certificate", "key"]),
        (&["run", "probe.nothing"], 4, &["error"]),
        (&["run", "probe.typed"], 2, &["error"]),
        (&["run", "nothing"], 2, &["error"]),
        (&["--inventory", "/nowhere", "ps"], 2, &["error"]),
        (&["demo", "--stop", "/nowhere"], 2, &["error"]),
    ] {
        let (ended, value) = bolt.json(arguments);
        let mut found: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!((ended, found.as_slice()), (code, keys), "{arguments:?}: {value}");
        if code > 1 {
            assert_eq!(value["error"]["exit"], code, "{arguments:?}: {value}");
            assert!(!value["error"]["message"].as_str().unwrap().is_empty(), "{value}");
        }
    }
    for arguments in [["show", id], ["kill", id]] {
        assert_eq!(bolt.json(arguments).1["id"], *id);
    }
    let logs = bolt.run(["logs", id, "--json"]);
    let chunks: Vec<Value> = logs.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let streams: Vec<&str> = chunks.iter().map(|chunk| chunk["stream"].as_str().unwrap()).collect();
    assert!(streams.contains(&"stdout") && streams.contains(&"stderr"), "{logs:?}");
}

#[test]
fn what_an_instance_says_is_shown_and_not_obeyed() {
    let world = World::empty();
    let script = "#!/bin/sh\nprintf '\\033[2J\\033]0;owned\\007hi\\r\\n'\nprintf '\\377\\376 \\342\\200\\256\\n' >&2\n\
                  printf '{\"a\": \"\\\\u001b[31m\\\\u202e\"}' > \"$BOLT_RESULT\"\nexit 3\n";
    world.publish(&PackSource::new("probe", "1.0.0").action("bad", "bolt: {class: diagnostic}", script));
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let run = bolt.run(["run", "probe.bad"]);
    assert!(run.stdout.contains("\\x1b[2J\\x1b]0;owned\\x07hi\nstderr: \\xff\\xfe \\u{202e}\n"), "{run:?}");
    let (_, all) = bolt.json(["ps"]);
    let id = all["executions"][0]["id"].as_str().unwrap();
    let logs = bolt.run(["logs", id]);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("\\x1b[2J\\x1b]0;owned\\x07hi\n", "\\xff\\xfe \\u{202e}\n")
    );
    let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    for said in [run, logs, bolt.run(["show", id]), bolt.run(["show", id, "--json"]), bolt.run(["logs", id, "--json"])]
    {
        assert!(!said.stdout.contains(acts) && !said.stderr.contains(acts), "{said:?}");
    }
    // Raw bytes are printed on request.
    let raw = bolt.command(["logs", id, "--raw"]).output().unwrap();
    assert_eq!(
        (raw.stdout, raw.stderr),
        (b"\x1b[2J\x1b]0;owned\x07hi\r\n".to_vec(), b"\xff\xfe \xe2\x80\xae\n".to_vec())
    );
}

#[test]
fn a_long_output_shows_its_end() {
    let world = World::empty();
    let script = "#!/bin/sh\nawk 'BEGIN { for (i = 0; i < 60000; i++) printf \"line %06d\\n\", i }' >&2\nexit 1\n";
    world.publish(&PackSource::new("probe", "1.0.0").action("long", "bolt: {class: diagnostic}", script));
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let run = bolt.run(["run", "probe.long"]);
    for words in ["stderr: line 000000\n", " lines are left out here]", "stderr: line 059999\n", "`bolt logs "] {
        assert!(run.stdout.contains(words), "{words:?} is not there: {}", run.stdout);
    }
    assert!(run.stdout.lines().count() < 80, "{}", run.stdout);
    let five = bolt.run(["run", "probe.long", "--lines", "5"]);
    assert_eq!(five.stdout.matches("stderr: line ").count(), 5, "{}", five.stdout);
    let all = bolt.run(["run", "probe.long", "--lines", "all"]).stdout;
    for words in ["stderr: line 000000\n", "the middle was not fetched", "stderr: line 059999\n", "`bolt logs "] {
        assert!(all.contains(words), "{words:?} is not there: {}", &all[all.len() - 400..]);
    }
    assert!(all.len() < 600_000, "{}", all.len());
}

#[test]
fn a_list_says_that_there_is_more_and_filters_do_not_hide() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    for _ in 0..2 {
        ended(&bolt.run(["run", "probe.hello"]), 0, &[]);
    }
    ended(&bolt.run(["ps", "--limit", "1"]), 0, &["only the newest 1", "--limit"]);
    assert_eq!(bolt.json(["ps", "--limit", "2"]).1["more"], false);
    // The newest one runs: history goes past it.
    let mut running = bolt.command(["run", "probe.sleep"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let id = loop {
        let (_, listed) = bolt.json(["ps", "--state", "running"]);
        if let Some(id) = listed["executions"][0]["id"].as_str() {
            break id.to_owned();
        }
        assert!(Instant::now() < deadline, "it does not start");
    };
    let (_, history) = bolt.json(["history", "--limit", "1"]);
    assert_eq!(history["executions"][0]["action"], "probe.hello", "{history}");
    ended(&bolt.run(["kill", &id[24..]]), 0, &[]);
    assert_eq!(running.wait().unwrap().code(), Some(1));
    ended(&bolt.run(["ps", "--action", "probe.repair"]), 0, &["no executions match"]);
}

#[test]
fn an_action_explains_itself_and_the_list_stays_short() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let list = bolt.run(["actions"]);
    ended(&list, 0, &["7 actions on 1 instance"]);
    assert!(list.stdout.contains("probe.off     diagnostic   (disabled) What off does\n"), "{list:?}");
    let typed = bolt.run(["actions", "probe.typed"]);
    for words in
        ["name: string, must be given", "count: integer from 1 to 9, default 3", "always mine", "string, secret"]
    {
        assert!(typed.stdout.contains(words), "{words:?} is not in {typed:?}");
    }
}
