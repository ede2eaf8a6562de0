//! What many stories say to an agent.

use std::time::{Duration, Instant};

use bolt_client::local::{Caller, LocalAgent};
use bolt_tests::World;
use bolt_tests::http::{Answer, Call, send};
use packs_schema::agent::rest::{Code, Execution};
use packs_schema::base::name::Principal;

/// Sends as the operator.
pub(crate) async fn operator(world: &World, agent: &LocalAgent, call: Call) -> Answer {
    send(agent.address(), Some(&world.site.operator()), call).await.expect("the operator is let in")
}

/// A body that runs `action` with `parameters`.
pub(crate) fn run(action: &str, parameters: serde_json::Value) -> Vec<u8> {
    serde_json::json!({ "action": action, "parameters": parameters }).to_string().into_bytes()
}

/// Starts `action` and gives the answer.
pub(crate) async fn start(world: &World, agent: &LocalAgent, action: &str, parameters: serde_json::Value) -> Answer {
    operator(world, agent, Call::post("/v1/executions", run(action, parameters))).await
}

/// Starts `action`, which must be accepted.
pub(crate) async fn started(
    world: &World,
    agent: &LocalAgent,
    action: &str,
    parameters: serde_json::Value,
) -> Execution {
    let answer = start(world, agent, action, parameters).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()
}

/// Waits for the end of an execution.
pub(crate) async fn ended(world: &World, agent: &LocalAgent, execution: &Execution) -> Execution {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let path = format!("/v1/executions/{}?wait=20s", execution.id);
        let now: Execution = operator(world, agent, Call::get(&path)).await.json();
        if now.state.is_terminal() {
            return now;
        }
        assert!(Instant::now() < deadline, "{now:?} does not end");
    }
}

/// Starts `action` and waits for its end.
pub(crate) async fn done(world: &World, agent: &LocalAgent, action: &str, parameters: serde_json::Value) -> Execution {
    let execution = started(world, agent, action, parameters).await;
    ended(world, agent, &execution).await
}

/// Waits until `probe` is true.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut probe: F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !probe().await {
        assert!(Instant::now() < deadline, "{what} did not come true within 60 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until an execution is running and has written something.
pub(crate) async fn has_output(world: &World, agent: &LocalAgent, execution: &Execution) {
    let path = format!("/v1/executions/{}/stdout", execution.id);
    until("output", async || !operator(world, agent, Call::get(&path)).await.body.is_empty()).await;
}

/// Standard output of an execution.
pub(crate) async fn stdout(world: &World, agent: &LocalAgent, execution: &Execution) -> String {
    operator(world, agent, Call::get(&format!("/v1/executions/{}/stdout", execution.id))).await.text()
}

/// A caller of that name.
pub(crate) fn caller(world: &World, name: &str) -> Caller {
    let principal = Principal::new(format!("spiffe://bolt.local/{name}")).expect("a valid principal");
    let validity = bolt_client::pki::Validity::days(1);
    world.site.caller(name, &principal, validity).expect("the certificate can be made")
}

/// The answer must be a problem of this kind, whose text names `input`.
pub(crate) fn refused(answer: &Answer, code: Code, input: &str) {
    let problem = answer.problem();
    assert_eq!((problem.code, answer.status.as_u16()), (code, code.status()), "{problem:?}");
    let text = format!("{} {:?}", problem.detail, problem.errors);
    assert!(text.contains(input), "{text:?} does not name {input:?}");
    assert!(!problem.request_id.is_empty());
}
