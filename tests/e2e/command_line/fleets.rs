//! Runs on several instances: grouping, consent, budgets, and instances that do not answer.

use std::net::TcpListener;

use bolt_client::local::{AgentSpec, LocalAgent};
use bolt_tests::{Bolt, CommandOutput, PackSource, World, spec};

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
    let same = bolt.run(["run", "probe.same", "--everywhere", "--at-once"]);
    let group = "-- 2 instances succeeded: i-1, i-2\nsame\n-- 2 instances in ";
    assert!(same.answer().starts_with(group), "{same:?}");
    let own = bolt.run(["run", "probe.own", "--everywhere", "--at-once"]);
    assert!(own.answer().contains("-- 1 instance succeeded: i-1\ni-1\n-- 1 instance succeeded: i-2\ni-2\n"), "{own:?}");
}

#[test]
fn a_change_of_several_instances_wants_consent() {
    let world = World::with_probe();
    let (_one, _two, bolt) = pair(&world);
    let refused = bolt.run(["run", "probe.repair", "--everywhere", "--by", "zone"]);
    ended(&refused, 2, &["1. (zone a) i-1", "2. (zone b) i-2", "changes 2 instances", "--yes"]);
    assert_eq!(refused.stdout, "");
    assert_eq!(bolt.json(["ps"]).1["executions"], serde_json::json!([]), "nothing ran");
    let by_zone = ["run", "probe.repair", "--everywhere", "--by", "zone", "--yes"];
    ended(&bolt.run(by_zone), 0, &["stops after the first failure or unreachable instance"]);
    // A single named instance needs no confirmation in a script.
    ended(&bolt.run(["run", "probe.repair", "--on", "i-1"]), 0, &[]);
}

#[test]
fn a_run_wants_to_know_which_instances() {
    let world = World::with_probe();
    let (_one, _two, bolt) = pair(&world);
    let hint = "--everywhere for all instances";
    ended(&bolt.run(["run", "probe.hello"]), 2, &["needs to know which instances", "2 instances", "--on", hint]);
    for at_once in ["--at-once", "--all"] {
        ended(&bolt.run(["run", "probe.hello", at_once]), 2, &[hint, "sets the order, not the instances"]);
    }
    let (code, refused) = bolt.json(["run", "probe.hello", "--by", "zone"]);
    assert_eq!((code, &refused["error"]["exit"]), (2, &2.into()), "{refused}");
    ended(&bolt.run(["run", "probe.hello", "--everywhere", "--on", "i-1"]), 2, &["cannot be used with"]);
    ended(&bolt.run(["run", "probe.hello", "--on", "i-1,x*"]), 2, &["no instance that matches x*"]);
    assert_eq!(bolt.json(["ps"]).1["executions"], serde_json::json!([]), "nothing ran");

    for (arguments, count) in
        [(&["--on", "i-*"][..], 2), (&["--on", "*-2"], 1), (&["--everywhere"], 2), (&["--zone", "a"], 1)]
    {
        let (code, run) = bolt.json(["run", "probe.hello"].iter().chain(arguments));
        assert_eq!((code, states(&run)), (0, vec!["succeeded"; count]), "{arguments:?}: {run}");
    }
}

#[test]
fn an_unreachable_instance_stops_a_repair_and_no_diagnostic() {
    let world = World::with_probe();
    let (one, _two, _) = pair(&world);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = world.path().join("dead.json");
    let entry = |id: &str, address: &dyn std::fmt::Display| format!("{{\"id\": \"{id}\", \"address\": \"{address}\"}}");
    let entries = [entry("i-dead", &closed), entry("i-1", &one.address())].join(", ");
    std::fs::write(&path, format!("{{\"instances\": [{entries}]}}")).unwrap();
    let bolt = world.bolt(&[&one]);
    let inventory = path.display().to_string();
    for (arguments, wanted, stopped) in [
        (&["probe.hello"][..], ["unreachable", "succeeded"], None),
        (&["probe.hello", "--max-unreachable", "0"], ["unreachable", "not_started"], Some("max_unreachable")),
        (&["probe.repair", "--yes"], ["unreachable", "not_started"], Some("max_unreachable")),
        (&["probe.repair", "--yes", "--max-failures", "1"], ["unreachable", "not_started"], Some("max_unreachable")),
        (&["probe.repair", "--yes", "--max-unreachable", "50%"], ["unreachable", "succeeded"], None),
    ] {
        let (code, run) = bolt.json(["--inventory", &inventory, "run", "--everywhere"].iter().chain(arguments));
        assert_eq!(
            (code, states(&run)),
            (if stopped.is_some() { 3 } else { 1 }, wanted.to_vec()),
            "{arguments:?}: {run}"
        );
        assert_eq!(run["stopped"].as_str(), stopped, "{arguments:?}: {run}");
    }
    let said = bolt.run(["--inventory", &inventory, "run", "probe.repair", "--yes", "--everywhere"]);
    ended(&said, 3, &["stopping: 1 instance is unreachable, and --max-unreachable allows none"]);
    assert!(said.stdout.contains("stopped: more instances were unreachable than --max-unreachable allows"), "{said:?}");
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
        (&["--at-once"], ["failed", "failed"], false),
        // The option's earlier name.
        (&["--all"], ["failed", "failed"], false),
        (&["--at-once", "--canary", "1"], ["failed", "not_started"], true),
    ] {
        let (code, run) = bolt.json(["run", "probe.fail", "--everywhere"].iter().chain(arguments));
        assert_eq!((code, states(&run)), (1, wanted.to_vec()), "{arguments:?}: {run}");
        assert_eq!(run["stopped"] == "max_failures", stopped, "{arguments:?}: {run}");
    }
    let said = bolt.run(["run", "probe.fail", "--everywhere", "--by", "zone"]);
    ended(&said, 1, &["stopping: 1 instance failed, and --max-failures allows none"]);
    assert!(said.stdout.contains("-- 1 instance not_started: i-2"), "{said:?}");

    // The record has the plan. Without it, only the client knew it: what is shown says that it may not be all.
    let (_, executions) = bolt.json(["ps", "--limit", "1"]);
    let run = executions["executions"][0]["run"].as_str().unwrap().to_owned();
    let elsewhere = world.path().join("no-record").display().to_string();
    for command in ["show", "wait"] {
        let said = bolt.run([command, "--run", &run]);
        let why = "1 not_started (more instances failed than --max-failures allows): i-2\n";
        assert!(said.stdout.contains(why) && !said.stderr.contains("no record"), "{said:?}");
        let said = bolt.run([command, "--run", &run, "--run-store", &elsewhere]);
        assert!(said.stdout.contains("none on 1 of 2 instances: i-2\n"), "{said:?}");
        assert!(said.stderr.contains("the run stopped before it: no record says which"), "{said:?}");
        assert_eq!(bolt.json([command, "--run", &run]).1["without"], serde_json::json!(["i-2"]));
        let selected = bolt.run([command, "--run", &run, "--on", "i-1"]);
        assert!(!selected.stdout.contains("i-2"), "{selected:?}");
    }
}

#[test]
fn every_command_that_lists_says_why_it_ends_with_1() {
    let world = World::with_probe();
    let (_one, two, bolt) = pair(&world);
    let run = bolt.json(["run", "probe.hello", "--everywhere"]).1["run"].as_str().unwrap().to_owned();
    let commands: &[&[&str]] = &[
        &["ps"],
        &["history"],
        &["actions"],
        &["actions", "probe.hello"],
        &["packs"],
        &["sync"],
        &["instances", "--check"],
        &["can-i", "run", "probe.hello"],
        &["logs", "--run", &run],
        &["show", "--run", &run],
        &["wait", "--run", &run],
        &["kill", "--run", &run, "--yes"],
    ];
    let why = |said: &CommandOutput| said.stderr.matches("bolt: exit code 1: ").count();
    for command in commands {
        let said = bolt.run(*command);
        assert_eq!((said.code, why(&said)), (0, 0), "{command:?}: {said:?}");
    }
    drop(two);
    for command in commands {
        let said = bolt.run(*command);
        assert_eq!((said.code, why(&said)), (1, 1), "{command:?}: {said:?}");
        assert!(said.stderr.contains("1 of 2 instances"), "{command:?}: {said:?}");
        assert!(said.stderr.contains("1 unreachable"), "{command:?}: {said:?}");
    }
}

#[test]
fn who_does_not_answer_is_named_and_holds_nobody_up() {
    let world = World::with_probe();
    let (one, _two, bolt) = pair(&world);
    // The first address accepts connections and never answers; nothing listens at the second.
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
    let (code, run) = bolt.json(["--inventory", &mixed, "run", "probe.hello", "--everywhere", "--at-once"]);
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
    let none = bolt.run(["--inventory", &nobody, "run", "probe.hello", "--everywhere", "--at-once"]);
    ended(&none, 3, &["none of 2 instances answered", "i-gone", "i-lost", "the host name cannot be resolved", "hint"]);

    // Another instance at the address: nothing is sent to it.
    let wrong = inventory("wrong.json", &[entry("i-2", &one.address())]);
    ended(
        &bolt.run(["--inventory", &wrong, "run", "probe.hello"]),
        3,
        &["reached i-1, not i-2", "correct the inventory"],
    );
    assert_eq!(bolt.json(["ps"]).1["executions"].as_array().unwrap().len(), 1);
}
