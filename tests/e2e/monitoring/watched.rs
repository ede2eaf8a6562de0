//! An agent to which everything has happened that its metrics can tell.

use std::time::Duration;

use bolt_client::local::{AgentSpec, LocalAgent, OPERATOR};
use bolt_client::pki::Validity;
use bolt_tests::http::{Call, send};
use bolt_tests::{PackSource, World, spec};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::calls::until;

/// Returns the metrics of an agent with executions in many states, failed polls and packs, a pushed pack, refusals, a broken
/// file and certificates that end soon.
pub(crate) async fn busy_agent() -> String {
    let world = World::with_probe();
    world.publish(&PackSource::new("broken", "1.0.0").action("hello", "bolt: {class: diagnostic}", "#!/bin/sh\n"));
    // The last day of a month.
    let mut validity = Validity::days(1);
    validity.not_before -= Duration::from_secs(30 * 86_400);
    let spec = AgentSpec { grants: Some(grants()), ..spec("i-1").set("dev", "push", true) };
    let agent = with_certificate(&world, &spec, &[], validity);
    let operator = world.operator(&agent);
    for action in ["hello", "fail"] {
        operator.run(&format!("probe.{action}"), json!({})).await;
    }
    let sleeping = operator.start("probe.sleep", json!({})).await;
    operator.send(Call::post(&format!("/v1/executions/{}/kill", sleeping.id), Vec::new())).await;
    operator.wait(&sleeping).await;

    push(&world, &agent).await;
    operator.run("pushed.hello", json!({})).await;
    refused(&world, &agent).await;
    // A version that fails, then a repository that cannot be verified.
    let archive = world.site.repository();
    world.publish(&PackSource::new("broken", "1.1.0").action("hello", "bolt: {class: diagnostic}", "#!/bin/sh\n"));
    damage(&archive, "1.1.0.tar.gz");
    poll(&world, &agent).await;
    damage(&archive, "timestamp.json");
    poll(&world, &agent).await;
    std::fs::write(agent.directory().join("etc/grants.toml"), "[[grant]\n").unwrap();

    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    let mut text = String::new();
    until("a broken file in the metrics", async || {
        text = operator.send(Call::get("/v1/metrics")).await.text();
        text.contains("bolt_file_invalid{") && text.contains("bolt_handshakes_failed_total{")
    })
    .await;
    text
}

/// Starts an agent with a certificate of this validity, which names these addresses as well.
pub(crate) fn with_certificate(
    world: &World,
    spec: &AgentSpec,
    addresses: &[String],
    validity: Validity,
) -> LocalAgent {
    let mut agent = LocalAgent::prepare(&world.site, spec).unwrap();
    let tls = agent.directory().join("etc/tls");
    let issued = world.site.authority().issue_instance_at(&spec.facts.id, addresses, validity).unwrap();
    let (certificate, key) = issued.write(&world.scratch("reissued"), "agent").unwrap();
    std::fs::copy(certificate, tls.join("agent.pem")).unwrap();
    // The file of the key keeps its owner and mode.
    std::fs::write(tls.join("agent.key"), std::fs::read(key).unwrap()).unwrap();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    agent
}

fn grants() -> String {
    let verbs = "[\"read\", \"run\", \"kill\", \"sync\", \"push\"]";
    format!("[[grant]]\nprincipal = \"{OPERATOR}\"\nverbs = {verbs}\nactions = [\"*\"]\n")
}

async fn push(world: &World, agent: &LocalAgent) {
    let pack = PackSource::new("pushed", "1.0.0").action("hello", "bolt: {class: diagnostic}", "#!/bin/sh\n");
    let built = bolt_client::pack::build(&pack.write(&world.scratch("pushed"))).unwrap();
    let call = Call::post("/v1/packs/push?pack=pushed&version=1.0.0", built.archive.to_vec().unwrap());
    let answer = world.operator(agent).send(call.header("content-type", "application/gzip")).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

/// Sends what is refused: an unknown action, and a peer that does not speak TLS.
async fn refused(world: &World, agent: &LocalAgent) {
    assert_eq!(world.operator(agent).submit("probe.none", json!({})).await.status, 404);
    assert!(send(agent.address(), None, Call::get("/v1/health")).await.is_err());
    let mut socket = tokio::net::TcpStream::connect(agent.address()).await.unwrap();
    drop(socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await);
}

/// Polls, and waits for the end of the poll.
async fn poll(world: &World, agent: &LocalAgent) {
    let before = agent.sync_status().map_or(0, |status| status.polls);
    assert_eq!(world.operator(agent).send(Call::post("/v1/packs/sync", "")).await.status, 202);
    until("a poll", async || agent.sync_status().is_some_and(|status| status.polls > before)).await;
}

/// Flips a bit in the file of the repository whose name ends with `end`.
fn damage(directory: &std::path::Path, end: &str) {
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }
}
