//! A grant for one action shows nothing of any other action, on any route; each refusal is logged.

use std::cell::RefCell;
use std::io::{Read, Write as _};

use packs_schema::agent::launch::{Outcome, Reply, read_request};
use serde_json::{Value, json};

use super::*;
use crate::log::Logger;

/// Part of every name that the caller must not see.
const CANARY: &str = "canary";
const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const GRANTS: &str = r#"
[[grant]]
principal = "spiffe://x/root"
verbs = ["read", "run", "kill", "sync", "push"]
actions = ["*"]
[[grant]]
principal = "spiffe://x/ann"
verbs = ["read", "run", "kill", "sync", "push", "metrics"]
actions = ["linux.seen"]
[[grant]]
principal = "spiffe://x/runner"
verbs = ["run"]
actions = ["linux.seen"]
[[grant]]
principal = "spiffe://x/scraper"
verbs = ["metrics"]
actions = ["*"]
[[grant]]
principal = "spiffe://x/diagnostics"
verbs = ["read"]
actions = ["*"]
classes = ["diagnostic"]
[[grant]]
principal = "spiffe://x/diagnostics"
verbs = ["run", "kill"]
actions = ["linux.*"]
classes = ["remediation"]
where = 'region == "elsewhere"'
"#;

fn write(path: &Path, value: &Value) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
}

/// Puts a pack with these actions and classes into the store, active.
fn put_pack(packs: &Path, name: &str, actions: &[(&str, &str)]) {
    let version = format!("1.0.0-{}", &DIGEST[..12]);
    let meta = packs.join(name).join(&version).join(".bolt");
    let pack = json!({"name": name, "version": "1.0.0", "description": "", "author": "", "email": "", "keywords": []});
    write(&meta.join("pack.json"), &json!({"format": 1, "digest": DIGEST, "pack": pack}));
    for (action, class) in actions {
        let action_json = json!({"pack": name, "name": action, "description": "", "runner_type": "local-shell-script",
            "entry_point": "x.sh", "enabled": true, "parameters": {}, "tags": [], "class": class, "timeout": "30s",
            "grace": "5s", "start_within": "1m", "output_max": "1MiB", "noop": false, "new_privileges": false,
            "limits": {"memory": "256MiB", "cpu": "100%", "pids": 64, "open_files": 256}});
        write(&meta.join(format!("actions/{action}.json")), &action_json);
    }
    std::os::unix::fs::symlink(version, packs.join(name).join("current")).unwrap();
}

fn put_packs(dir: &Path) {
    let packs = dir.join("packs");
    put_pack(&packs, "linux", &[("seen", "diagnostic"), ("canary", "remediation")]);
    put_pack(&packs, "canarypack", &[("act", "remediation")]);
    let failed = json!({"version": "1.1.0", "step": "check", "message": "actions/canary.yaml: no such runner",
        "findings": [{"severity": "error", "code": "x", "at": "actions/canary.yaml", "message": "canary"}], "at_ms": 1});
    let status = json!({"polled_at_ms": 1, "succeeded_at_ms": 1, "failure": null, "expired": false, "polls": 1,
        "failures": 0, "failed": [["linux", failed], ["canaryfailed", failed]]});
    write(&packs.join(".status.json"), &status);
}

/// Runs a launcher that accepts every request and does nothing.
fn answer_for_launcher(api: &Api) {
    let mut socket = api._launcher.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut length = [0; 4];
        while socket.read_exact(&mut length).is_ok() {
            let mut frame = vec![0; u32::from_le_bytes(length) as usize];
            socket.read_exact(&mut frame).unwrap();
            let request = read_request(&frame).unwrap();
            let reply = serde_json::to_vec(&Reply { seq: request.seq, outcome: Outcome::Done }).unwrap();
            let _ = socket.write_all(&(reply.len() as u32).to_le_bytes()).and_then(|()| socket.write_all(&reply));
        }
    });
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(super) fn body(answer: &str) -> Value {
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

pub(super) async fn run_action(api: &Api, caller: &Identity, action: &str) -> String {
    let request = post("/v1/executions", &json!({"action": action}).to_string());
    let answer = api.raw(Some(caller), &request).await.unwrap();
    assert!(matches!(status(&answer), 200 | 202), "{answer}");
    body(&answer)["id"].as_str().unwrap().to_owned()
}

pub(super) async fn start() -> Api {
    let api = Api::start_with(|dir| {
        std::fs::write(dir.join("grants.toml"), GRANTS).unwrap();
        put_packs(dir);
    })
    .await;
    answer_for_launcher(&api);
    api
}

/// Ends an execution as its shim would: an exit record is renamed into place.
fn end(api: &Api, id: &str) {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/execution-format-1/exit");
    let mut record: Value = serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    record["id"] = json!(id);
    let directory = api.dir.path().join("state/exec").join(id);
    std::fs::write(directory.join("exit.new"), record.to_string()).unwrap();
    std::fs::rename(directory.join("exit.new"), directory.join("exit")).unwrap();
}

/// Beginnings of lines of the metrics that name a pack or an action: gauges, and a histogram.
fn lines_of(pack: &str, failed: &str, action: &str) -> [String; 3] {
    [
        format!("bolt_pack_info{{pack=\"{pack}\""),
        format!("bolt_sync_pack_failed{{pack=\"{failed}\""),
        format!("bolt_execution_duration_seconds_bucket{{pack=\"{pack}\",action=\"{action}\",le="),
    ]
}

#[tokio::test]
async fn a_grant_for_one_action_shows_no_other_on_any_route() {
    let api = start().await;
    let root = leaf(&api.issuer, &["spiffe://x/root"], |_| {});
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let hidden = run_action(&api, &root, "linux.canary").await;
    // Histograms hold executions that have ended.
    end(&api, &run_action(&api, &root, "canarypack.act").await);
    end(&api, &run_action(&api, &ann, "linux.seen").await);
    // A caller that may see everything gets everything.
    for path in
        ["/v1/metrics", "/v1/packs", "/v1/packs/linux", "/v1/actions", "/v1/executions", "/v1/events", "/v1/health"]
    {
        let answer = api.ask(Some(&root), "GET", path, "").await.unwrap();
        assert!(answer.contains(CANARY), "{path}: {answer}");
    }
    for (pack, failed, action) in [("canarypack", "canaryfailed", "canarypack.act"), ("linux", "linux", "linux.seen")] {
        for line in lines_of(pack, failed, action) {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            loop {
                let metrics = api.ask(Some(&root), "GET", "/v1/metrics", "").await.unwrap();
                if metrics.contains(&line) {
                    break;
                }
                assert!(tokio::time::Instant::now() < deadline, "{line}: {metrics}");
            }
        }
    }
    let mut walked = 0;
    for (path, methods) in crate::api::openapi_document()["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()) {
            let target = path.replace("{id}", &hidden).replace("{action}", "linux.seen").replace("{pack}", "linux");
            let answer = api.ask(Some(&ann), &method, &target, "").await.unwrap();
            assert!(!answer.contains(CANARY), "{method} {target}: {answer}");
            // An existing name gets the same response as one that does not exist.
            for (there, absent) in [("linux.canary", "linux.absent"), ("canarypack", "nonexisting")] {
                let part = if there.contains('.') { "{action}" } else { "{pack}" };
                if path.contains(part) {
                    let mut answers = Vec::new();
                    for name in [there, absent] {
                        let answer = api.ask(Some(&ann), &method, &path.replace(part, name), "").await.unwrap();
                        let mut problem = body(&answer.replace(name, "NAME"));
                        problem["request_id"] = Value::Null;
                        answers.push(problem);
                    }
                    assert_eq!(answers[0], answers[1], "{method} {path}");
                }
            }
            walked += 1;
        }
    }
    assert!(walked >= 17);
    // The caller sees what its grant covers.
    let packs = body(&api.ask(Some(&ann), "GET", "/v1/packs", "").await.unwrap());
    assert_eq!(packs["items"].as_array().unwrap().len(), 1, "{packs}");
    assert_eq!((&packs["items"][0]["name"], &packs["items"][0]["actions"]), (&json!("linux"), &json!(1)));
    assert_eq!(packs["items"][0]["failed"]["version"], "1.1.0");
    let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
    assert!(
        metrics.contains("bolt_executions_total{pack=\"linux\",action=\"linux.seen\",state=\"queued\"} 1"),
        "{metrics}"
    );
    for line in lines_of("linux", "linux", "linux.seen") {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    // Broken grants are not quoted to a caller that may see less than they hold.
    let broken = format!("{GRANTS}\nactions = [\"linux.canary\"] canary\n");
    crate::site_file::replace(api.dir.path().join("grants.toml"), broken);
    api.ask(Some(&ann), "GET", "/v1/actions", "").await.unwrap();
    let health = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
    assert!(
        health.contains("grants_invalid") && health.contains("wrong at line 30") && !health.contains(CANARY),
        "{health}"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_scraper_sees_metrics_only_and_a_class_limits_a_grant_to_its_actions() {
    let api = start().await;
    let root = leaf(&api.issuer, &["spiffe://x/root"], |_| {});
    let scraper = leaf(&api.issuer, &["spiffe://x/scraper"], |_| {});
    let diagnostics = leaf(&api.issuer, &["spiffe://x/diagnostics"], |_| {});
    let runner = leaf(&api.issuer, &["spiffe://x/runner"], |_| {});
    run_action(&api, &root, "linux.canary").await;
    let metrics = api.ask(Some(&scraper), "GET", "/v1/metrics", "").await.unwrap();
    assert!(metrics.contains("action=\"linux.canary\""), "{metrics}");
    for (method, target, needs_grant) in every_route(&api) {
        // A review of its own grants shows nothing else.
        if needs_grant && target != "/v1/metrics" && target != "/v1/access" {
            let answer = api.ask(Some(&scraper), &method, &target, "").await.unwrap();
            assert_eq!(status(&answer), 403, "{method} {target}: {answer}");
        }
    }
    for path in
        ["/v1/metrics", "/v1/packs", "/v1/packs/linux", "/v1/actions", "/v1/executions", "/v1/events", "/v1/health"]
    {
        let answer = api.ask(Some(&diagnostics), "GET", path, "").await.unwrap();
        // A grant on all actions of a class could cover one of a pack that has none yet: the pack itself is no secret.
        let answer = answer.replace("canaryfailed", "");
        assert!(status(&answer) == 200 && !answer.contains(CANARY), "{path}: {answer}");
    }
    // A caller that may run an action may see its definition, and no output.
    let seen = api.ask(Some(&runner), "GET", "/v1/actions/linux.seen", "").await.unwrap();
    assert_eq!(status(&seen), 200, "{seen}");
    assert_eq!(status(&api.ask(Some(&runner), "GET", "/v1/executions", "").await.unwrap()), 403);
    api.stop().await;
}

thread_local! {
    /// Log lines of this thread. Each test has its own thread, which its runtime does not leave.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Returns the log lines of this thread since the last call.
pub(super) fn take_log() -> String {
    static START: std::sync::Once = std::sync::Once::new();
    START.call_once(|| {
        // Global: a subscriber of one thread misses call sites that another thread registered first.
        let write = |line: &[u8]| LOG.with_borrow_mut(|log| log.extend_from_slice(line));
        tracing::subscriber::set_global_default(Logger::for_tests(write)).unwrap();
    });
    String::from_utf8(LOG.take()).unwrap()
}

#[tokio::test]
async fn a_refusal_is_logged_with_principal_verb_action_reason_and_request() {
    take_log();
    let api = start().await;
    let root = leaf(&api.issuer, &["spiffe://x/root"], |_| {});
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let bob = leaf(&api.issuer, &["spiffe://x/bob"], |_| {});
    let nameless = leaf(&api.issuer, &["dns:x"], |_| {});
    let hidden = run_action(&api, &root, "linux.canary").await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let create = |action: &str| post("/v1/executions", &json!({"action": action, "note": "hunter2"}).to_string());
    let kill = post(&format!("/v1/executions/{hidden}/kill"), "{}");
    for (caller, request, answered, principal, verb, action, reason) in [
        (
            &bob,
            create("linux.seen"),
            403,
            "spiffe://x/bob",
            "run",
            "linux.seen",
            "no grant lets spiffe://x/bob run linux.seen",
        ),
        (&bob, kill.clone(), 403, "spiffe://x/bob", "kill", "linux.canary", "the verb kill on anything"),
        (
            &bob,
            get("/v1/actions/linux.seen"),
            403,
            "spiffe://x/bob",
            "read or run",
            "linux.seen",
            "read or run linux.seen",
        ),
        (&bob, get("/v1/metrics"), 403, "spiffe://x/bob", "read or metrics", "-", "the verb read or metrics"),
        (&ann, create("linux.canary"), 403, "spiffe://x/ann", "run", "linux.canary", "run linux.canary"),
        (&ann, create("linux.canary\\n"), 400, "spiffe://x/ann", "run", "-", "invalid body"),
        (&ann, kill, 404, "spiffe://x/ann", "kill", "linux.canary", "no grant lets spiffe://x/ann kill linux.canary"),
        (
            &ann,
            get(&format!("/v1/executions/{hidden}")),
            404,
            "spiffe://x/ann",
            "read",
            "linux.canary",
            "read linux.canary",
        ),
        (&ann, post("/v1/packs/linux/unpush", ""), 403, "spiffe://x/ann", "push", "-", "does not allow pushed packs"),
        (&nameless, get("/v1/info"), 401, "-", "read", "-", "URI"),
    ] {
        take_log();
        let answer = api.raw(Some(caller), &request).await.unwrap();
        assert_eq!(status(&answer), answered, "{request}: {answer}");
        let text = take_log();
        let line = text.lines().find(|line| line.contains(" refused ")).unwrap_or_else(|| panic!("{request}: {text}"));
        let id = answer.split("bolt-request-id: ").nth(1).unwrap().split('\r').next().unwrap();
        for part in [
            format!("request_id={id:?}"),
            format!("principal={principal}"),
            format!("verb={verb:?}"),
            format!("action={action:?}"),
            reason.to_owned(),
        ] {
            assert!(line.contains(&part), "{part}: {line}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
    api.stop().await;
}
