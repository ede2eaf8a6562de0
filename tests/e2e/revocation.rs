//! A caller whose grant is removed: what waits does not start, and whoever waits for an answer learns nothing more.

use bolt_tests::http::{Call, Held, send};
use bolt_tests::{World, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution};
use serde_json::json;

use crate::calls::{caller, refused, replace_grants, run};

fn grant(name: &str) -> String {
    format!(
        "[[grant]]\nprincipal = \"spiffe://bolt.local/{name}\"\nverbs = [\"read\", \"run\", \"kill\"]\nactions = [\"*\"]\n"
    )
}

#[tokio::test]
async fn a_queued_execution_of_a_caller_without_a_grant_does_not_start() {
    let world = World::with_probe();
    let (ann, bob) = (caller(&world, "ann"), caller(&world, "bob"));
    let operators = grant("operator");
    let mut spec = spec("i-1").set("execution", "max_running", 1);
    spec.grants = Some(format!("{operators}{}{}", grant("ann"), grant("bob")));
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    let submit = async |who| {
        let call = Call::post("/v1/executions", run("probe.hello", json!({})));
        let answer = send(agent.address(), Some(who), call).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json::<Execution>()
    };
    let (of_ann, of_bob) = (submit(&ann).await, submit(&bob).await);
    // Ann waits for the end of hers, and follows what bob's does, when her grant is removed.
    let waiting = format!("/v1/executions/{}?wait=50s", of_ann.id);
    let waiting = send(agent.address(), Some(&ann), Call::get(&waiting));
    let follow = format!("/v1/executions/{}/stdout?follow=true", running.id);
    let mut following = Held::open(agent.address(), &ann, Some(&follow)).await.unwrap();
    assert_eq!(following.first_byte().await.unwrap(), b'H');
    let revoke = async {
        replace_grants(&agent, format!("{operators}{}", grant("bob")));
    };
    let (answer, ()) = tokio::join!(waiting, revoke);
    refused(&answer.unwrap(), Code::Forbidden, "grant");
    let error = following.to_end().await.expect_err("it breaks off");
    assert!(!error.is_empty());
    assert!(
        !operator
            .send(Call::get(&format!("/v1/executions/{}", running.id)))
            .await
            .json::<Execution>()
            .state
            .is_terminal()
    );
    operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    assert_eq!(operator.wait(&running).await.state, State::Killed);
    let of_ann = operator.wait(&of_ann).await;
    assert_eq!((of_ann.state, of_ann.started_at_ms), (State::Error, None), "{of_ann:?}");
    let reason = of_ann.reason.unwrap_or_default();
    assert!(reason.contains("grant was revoked") && reason.contains("spiffe://bolt.local/ann"), "{reason}");
    assert_eq!(operator.wait(&of_bob).await.state, State::Succeeded);
}
