//! Watching and stopping what runs: what waits for what, why something was killed.

use bolt_tests::{PackSource, World};
use serde_json::json;

use super::ended;

/// An action of which one runs at a time, until it is killed.
fn one_at_a_time() -> PackSource {
    let yaml = "bolt: {class: diagnostic, grace: 200ms, concurrency: {max: 1, group: turns, when_busy: queue}}";
    PackSource::new("probe", "1.0.0").action("turn", yaml, "#!/bin/sh\necho running\nexec sleep 600\n")
}

#[tokio::test]
async fn a_queued_execution_shows_what_it_waits_for_and_a_killed_one_why() {
    let world = World::empty();
    world.publish(&one_at_a_time());
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let first = world.operator(&agent).start("probe.turn", json!({})).await;
    world.operator(&agent).wait_for_output(&first).await;
    let second = world.operator(&agent).start("probe.turn", json!({})).await;
    let third = world.operator(&agent).start("probe.turn", json!({})).await;

    let shown = bolt.run(["show", third.id.as_str()]);
    ended(&shown, 0, &[]);
    let waiting = "waiting for  a slot of concurrency group turns: 1 of 1 running; 1 queued before it\n";
    assert!(shown.stdout.contains(waiting), "{shown:?}");
    let behind = format!("behind {}", &first.id.as_str()[24..]);
    assert!(shown.stdout.contains(&behind), "{shown:?}");
    let (_, running) = bolt.json(["show", first.id.as_str()]);
    assert!(running.get("waiting").is_none(), "{running}");

    // One that waits and one that runs: each keeps the note of its kill, also when it is asked for again.
    for execution in [&second, &first] {
        ended(&bolt.run(["kill", execution.id.as_str(), "--note", "wrong host"]), 0, &[]);
        ended(&bolt.run(["kill", execution.id.as_str(), "--note", "too late"]), 0, &["ended already"]);
        let shown = bolt.run(["show", execution.id.as_str()]);
        assert!(shown.stdout.contains("kill note    wrong host\n"), "{shown:?}");
    }
    ended(&bolt.run(["kill", third.id.as_str()]), 0, &[]);
    assert!(!bolt.run(["show", third.id.as_str()]).stdout.contains("kill note"));
}
