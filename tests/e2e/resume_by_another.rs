//! A run that another principal goes on with: agents know a start by its key and its caller.

use std::process::Stdio;

use bolt_tests::{Bolt, CommandOutput, PackSource, World, spec};
use serde_json::Value;

use crate::calls::{caller, until};

const GRANTS: &str =
    "[[grant]]\nprincipal = \"spiffe://bolt.local/*\"\nverbs = [\"read\", \"run\", \"kill\"]\nactions = [\"*\"]\n";

fn executions(bolt: &Bolt) -> Vec<Value> {
    bolt.json(["ps"]).1["executions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_another_principal_has_asked_to_start_is_not_started_again() {
    let world = World::empty();
    // Ends by itself where it is started twice.
    let action = "#!/bin/sh\nexec sleep 30\n";
    world.publish(&PackSource::new("slow", "1.0.0").action("hold", "bolt: {class: diagnostic, grace: 100ms}", action));
    let agent = world.start(&bolt_client::local::AgentSpec { grants: Some(GRANTS.to_owned()), ..spec("i-1") });
    let bolt = world.bolt(&[&agent]);
    let mut first = bolt.command(["run", "slow.hold", "--everywhere", "--run-id", "r-one"]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the start is recorded, and runs", async || {
        let runs = bolt.json(["runs"]).1;
        let unknown = &runs["runs"][0]["summary"]["unknown"];
        *unknown == 1 && executions(&bolt).iter().any(|execution| execution["state"] == "running")
    })
    .await;
    first.kill().unwrap();
    first.wait().unwrap();

    let colleague = caller(&world, "colleague");
    let (certificate, key) = (colleague.certificate.to_str().unwrap(), colleague.key.to_str().unwrap());
    let resume = ["--cert", certificate, "--key", key, "resume", "r-one"];
    let said: CommandOutput = bolt.run(resume);
    assert_eq!(said.code, 1, "{said:?}");
    let told = "0 ended, 1 asked by another principal and left as they are, 0 not started";
    assert!(said.stderr.contains(told) && said.stdout.contains("spiffe://bolt.local/operator asked it"), "{said:?}");
    let (_, report) = bolt.json(resume);
    let instance = &report["instances"][0];
    assert_eq!((&instance["state"], &instance["may_run"]), (&"unknown".into(), &true.into()), "{report}");

    let before = executions(&bolt);
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(bolt.run(["kill", before[0]["id"].as_str().unwrap()]).code, 0);
    // The principal who began it finds what it has started.
    let (_, report) = bolt.json(["resume", "r-one"]);
    assert_eq!(report["instances"][0]["execution"]["id"], before[0]["id"], "{report}");
    assert_eq!(executions(&bolt).len(), 1);
}
