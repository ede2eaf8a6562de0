//! An instance with a certificate of its own that answers for others, or about other things than it was asked.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::{Arc, Mutex};

use bolt_client::connection::{Agent, ExecutionQuery, OutputFrom, Push};
use bolt_client::error::{Error, Kind};
use bolt_client::inventory::Inventory;
use bolt_client::pack;
use hyper::StatusCode;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{AccessTarget, Code, CreateExecution};
use packs_schema::base::name::{ActionRef, ExecutionId, PackName};
use packs_schema::pack::action::Action;
use serde_json::{Value, json};

use crate::server::{Server, World, answer, problem};

pub(crate) const ID: &str = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";
const OTHER: &str = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2ab";

fn digest() -> String {
    "0".repeat(64)
}

pub(crate) fn execution(id: &str, instance: &str, state: &str) -> Value {
    json!({ "id": id, "instance": instance, "action": "linux.true", "version": "1.0.0", "digest": digest(),
        "state": state, "parameters": {}, "noop": false, "principal": "spiffe://test/operator", "created_at_ms": 1 })
}

/// The action of a scaffolded pack, as an agent lists it.
pub(crate) fn listed(action: &Action) -> Value {
    let mut view = json!(action);
    view["version"] = json!("1.0.0");
    view["digest"] = json!(digest());
    view
}

fn pack_view(name: &str) -> Value {
    json!({ "name": name, "description": "", "version": "1.0.0", "digest": digest(), "actions": 1, "failed": null })
}

fn info(instance: &str) -> Value {
    json!({ "instance": { "id": instance }, "version": "0", "started_at_ms": 1, "channel": "prod",
        "enforcement": { "cgroups": "none", "memory": false, "cpu": false, "pids": false, "cgroup_kill": false,
            "run_as": false, "required": false },
        "running": 0, "queued": 0, "max_running": 1, "max_queued": 1 })
}

pub(crate) fn health(instance: &str) -> Value {
    json!({ "live": true, "ready": true, "degraded": false, "reasons": [], "instance": instance, "version": "0" })
}

/// For each route an answer that `i-1` may give, and answers that it must not be believed.
fn answers(pushed: &Value, action: &Action) -> BTreeMap<&'static str, (Value, Vec<Value>)> {
    let with = |value: &Value, key: &str, wrong: Value| {
        let mut value = value.clone();
        value[key] = wrong;
        value
    };
    let ours = execution(ID, "i-1", "running");
    let foreign = || {
        vec![execution(ID, "i-2", "running"), execution(OTHER, "i-1", "running"), execution(OTHER, "i-2", "running")]
    };
    let created = vec![
        execution(ID, "i-2", "running"),
        with(&ours, "action", json!("linux.false")),
        with(&ours, "run", json!("r-1")),
        with(&ours, "noop", json!(true)),
    ];
    let review = json!({ "instance": "i-1", "principal": "spiffe://test/operator", "verb": "run", "action": "tried.uptime",
        "allowed": false, "reason": "no grant" });
    let page = |items: &[&Value]| json!({ "items": items });
    let theirs = execution(OTHER, "i-2", "running");
    BTreeMap::from([
        ("GET /v1/health", (health("i-1"), vec![health("i-2")])),
        ("GET /v1/info", (info("i-1"), vec![info("i-2")])),
        ("GET /v1/packs", (page(&[&pack_view("linux")]), vec![page(&[&pack_view("linux"), &pack_view("linux")])])),
        ("GET /v1/packs/{pack}", (pack_view("linux"), vec![pack_view("windows")])),
        (
            "POST /v1/packs/push",
            (
                pushed.clone(),
                vec![
                    with(pushed, "pack", json!("other")),
                    with(pushed, "version", json!("9.9.9")),
                    with(pushed, "digest", json!(digest())),
                ],
            ),
        ),
        (
            "POST /v1/packs/{pack}/unpush",
            (json!({ "pack": "linux", "done": true }), vec![json!({ "pack": "other", "done": true })]),
        ),
        ("GET /v1/actions", (page(&[&listed(action)]), vec![page(&[&listed(action), &listed(action)])])),
        ("GET /v1/actions/{action}", (listed(action), vec![with(&listed(action), "name", json!("other"))])),
        (
            "GET /v1/access",
            (
                review.clone(),
                vec![
                    with(&review, "instance", json!("i-2")),
                    with(&review, "verb", json!("kill")),
                    with(&review, "action", json!("tried.*")),
                ],
            ),
        ),
        ("POST /v1/executions", (ours.clone(), created)),
        ("GET /v1/executions", (page(&[&ours]), vec![page(&[&ours, &theirs]), page(&[&ours, &ours])])),
        ("GET /v1/executions/{id}", (ours.clone(), foreign())),
        ("POST /v1/executions/{id}/kill", (ours, foreign())),
    ])
}

/// Routes whose answers name neither an instance nor what was asked: bytes, lines of one execution, one's own events.
const NAMELESS: [&str; 7] = [
    "POST /v1/packs/sync",
    "GET /v1/executions/{id}/output",
    "GET /v1/executions/{id}/stdout",
    "GET /v1/executions/{id}/stderr",
    "GET /v1/events",
    "GET /v1/metrics",
    "GET /v1/openapi.json",
];

async fn call(agent: &Agent, push: &Push, route: &str) -> Result<(), Error> {
    let id = ExecutionId::new(ID).unwrap();
    let name = PackName::new("linux").unwrap();
    let action = ActionRef::new("tried.uptime").unwrap();
    match route {
        "GET /v1/health" => agent.health().await.map(drop),
        "GET /v1/info" => agent.info().await.map(drop),
        "GET /v1/packs" => agent.packs().await.map(drop),
        "GET /v1/packs/{pack}" => agent.pack(&name).await.map(drop),
        "POST /v1/packs/sync" => agent.sync().await,
        "POST /v1/packs/push" => agent.push(push).await.map(drop),
        "POST /v1/packs/{pack}/unpush" => agent.unpush(&name).await.map(drop),
        "GET /v1/actions" => agent.actions().await.map(drop),
        "GET /v1/actions/{action}" => agent.action(&action).await.map(drop),
        "GET /v1/access" => agent.access(Verb::Run, Some(&AccessTarget::Action(action.clone()))).await.map(drop),
        "POST /v1/executions" => {
            let create: CreateExecution = serde_json::from_value(json!({ "action": "linux.true" })).unwrap();
            agent.create(&create, None, None).await.map(drop)
        }
        "GET /v1/executions" => agent.executions(&ExecutionQuery::default()).await.map(drop),
        "GET /v1/executions/{id}" => agent.execution(&id, None).await.map(drop),
        "GET /v1/executions/{id}/output" => agent.output(&id, OutputFrom::default(), false).await.map(drop),
        "GET /v1/executions/{id}/stdout" => agent.stream(&id, Stream::Stdout, 0, false).await.map(drop),
        "GET /v1/executions/{id}/stderr" => agent.stream(&id, Stream::Stderr, 0, false).await.map(drop),
        "POST /v1/executions/{id}/kill" => agent.kill(&id, None).await.map(drop),
        "GET /v1/events" => agent.events(None, false).await.map(drop),
        "GET /v1/metrics" => agent.metrics().await.map(drop),
        "GET /v1/openapi.json" => agent.openapi().await.map(drop),
        other => panic!("the client does not call {other}: add the call, and answers that must not be believed"),
    }
}

/// The agent's route table, as its source has it.
fn routes() -> Vec<String> {
    let table = include_str!("../../../agent/src/api/routes.rs");
    let row = |line: &str| {
        let (method, rest) = line.trim_start().split_once(char::is_whitespace)?;
        let path = rest.trim_start().strip_prefix('"')?.split('"').next()?;
        (matches!(method, "GET" | "POST" | "PUT" | "DELETE") && path.starts_with("/v1/"))
            .then(|| format!("{method} {path}"))
    };
    table.lines().filter_map(row).collect()
}

#[tokio::test]
async fn no_answer_passes_for_another_instance_or_another_subject() {
    let world = World::new();
    let directory = world.path().join("pack");
    pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, &directory).unwrap();
    let built = pack::build(&directory).unwrap();
    let action = pack::lint(&directory).unwrap().checked.unwrap().actions.pop().unwrap();
    let pushed = json!({ "pack": built.pack.name, "version": built.pack.version, "digest": built.digest });
    let push = Push::new(built, None).unwrap();
    let said = Arc::new(Mutex::new(Value::Null));
    let shared = said.clone();
    let server = world
        .server("i-1", move |_| answer(StatusCode::OK, "application/json", shared.lock().unwrap().to_string()))
        .await;
    let agent = Agent::new(&server.instance, &world.identity());
    let answers = answers(&pushed, &action);
    let routes = routes();
    assert!(routes.len() >= 19, "the table is not where it was: {routes:?}");
    for route in &routes {
        let Some((right, wrong)) = answers.get(route.as_str()) else {
            assert!(NAMELESS.contains(&route.as_str()), "{route} has no answers that must not be believed");
            *said.lock().unwrap() = json!({});
            call(&agent, &push, route).await.unwrap();
            continue;
        };
        *said.lock().unwrap() = right.clone();
        call(&agent, &push, route).await.unwrap_or_else(|e| panic!("{route}: {e}"));
        for wrong in wrong {
            *said.lock().unwrap() = wrong.clone();
            let error = call(&agent, &push, route).await.expect_err(&format!("{route} believes {wrong}"));
            assert!(matches!(error.kind, Kind::WrongAnswer(_)), "{route}: {error}: {wrong}");
            assert!(error.to_string().starts_with("i-1 ("), "{error}");
        }
    }
}

/// Two instances: `i-1` has execution [`ID`], `i-2` says that it has whatever it is asked for.
struct Two {
    world: World,
    _servers: [Server; 2],
    killed: Arc<Mutex<Vec<String>>>,
}

impl Two {
    async fn new(as_instance: &'static str) -> Two {
        let world = World::new();
        let killed = Arc::new(Mutex::new(Vec::new()));
        let mut servers = Vec::new();
        for (name, honest) in [("i-1", true), ("i-2", false)] {
            let killed = killed.clone();
            let handler = move |request: &hyper::Request<bytes::Bytes>| {
                let path = request.uri().path().to_owned();
                let id = path.split('/').nth(3).unwrap_or(ID);
                if honest && id != ID {
                    return problem(Code::UnknownExecution, "there is none");
                }
                let instance = if honest { name } else { as_instance };
                let kill = path.ends_with("/kill");
                if kill {
                    killed.lock().unwrap().push(name.to_owned());
                }
                let dead = kill || killed.lock().unwrap().iter().any(|one| one == name);
                let said = execution(id, instance, if dead { "killed" } else { "running" });
                let said = if path == "/v1/executions" { json!({ "items": [said] }) } else { said };
                answer(StatusCode::OK, "application/json", said.to_string())
            };
            servers.push(world.server(name, handler).await);
        }
        let inventory = Inventory::of(servers.iter().map(|server| server.instance.clone()).collect());
        std::fs::write(world.path().join("inventory.toml"), inventory.to_toml()).unwrap();
        let servers = servers.try_into().unwrap_or_else(|_| panic!("there are two"));
        Two { world, _servers: servers, killed }
    }

    async fn bolt(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.world.bolt(arguments).await;
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_reaches_the_execution_although_another_instance_claims_it() {
    for id in [ID, &ID[24..]] {
        let two = Two::new("i-2").await;
        let (code, stdout, stderr) = two.bolt(&["kill", id]).await;
        let mut killed = two.killed.lock().unwrap().clone();
        killed.sort();
        assert_eq!((code, killed), (Some(0), vec!["i-1".to_owned(), "i-2".to_owned()]), "{stdout}{stderr}");
        assert!(stdout.contains(&format!("{ID} on i-1: killed")), "{stdout}{stderr}");
        assert!(stderr.contains("2 instances claim to have execution"), "{stdout}{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_answers_as_another_is_left_out_and_named() {
    let two = Two::new("i-1").await;
    let (code, stdout, stderr) = two.bolt(&["ps"]).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stdout.matches("i-1").count(), 1, "{stdout}");
    assert!(stderr.contains("i-2 (") && stderr.contains("answers as i-1"), "{stderr}");
    for command in ["show", "logs", "history"] {
        let arguments = if command == "history" { vec![command] } else { vec![command, ID] };
        let (_, stdout, stderr) = two.bolt(&arguments).await;
        assert!(!format!("{stdout}{stderr}").contains("2 instances claim"), "{command}: {stdout}{stderr}");
    }
    let (code, stdout, stderr) = two.bolt(&["kill", ID]).await;
    assert_eq!((code, two.killed.lock().unwrap().as_slice()), (Some(0), &["i-1".to_owned()][..]), "{stdout}{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimants_are_shown_apart_and_logs_ask_which_one() {
    let two = Two::new("i-2").await;
    let (code, stdout, stderr) = two.bolt(&["show", ID]).await;
    assert_eq!((code, stdout.matches(ID).count()), (Some(1), 2), "{stdout}{stderr}");
    let (code, _, stderr) = two.bolt(&["logs", ID]).await;
    assert!(code == Some(2) && stderr.contains("i-1, i-2") && stderr.contains("--on"), "{stderr}");
    let (code, stdout, _) = two.bolt(&["show", ID, "--on", "i-1", "--json"]).await;
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, shown["instance"].as_str()), (Some(0), Some("i-1")));
}
