//! Inventories with thousands of instances that are down: what is printed of them is bounded.

use bolt_client::inventory::Inventory;
use bolt_client::pack;
use hyper::{Method, StatusCode};
use packs_schema::base::name::PackName;
use serde_json::json;

use crate::hostile::{ID, execution, listed};
use crate::server::{Server, World, answer, instance};

/// Number of instances where nothing listens.
const DEAD: usize = 3_000;

/// An instance with a diagnostic `tried.uptime`, before [`DEAD`] others in the inventory.
async fn fleet(world: &World) -> Server {
    let directory = world.path().join("pack");
    pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, &directory).unwrap();
    let view = listed(&pack::lint(&directory).unwrap().checked.unwrap().actions.pop().unwrap());
    let handler = move |request: &hyper::Request<bytes::Bytes>| {
        let text = match (request.method(), request.uri().path()) {
            (&Method::GET, path) if path.starts_with("/v1/actions/") => view.to_string(),
            (&Method::GET, "/v1/actions") => json!({ "items": [view] }).to_string(),
            (&Method::GET, "/v1/executions") => json!({ "items": [execution(ID, "i-live", "succeeded")] }).to_string(),
            (&Method::POST, _) => {
                let asked: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
                let mut started = execution(ID, "i-live", "succeeded");
                started["action"] = asked["action"].clone();
                started["run"] = asked["run"].clone();
                started.to_string()
            }
            _ => String::new(),
        };
        answer(StatusCode::OK, "application/json", text)
    };
    let server = world.server("i-live", handler).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut instances = vec![server.instance.clone()];
    instances.extend((0..DEAD).map(|at| {
        let address =
            std::net::Ipv4Addr::new(127, 1, u8::try_from(at / 250).unwrap(), u8::try_from(at % 250 + 1).unwrap());
        instance(&format!("i-{at}"), (address, closed.port()).into())
    }));
    std::fs::write(world.path().join("inventory.toml"), Inventory::of(instances).to_toml()).unwrap();
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_dead_instances_are_grouped_in_every_command() {
    let world = World::new();
    let _server = fleet(&world).await;
    let run = ["run", "tried.uptime", "--everywhere", "--at-once"];
    for arguments in [&["ps"][..], &["history"], &["actions"], &["show", ID], &["instances", "--check"], &run] {
        let output = world.bolt(arguments).await;
        let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        assert!(text.lines().count() < 60, "{arguments:?}: {} lines: {}", text.lines().count(), &text[..2000]);
        let grouped = text.lines().any(|line| line.contains(&DEAD.to_string()));
        assert!(grouped || arguments[0] == "show", "{arguments:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_instances_do_not_stop_a_diagnostic() {
    let world = World::new();
    let _server = fleet(&world).await;
    let arguments = ["run", "tried.uptime", "--everywhere", "--at-once", "--canary", "2", "--json"];
    let output = world.bolt(&arguments).await;
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(run["summary"], json!({ "succeeded": 1, "unreachable": DEAD }), "{}", run["summary"]);
    assert_eq!((output.status.code(), &run["stopped"]), (Some(1), &serde_json::Value::Null));
}
