//! Requests that cannot be read, or do not fit what they ask for. Nothing runs.

use bolt_client::local::LocalAgent;
use bolt_tests::http::{Answer, Call};
use bolt_tests::{Operator, World};
use packs_schema::agent::rest::{Code, Execution, MAX_BODY, Page};
use serde_json::{Value, json};

use crate::calls::{refused, run};

struct Case {
    world: World,
    agent: LocalAgent,
}

impl Case {
    fn operator(&self) -> Operator {
        self.world.operator(&self.agent)
    }

    fn new() -> Case {
        let world = World::with_probe();
        let agent = world.agent();
        Case { world, agent }
    }

    async fn post(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.operator().send(Call::post("/v1/executions", body)).await
    }

    async fn typed(&self, parameters: Value) -> Answer {
        self.operator().submit("probe.typed", parameters).await
    }

    async fn nothing_ran(&self) {
        let all: Page<Execution> = self.operator().send(Call::get("/v1/executions")).await.json();
        assert!(all.items.is_empty(), "something ran: {all:?}");
        let left: Vec<_> = std::fs::read_dir(self.agent.state().join("exec")).unwrap().flatten().collect();
        assert!(left.is_empty(), "something was left: {left:?}");
    }

    async fn invalid(&self, parameters: Value, parameter: &str, code: &str) {
        let answer = self.typed(parameters).await;
        refused(&answer, Code::InvalidParameters, parameter);
        let errors = answer.problem().errors;
        assert!(errors.iter().any(|e| e.parameter == parameter && e.code == code), "{errors:?}");
        self.nothing_ran().await;
    }
}

#[tokio::test]
async fn an_unknown_action() {
    let case = Case::new();
    refused(&case.post(run("probe.nothing", json!({}))).await, Code::UnknownAction, "probe.nothing");
    refused(&case.post(run("nothing.hello", json!({}))).await, Code::UnknownAction, "nothing.hello");
    refused(&case.post(run("../../etc/passwd", json!({}))).await, Code::InvalidBody, "../../etc/passwd");
    case.nothing_ran().await;
}

#[tokio::test]
async fn a_disabled_action() {
    let case = Case::new();
    refused(&case.post(run("probe.off", json!({}))).await, Code::ActionDisabled, "probe.off");
    case.nothing_ran().await;
}

#[tokio::test]
async fn an_unknown_parameter() {
    Case::new().invalid(json!({"name": "a", "nmae": 1}), "nmae", "unknown").await;
}

#[tokio::test]
async fn a_missing_parameter() {
    Case::new().invalid(json!({}), "name", "missing").await;
}

#[tokio::test]
async fn an_ill_typed_parameter() {
    Case::new().invalid(json!({"name": 7}), "name", "invalid").await;
}

#[tokio::test]
async fn an_out_of_range_parameter() {
    Case::new().invalid(json!({"name": "a", "count": 10}), "count", "invalid").await;
}

#[tokio::test]
async fn a_parameter_that_misses_its_pattern() {
    Case::new().invalid(json!({"name": "$(reboot)"}), "name", "invalid").await;
}

#[tokio::test]
async fn a_nested_parameter_names_its_place() {
    Case::new()
        .invalid(json!({"name": "a", "servers": [{"port": 1}, {"port": "x"}]}), "servers[1].port", "invalid")
        .await;
}

#[tokio::test]
async fn an_immutable_parameter_overridden() {
    Case::new().invalid(json!({"name": "a", "fixed": "yours"}), "fixed", "immutable").await;
}

#[tokio::test]
async fn every_parameter_error_at_once() {
    let case = Case::new();
    let errors = case.typed(json!({"count": 0, "fixed": "x", "other": 1})).await.problem().errors;
    let named: std::collections::BTreeSet<&str> = errors.iter().map(|e| e.parameter.as_str()).collect();
    assert_eq!(named, ["count", "fixed", "name", "other"].into());
}

#[tokio::test]
async fn a_body_over_its_limit() {
    let case = Case::new();
    let long = "x".repeat(MAX_BODY);
    refused(&case.typed(json!({"name": long})).await, Code::BodyTooLarge, &MAX_BODY.to_string());
    case.nothing_ran().await;
}

#[tokio::test]
async fn a_body_that_is_not_json() {
    let case = Case::new();
    refused(&case.post("{\"action\": ").await, Code::InvalidBody, "line 1");
    refused(&case.post("").await, Code::InvalidBody, "");
    refused(&case.post(vec![0xff, 0xfe]).await, Code::InvalidBody, "");
    let form = Call::post("/v1/executions", "a=b").header("content-type", "application/x-www-form-urlencoded");
    refused(&case.operator().send(form).await, Code::UnsupportedMediaType, "application/json");
    case.nothing_ran().await;
}

#[tokio::test]
async fn duplicate_keys() {
    let case = Case::new();
    for body in [
        r#"{"action": "probe.hello", "action": "probe.repair"}"#,
        r#"{"action": "probe.typed", "parameters": {"name": "a", "name": "b"}}"#,
        r#"{"action": "probe.typed", "parameters": {"name": "a", "servers": [{"port": 1, "port": 2}]}}"#,
    ] {
        refused(&case.post(body).await, Code::InvalidBody, "duplicate");
    }
    refused(&case.post(r#"{"action": "probe.hello", "shell": true}"#).await, Code::InvalidBody, "shell");
    case.nothing_ran().await;
}

#[tokio::test]
async fn a_request_for_another_instance() {
    let case = Case::new();
    let body = json!({"action": "probe.hello", "instance": "i-2"}).to_string();
    refused(&case.post(body).await, Code::WrongInstance, "i-2");
    case.nothing_ran().await;
}

#[tokio::test]
async fn a_noop_of_an_action_without() {
    let case = Case::new();
    let body = json!({"action": "probe.repair", "noop": true}).to_string();
    refused(&case.post(body).await, Code::InvalidParameters, "noop");
    case.nothing_ran().await;
}

#[tokio::test]
async fn a_second_body_under_a_used_idempotency_key() {
    let case = Case::new();
    let with_key = |parameters| {
        let call =
            Call::post("/v1/executions?wait=20s", run("probe.typed", parameters)).header("idempotency-key", "k-1");
        let operator = case.operator();
        async move { operator.send(call).await }
    };
    let first: Execution = with_key(json!({"name": "a", "token": "t"})).await.json();
    let again: Execution = with_key(json!({"token": "t", "name": "a"})).await.json();
    assert_eq!(first.id, again.id, "the same body is the same execution, in whichever order its keys stand");
    refused(&with_key(json!({"name": "b", "token": "t"})).await, Code::IdempotencyMismatch, first.id.as_str());
    refused(&with_key(json!({"name": "a", "token": "u"})).await, Code::IdempotencyMismatch, first.id.as_str());
    let all: Page<Execution> = case.operator().send(Call::get("/v1/executions")).await.json();
    assert_eq!(all.items.len(), 1);
}

#[tokio::test]
async fn unknown_resources_methods_and_queries() {
    let case = Case::new();
    let operator = case.operator();
    let send = |call| operator.send(call);
    refused(&send(Call::get("/v2/health")).await, Code::NotFound, "/v2/health");
    refused(&send(Call::get("/v1/executions/../../etc/passwd")).await, Code::NotFound, "");
    let delete = send(Call::method(hyper::Method::DELETE, "/v1/executions")).await;
    refused(&delete, Code::MethodNotAllowed, "POST, GET");
    assert!(delete.headers.contains_key("allow"));
    refused(&send(Call::get("/v1/executions?stat=failed")).await, Code::BadRequest, "stat");
    refused(&send(Call::get("/v1/executions?state=fialed")).await, Code::BadRequest, "fialed");
    refused(&send(Call::get("/v1/executions?limit=100000")).await, Code::BadRequest, "limit");
    let unknown = "/v1/executions/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";
    refused(&send(Call::get(unknown)).await, Code::UnknownExecution, "01932c07");
}
