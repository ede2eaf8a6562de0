//! Text that others wrote (instances, archives, names of files, repositories) reaches a terminal as text, in every
//! command, errors included.

use std::fs;
use std::path::Path;

use bolt_client::cli::Cli;
use bolt_client::inventory::Inventory;
use bolt_client::pack;
use clap::CommandFactory as _;
use hyper::StatusCode;
use packs_schema::agent::rest::{Code, PROBLEM_TYPE, Problem};
use packs_schema::base::name::PackName;
use serde_json::{Value, json};

use crate::hostile::{ID, execution, health, listed};
use crate::server::{Server, World, answer};

/// Clears the screen, reverses text, a C1 sequence, and goes back over the line.
const HOSTILE: &str = "\x1b[2J\u{202e}\u{9b}31mX\rFORGED";

fn acts(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// An instance that puts hostile text wherever text may stand.
async fn instance(world: &World, view: Value) -> Server {
    let handler = move |request: &hyper::Request<bytes::Bytes>| {
        let mut problem = Problem::new(Code::InvalidPack, HOSTILE, HOSTILE);
        problem.title = HOSTILE.to_owned();
        let refused = answer(StatusCode::UNPROCESSABLE_ENTITY, PROBLEM_TYPE, json!(problem).to_string());
        let mut run = execution(ID, "i-1", "failed");
        for key in ["reason", "note", "kill_note", "result_error"] {
            run[key] = json!(HOSTILE);
        }
        run["waiting"] = json!({ "reason": "group", "group": HOSTILE, "running": 1, "max": 1, "ahead": 0 });
        run["result"] = json!({ HOSTILE: HOSTILE });
        run["unenforced"] = json!([HOSTILE]);
        run["parameters"] = json!({ "a": HOSTILE });
        let pack = json!({ "name": "tried", "description": HOSTILE, "version": "1.0.0", "digest": "0".repeat(64), "actions": 1,
            "failed": { "version": "1.0.1", "step": HOSTILE, "message": HOSTILE, "at_ms": 1,
                "findings": [{ "severity": "error", "code": "x", "at": HOSTILE, "message": HOSTILE }] } });
        let said = match (request.method().as_str(), request.uri().path()) {
            ("GET", "/v1/health") => {
                let mut said = health("i-1");
                said["reasons"] = json!([{ "code": HOSTILE, "message": format!("{HOSTILE}\nFORGED") }]);
                said["degraded"] = json!(true);
                said
            }
            ("GET", "/v1/access") => json!({
                "instance": "i-1", "principal": "spiffe://x/y", "verb": "run", "action": "tried.uptime", "allowed": false,
                "reason": format!("{HOSTILE}\nFORGED"),
            }),
            ("GET", "/v1/packs") => json!({ "items": [pack] }),
            ("GET", "/v1/actions") => json!({ "items": [view] }),
            ("GET", path) if path.starts_with("/v1/actions/") => view.clone(),
            ("GET", "/v1/executions") => json!({ "items": [run] }),
            ("GET", path) if path.ends_with("/output") => {
                // A whole line: one without its end would be asked for again, with pauses.
                let chunk = json!({ "stream": "stdout", "offset": 0, "at_us": 1, "text": HOSTILE });
                return answer(StatusCode::OK, "application/x-ndjson", format!("{chunk}\n"));
            }
            ("GET", path) if path.ends_with("/stdout") || path.ends_with("/stderr") => {
                return answer(StatusCode::OK, "application/octet-stream", HOSTILE);
            }
            ("GET", path) if path.starts_with("/v1/executions/") => run,
            ("POST", "/v1/executions") => {
                let asked: Value = serde_json::from_slice(request.body()).unwrap();
                run["action"] = asked["action"].clone();
                run["run"] = asked["run"].clone();
                run
            }
            _ => return refused,
        };
        answer(StatusCode::OK, "application/json", said.to_string())
    };
    world.server("i-1", handler).await
}

/// A pack with errors, in files and a directory whose names act.
fn hostile_pack(directory: &Path) {
    pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, directory).unwrap();
    fs::write(directory.join(format!("{HOSTILE}\nFORGED")), "x").unwrap();
    fs::write(directory.join("pack.yaml"), format!("name: \"{}\"\nversion: \"\\e[2J\"\n\"\\e[2J\": 1\n", "\\u202e"))
        .unwrap();
}

fn leaves(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    let mut below = command.get_subcommands().peekable();
    if below.peek().is_none() {
        found.push(path.to_vec());
    }
    for sub in below {
        leaves(sub, &[path, &[sub.get_name().to_owned()]].concat(), found);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_lets_anybody_elses_text_act() {
    let world = World::new();
    let good = world.path().join("good");
    pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, &good).unwrap();
    let mut view = listed(&pack::lint(&good).unwrap().checked.unwrap().actions.pop().unwrap());
    view["description"] = json!(HOSTILE);
    view["tags"] = json!([HOSTILE]);
    let server = instance(&world, view).await;
    fs::write(world.path().join("inventory.toml"), Inventory::of(vec![server.instance.clone()]).to_toml()).unwrap();
    let mut hostile = server.instance.clone();
    hostile.facts.zone = HOSTILE.to_owned();
    let hostile_inventory = world.path().join("hostile.toml").display().to_string();
    fs::write(&hostile_inventory, Inventory::of(vec![hostile]).to_toml()).unwrap();
    let place = world.path().join(HOSTILE);
    fs::create_dir(&place).unwrap();
    hostile_pack(&place.join("pack"));
    let at = |name: &str| place.join(name).display().to_string();
    let (bad, gone, good) = (at("pack"), at("gone"), good.display().to_string());
    let keys = ["--keys", &gone];
    let repo = ["--repo", &gone];
    let of = |start: &[&str], more: &[&[&str]]| -> Vec<String> {
        start.iter().chain(more.iter().copied().flatten()).map(|text| (*text).to_owned()).collect()
    };
    let mut cases = vec![
        of(&["run", "tried.uptime", "--yes"], &[]),
        of(&["run", "tried.uptime", "--params-file", &gone], &[]),
        of(&["ps"], &[]),
        of(&["history"], &[]),
        of(&["show", ID], &[]),
        of(&["logs", ID], &[]),
        of(&["kill", ID], &[]),
        of(&["ps", "--wide"], &[]),
        of(&["show", "r-1"], &[]),
        of(&["logs", "--run", "r-1"], &[]),
        of(&["wait", "r-1"], &[]),
        of(&["kill", "--run", "r-1", "--yes"], &[]),
        of(&["actions"], &[]),
        of(&["actions", "tried.uptime"], &[]),
        of(&["actions", HOSTILE], &[]),
        of(&["instances"], &[]),
        of(&["instances", "--check"], &[]),
        of(&["packs"], &[]),
        of(&["sync"], &[]),
        of(&["can-i", "run", "tried.uptime"], &[]),
        of(&["pack", "diff", "tried", &bad, &good], &[]),
        of(&["pki", "init", &at("ca")], &[]),
        of(&["pki", "show", &gone], &[]),
        of(&["pki", "sign", &gone, "--ca", &at("ca")], &[]),
        of(&["pki", "issue", "--ca", &at("ca"), "instance", "i-1", "--out", &at("tls")], &[]),
        of(&["pki", "issue", "--ca", &gone, "client", "spiffe://x/y", "--out", &at("tls")], &[]),
        of(&["pack", "new", "tried", "--dir", &at("new")], &[]),
        of(&["pack", "lint", &bad], &[]),
        of(&["pack", "build", &bad], &[]),
        of(&["pack", "build", &good, "--output", &at("none/x.tar.gz")], &[]),
        of(&["pack", "test", &bad, "uptime"], &[]),
        of(&["pack", "test", &good, HOSTILE], &[]),
        of(&["pack", "push", &bad, "--to", "i-1"], &[]),
        of(&["pack", "push", &good, "--to", "i-1"], &[]),
        of(&["pack", "unpush", "tried", "--from", "i-1"], &[]),
        of(&["pack", "check", "--packs", &place.display().to_string()], &[]),
        of(&["demo", "--stop", &gone], &[]),
        of(&["man", &at("pack/pack.yaml")], &[]),
        of(&["--config", &gone, "ps"], &[]),
        of(&["--inventory", &bad, "ps"], &[]),
        of(&["--inventory", &hostile_inventory, "instances"], &[]),
        of(&["repo", "init", &bad], &[&keys]),
        of(&["repo", "publish", &bad], &[&repo, &keys, &["--channel", "prod"]]),
        of(&["repo", "publish", &good], &[&repo, &keys, &["--channel", "prod"]]),
        of(&["repo", "status"], &[&repo]),
        of(&["repo", "log"], &[&repo]),
        of(&["repo", "refresh"], &[&repo, &keys]),
        of(&["repo", "promote", "tried", "--from", "test", "--to", "prod"], &[&repo, &keys]),
    ];
    let mut all = Vec::new();
    leaves(&Cli::command(), &[], &mut all);
    assert!(all.len() > 25, "{all:?}");
    // Each command echoes what it does not understand, and what it cannot open.
    for leaf in &all {
        cases.push([leaf.as_slice(), &[HOSTILE.to_owned()]].concat());
        cases.push([leaf.as_slice(), &[format!("--no-such-{HOSTILE}")]].concat());
    }
    for case in cases {
        for json in [false, true] {
            let mut arguments: Vec<&str> = case.iter().map(String::as_str).collect();
            arguments.extend(json.then_some("--json"));
            let output = world.bolt(&arguments).await;
            let shows = String::from_utf8_lossy(&output.stdout).contains("FORGED");
            assert!(shows || arguments[..] != ["logs", ID], "the output of the execution is not shown: {output:?}");
            for bytes in [output.stdout, output.stderr] {
                let said = String::from_utf8(bytes).unwrap();
                assert!(!said.contains(acts), "{arguments:?}: {said:?}");
                assert!(!said.lines().any(|line| line.starts_with("FORGED")), "{arguments:?}: {said:?}");
                assert!(!said.contains("panicked"), "{arguments:?}: {said:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_contain_no_text_that_acts() {
    let world = World::new();
    let good = world.path().join("good");
    pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, &good).unwrap();
    let mut view = listed(&pack::lint(&good).unwrap().checked.unwrap().actions.pop().unwrap());
    view["description"] = json!(format!("{HOSTILE}\nFORGED $(reboot) `x`"));
    view["parameters"] =
        json!({ "how": { "type": "string", "description": HOSTILE, "enum": ["calm", "$(x)", HOSTILE] } });
    let server = instance(&world, view).await;
    // A hostile inventory is refused as a whole: see `inventory::entry`.
    fs::write(world.path().join("inventory.toml"), Inventory::of(vec![server.instance.clone()]).to_toml()).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        for (line, wanted) in [
            (&["run", "tri"][..], "tried.uptime"),
            (&["run", "tried.uptime", ""], "how="),
            (&["run", "tried.uptime", "how="], "calm"),
            (&["run", "tried.uptime", "--on", "i"], "i-1"),
        ] {
            let command = world.command(line);
            let words: Vec<_> = command.as_std().get_args().collect();
            let mut completing = tokio::process::Command::new(command.as_std().get_program());
            completing.arg("--").arg("bolt").args(&words);
            completing.env("BOLT_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", words.len().to_string());
            completing.env("XDG_CACHE_HOME", world.path().join("cache"));
            let output = completing.output().await.unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.contains(wanted), "{shell} {line:?}: {said:?} {:?}", output.stderr);
            assert!(!said.contains(acts) && !said.lines().any(|line| line.starts_with("FORGED")), "{said:?}");
            // The help of options is our own text.
            let mut theirs = said.lines().filter(|line| !line.starts_with("--"));
            assert!(theirs.all(|line| !line.contains(['$', '`'])), "{said:?}");
        }
    }
}
