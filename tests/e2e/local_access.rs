//! `bolt local`: root of an instance reads and kills executions without certificates, also while files are broken or no agent runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bolt_client::local::LocalAgent;
use bolt_client::pki::Validity;
use bolt_tests::{CommandOutput, World, is_root, skip, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::Principal;
use serde_json::{Value, json};

use crate::calls::until;
use crate::restarts::child;

/// `bolt local` on the host of one agent.
struct Root<'a> {
    world: &'a World,
    config: PathBuf,
}

impl Root<'_> {
    fn of<'a>(world: &'a World, agent: &LocalAgent) -> Root<'a> {
        Root { world, config: agent.config() }
    }

    /// Runs `bolt local …` without certificate, inventory and configuration of the client.
    fn run(&self, arguments: &[&str]) -> CommandOutput {
        let bolt = bolt_tests::Bolt::new(Path::new("/dev/null"));
        let mut command = bolt.command(["local"].iter().chain(arguments));
        command.arg("--agent-config").arg(&self.config).env("HOME", self.world.path());
        CommandOutput::from(command.output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value, String) {
        let said = self.run(&[arguments, &["--json"]].concat());
        let value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
        (said.code, value, said.stderr)
    }

    fn show(&self, execution: &Execution) -> Execution {
        let (code, value, stderr) = self.json(&["show", execution.id.as_str()]);
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_value(value).unwrap()
    }

    /// Waits until the agent answers, and returns what is said about it.
    async fn answers(&self) -> String {
        let mut said = String::new();
        until("an answer of the agent", async || {
            let (_, value, stderr) = self.json(&["ps"]);
            said = stderr;
            value["source"] == "agent"
        })
        .await;
        said
    }
}

fn log(agent: &LocalAgent) -> String {
    fs::read_to_string(agent.log()).unwrap_or_default()
}

/// Number of lines in the log about this request of root.
fn logged(agent: &LocalAgent, request: &str) -> usize {
    log(agent).lines().filter(|line| line.contains(" principal=local://root ") && line.contains(request)).count()
}

fn socket(agent: &LocalAgent) -> PathBuf {
    agent.directory().join("run/local.sock")
}

#[tokio::test(flavor = "multi_thread")]
async fn root_sees_what_a_caller_with_every_grant_sees_and_kills() {
    let world = World::with_probe();
    let agent = world.agent();
    let (operator, root, bolt) = (world.operator(&agent), Root::of(&world, &agent), world.bolt(&[&agent]));
    let ended = operator.run("probe.sleep", json!({"seconds": 0.1})).await;
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    let (id, short) = (ended.id.as_str(), &running.id.as_str()[24..]);
    for arguments in [
        &["show", id][..],
        &["show", id, "--json"],
        &["logs", id],
        &["logs", id, "--json"],
        &["logs", short, "--stream", "stdout"],
        &["ps", "--wide", "--state", "succeeded"],
        &["ps", "--failed"],
        &["ps", "--action", "probe.sleep", "--sort", "state", "--wide", "--state", "succeeded"],
    ] {
        let (locally, remotely) = (root.run(arguments), bolt.run(arguments));
        assert_eq!((locally.code, &locally.stdout), (0, &remotely.stdout), "{arguments:?}: {locally:?} {remotely:?}");
    }
    let (code, listed, _) = root.json(&["ps", "--state", "running"]);
    assert_eq!((code, listed["executions"].as_array().unwrap().len()), (0, 1), "{listed}");
    let (code, killed, stderr) = root.json(&["kill", short, "--note", "wrong host"]);
    assert_eq!(code, 0, "{stderr}");
    let killed: Execution = serde_json::from_value(killed).unwrap();
    assert_eq!((killed.state, killed.killed_by), (State::Killed, Some(Principal::local_root())));
    assert_eq!(killed.kill_note.as_deref(), Some("wrong host"));
    let seen = operator.wait(&running).await;
    assert_eq!(seen.killed_by, Some(Principal::local_root()), "callers see who killed it");
    let again = root.run(&["kill", short]);
    assert!(again.code == 0 && again.stderr.contains("already ended"), "{again:?}");
    for (arguments, code) in [(&["show", "ffffffffffff"][..], 4), (&["show", "x"], 2), (&["run", "probe.sleep"], 2)] {
        let said = root.run(arguments);
        assert_eq!(said.code, code, "{said:?}");
    }
    assert!(logged(&agent, "method=\"POST\" route=\"/v1/executions/{id}/kill\" status=202") > 0, "{}", log(&agent));
    for (arguments, request) in [
        (&["ps"][..], "method=\"GET\" route=\"/v1/executions\" status=200"),
        (&["show", id], "method=\"GET\" route=\"/v1/executions/{id}\" status=200"),
        (&["logs", id], "method=\"GET\" route=\"/v1/executions/{id}/output\" status=200"),
    ] {
        let before = logged(&agent, request);
        root.run(arguments);
        assert!(logged(&agent, request) > before, "{arguments:?}: {}", log(&agent));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarting_api_refuses_no_local_connection() {
    let world = World::with_probe();
    let agent = world.agent();
    let root = Root::of(&world, &agent);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
        kill(Pid::from_raw(api), signal).unwrap();
        let (code, listed, stderr) = root.json(&["ps"]);
        assert!(code == 0 && listed["source"] == "agent", "{listed} {stderr}");
        until("another api", async || child(agent.launcher_pid().unwrap(), "api").is_some_and(|pid| pid != api)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_refused_by_the_file_and_by_the_api() {
    if !is_root() {
        return skip("another_account_is_refused_by_the_file_and_by_the_api", "needs a second account");
    }
    let world = World::with_probe();
    let agent = world.agent();
    let path = socket(&agent);
    for directory in path.ancestors().skip(1).take_while(|path| path.starts_with(world.path())) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let connect = || {
        let script = "import socket,sys\n\
                      s=socket.socket(socket.AF_UNIX)\n\
                      s.settimeout(30)\n\
                      try: s.connect(sys.argv[1])\n\
                      except PermissionError: sys.exit('denied')\n\
                      try:\n  s.sendall(b'GET /v1/health HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n')\n  got=s.recv(100)\n\
                      except OSError: got=b''\n\
                      print(got)\n";
        let mut command = Command::new("python3");
        let output = command.args(["-c", script]).arg(&path).current_dir("/").uid(64_999).gid(64_999).output().unwrap();
        CommandOutput::from(output)
    };
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let denied = connect();
    assert!(denied.stderr.contains("denied"), "{denied:?}");
    // Even if the file were open to all.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let closed = connect();
    assert_eq!(closed.stdout, "b''\n", "{closed:?}");
    until("the log", async || log(&agent).contains("local access refused")).await;
    assert!(log(&agent).contains("uid=64999"), "{}", log(&agent));
    let api = fs::metadata(agent.state()).unwrap();
    let impostor = world.path().join("impostor.sock");
    let mut server = Command::new("python3");
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint(flush=True)\nsys.stdin.read()";
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let uid = std::os::unix::fs::MetadataExt::uid(&api);
    server.args(["-c", script]).arg(&impostor).current_dir("/").uid(uid).gid(uid);
    let mut server = server.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let said = Root::of(&world, &agent).run(&["ps", "--socket", impostor.to_str().unwrap()]);
    drop(server.stdin.take());
    server.wait().unwrap();
    assert!(said.stderr.contains(&format!("user {uid}, not root, has made this socket")), "{said:?}");
}

/// Fault of the files of an agent: health code, true if it then answers no remote caller, and how to make it.
type Fault = (&'static str, bool, fn(&World, &LocalAgent));

#[tokio::test(flavor = "multi_thread")]
async fn broken_files_leave_local_access_and_are_read_again_when_they_are_repaired() {
    let faults: [Fault; 4] = [
        ("tls_invalid", true, |_, agent| fs::write(agent.directory().join("etc/tls/agent.pem"), "damaged").unwrap()),
        ("tls_invalid", true, |_, agent| fs::remove_file(agent.directory().join("etc/tls/ca.pem")).unwrap()),
        ("grants_invalid", true, |_, agent| fs::write(agent.directory().join("etc/grants.toml"), "[[grant").unwrap()),
        ("certificate", false, |world, agent| {
            let last_year = Validity::days(1).not_after - Duration::from_secs(400 * 86_400);
            let ended = Validity { not_before: last_year - Duration::from_secs(86_400), not_after: last_year };
            let issued = world.site.authority().issue_instance(&agent.facts().id, ended).unwrap();
            fs::write(agent.directory().join("etc/tls/agent.pem"), &issued.cert_pem).unwrap();
            // In place: owner and mode stay.
            fs::write(agent.directory().join("etc/tls/agent.key"), &issued.key_pem).unwrap();
        }),
    ];
    for (code, is_closed, break_it) in faults {
        let world = World::with_probe();
        let mut agent = world.start(&spec("i-1").set("execution", "max_running", 1));
        let operator = world.operator(&agent);
        let running = operator.start("probe.sleep", json!({})).await;
        operator.wait_for_output(&running).await;
        let queued = operator.start("probe.sleep", json!({"seconds": 0.1})).await;
        agent.terminate();
        let files = ["etc/tls/agent.pem", "etc/tls/agent.key", "etc/tls/ca.pem", "etc/grants.toml"];
        let kept = files.map(|name| fs::read(agent.directory().join(name)).unwrap());
        break_it(&world, &agent);
        agent.launch().unwrap();
        let root = Root::of(&world, &agent);
        let said = root.answers().await;
        assert_eq!(said.contains("interface_closed"), is_closed, "{said}");
        assert_eq!(said.contains(code), is_closed, "{said}");
        assert_eq!(agent.state().join("api.address").exists(), !is_closed);
        let stdout = root.run(&["logs", running.id.as_str()]).stdout;
        assert_eq!(stdout, "sleeping\n");
        let killed = root.run(&["kill", running.id.as_str()]);
        assert!(killed.code == 0 && killed.stdout.contains("killed"), "{killed:?}");
        assert_eq!(root.show(&running).killed_by, Some(Principal::local_root()));
        if code == "grants_invalid" {
            assert_eq!(root.show(&queued).state, State::Queued, "nothing says whether it may start");
        }
        for (name, text) in files.iter().zip(&kept) {
            let path = agent.directory().join(name);
            fs::write(&path, text).unwrap();
        }
        agent.wait_ready().unwrap();
        assert_eq!(operator.wait(&queued).await.state, State::Succeeded);
        assert_eq!(operator.wait(&running).await.killed_by, Some(Principal::local_root()));
        assert!(!root.answers().await.contains("interface_closed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_agent_the_directories_are_read_and_a_kill_is_recorded_for_it() {
    let world = World::with_probe();
    let mut agent = world.agent();
    let (operator, root) = (world.operator(&agent), Root::of(&world, &agent));
    let ended = operator.run("probe.sleep", json!({"seconds": 0.1})).await;
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    agent.terminate();
    let said = root.run(&["ps"]);
    assert!(said.stderr.contains("does not answer") && said.stderr.contains("bolt-launch does not run"), "{said:?}");
    // An api that cannot start.
    let lock = agent.state().join("state.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    agent.launch().unwrap();
    until("the launcher gives up", async || {
        fs::read_to_string(agent.directory().join("run/api.json")).is_ok_and(|text| text.contains("failing"))
            && !socket(&agent).exists()
    })
    .await;
    let (code, listed, stderr) = root.json(&["ps", "--sort", "state"]);
    assert!(code == 0 && stderr.contains("the api cannot be kept running") && stderr.contains("status 1"), "{stderr}");
    let states: Vec<&str> =
        listed["executions"].as_array().unwrap().iter().filter_map(|e| e["state"].as_str()).collect();
    assert_eq!((states, &listed["source"]), (vec!["running", "succeeded"], &json!("directories")));
    let shown = root.show(&ended);
    assert_eq!((shown.state, shown.exit_status, shown.principal), (State::Succeeded, Some(0), ended.principal.clone()));
    for execution in [&ended, &running] {
        let said = root.run(&["logs", execution.id.as_str()]);
        assert_eq!((said.code, said.stdout.as_str()), (0, "sleeping\n"), "{said:?}");
    }
    let killed = root.run(&["kill", &running.id.as_str()[20..], "--note", "no agent"]);
    assert!(killed.code == 0 && killed.stdout.contains("killed"), "{killed:?}");
    let again = root.run(&["kill", running.id.as_str()]);
    assert!(again.code == 4 && again.stderr.contains("already ended"), "{again:?}");
    agent.terminate();
    fs::remove_dir(&lock).unwrap();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    let seen = operator.wait(&running).await;
    assert_eq!((seen.state, seen.killed_by), (State::Killed, Some(Principal::local_root())));
    assert_eq!(seen.kill_note.as_deref(), Some("no agent"));
    let audit = agent.state().join("audit");
    let bolt = bolt_tests::Bolt::new(Path::new("/dev/null"));
    let shown = bolt.run(["audit", "show", audit.to_str().unwrap(), "--verb", "kill", "--json"]);
    assert!(shown.stdout.contains("local://root") && shown.stdout.contains(running.id.as_str()), "{shown:?}");
}
