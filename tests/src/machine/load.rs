//! Executions on the machine, ordered from this host over connections that may break at any time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bolt_client::local::Caller;
use packs_schema::agent::rest::{Execution, Page};
use serde_json::{Value, json};

use crate::http::{Answer, Call, send};

/// Time within which an agent of an emulated machine must do what it is asked.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time within which one request must be answered.
const REQUEST: Duration = Duration::from_secs(45);

/// The REST interface of the machine's agent.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) address: SocketAddr,
    pub(super) caller: Caller,
}

impl Api {
    /// Sends a request once.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, String> {
        match tokio::time::timeout(REQUEST, send(self.address, Some(&self.caller), call)).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Sends a request until it is answered other than with 503.
    pub(super) async fn persist(&self, call: Call) -> Result<Answer, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(call.clone()).await;
            match answer {
                Ok(answer) if answer.status != 503 => return Ok(answer),
                _ if Instant::now() > until => {
                    return Err(answer.map_or_else(|e| e, |answer| format!("{}: {}", answer.status, answer.text())));
                }
                _ => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Waits until the agent answers and has the pack.
    pub(super) async fn ready(&self) -> Result<(), String> {
        self.has_action("machine.lines").await
    }

    /// Waits until the agent answers and has this action.
    pub(super) async fn has_action(&self, action: &str) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.persist(Call::get(&format!("/v1/actions/{action}"))).await?;
            if answer.status == 200 {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("the agent has no action {action}: {}", answer.text()));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Orders an execution once; an error is anything but its acceptance.
    pub(super) async fn order(&self, action: &str, parameters: &Value, key: &str) -> Result<Execution, String> {
        accepted(&self.ask(order(action, parameters, key)).await?)
    }

    /// Orders an execution until it is accepted.
    pub(super) async fn order_until(&self, action: &str, parameters: &Value, key: &str) -> Result<Execution, String> {
        accepted(&self.persist(order(action, parameters, key)).await?)
    }

    /// Waits until an execution has ended.
    pub(super) async fn wait(&self, id: &str) -> Result<Execution, String> {
        self.wait_within(id, PATIENCE).await
    }

    /// As [`wait`](Self::wait), for this time.
    pub(super) async fn wait_within(&self, id: &str, patience: Duration) -> Result<Execution, String> {
        let until = Instant::now() + patience;
        loop {
            let answer = self.persist(Call::get(&format!("/v1/executions/{id}?wait=20s"))).await?;
            if answer.status != 200 {
                return Err(format!("execution {id}: {}: {}", answer.status, answer.text()));
            }
            let now: Execution = answer.json();
            if now.state.is_terminal() {
                return Ok(now);
            }
            if Instant::now() > until {
                return Err(format!("execution {id} does not end: {}", answer.text()));
            }
        }
    }

    /// Waits until an execution has written something.
    pub(super) async fn running(&self, execution: &Execution) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while self.stdout(execution.id.as_str()).await?.is_empty() {
            if Instant::now() > until {
                return Err(format!("{} does not start", execution.id));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// The newest executions.
    pub(super) async fn executions(&self) -> Result<Vec<Execution>, String> {
        let answer = self.persist(Call::get("/v1/executions?limit=100")).await?;
        if answer.status != 200 {
            return Err(format!("executions: {}: {}", answer.status, answer.text()));
        }
        Ok(answer.json::<Page<Execution>>().items)
    }

    /// Standard output of an execution.
    pub(super) async fn stdout(&self, id: &str) -> Result<String, String> {
        let answer = self.persist(Call::get(&format!("/v1/executions/{id}/stdout"))).await?;
        if answer.status == 200 { Ok(answer.text()) } else { Err(format!("output of {id}: {}", answer.text())) }
    }
}

fn order(action: &str, parameters: &Value, key: &str) -> Call {
    let body = json!({ "action": action, "parameters": parameters });
    Call::post("/v1/executions", body.to_string()).header("idempotency-key", key)
}

fn accepted(answer: &Answer) -> Result<Execution, String> {
    match answer.status.is_success() {
        true => Ok(answer.json()),
        false => Err(format!("{}: {}", answer.status, answer.text())),
    }
}

/// Output of `machine.lines`.
pub(super) fn lines(id: &str, count: u64) -> String {
    (0..count).map(|n| format!("line {n} of {id}\n")).collect()
}
