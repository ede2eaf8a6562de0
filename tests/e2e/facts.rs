//! Facts of an instance from its metadata service: one image and one `agent.toml` for a whole fleet.

use std::fs;

use bolt_client::local::{AgentSpec, LocalAgent};
use bolt_tests::http::Call;
use bolt_tests::metadata::Metadata;
use bolt_tests::{Operator, PackSource, World, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Health, Info, PackList};
use packs_schema::agent::store;
use packs_schema::base::name::ChannelName;
use serde_json::json;

use crate::calls::until;

const ID: &str = "i-0fac75";

/// Starts a metadata service with an identity.
fn known() -> Metadata {
    let metadata = Metadata::start();
    metadata.identify(ID, "eu-west-1", "eu-west-1b");
    metadata.tags(Some(&[("app", "cassandra"), ("team", "storage"), ("aws:autoscaling:groupName", "cass-v003")]));
    metadata
}

/// An agent that asks it, polls often, and has this certificate, not started.
fn asking(world: &World, metadata: &Metadata) -> LocalAgent {
    prepared(world, &follower(metadata))
}

fn follower(metadata: &Metadata) -> AgentSpec {
    // A proxy that cannot be reached: the service is never asked through one.
    spec(ID)
        .set("instance", "metadata", true)
        .set("repository", "poll", "1s")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.endpoint())
        .env("HTTP_PROXY", "http://127.0.0.1:1")
}

/// Prepares an agent whose configuration has no identity.
fn prepared(world: &World, spec: &AgentSpec) -> LocalAgent {
    let agent = LocalAgent::prepare(&world.site, spec).unwrap();
    let text = fs::read_to_string(agent.config()).unwrap();
    let line = format!("id = \"{ID}\"\n");
    assert!(text.contains(&line), "{text}");
    fs::write(agent.config(), text.replace(&line, "")).unwrap();
    agent
}

async fn info(operator: &Operator) -> Info {
    operator.send(Call::get("/v1/info")).await.json()
}

async fn packs(operator: &Operator) -> PackList {
    operator.send(Call::get("/v1/packs")).await.json()
}

fn log(agent: &LocalAgent) -> String {
    fs::read_to_string(agent.log()).unwrap_or_default()
}

#[tokio::test]
async fn an_instance_is_told_who_it_is_and_chooses_by_it() {
    let world = World::empty();
    world.publish(&PackSource::new("facts", "1.0.0").action(
        "tell",
        "bolt: {class: diagnostic}",
        "#!/bin/sh\necho $BOLT_INSTANCE_ID $BOLT_REGION $BOLT_ZONE\n",
    ));
    let metadata = known();
    let mut agent = asking(&world, &metadata);
    let operator = world.operator(&agent);
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    let facts = info(&operator).await.instance;
    assert_eq!(
        [facts.id.as_str(), &facts.region, &facts.zone, &facts.app, &facts.cluster, &facts.group],
        [ID, "eu-west-1", "eu-west-1b", "cassandra", "", "cass-v003"]
    );
    assert_eq!(facts.get("tags.team"), Some("storage"));
    let told = operator.run("facts.tell", json!({})).await;
    assert_eq!(told.instance.as_str(), ID);
    assert_eq!(operator.stdout(&told).await, format!("{ID} eu-west-1 eu-west-1b\n"));
    let asked = metadata.asked();
    assert_eq!(asked.first().map(String::as_str), Some("PUT /latest/api/token"), "{asked:?}");
    assert!(asked.iter().all(|line| line.starts_with("PUT") || line.ends_with("with a token")), "{asked:?}");

    // Meant for another team: it comes when the instance has become one of theirs.
    let test = ChannelName::new("test").unwrap();
    let search = PackSource::new("search", "1.0.0").action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n");
    world.site.publish(&search.write(&world.scratch("sources")), &test).unwrap();
    let (repository, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    let promote = [
        "repo",
        "promote",
        "search",
        "--from",
        "test",
        "--to",
        "prod",
        "--new-channel",
        "--where",
        "tags.team == \"search\"",
    ];
    let said = world.bolt(&[&agent]).run([&promote[..], &["--repo", &repository, "--keys", &keys]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let ended = || fs::read_to_string(agent.directory().join("run/sync.json")).unwrap_or_default();
    for _ in 0..2 {
        let before = ended();
        until("a poll", async || ended() != before).await;
    }
    assert_eq!(packs(&operator).await.items.len(), 1);
    metadata.tags(Some(&[("team", "search")]));
    until("the pack of the other team", async || packs(&operator).await.items.len() == 2).await;
    let facts = info(&operator).await.instance;
    assert_eq!((facts.app.as_str(), facts.get("tags.team")), ("", Some("search")));
}

#[tokio::test]
async fn an_api_waits_until_it_is_known_who_this_is() {
    let world = World::with_probe();
    let metadata = known();
    metadata.broken(Some("503 Service Unavailable"));
    let mut agent = asking(&world, &metadata);
    let operator = world.operator(&agent);
    agent.launch().unwrap();
    until("the sync to say so", async || agent.sync_status().is_some_and(|status| status.failure.is_some())).await;
    let failure = agent.sync_status().unwrap().failure.unwrap();
    assert!(
        failure.contains("cannot determine the identity of this instance: the instance's metadata service"),
        "{failure}"
    );
    assert!(!agent.state().join("api.address").exists() && agent.exited().is_none());
    metadata.broken(None);
    agent.wait_ready().unwrap();
    assert_eq!(info(&operator).await.instance.id.as_str(), ID);
    // Ready comes before the packs do: a restart below must find them.
    until("the first poll", async || agent.sync_status().is_some_and(|status| status.failure.is_none())).await;
    assert!(!log(&agent).contains("cannot start"), "{}", log(&agent));

    // Known facts remain in effect, also after a restart; facts of another boot do not.
    metadata.broken(Some("503 Service Unavailable"));
    agent.terminate();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
    assert_eq!(info(&operator).await.instance.zone, "eu-west-1b");
    until("a poll that said so", async || log(&agent).contains("using the known facts of this instance")).await;
    let facts = agent.directory().join("packs").join(store::FACTS);
    agent.terminate();
    let mut stored: packs_schema::delivery::facts::StoredFacts =
        serde_json::from_slice(&fs::read(&facts).unwrap()).unwrap();
    stored.boot = "another".to_owned();
    fs::write(&facts, serde_json::to_vec(&stored).unwrap()).unwrap();
    agent.launch().unwrap();
    let waits = "the instance id is not known yet";
    until("the api to wait", async || log(&agent).contains(waits)).await;
    assert!(!agent.state().join("api.address").exists());
    // Nor does a stop while it waits.
    agent.terminate();
    assert!(!log(&agent).contains("did not end"), "{}", log(&agent));
}

#[tokio::test]
async fn what_the_service_says_is_judged() {
    let world = World::with_probe();
    let metadata = known();
    // The identity is configured, so that the api is available to report the failure.
    let agent = world.start(&follower(&metadata).set("repository", "poll", "1h"));
    let operator = world.operator(&agent);
    let facts = agent.directory().join("packs").join(store::FACTS);
    let document = |id: &str, region: &str, zone: &str| {
        format!("{{\"instanceId\":\"{id}\",\"region\":\"{region}\",\"availabilityZone\":\"{zone}\"}}")
    };
    for (wrong, says) in [
        (document("../../etc", "eu-west-1", "eu-west-1b"), "instance id \"../../etc\" is not valid"),
        (document(ID, "EU WEST", "eu-west-1b"), "region is \"EU WEST\""),
        (document(ID, "eu-west-1", ""), "availabilityZone is \"\""),
        ("<html>a portal</html>".to_owned(), "invalid identity document"),
        ("{}".to_owned(), "missing field `instanceId`"),
        ("x".repeat(2 << 20), "cannot be reached"),
    ] {
        metadata.identity(&wrong);
        let _ = fs::remove_file(&facts);
        let failure = asked(&world, &agent).await.expect("it is refused");
        let shown: String = wrong.chars().take(60).collect();
        assert!(failure.contains(says) && failure.len() < 600, "{shown}: {failure}");
        let health: Health = operator.send(Call::get("/v1/health")).await.json();
        assert!(health.ready && health.degraded, "{health:?}");
        assert_eq!(packs(&operator).await.items.len(), 1, "what is active stays");
        assert!(!facts.exists());
    }

    metadata.identify("i-other", "eu-west-1", "eu-west-1b");
    metadata.tags(Some(&[("good", "yes"), ("wrong", "two\nlines"), ("bad name", "x"), ("long", &"x".repeat(300))]));
    assert_eq!(asked(&world, &agent).await, None);
    let known = info(&operator).await.instance;
    assert_eq!(
        (known.id.as_str(), known.tags.len(), known.get("tags.good")),
        (ID, 1, Some("yes")),
        "what is written counts"
    );
    // If tags cannot be fetched, the previous ones remain, and nothing else is delayed.
    metadata.keep_tags(true);
    metadata.identify(ID, "eu-west-1", "eu-west-1c");
    assert_eq!(asked(&world, &agent).await, None);
    let known = info(&operator).await.instance;
    assert_eq!((known.zone.as_str(), known.get("tags.good")), ("eu-west-1c", Some("yes")));
    metadata.keep_tags(false);
    metadata.tags(None);
    assert_eq!(asked(&world, &agent).await, None);
    assert!(info(&operator).await.instance.tags.is_empty(), "an instance need not let its metadata tell its tags");
}

/// A metadata service that accepts connections and never answers: polls continue once the identity is known, and report it until then.
#[tokio::test]
async fn a_service_that_says_nothing_is_not_waited_for() {
    let world = World::with_probe();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = spec(ID).set("instance", "metadata", true).set("repository", "poll", "1h");
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let agent = world.start(&spec.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint));
    let operator = world.operator(&agent);
    let failure = agent.sync_status().unwrap().failure.unwrap();
    assert!(failure.contains("metadata service (IMDSv2) cannot be reached"), "{failure}");
    let path = agent.directory().join("packs").join(store::FACTS);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    let known = json!({"format": 1, "boot": boot, "id": ID, "region": "eu-west-1", "zone": "eu-west-1b"});
    fs::write(path, known.to_string()).unwrap();
    assert_eq!(asked(&world, &agent).await, None);
    assert_eq!(packs(&operator).await.items.len(), 1);
}

/// Asks for a poll and waits for its end; what failed.
async fn asked(world: &World, agent: &LocalAgent) -> Option<String> {
    let operator = world.operator(agent);
    let before = agent.sync_status().map_or(0, |status| status.polls);
    assert_eq!(operator.send(Call::post("/v1/packs/sync", "")).await.status, 202);
    until("a poll", async || agent.sync_status().is_some_and(|status| status.polls > before)).await;
    agent.sync_status().unwrap().failure
}
