//! Configuration errors that keep an agent from starting: each is named, with what to do about it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use bolt_client::local::{LocalAgent, binary};
use bolt_tests::{World, is_root, skip, spec};

/// The agent must not come up, and its log must say why.
fn must_not_start(mut agent: LocalAgent, because: &[&str]) {
    agent.launch().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let said = loop {
        let log = fs::read_to_string(agent.log()).unwrap_or_default();
        if because.iter().all(|word| log.contains(word)) {
            break log;
        }
        assert!(Instant::now() < deadline, "the log does not name {because:?}:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(!agent.state().join("api.address").exists(), "it listens all the same:\n{said}");
}

fn prepared(world: &World) -> LocalAgent {
    LocalAgent::prepare(&world.site, &spec("i-1")).unwrap()
}

#[test]
fn a_configuration_with_an_unknown_key() {
    let world = World::with_probe();
    let agent = LocalAgent::prepare(&world.site, &spec("i-1").set("execution", "max_runing", 3)).unwrap();
    must_not_start(agent, &["agent.toml", "max_runing"]);
}

#[test]
fn a_configuration_that_is_missing() {
    let world = World::with_probe();
    let agent = prepared(&world);
    fs::remove_file(agent.config()).unwrap();
    must_not_start(agent, &["agent.toml", "No such file"]);
}

#[test]
fn a_configuration_that_others_may_write() {
    if !is_root() {
        return skip("a_configuration_that_others_may_write", "only a launcher that is root minds");
    }
    let world = World::with_probe();
    let agent = prepared(&world);
    fs::set_permissions(agent.config(), fs::Permissions::from_mode(0o666)).unwrap();
    must_not_start(agent, &["agent.toml", "chmod"]);
}

#[test]
fn a_key_file_that_others_can_read() {
    let world = World::with_probe();
    let agent = prepared(&world);
    let key = agent.directory().join("etc/tls/agent.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    must_not_start(agent, &["agent.key", "644", "chmod"]);
}

#[test]
fn grants_that_cannot_be_read() {
    let world = World::with_probe();
    let agent = prepared(&world);
    fs::write(agent.directory().join("etc/grants.toml"), "[[grant]]\nprincipal = \"everybody\"\nverbs = [\"run\"]\n")
        .unwrap();
    must_not_start(agent, &["grants.toml", "everybody"]);
}

#[test]
fn a_state_directory_that_is_not_ours() {
    if !is_root() {
        return skip("a_state_directory_that_is_not_ours", "giving directories away needs root");
    }
    let world = World::with_probe();
    let agent = prepared(&world);
    fs::create_dir(agent.state()).unwrap();
    std::os::unix::fs::chown(agent.state(), Some(65_000), None).unwrap();
    must_not_start(agent, &["state", "65000", "64100"]);
}

#[test]
fn a_state_directory_that_others_may_write() {
    let world = World::with_probe();
    let agent = prepared(&world);
    fs::create_dir(agent.state()).unwrap();
    if let Some(accounts) = world.site.accounts() {
        std::os::unix::fs::chown(agent.state(), Some(accounts.api), Some(accounts.api)).unwrap();
    }
    fs::set_permissions(agent.state(), fs::Permissions::from_mode(0o777)).unwrap();
    must_not_start(agent, &["state", "777"]);
}

#[test]
fn a_state_directory_in_use_by_a_running_agent() {
    let world = World::with_probe();
    let first = world.agent();
    let mut spec = spec("i-2");
    spec = spec.set("paths", "state", first.state().display().to_string());
    let mut second = LocalAgent::prepare(&world.site, &spec).unwrap();
    second.launch().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(second.log()).unwrap_or_default().contains("in use") {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(second.log()).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_port_in_use() {
    let world = World::with_probe();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let agent = LocalAgent::prepare(&world.site, &spec("i-1").set("api", "listen", address.clone())).unwrap();
    must_not_start(agent, &[&address, "in use"]);
}

#[test]
fn an_account_for_the_api_that_is_root() {
    if !is_root() {
        return skip("an_account_for_the_api_that_is_root", "only root could take it");
    }
    let world = World::with_probe();
    let agent = LocalAgent::prepare(&world.site, &spec("i-1").set("users", "api", "root")).unwrap();
    must_not_start(agent, &["users.api", "root"]);
}

#[test]
fn an_api_that_is_root() {
    if !is_root() {
        return skip("an_api_that_is_root", "the test is not root");
    }
    let world = World::with_probe();
    let agent = prepared(&world);
    for (program, arguments) in [("bolt-agent", &["api", "--config"][..]), ("bolt-sync", &["--config"])] {
        let output = Command::new(binary(program).unwrap()).args(arguments).arg(agent.config()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("root"), "{program}: {said}");
    }
}

#[test]
fn a_second_launcher_of_the_same_agent() {
    let world = World::with_probe();
    let first = world.agent();
    let output =
        Command::new(binary("bolt-launch").unwrap()).args(["serve", "--config"]).arg(first.config()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("in use"), "{said}");
}

#[test]
fn wrong_arguments() {
    binary("bolt-launch").map_or_else(|_| bolt_tests::binaries(), drop);
    for (program, arguments) in [
        ("bolt-launch", &["serve"][..]),
        ("bolt-launch", &["serve", "--confg", "x"]),
        ("bolt-launch", &["fly"]),
        ("bolt-agent", &["api"]),
        ("bolt-agent", &["fly"]),
        ("bolt-sync", &[]),
        ("bolt-sync", &["--config"]),
        ("bolt", &["fly"]),
    ] {
        let output = Command::new(binary(program).unwrap()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let helps = said.to_lowercase().contains("usage") || said.contains("--help");
        assert!(!output.status.success() && helps, "{program} {arguments:?}: {said}");
    }
}
