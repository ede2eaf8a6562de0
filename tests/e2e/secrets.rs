//! A canary: a secret that a caller gave is searched for in everything that Bolt writes or shows.

use std::fs;
use std::path::Path;

use bolt_tests::World;
use bolt_tests::http::Call;
use packs_schema::agent::rest::Execution;
use serde_json::json;

use crate::calls::{refused, run, until};

const CANARY: &str = "canary-4cd1f7a2";

/// The files below `path` that hold `canary`.
pub(crate) fn search(path: &Path, canary: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(path).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&path, canary, found);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(canary.len()).any(|window| window == canary.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[tokio::test]
async fn a_secret_is_in_no_file_log_listing_or_error() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let parameters = json!({"name": "abc", "token": CANARY});
    let call = Call::post("/v1/executions", run("probe.typed", parameters)).header("idempotency-key", "k-1");
    let answer = operator.send(call).await;
    assert!(answer.status.is_success() && !answer.text().contains(CANARY), "{}", answer.text());
    let execution = operator.wait(&answer.json::<Execution>()).await;
    assert!(operator.stdout(&execution).await.contains(CANARY), "the action itself did get it");
    // An error about a secret does not repeat it.
    let wrong = operator.submit("probe.typed", json!({"name": "abc", "token": [CANARY]})).await;
    refused(&wrong, packs_schema::agent::rest::Code::InvalidParameters, "token");
    assert!(!wrong.text().contains(CANARY));
    for path in ["/v1/executions", &format!("/v1/executions/{}", execution.id), "/v1/metrics", "/v1/events"] {
        let shown = operator.send(Call::get(path)).await.text();
        assert!(!shown.contains(CANARY), "{path}: {shown}");
    }
    // The audit log is written behind the start.
    until("its entry in the audit log", async || {
        let mut found = Vec::new();
        search(&agent.state().join("audit"), execution.id.as_str(), &mut found);
        search(&agent.state().join("audit"), "\"invalid_parameters\"", &mut found);
        found.len() == 2
    })
    .await;
    let mut found = Vec::new();
    search(agent.directory(), CANARY, &mut found);
    // The action printed it, so that its output holds it: the one place.
    found.retain(|path| !path.ends_with("output.log"));
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn the_command_line_takes_no_literal_secret() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let said = bolt.run(["run", "probe.typed", "name=abc", &format!("token={CANARY}"), "--on", "i-1"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("token") && !said.stderr.contains(CANARY), "{said:?}");
    let file = world.path().join("token");
    fs::write(&file, CANARY).unwrap();
    let said = bolt.run(["run", "probe.typed", "name=abc", &format!("token=@{}", file.display()), "--on", "i-1"]);
    assert_eq!(said.code, 0, "{said:?}");
}
