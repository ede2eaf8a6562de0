//! Constraints of grants: the agent enforces them, and `bolt grants` explains them with the same code.

use std::fs;

use bolt_tests::http::{Call, send};
use bolt_tests::{World, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{AccessReview, Code, Execution};
use serde_json::json;

use crate::calls::{caller, refused, replace_grants, run, until};

const OPERATOR: &str = "[[grant]]\nprincipal = \"spiffe://bolt.local/operator\"\nverbs = [\"read\", \"run\", \"kill\"]\nactions = [\"*\"]\n";

fn grant(name: &str, verbs: &str, actions: &str, more: &str) -> String {
    format!("[[grant]]\nprincipal = \"spiffe://bolt.local/{name}\"\nverbs = [{verbs}]\nactions = [{actions}]\n{more}\n")
}

#[tokio::test]
async fn a_start_needs_values_that_a_grant_allows() {
    let world = World::with_probe();
    let ann = caller(&world, "ann");
    let mut spec = spec("i-1");
    let limits = "parameters = { name = { enum = [\"users\", \"logs\"] }, count = { maximum = 5 } }";
    let read = grant("ann", "\"read\"", "\"*\"", "");
    let grants = format!("{OPERATOR}{read}{}", grant("ann", "\"run\"", "\"probe.typed\"", limits));
    spec.grants = Some(grants.clone());
    let agent = world.start(&spec);
    let start = async |parameters| {
        let call = Call::post("/v1/executions?wait=30s", run("probe.typed", parameters));
        send(agent.address(), Some(&ann), call).await.unwrap()
    };
    // The default of count counts as well.
    let allowed = start(json!({ "name": "users" })).await;
    assert_eq!(allowed.json::<Execution>().state, State::Succeeded, "{}", allowed.text());
    for (parameters, said) in [
        (json!({ "name": "other" }), "name must fit {\"enum\":[\"users\",\"logs\"]}"),
        (json!({ "name": "users", "count": 6 }), "count must fit {\"maximum\":5}"),
    ] {
        let answer = start(parameters).await;
        refused(&answer, Code::Forbidden, said);
        assert!(answer.problem().detail.contains("grant 3 of grants.toml"), "{}", answer.text());
    }
    // Values that do not fit the action are reported first.
    assert_eq!(start(json!({ "name": "UPPER" })).await.status, 422);
    // An action without the parameter is not covered by such a grant.
    let hello = Call::post("/v1/executions", run("probe.hello", json!({})));
    refused(&send(agent.address(), Some(&ann), hello).await.unwrap(), Code::Forbidden, "probe.hello");

    let review = send(agent.address(), Some(&ann), Call::get("/v1/access?verb=run&action=probe.typed")).await.unwrap();
    let review = review.json::<AccessReview>();
    assert!(review.allowed && review.verb == Verb::Run);
    assert_eq!(review.constraints.len(), 2, "{review:?}");
    assert!(review.reason.contains("with name that fits"), "{review:?}");

    // The same file, without the agent.
    let (file, pack) = (world.path().join("grants.toml"), bolt_tests::PackSource::probe().write(world.path()));
    fs::write(&file, &grants).unwrap();
    let (file, pack) = (file.display().to_string(), pack.display().to_string());
    let bolt = world.bolt(&[&agent]);
    let check = |arguments: &[&str]| {
        let all = ["grants", "check", "--grants", &file, "--pack", &pack, "--as", "spiffe://bolt.local/ann"];
        bolt.run(all.iter().chain(arguments))
    };
    let yes = check(&["run", "probe.typed", "name=users"]);
    assert!(yes.code == 0 && yes.stdout.contains("allowed by grant 3 of grants.toml (line 10)"), "{yes:?}");
    let no = check(&["run", "probe.typed", "name=other"]);
    for said in [
        "grant 1 of grants.toml (line 1): no: it is for spiffe://bolt.local/operator",
        "no: it gives read only\n",
        "no: name must fit {\"enum\":[\"users\",\"logs\"]}",
        "refused: no grant matches",
    ] {
        assert!(no.code == 4 && no.stdout.contains(said), "{said}: {no:?}");
    }
    // Every reason, of every grant.
    let all = check(&["read", "probe.hello", "--facts", "region=r"]);
    let third = "grant 3 of grants.toml (line 10): no: it gives run only; it is for probe.typed only\n";
    assert!(all.code == 0 && all.stdout.contains(third), "{all:?}");
    let (code, json) = bolt.json(["grants", "check", "--grants", &file, "--as", "a://b", "kill", "probe.hello"]);
    assert_eq!((code, &json["grants"][1]["matches"]), (4, &json!(false)));
    assert_eq!(json["grants"][1]["reasons"], json!(["it is for spiffe://bolt.local/ann", "it gives read only"]));
    let wrong = check(&["run", "probe.typed", "name=UPPER"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("name"), "{wrong:?}");
    // A pack as a whole, and verbs that apply to no action.
    let whole = check(&["run", "probe"]);
    assert!(whole.code == 4 && whole.stdout.contains("no: it is for probe.typed only"), "{whole:?}");
    for (arguments, said) in [
        (&["push", "probe.typed"][..], "run `bolt grants check --as spiffe://bolt.local/ann push probe`"),
        (&["sync", "probe"], "run `bolt grants check --as spiffe://bolt.local/ann sync`"),
    ] {
        let refused = check(arguments);
        assert!(refused.code == 2 && refused.stderr.contains(said) && refused.stdout.is_empty(), "{refused:?}");
    }
    assert_eq!(check(&["push", "probe"]).code, 4);
    let metrics = check(&["metrics"]);
    assert!(metrics.code == 0 && metrics.stdout.contains("allowed by grant 2"), "included in read: {metrics:?}");
    assert_eq!(send(agent.address(), Some(&ann), Call::get("/v1/metrics")).await.unwrap().status, 200);
    let reserved = check(&["approve", "probe.typed", "name=users"]);
    assert!(reserved.code == 4 && reserved.stderr.contains("approve is reserved"), "{reserved:?}");
    let push = bolt.run(["can-i", "push", "probe.typed"]);
    assert!(push.code == 2 && push.stderr.contains("run `bolt can-i push 'probe.*'`"), "{push:?}");
    fs::write(&file, grant("ann", "\"push\"", "\"probe.*\"", "")).unwrap();
    for same in ["probe", "probe.*"] {
        let pushes = check(&["push", same]);
        assert!(pushes.code == 0 && pushes.stdout.contains("allowed by grant 1"), "{pushes:?}");
    }
    fs::write(&file, grant("ann", "\"run\"", "\"*\"", "").replace("spiffe://bolt.local/ann", "local://*")).unwrap();
    let local = bolt.run(["grants", "check", "--grants", &file, "--as", "local://root", "run", "probe.hello"]);
    assert!(local.code == 4 && local.stderr.contains("agents refuse it") && local.stdout.is_empty(), "{local:?}");
    fs::write(&file, grant("ann", "\"push\"", "\"probe.*\"", "classes = [\"diagnostic\"]")).unwrap();
    let some = check(&["push", "probe"]);
    assert!(some.code == 4 && some.stdout.contains("no: it is for diagnostic actions only"), "{some:?}");
    fs::write(&file, &grants).unwrap();

    let lint = bolt.run(["grants", "lint", "--grants", &file, "--pack", &pack]);
    assert_eq!(lint.code, 0, "{lint:?}");
    fs::write(&file, grant("*", "\"run\"", "\"probe.nosuch\"", "") + &grant("*", "\"run\"", "\"probe.nosuch\"", ""))
        .unwrap();
    let lint = bolt.run(["grants", "lint", "--grants", &file, "--pack", &pack]);
    for code in ["shadowed", "unused_action", "too_wide"] {
        assert!(lint.code == 1 && lint.stdout.contains(&format!("warning[{code}]")), "{lint:?}");
    }
}

#[tokio::test]
async fn a_grant_for_other_instances_or_times_is_not_in_effect_and_says_so() {
    let world = World::with_probe();
    let ann = caller(&world, "ann");
    let mut spec = spec("i-1");
    spec.facts.region = "eu-west-1".to_owned();
    // A window that has passed, or begins in six hours at the earliest.
    let hour = |ahead: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        (i64::try_from(now).unwrap() / 3600 + ahead).rem_euclid(24)
    };
    let window = |from, to| format!("times = [\"{:02}:00-{:02}:00\"]", hour(from), hour(to));
    let here = "where = 'region == \"eu-west-1\"'";
    let (elsewhere, later) = ("where = 'region == \"us-east-1\"'", window(6, 8));
    let now = window(-6, 6);
    let grants = |more: &str| {
        format!(
            "{OPERATOR}{}{}",
            grant("ann", "\"read\"", "\"probe.fail\"", ""),
            grant("ann", "\"run\"", "\"probe.hello\"", more)
        )
    };
    spec.grants = Some(grants(&format!("{here}\n{now}")));
    let agent = world.start(&spec);
    let start = async || {
        send(agent.address(), Some(&ann), Call::post("/v1/executions", run("probe.hello", json!({})))).await.unwrap()
    };
    assert_eq!(start().await.status, 202);
    let (not_here, not_now) = ("it is for instances where region == \"us-east-1\" only", "UTC only");
    let both = format!("{elsewhere}\n{later}");
    for (more, reasons) in [
        (elsewhere, &[not_here][..]),
        (&*later, &[not_now]),
        (&*both, &[not_here, ", and it is in effect at ", not_now]),
    ] {
        replace_grants(&agent, grants(more));
        refused(&start().await, Code::Forbidden, "probe.hello");
        let asked = Call::get("/v1/access?verb=run&action=probe.hello");
        let review = send(agent.address(), Some(&ann), asked).await.unwrap().json::<AccessReview>();
        assert!(!review.allowed && review.reason.contains("grant 3 of grants.toml"), "{review:?}");
        for reason in reasons {
            assert!(review.reason.contains(reason), "{reason}: {review:?}");
        }
        // The other grant is for another action: nothing of it is told.
        assert!(!review.reason.contains("grant 2") && !review.reason.contains("probe.fail"), "{review:?}");
    }
    replace_grants(&agent, grants(&now));
    assert_eq!(start().await.status, 202);
}

#[tokio::test]
async fn a_queued_execution_does_not_start_when_its_values_are_no_longer_allowed() {
    let world = World::with_probe();
    let ann = caller(&world, "ann");
    let mut spec = spec("i-1").set("execution", "max_running", 1);
    let grants = |most: u32| {
        let limit = format!("parameters = {{ seconds = {{ maximum = {most} }} }}");
        format!("{OPERATOR}{}", grant("ann", "\"run\"", "\"probe.sleep\"", &limit))
    };
    spec.grants = Some(grants(10));
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    let submit = async |seconds: f64| {
        let call = Call::post("/v1/executions", run("probe.sleep", json!({ "seconds": seconds })));
        let answer = send(agent.address(), Some(&ann), call).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json::<Execution>()
    };
    let (long, short) = (submit(9.0).await, submit(0.1).await);
    replace_grants(&agent, grants(1));
    until("the file is in effect", async || {
        let call = Call::post("/v1/executions", run("probe.sleep", json!({ "seconds": 8 })));
        send(agent.address(), Some(&ann), call).await.unwrap().status == 403
    })
    .await;
    operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    let long = operator.wait(&long).await;
    assert_eq!((long.state, long.started_at_ms), (State::Error, None), "{long:?}");
    assert_eq!(operator.wait(&short).await.state, State::Succeeded);
}

#[tokio::test]
async fn a_caller_over_its_limits_is_refused_and_others_are_not() {
    let world = World::with_probe();
    let (ann, bob) = (caller(&world, "ann"), caller(&world, "bob"));
    let mut spec = spec("i-1");
    let limits = "[[limit]]\nprincipal = \"spiffe://bolt.local/ann\"\nstarts = { max = 2, per = \"1h\" }\n\
                  [[limit]]\nprincipal = \"spiffe://bolt.local/bob\"\nexecutions = 1\n";
    let both = ["ann", "bob"].map(|name| grant(name, "\"read\", \"run\"", "\"*\"", "")).concat();
    spec.grants = Some(format!("{OPERATOR}{both}{limits}"));
    let agent = world.start(&spec);
    let start = async |who, action, key: &str| {
        let call = Call::post("/v1/executions", run(action, json!({}))).header("idempotency-key", key);
        send(agent.address(), Some(who), call).await.unwrap()
    };
    for key in ["a", "b"] {
        assert_eq!(start(&ann, "probe.hello", key).await.status, 202);
    }
    let third = start(&ann, "probe.hello", "c").await;
    refused(&third, Code::RateExceeded, "2 executions in 1h");
    let wait: u64 = third.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=1800).contains(&wait), "{wait}");
    let repeated = start(&ann, "probe.hello", "a").await;
    assert!(
        repeated.status.is_success() && repeated.headers.contains_key("idempotency-replayed"),
        "{}",
        repeated.text()
    );

    let sleeping = start(&bob, "probe.sleep", "a").await.json::<Execution>();
    refused(&start(&bob, "probe.hello", "b").await, Code::RateExceeded, "1 executions that have not ended");
    let operator = world.operator(&agent);
    operator.send(Call::post(&format!("/v1/executions/{}/kill", sleeping.id), "")).await;
    operator.wait(&sleeping).await;
    assert_eq!(start(&bob, "probe.hello", "b").await.status, 202);
}
