//! Site configuration of a pack: a version that rejects it is not activated, and every view of the fleet reports that.

use std::fs;

use bolt_tests::http::Call;
use bolt_tests::{PackSource, World, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Health, PackList};
use serde_json::json;

use crate::calls::until;

fn pack(version: &str, schema: &str) -> PackSource {
    PackSource::new("hello", version)
        .action("hello", "bolt: {class: diagnostic}", "#!/bin/sh\necho \"$BOLT_CONFIG_PLACE\"\n")
        .file("config.schema.yaml", schema, 0o644)
}

#[tokio::test]
async fn a_version_that_the_configuration_does_not_fit_is_not_activated_and_every_view_agrees() {
    let world = World::empty();
    world.publish(&pack("1.0.0", "place: {type: string, default: here}\n"));
    let agent = world.start(&spec("i-1").set("repository", "poll", "1s"));
    let operator = world.operator(&agent);
    let bolt = world.bolt(&[&agent]);
    let repository = world.repository().display().to_string();
    let view = async || -> PackList { operator.send(Call::get("/v1/packs")).await.json() };
    until("1.0.0", async || view().await.items.iter().any(|pack| pack.version.is_some())).await;

    world.publish(&pack("1.1.0", "place: {type: string, required: true}\n"));
    until("a failure", async || view().await.items[0].failed.is_some()).await;
    let shown = view().await.items.remove(0);
    let failed = shown.failed.unwrap();
    assert_eq!((failed.step.as_str(), failed.version.unwrap().to_string().as_str()), ("configure", "1.1.0"));
    assert_eq!(shown.version.unwrap().to_string(), "1.0.0");
    let said = bolt.run(["packs"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("hello 1.1.0 could not be activated (configure): "), "{said:?}");
    assert!(said.stdout.contains("1.0.0") && !said.stdout.contains("1.1.0"), "{said:?}");
    let (_, status) = bolt.json(["repo", "status", "--repo", &repository, "--reached"]);
    let prod = status["reached"].as_array().unwrap().iter().find(|r| r["pack"] == "hello").unwrap();
    assert_eq!(prod["reached"], json!([]), "{status}");
    assert!(prod["behind"][0]["failed"].as_str().unwrap().contains("place must be given"), "{status}");
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    let reason = health.reasons.iter().find(|reason| reason.code == "pack_failed").unwrap();
    assert!(health.ready && reason.message.starts_with("hello 1.1.0: configure: "), "{health:?}");
    let ran = operator.run("hello.hello", json!({})).await;
    assert_eq!((ran.state, ran.version.to_string().as_str()), (State::Succeeded, "1.0.0"));
    assert_eq!(operator.stdout(&ran).await, "here\n");

    // The next poll after the repair activates it, and everything agrees again.
    let directory = agent.directory().join("etc/packs");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("hello.yaml"), "place: there\n").unwrap();
    until("1.1.0", async || view().await.items[0].failed.is_none()).await;
    let ran = operator.run("hello.hello", json!({})).await;
    assert_eq!(ran.version.to_string(), "1.1.0");
    assert_eq!(operator.stdout(&ran).await, "there\n");
    assert_eq!(bolt.run(["packs"]).code, 0);
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(!health.reasons.iter().any(|reason| reason.code == "pack_failed"), "{health:?}");
}
