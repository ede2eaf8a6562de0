//! The operator at one agent, over raw HTTPS: a test drives the REST interface without the client library.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bolt_client::local::{Caller, LocalAgent};
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use crate::World;
use crate::http::{Answer, Call, send};

/// Longest time that a test waits for an agent to do something.
const DEADLINE: Duration = Duration::from_secs(60);

/// A caller with every right, bound to one agent. Finds the agent's new address after a restart.
#[derive(Debug, Clone)]
pub struct Operator {
    caller: Caller,
    /// File in which the api publishes its address.
    address: PathBuf,
}

impl World {
    /// The operator, bound to `agent`.
    pub fn operator(&self, agent: &LocalAgent) -> Operator {
        Operator { caller: self.site.operator(), address: agent.state().join("api.address") }
    }
}

impl Operator {
    /// Sends a request and returns the answer, whatever its status.
    pub async fn send(&self, call: Call) -> Answer {
        let mut address = None;
        // An api that stops removes the file, and its successor writes it again.
        until("the api's address", async || {
            address = std::fs::read_to_string(&self.address).ok().and_then(|text| text.trim().parse().ok());
            address.is_some()
        })
        .await;
        let address = address.expect("the loop ends with an address");
        send(address, Some(&self.caller), call).await.expect("the operator is let in")
    }

    /// Asks to run `action` and returns the answer, whatever its status.
    pub async fn submit(&self, action: &str, parameters: Value) -> Answer {
        self.send(Call::post("/v1/executions", run_body(action, parameters))).await
    }

    /// Starts `action`, which must be accepted.
    pub async fn start(&self, action: &str, parameters: Value) -> Execution {
        let answer = self.submit(action, parameters).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()
    }

    /// Waits until an execution is in a terminal state.
    pub async fn wait(&self, execution: &Execution) -> Execution {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let path = format!("/v1/executions/{}?wait=20s", execution.id);
            let now: Execution = self.send(Call::get(&path)).await.json();
            if now.state.is_terminal() {
                return now;
            }
            assert!(Instant::now() < deadline, "{now:?} does not end");
        }
    }

    /// Starts `action` and waits until it is in a terminal state.
    pub async fn run(&self, action: &str, parameters: Value) -> Execution {
        let execution = self.start(action, parameters).await;
        self.wait(&execution).await
    }

    /// Standard output of an execution.
    pub async fn stdout(&self, execution: &Execution) -> String {
        self.send(Call::get(&format!("/v1/executions/{}/stdout", execution.id))).await.text()
    }

    /// Waits until an execution has written something to its standard output.
    pub async fn wait_for_output(&self, execution: &Execution) {
        let path = format!("/v1/executions/{}/stdout", execution.id);
        until("output", async || !self.send(Call::get(&path)).await.body.is_empty()).await;
    }
}

/// Body of a request that runs `action` with `parameters`.
pub fn run_body(action: &str, parameters: Value) -> Vec<u8> {
    json!({ "action": action, "parameters": parameters }).to_string().into_bytes()
}

/// Waits until `probe` returns true; panics with `what` after a minute.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut probe: F) {
    let deadline = Instant::now() + DEADLINE;
    while !probe().await {
        assert!(Instant::now() < deadline, "{what} did not come true within 60 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
