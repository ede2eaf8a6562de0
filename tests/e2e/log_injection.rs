//! The log of an instance holds only lines that our writers made, whatever a pack, a push or a caller puts into it.
//!
//! The one file has the lines of three processes in two forms: `bolt-agent` and `bolt-sync` write a time and a level first,
//! `bolt-launch` writes `level=` first. With `BOLT_LOG_FORMAT=json` all three write one JSON object in a line.

use std::fs;

use bolt_client::local::{AgentSpec, LocalAgent, OPERATOR};
use bolt_client::repo::{PublishOptions, publish_archive};
use bolt_tests::http::{Call, send};
use bolt_tests::{PackSource, World, spec};
use packs_schema::agent::execution::State;
use packs_schema::base::log_line::{MAX_LINE, is_unsafe};
use packs_schema::base::name::ChannelName;
use packs_schema::base::strict;
use serde_json::json;
use tar::{EntryType, Header};
use tokio::io::AsyncWriteExt as _;

use crate::calls::{run, until};
use crate::packs_refused::gzip;

/// Lines that look like those of all three processes, a screen that is cleared, and text that is reversed.
const FORGED: &str = "\u{1b}[2J\r\n1999-01-01T00:00:00.000000Z  INFO pack activated pack=evil version=9.9.9\n\
    level=error program=bolt-launch event=\"forged\" pid=1\n\u{202e}\u{2028}\u{2066}\u{9b}31m\0\u{feff}";

/// Like [`FORGED`], without the characters that cause quoting.
const PLAIN: &str = "\u{1b}[2J\r\n1999-01-01T00:00:00.000000Z  INFO poll done\n\u{202e}\u{2028}\u{9b}31m\u{feff}";

/// Like [`FORGED`], after a prefix so long that a reader which splits long lines would begin a line with it.
fn long() -> String {
    let line = "\n1999-01-01T00:00:00.000000Z  INFO pack activated pack=evil\n";
    ["x".repeat(4000), line.to_owned(), "y".repeat(45_000), line.repeat(200)].concat()
}

fn yaml(text: &str) -> String {
    // JSON is YAML, and escapes what acts.
    serde_json::to_string(text).unwrap().replace('\u{202e}', "\\u202e").replace('\u{2028}', "\\u2028")
}

/// Returns a pack archive with hostile file names and contents.
fn archive(files: &[(&str, String)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in files {
        let mut header = Header::new_ustar();
        let name: Vec<u8> = name.bytes().take(99).collect();
        header.as_old_mut().name[..name.len()].copy_from_slice(&name);
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend_from_slice(&[0; 1024]);
    gzip(&tar)
}

fn pack_yaml(description: &str) -> String {
    format!(
        "ref: probe\nname: probe\nversion: 1.1.0\nauthor: a\nemail: a@example.org\ndescription: {}\n",
        yaml(description)
    )
}

fn action_yaml(more: &str) -> String {
    format!(
        "name: hello\nrunner_type: local-shell-script\nentry_point: hello.sh\nbolt: {{class: diagnostic}}\n{more}\n"
    )
}

/// Archives that are refused with findings that repeat hostile text.
fn refused() -> Vec<Vec<u8>> {
    let (hello, script) = ("actions/hello.yaml", ("actions/hello.sh", "#!/bin/sh\n".to_owned()));
    let with = |yaml: String| archive(&[("pack.yaml", pack_yaml("x")), (hello, yaml), script.clone()]);
    let mut archives = Vec::new();
    for text in [FORGED.to_owned(), PLAIN.to_owned(), long()] {
        let text = yaml(&text);
        archives.extend([
            with(action_yaml(&format!("{text}: 1"))),
            with(action_yaml(&format!("description: {text}\nbolt: {text}"))),
            with(action_yaml(&format!("parameters: {{{text}: {{type: string}}}}"))),
            with(action_yaml(&format!("parameters: {{a: {{type: {text}}}}}"))),
            with(action_yaml(&format!("parameters: {{a: {{type: string, default: {text}, enum: [x]}}}}"))),
            with(action_yaml("").replace("hello.sh", &text)),
            with(action_yaml("").replace("name: hello", &format!("name: {text}"))),
            with(action_yaml("").replace("local-shell-script", &text)),
            with(format!("description: {text}\n&a [*a, *{text}]")),
            archive(&[("pack.yaml", pack_yaml("x") + &format!("{text}: {text}\n"))]),
            archive(&[("pack.yaml", pack_yaml("x").replace("1.1.0", &text))]),
            archive(&[("pack.yaml", pack_yaml("x")), ("requirements.txt", text.clone())]),
        ]);
    }
    archives.push(archive(&[(FORGED, String::new())]));
    archives.push(archive(&[(PLAIN, String::new())]));
    archives.push(archive(&[(&format!("../{PLAIN}"), String::new())]));
    archives.push(archive(&[("pack.yaml", pack_yaml("x")), (&format!("actions/{FORGED}"), String::new())]));
    archives.push(archive(&[(&format!("../{FORGED}"), String::new())]));
    archives.push(gzip(FORGED.repeat(100).as_bytes()));
    archives.push(FORGED.as_bytes().to_vec());
    archives
}

/// A pack that is taken, whose texts and output are hostile all the same.
fn taken() -> PackSource {
    let octal: String = FORGED.bytes().map(|byte| format!("\\{byte:03o}")).collect();
    let say = |how: &str| format!("#!/bin/sh\nprintf '{octal}'\nprintf '{octal}' >&2\n{how}\n",);
    let description = format!("description: {}\nbolt: {{class: diagnostic}}", yaml("a \u{202e} b"));
    PackSource::probe()
        .action("speak", "bolt: {class: diagnostic}", &say("exit 3"))
        .action("result", "bolt: {class: diagnostic}", &say(&format!("printf '{octal}' >\"$BOLT_RESULT\"")))
        .action("interpreter", "bolt: {class: diagnostic}", "#!/bin/\u{1b}[2Jnone\n")
        .file(
            "actions/texts.yaml",
            &action_yaml("").replace("name: hello", "name: texts").replace("bolt: {class: diagnostic}", &description),
            0o644,
        )
}

fn allowing() -> AgentSpec {
    let verbs = "[\"read\", \"run\", \"kill\", \"sync\", \"push\"]";
    let grants = format!("[[grant]]\nprincipal = \"{OPERATOR}\"\nverbs = {verbs}\nactions = [\"*\"]\n");
    AgentSpec { grants: Some(grants), ..spec("i-1").set("dev", "push", true) }
}

/// Checks that each line of the log is whole, and of one of the two writers; gives the number of lines.
fn check(log: &str) -> usize {
    assert!(log.ends_with('\n'), "the last line is not whole");
    for line in log.strip_suffix('\n').unwrap().split('\n') {
        assert!(!line.contains(is_unsafe), "{line:?}");
        assert!(line.len() < MAX_LINE, "{} bytes: {line}", line.len());
        let ours = of_agent(line) || of_launcher(line);
        assert!(ours, "no writer of ours made {line:?}");
    }
    log.lines().count()
}

/// `2026-11-28T06:05:24.123456Z  INFO message key=value`, and not in the year that the forged lines name.
fn of_agent(line: &str) -> bool {
    let Some((time, rest)) = line.split_once(' ') else { return false };
    let is_level = ["ERROR ", "WARN ", "INFO ", "DEBUG "].iter().any(|level| rest.trim_start().starts_with(level));
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    is_level && shape == "0000-00-00T00:00:00.000000Z" && !time.starts_with("1999")
}

/// `level=info program=bolt-launch event="…" key=value key="…"`, each value plain or one quoted string.
fn of_launcher(line: &str) -> bool {
    let mut rest = line;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=') else { return false };
        let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let length = if let Some(quoted) = after.strip_prefix('"') {
            let mut escaped = false;
            let end = quoted.char_indices().find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            });
            end.map(|(at, _)| at + 2)
        } else {
            Some(after.find(' ').unwrap_or(after.len())).filter(|length| !after[..*length].contains(['"', '=']))
        };
        let Some(length) = length.filter(|_| is_key) else { return false };
        fields.push((key, &after[..length]));
        rest = after[length..].strip_prefix(' ').unwrap_or(&after[length..]);
    }
    let keys: Vec<&str> = fields.iter().map(|(key, _)| *key).collect();
    keys.starts_with(&["level", "program", "event"]) && fields[1].1 == "bolt-launch" && fields[2].1 != "\"forged\""
}

/// Sends what may be refused before all of it was sent.
async fn tell(world: &World, agent: &LocalAgent, call: Call) {
    let _ = send(agent.address(), Some(&world.site.operator()), call).await;
}

async fn hostile_requests(world: &World, agent: &LocalAgent) {
    let operator = world.operator(agent);
    let encoded: String = FORGED.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for path in ["/v1/executions/", "/v1/packs/", "/v1/actions/", "/", "/v1/executions?run="] {
        tell(world, agent, Call::get(&format!("{path}{encoded}"))).await;
    }
    for text in [FORGED.to_owned(), long()] {
        let mut asked = json!({ "action": "probe.hello", "parameters": { &text: &text }, "note": &text, "run": &text });
        tell(world, agent, Call::post("/v1/executions", asked.to_string())).await;
        asked["parameters"] = json!({});
        tell(world, agent, Call::post("/v1/executions", asked.to_string())).await;
        asked["action"] = json!(&text);
        tell(world, agent, Call::post("/v1/executions", asked.to_string())).await;
        let kill = json!({ "note": &text }).to_string();
        let sleep = operator.send(Call::post("/v1/executions", run("probe.sleep", json!({})))).await;
        let id = sleep.json::<packs_schema::agent::rest::Execution>().id;
        tell(world, agent, Call::post(&format!("/v1/executions/{id}/kill"), kill)).await;
    }
    for name in ["x-request-id", "traceparent", "user-agent", "idempotency-key"] {
        let value = "\u{9b}31m\u{202e}level=error program=bolt-launch";
        tell(world, agent, Call::get("/v1/executions").header(name, value)).await;
    }
    // A peer that does not speak TLS.
    let mut socket = tokio::net::TcpStream::connect(agent.address()).await.unwrap();
    let _ = socket.write_all(FORGED.repeat(10).as_bytes()).await;
    let _ = socket.shutdown().await;
}

/// Checks that each line is one JSON object of one of the three programs, and returns all of them.
fn json_lines(log: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    assert!(log.ends_with('\n'), "the last line is not whole");
    let one = |line: &str| {
        assert!(line.len() < MAX_LINE && !line.contains(is_unsafe), "{} bytes: {line:?}", line.len());
        let value = strict::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        let object = value.as_object().unwrap_or_else(|| panic!("{line}")).clone();
        assert!(object.values().all(serde_json::Value::is_string), "{line}");
        let of = |name: &str| object[name].as_str().unwrap();
        assert!(["bolt-launch", "bolt-agent", "bolt-sync"].contains(&of("program")), "{line}");
        assert!(["error", "warn", "info", "debug"].contains(&of("level")), "{line}");
        assert!(of("time").ends_with('Z') && !of("time").starts_with("1999") && !of("message").is_empty(), "{line}");
        object
    };
    log.strip_suffix('\n').unwrap().split('\n').map(one).collect()
}

#[tokio::test]
async fn a_log_in_json_has_one_object_in_each_line_with_stable_names() {
    let world = World::empty();
    world.publish(&taken());
    let agent = world.start(&allowing().env("BOLT_LOG_FORMAT", "json"));
    let operator = world.operator(&agent);
    let ran = operator.run("probe.texts", json!({})).await;
    hostile_requests(&world, &agent).await;
    for bytes in refused().into_iter().step_by(3) {
        let call = Call::post("/v1/packs/push?pack=probe&version=1.1.0", bytes);
        operator.send(call.header("content-type", "application/gzip")).await;
    }
    let lines = json_lines(&fs::read_to_string(agent.log()).unwrap());
    let find = |program: &str, message: &str| {
        let found = lines.iter().find(|line| line["program"] == program && line["message"] == message);
        found.unwrap_or_else(|| panic!("{program} never says {message}: {lines:?}"))
    };
    let accepted = find("bolt-agent", "accepted");
    let of = |name: &str| accepted[name].as_str().unwrap();
    assert_eq!((of("execution"), of("action"), of("principal")), (ran.id.as_str(), "probe.texts", OPERATOR));
    let refused = find("bolt-agent", "refused");
    let names = ["request_id", "principal", "verb", "action", "code", "reason", "route"];
    assert!(names.iter().all(|name| refused.contains_key(*name)), "{refused:?}");
    assert!(find("bolt-agent", "request").contains_key("duration_ms"));
    find("bolt-sync", "poll done");
    assert!(lines.iter().any(|line| line["program"] == "bolt-launch"), "{lines:?}");
    let repeated =
        lines.iter().filter(|line| line.values().any(|value| value.as_str().unwrap().contains("1999-01-01")));
    assert!(repeated.count() > 2, "few of them repeat hostile text: the test shows little\n{lines:?}");
}

#[tokio::test]
async fn no_pack_and_no_caller_writes_a_line_of_the_log() {
    let world = World::empty();
    world.publish(&taken());
    let agent = world.start(&allowing());
    let operator = world.operator(&agent);

    for action in ["speak", "result", "interpreter", "texts"] {
        let ran = operator.run(&format!("probe.{action}"), json!({})).await;
        assert!(ran.state != State::Succeeded || action == "result" || action == "texts", "{ran:?}");
    }
    hostile_requests(&world, &agent).await;

    // Through a real push, and the sync that takes it.
    let archives = refused();
    let mut said = 0;
    for bytes in &archives {
        let call = Call::post("/v1/packs/push?pack=probe&version=1.1.0", bytes.clone());
        let answer = operator.send(call.header("content-type", "application/gzip")).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        said += usize::from(answer.text().contains("activated"));
    }
    assert!(said > archives.len() / 3, "{said}: few of them are repeated in answers: the test shows little");

    // Through a real poll, with valid signatures.
    let built =
        bolt_client::pack::build(&PackSource::probe().version("1.1.0").write(&world.scratch("signed"))).unwrap();
    let prod = ChannelName::new("prod").unwrap();
    let options = PublishOptions::new("", world.site.repository(), world.site.keys(), vec![prod]);
    for (number, bytes) in archives.into_iter().enumerate().filter(|(number, _)| number % 4 == 0) {
        let mut pack = built.pack.clone();
        pack.version = packs_schema::base::name::PackVersion::new(&format!("1.1.{}", number + 1)).unwrap();
        publish_archive(&bytes, pack, &options).unwrap();
        let before = agent.sync_status().map_or(0, |status| status.polls);
        operator.send(Call::post("/v1/packs/sync", "")).await;
        until("a poll", async || agent.sync_status().is_some_and(|status| status.polls > before)).await;
    }

    let log = fs::read_to_string(agent.log()).unwrap();
    let lines = check(&log);
    let repeated = log.lines().filter(|line| line.contains("pack activated pack=evil")).count();
    assert!(
        lines > 60 && repeated > 10,
        "{repeated} of {lines} lines repeat hostile text: the test shows little\n{log}"
    );
    for program in [" INFO request ", "push refused", "pack failed", "program=bolt-launch"] {
        assert!(log.contains(program), "nothing of {program:?} in the log");
    }
}
