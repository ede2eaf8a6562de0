//! Changes of instances are confirmed on a terminal.

use std::io::{Read as _, Write as _};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use bolt_client::inventory::Inventory;
use bolt_client::pack;
use hyper::{Method, StatusCode};
use packs_schema::base::name::PackName;
use serde_json::json;

use crate::hostile::{ID, execution, listed};
use crate::server::{Server, World, answer};

/// An instance with a remediation `tried.uptime`, and how often it was started.
async fn instance(world: &World) -> (Server, Arc<Mutex<usize>>) {
    let directory = world.path().join("pack");
    pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, &directory).unwrap();
    let mut view = listed(&pack::lint(&directory).unwrap().checked.unwrap().actions.pop().unwrap());
    view["class"] = json!("remediation");
    let starts = Arc::new(Mutex::new(0));
    let count = starts.clone();
    let handler = move |request: &hyper::Request<bytes::Bytes>| {
        if request.method() == Method::GET {
            let said = if request.uri().path().starts_with("/v1/actions/") { view.to_string() } else { String::new() };
            return answer(StatusCode::OK, "application/json", said);
        }
        *count.lock().unwrap() += 1;
        let asked: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        let mut said = execution(ID, "i-1", "succeeded");
        said["action"] = asked["action"].clone();
        said["run"] = asked["run"].clone();
        answer(StatusCode::OK, "application/json", said.to_string())
    };
    let server = world.server("i-1", handler).await;
    let inventory = Inventory::of(vec![server.instance.clone()]);
    std::fs::write(world.path().join("inventory.toml"), inventory.to_toml()).unwrap();
    (server, starts)
}

/// Runs the remediation at a terminal where `typed` is typed; gives the end, and what the terminal showed.
async fn at_terminal(world: &World, arguments: &[&str], typed: &str) -> (ExitStatus, String) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = world.command(arguments);
    command.stdin(pty.slave.try_clone().unwrap()).stderr(pty.slave.try_clone().unwrap()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop((command, pty.slave));
    let mut master = std::fs::File::from(pty.master);
    master.write_all(typed.as_bytes()).unwrap();
    let status = child.wait().await.unwrap();
    let mut shown = Vec::new();
    // A terminal whose other end is closed gives EIO.
    let _ = master.read_to_end(&mut shown);
    (status, String::from_utf8_lossy(&shown).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remediation_on_one_instance_is_asked_for_at_a_terminal() {
    let world = World::new();
    let (_server, starts) = instance(&world).await;
    let run = ["run", "tried.uptime"];
    let (status, shown) = at_terminal(&world, &run, "n\n").await;
    assert_eq!((status.code(), *starts.lock().unwrap()), (Some(2), 0), "{shown}");
    assert!(shown.contains("tried.uptime (remediation) on 1 instance") && shown.contains("Go ahead?"), "{shown}");
    let (status, shown) = at_terminal(&world, &run, "y\n").await;
    assert_eq!((status.code(), *starts.lock().unwrap()), (Some(0), 1), "{shown}");
    let (status, shown) = at_terminal(&world, &["run", "tried.uptime", "--yes"], "").await;
    assert_eq!((status.code(), *starts.lock().unwrap(), shown.contains("Go ahead?")), (Some(0), 2, false), "{shown}");
    // A script named the instance, and has no terminal.
    let output = world.bolt(&run).await;
    assert_eq!((output.status.code(), *starts.lock().unwrap()), (Some(0), 3), "{output:?}");
}
