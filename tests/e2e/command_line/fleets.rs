//! Runs on several instances: grouping, consent, budgets, and instances that do not answer.

use std::net::TcpListener;

use bolt_client::local::{AgentSpec, LocalAgent};
use bolt_tests::{Bolt, PackSource, World, spec};

use super::ended;

fn zoned(id: &str, zone: &str) -> AgentSpec {
    let mut spec = spec(id);
    spec.facts.zone = zone.to_owned();
    spec
}

/// Two agents, in zones a and b.
fn pair(world: &World) -> (LocalAgent, LocalAgent, Bolt) {
    let (one, two) = (world.start(&zoned("i-1", "a")), world.start(&zoned("i-2", "b")));
    let bolt = world.bolt(&[&one, &two]);
    (one, two, bolt)
}

fn states(run: &serde_json::Value) -> Vec<&str> {
    run["instances"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect()
}

#[test]
fn what_is_the_same_is_shown_once() {
    let world = World::empty();
    let result = "echo '{\"b\": 1, \"a\": [2]}' > \"$BOLT_RESULT\"\n";
    let pack = PackSource::new("probe", "1.0.0")
        .action("same", "bolt: {class: diagnostic}", &format!("#!/bin/sh\necho same\n{result}"))
        .action("own", "bolt: {class: diagnostic}", "#!/bin/sh\necho $BOLT_INSTANCE_ID\n");
    world.publish(&pack);
    let (_one, _two, bolt) = pair(&world);
    let same = bolt.run(["run", "probe.same", "--all"]);
    let group = "-- 2 instances succeeded: i-1, i-2\nsame\nresult: {\"a\":[2],\"b\":1}\n-- 2 instances in ";
    assert!(same.answer().starts_with(group), "{same:?}");
    let own = bolt.run(["run", "probe.own", "--all"]);
    assert!(own.answer().contains("-- 1 instance succeeded: i-1\ni-1\n-- 1 instance succeeded: i-2\ni-2\n"), "{own:?}");
}

#[test]
fn a_change_of_several_instances_wants_consent() {
    let world = World::with_probe();
    let (_one, _two, bolt) = pair(&world);
    let refused = bolt.run(["run", "probe.repair", "--by", "zone"]);
    ended(&refused, 2, &["1. (zone a) i-1", "2. (zone b) i-2", "changes 2 instances", "--yes"]);
    assert_eq!(refused.stdout, "");
    assert_eq!(bolt.json(["ps"]).1["executions"], serde_json::json!([]), "nothing ran");
    ended(&bolt.run(["run", "probe.repair", "--by", "zone", "--yes"]), 0, &["stops after the first failure"]);
    // A single named instance needs no confirmation.
    ended(&bolt.run(["run", "probe.repair", "--on", "i-1"]), 0, &[]);
}

#[test]
fn after_too_many_failures_nothing_more_is_started() {
    let world = World::with_probe();
    let (_one, _two, bolt) = pair(&world);
    for (arguments, wanted, stopped) in [
        (&["--by", "zone"][..], ["failed", "not_started"], true),
        (&[], ["failed", "not_started"], true),
        (&["--batch", "1"], ["failed", "not_started"], true),
        (&["--by", "zone", "--max-failures", "1"], ["failed", "failed"], false),
        (&["--max-failures", "50%"], ["failed", "failed"], false),
        (&["--all"], ["failed", "failed"], false),
        (&["--all", "--canary", "1"], ["failed", "not_started"], true),
    ] {
        let (code, run) = bolt.json(["run", "probe.fail"].iter().chain(arguments));
        assert_eq!((code, states(&run)), (1, wanted.to_vec()), "{arguments:?}: {run}");
        assert_eq!(run["stopped"] == "max_failures", stopped, "{arguments:?}: {run}");
    }
    let said = bolt.run(["run", "probe.fail", "--by", "zone"]);
    ended(&said, 1, &["1 failed and at most 0 may: nothing more is started"]);
    assert!(said.stdout.contains("-- 1 instance not_started: i-2"), "{said:?}");
}

#[test]
fn who_does_not_answer_is_named_and_holds_nobody_up() {
    let world = World::with_probe();
    let (one, _two, bolt) = pair(&world);
    // One address accepts connections and never answers; nothing listens at the other.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let entry = |id: &str, address: &dyn std::fmt::Display| format!("{{\"id\": \"{id}\", \"address\": \"{address}\"}}");
    let inventory = |name: &str, entries: &[String]| {
        let path = world.path().join(name);
        std::fs::write(&path, format!("{{\"instances\": [{}]}}", entries.join(", "))).unwrap();
        path.display().to_string()
    };
    let some = [entry("i-1", &one.address()), entry("i-gone", &closed), entry("i-hung", &hung.local_addr().unwrap())];
    let mixed = inventory("mixed.json", &some);
    let (code, run) = bolt.json(["--inventory", &mixed, "run", "probe.hello", "--all"]);
    assert_eq!((code, states(&run)), (1, vec!["succeeded", "unreachable", "unreachable"]), "{run}");
    for (at, why) in [(1, "connection_refused"), (2, "timed_out")] {
        let there = &run["instances"][at];
        assert_eq!((&there["error"]["code"], &there["may_run"]), (&why.into(), &false.into()), "{run}");
    }
    let ps = bolt.run(["--inventory", &mixed, "ps", "--on", "i-1,i-gone"]);
    ended(&ps, 1, &["bolt: i-gone (127.0.0.1:", "connection refused"]);
    assert!(ps.stdout.contains("probe.hello"), "{ps:?}");
    let check = bolt.run(["--inventory", &mixed, "instances", "--check", "--on", "i-1,i-gone"]);
    ended(&check, 1, &[]);
    assert!(check.stdout.contains("ready") && check.stdout.contains("connection refused"), "{check:?}");

    let nobody = inventory("nobody.json", &[some[1].clone(), entry("i-lost", &"no-such-host.invalid:1")]);
    let none = bolt.run(["--inventory", &nobody, "run", "probe.hello", "--all"]);
    ended(&none, 3, &["none of 2 instances answered", "i-gone", "i-lost", "the host name is not known", "hint"]);

    // Another instance at the address: nothing is sent to it.
    let wrong = inventory("wrong.json", &[entry("i-2", &one.address())]);
    ended(
        &bolt.run(["--inventory", &wrong, "run", "probe.hello"]),
        3,
        &["reached i-1, not i-2", "correct the inventory"],
    );
    assert_eq!(bolt.json(["ps"]).1["executions"].as_array().unwrap().len(), 1);
}
