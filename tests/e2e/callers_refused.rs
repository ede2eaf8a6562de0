//! Callers that are refused: at the handshake, or for lack of a grant.

use bolt_client::local::Caller;
use bolt_client::pki::{Authority, Validity};
use bolt_tests::World;
use bolt_tests::http::{Call, send, send_with};
use packs_schema::agent::rest::{Code, Page};
use packs_schema::base::name::Principal;
use serde_json::json;

use crate::calls::{caller, refused, replace_grants, run};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

async fn must_not_connect(world: &World, identity: Option<&Caller>, because: &str) {
    let agent = world.agent();
    let operator = world.operator(&agent);
    let error = send(agent.address(), identity, Call::get("/v1/health")).await.expect_err("nobody is let in");
    assert!(error.contains(because), "{error}");
    // And the agent is none the worse for it.
    assert_eq!(operator.send(Call::get("/v1/health")).await.status, 200);
}

#[tokio::test]
async fn no_client_certificate() {
    must_not_connect(&World::with_probe(), None, "CertificateRequired").await;
}

#[tokio::test]
async fn a_certificate_of_another_authority() {
    let world = World::with_probe();
    let other = Authority::create("another authority").unwrap();
    let issued = other.issue_client(&Principal::new(bolt_client::local::OPERATOR).unwrap(), Validity::days(1)).unwrap();
    let (certificate, key) = issued.write(&world.scratch("other"), "operator").unwrap();
    must_not_connect(&world, Some(&Caller { certificate, key }), "UnknownCA").await;
}

#[tokio::test]
async fn an_expired_certificate() {
    let world = World::with_probe();
    let mut validity = Validity::days(1);
    validity.not_before -= 10 * DAY;
    validity.not_after -= 5 * DAY;
    let principal = Principal::new("spiffe://bolt.local/late").unwrap();
    let late = world.site.caller("late", &principal, validity).unwrap();
    must_not_connect(&world, Some(&late), "CertificateExpired").await;
}

#[tokio::test]
async fn an_instance_certificate_as_a_caller() {
    let world = World::with_probe();
    let id = packs_schema::base::name::InstanceId::new("i-9").unwrap();
    let issued = world.site.authority().issue_instance(&id, Validity::days(1)).unwrap();
    let (certificate, key) = issued.write(&world.scratch("instance"), "i-9").unwrap();
    must_not_connect(&world, Some(&Caller { certificate, key }), "UnsupportedCertificate").await;
}

#[tokio::test]
async fn an_older_tls() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.site.operator();
    let call = Call::get("/v1/health");
    let error = send_with(agent.address(), Some(&operator), &rustls::version::TLS12, call).await.expect_err("refused");
    assert!(error.contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn a_principal_without_a_grant() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let guest = caller(&world, "guest");
    let as_guest = |call| send(agent.address(), Some(&guest), call);
    let answer = as_guest(Call::post("/v1/executions", run("probe.hello", json!({})))).await.unwrap();
    refused(&answer, Code::Forbidden, "spiffe://bolt.local/guest");
    // A refusal is the same whether the resource exists or not.
    let unknown = as_guest(Call::post("/v1/executions", run("no.such", json!({})))).await.unwrap();
    refused(&unknown, Code::Forbidden, "spiffe://bolt.local/guest");
    for path in ["/v1/info", "/v1/packs", "/v1/actions", "/v1/executions", "/v1/metrics", "/v1/events"] {
        refused(&as_guest(Call::get(path)).await.unwrap(), Code::Forbidden, "spiffe://bolt.local/guest");
    }
    refused(&as_guest(Call::post("/v1/packs/sync", "")).await.unwrap(), Code::Forbidden, "sync");
    assert_eq!(as_guest(Call::get("/v1/health")).await.unwrap().status, 200);
    let all: Page<packs_schema::agent::rest::Execution> = operator.send(Call::get("/v1/executions")).await.json();
    assert!(all.items.is_empty(), "something ran: {all:?}");
}

#[tokio::test]
async fn a_verb_or_an_action_outside_the_grant() {
    let world = World::with_probe();
    let mut spec = bolt_tests::spec("i-1");
    spec.grants = Some(
        "[[grant]]\nprincipal = \"spiffe://bolt.local/operator\"\nverbs = [\"read\", \"run\"]\nactions = [\"probe.*\"]\n\
         classes = [\"diagnostic\"]\n[[grant]]\nprincipal = \"spiffe://bolt.local/reader*\"\nverbs = [\"read\"]\nactions = [\"probe.fail\"]\n"
            .to_owned(),
    );
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    refused(&operator.submit("probe.repair", json!({})).await, Code::Forbidden, "probe.repair");
    let hello = operator.submit("probe.hello", json!({})).await;
    assert_eq!(hello.status, 202);
    let id = hello.json::<packs_schema::agent::rest::Execution>().id;
    let kill = operator.send(Call::post(&format!("/v1/executions/{id}/kill"), "")).await;
    refused(&kill, Code::Forbidden, "kill");
    // A reader of another action does not learn that it exists.
    let reader = caller(&world, "reader-1");
    let call = Call::get(&format!("/v1/executions/{id}"));
    refused(&send(agent.address(), Some(&reader), call).await.unwrap(), Code::UnknownExecution, id.as_str());
    let list: Page<packs_schema::agent::rest::Execution> =
        send(agent.address(), Some(&reader), Call::get("/v1/executions")).await.unwrap().json();
    assert!(list.items.is_empty(), "{list:?}");
}

#[tokio::test]
async fn a_grant_that_was_taken_away() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    assert_eq!(operator.submit("probe.hello", json!({})).await.status, 202);
    replace_grants(&agent, "# nobody\n");
    refused(&operator.submit("probe.hello", json!({})).await, Code::Forbidden, "operator");
}

#[tokio::test]
async fn a_browser() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let call = Call::get("/v1/info").header("origin", "null");
    refused(&operator.send(call).await, Code::Forbidden, "Origin");
}
