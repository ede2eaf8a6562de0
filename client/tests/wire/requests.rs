//! Requests and connections that a run costs on each instance, and that its result does not depend on them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bolt_client::connection::{Agent, max_open};
use bolt_client::fleet::{self, Amount, Control, Ending, Grouping, Output, Plan, Request, Run, Strategy, across};
use bolt_client::inventory::{Instance, Inventory};
use bolt_client::pack;
use bytes::Bytes;
use hyper::StatusCode;
use packs_schema::agent::rest::Code;
use packs_schema::base::name::{ActionRef, PackName};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use proptest::prelude::{Just, ProptestConfig, any, prop_assert_eq, prop_oneof};
use proptest::strategy::Strategy as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::hostile::{ID, execution, listed};
use crate::server::{self, Answer, Server, World, answer, problem};

/// An agent that follows the rules of the interface for one action, which writes these bytes.
struct Model {
    name: String,
    /// True: of a version that knows `?wait=` only.
    is_old: bool,
    class: Mutex<&'static str>,
    digest: Mutex<String>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Number of requests that are answered before the execution has ended.
    waits: usize,
    /// False: the caller has no grant for the verb read.
    may_read: bool,
    /// Method and target of each request.
    requests: Mutex<Vec<String>>,
    started: Mutex<Option<Value>>,
}

impl Model {
    fn new(name: &str) -> Model {
        Model {
            name: name.to_owned(),
            is_old: false,
            class: Mutex::new("diagnostic"),
            digest: Mutex::new("0".repeat(64)),
            stdout: b"out\n".to_vec(),
            stderr: Vec::new(),
            waits: 0,
            may_read: true,
            requests: Mutex::new(Vec::new()),
            started: Mutex::new(None),
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn answer(&self, request: &hyper::Request<Bytes>) -> Answer {
        let mut requests = self.requests.lock().unwrap();
        requests.push(format!("{} {}", request.method(), request.uri()));
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        if self.is_old && query.keys().any(|name| *name != "wait") {
            return problem(Code::BadRequest, "unknown query parameter \"output\"; this route accepts wait");
        }
        match path.rsplit('/').next().unwrap() {
            "linux.true" | "tried.uptime" => server::json(&self.view(path)),
            "stdout" if self.may_read => part(request, &self.stdout),
            "stderr" if self.may_read => part(request, &self.stderr),
            "stdout" | "stderr" => problem(Code::Forbidden, "no grant"),
            "executions" => {
                let class = *self.class.lock().unwrap();
                if query.get("class").is_some_and(|wanted| *wanted != class) {
                    return problem(Code::ClassMismatch, "another class");
                }
                let asked: Value = serde_json::from_slice(request.body()).unwrap();
                let mut said = execution(ID, &self.name, "running");
                said["action"] = asked["action"].clone();
                said["run"] = asked["run"].clone();
                said["noop"] = asked["noop"].clone();
                said["digest"] = json!(*self.digest.lock().unwrap());
                *self.started.lock().unwrap() = Some(said);
                let asked = requests.iter().filter(|request| request.contains("wait=")).count();
                self.state(&query, asked)
            }
            _ => {
                let asked = requests.iter().filter(|request| request.contains("wait=")).count();
                self.state(&query, asked)
            }
        }
    }

    fn state(&self, query: &BTreeMap<&str, &str>, asked: usize) -> Answer {
        let mut said = self.started.lock().unwrap().clone().unwrap();
        let old = usize::from(self.is_old);
        if asked <= self.waits + old {
            return server::json(&said);
        }
        said["state"] = json!("succeeded");
        said["stdout"] = json!({"written_bytes": self.stdout.len(), "dropped_bytes": 0});
        said["stderr"] = json!({"written_bytes": self.stderr.len(), "dropped_bytes": 0});
        match query.get("output").map(|limit| limit.parse::<usize>().unwrap()) {
            Some(_) if !self.may_read => said["output_error"] = json!("forbidden"),
            Some(limit) => {
                said["output"] = json!({"stdout": start(&self.stdout, limit), "stderr": start(&self.stderr, limit)});
            }
            None => {}
        }
        server::json(&said)
    }

    fn view(&self, path: &str) -> Value {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("pack");
        pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, &directory).unwrap();
        let mut view = listed(&pack::lint(&directory).unwrap().checked.unwrap().actions.pop().unwrap());
        if path.ends_with("linux.true") {
            (view["pack"], view["name"]) = (json!("linux"), json!("true"));
        }
        view["class"] = json!(*self.class.lock().unwrap());
        view["digest"] = json!(*self.digest.lock().unwrap());
        view
    }
}

/// The first bytes of a stream as an agent answers them.
fn start(bytes: &[u8], limit: usize) -> Value {
    let truncated = bytes.len() > limit;
    let mut bytes = &bytes[..bytes.len().min(limit)];
    if let Err(error) = std::str::from_utf8(bytes)
        && truncated
        && error.error_len().is_none()
    {
        bytes = &bytes[..error.valid_up_to()];
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({"text": text, "truncated": truncated}),
        Err(_) => json!({"base64": STANDARD.encode(bytes), "truncated": truncated}),
    }
}

/// A stream, or the range of it that a request asks for.
fn part(request: &hyper::Request<Bytes>, bytes: &[u8]) -> Answer {
    let Some(range) = request.headers().get("range") else {
        return answer(StatusCode::OK, "application/octet-stream", bytes.to_vec());
    };
    let (first, last) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let some = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => &bytes[first..bytes.len().min(last + 1)],
        (Err(_), Ok(count)) => &bytes[bytes.len().saturating_sub(count)..],
        other => panic!("{other:?}"),
    };
    answer(StatusCode::PARTIAL_CONTENT, "application/octet-stream", some.to_vec())
}

async fn serve(world: &World, model: Model) -> (Server, Arc<Model>) {
    let model = Arc::new(model);
    let shared = model.clone();
    (world.server(&model.name, move |request| shared.answer(request)).await, model)
}

fn run(targets: Vec<Instance>) -> Run {
    let facts: Vec<&Facts> = targets.iter().map(|t| &t.facts).collect();
    let all = Amount::Percent(100);
    let strategy = Strategy {
        grouping: Grouping::All,
        max_failures: all,
        max_unreachable: all,
        parallel: 1000,
        ..Strategy::default()
    };
    let plan = Plan::new(&facts, &strategy);
    Run {
        id: fleet::new_run_id(),
        request: Request::new(ActionRef::new("linux.true").unwrap()),
        targets,
        plan,
        check: None,
    }
}

/// Runs on one instance; returns its ending.
async fn run_on(world: &World, server: &Server, change: impl FnOnce(&mut Request)) -> Ending {
    let mut run = run(vec![server.instance.clone()]);
    change(&mut run.request);
    fleet::run(&run, &world.identity(), &Control::default(), |_| {}).await.endings.pop().unwrap()
}

fn output(ending: &Ending) -> &Output {
    match ending {
        Ending::Ended(execution, output) => {
            assert_eq!((&execution.output, execution.output_error), (&None, None), "it is moved, not copied");
            output
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_short_action_costs_one_request_and_one_connection_on_each_instance() {
    let world = World::new();
    let mut servers = Vec::new();
    for number in 0..12 {
        servers.push(serve(&world, Model::new(&format!("i-{number}"))).await);
    }
    let run = run(servers.iter().map(|(server, _)| server.instance.clone()).collect());
    let report = fleet::run(&run, &world.identity(), &Control::default(), |_| {}).await;
    for ((server, model), ending) in servers.iter().zip(&report.endings) {
        assert_eq!(output(ending), &Output { stdout: b"out\n".to_vec(), ..Output::default() });
        assert_eq!(model.requests(), ["POST /v1/executions?wait=2s&output=65536"]);
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_longer_action_ends_with_its_output_over_the_same_connection() {
    let world = World::new();
    let (server, model) = serve(&world, Model { waits: 2, ..Model::new("i-1") }).await;
    let ending = run_on(&world, &server, |request| request.class = Some(Class::Diagnostic)).await;
    assert_eq!(output(&ending).stdout, b"out\n");
    let wait = format!("GET /v1/executions/{ID}?wait=30s&output=65536");
    let start = "POST /v1/executions?wait=2s&output=65536&class=diagnostic";
    assert_eq!(model.requests(), [start, wait.as_str(), wait.as_str()]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn output_that_does_not_fit_is_fetched_over_the_same_connection() {
    let world = World::new();
    let long = Model { stdout: b"0123456789\n".repeat(100), stderr: b"x".repeat(2_000), ..Model::new("i-1") };
    let (server, model) = serve(&world, long).await;
    let ending = run_on(&world, &server, |request| request.output_limit = 1_000).await;
    let got = output(&ending);
    assert!(got.truncated && got.problem.is_none(), "{got:?}");
    assert!(got.stdout.starts_with(b"0123456789\n") && got.stdout.ends_with(b"\n0123456789\n"));
    let path = |stream| format!("GET /v1/executions/{ID}/{stream}");
    // The beginning of each came with the end of the execution.
    let start = "POST /v1/executions?wait=2s&output=1000".to_owned();
    assert_eq!(model.requests(), [start, path("stdout"), path("stderr")]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_agent_that_knows_only_wait_is_asked_as_before() {
    let world = World::new();
    let old = |name| Model { is_old: true, stderr: b"err\n".to_vec(), ..Model::new(name) };
    let (server, model) = serve(&world, old("i-1")).await;
    let ending = run_on(&world, &server, |request| request.class = Some(Class::Diagnostic)).await;
    let expected = Output { stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec(), ..Output::default() };
    assert_eq!(output(&ending), &expected);
    let path = |stream| format!("GET /v1/executions/{ID}/{stream}");
    let requests = [
        "POST /v1/executions?wait=2s&output=65536&class=diagnostic".to_owned(),
        "GET /v1/actions/linux.true".to_owned(),
        "POST /v1/executions?wait=2s".to_owned(),
        path("stdout"),
        path("stderr"),
    ];
    assert_eq!(model.requests(), requests);
    assert_eq!(server.connections(), 1);

    // The client checks the class for it.
    let (server, model) = serve(&world, old("i-2")).await;
    *model.class.lock().unwrap() = "remediation";
    let ending = run_on(&world, &server, |request| request.class = Some(Class::Diagnostic)).await;
    let Ending::Refused(error) = &ending else { panic!("{ending:?}") };
    assert!(error.to_string().contains("remediation action here, not diagnostic: nothing was started"), "{error}");
    assert!(model.started.lock().unwrap().is_none());
}

#[tokio::test]
async fn output_that_may_not_be_read_is_not_asked_for_again() {
    let world = World::new();
    let (server, model) = serve(&world, Model { may_read: false, ..Model::new("i-1") }).await;
    let ending = run_on(&world, &server, |_| {}).await;
    assert_eq!(output(&ending).problem.as_deref(), Some("no grant allows this (forbidden)"));
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn more_output_than_was_asked_for_is_not_taken() {
    let world = World::new();
    for (limit, start) in [
        (10, json!({"text": "x".repeat(11), "truncated": false})),
        (10, json!({"base64": STANDARD.encode("x".repeat(11)), "truncated": false})),
        (10, json!({"base64": "not base64", "truncated": false})),
        (10, json!({"truncated": false})),
        (0, json!({"text": "", "truncated": false})),
    ] {
        let hostile = move |request: &hyper::Request<Bytes>| {
            let asked: Value = serde_json::from_slice(request.body()).unwrap();
            let mut said = execution(ID, "i-1", "succeeded");
            said["run"] = asked["run"].clone();
            said["output"] = json!({"stdout": start, "stderr": {"text": "", "truncated": false}});
            server::json(&said)
        };
        let server = world.server("i-1", hostile).await;
        let ending = run_on(&world, &server, |request| request.output_limit = limit).await;
        let Ending::Unreachable { error, may_run: true, .. } = &ending else { panic!("{ending:?}") };
        assert!(error.to_string().contains("output that was not asked for"), "{error}");
    }
}

/// Bytes that are text, cut in the middle of characters, or anything.
fn stream() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    let text = "[a-z\u{e9}\u{1f600}\n]{0,900}".prop_map(String::into_bytes);
    prop_oneof![text, proptest::collection::vec(any::<u8>(), 0..900), Just(b"line\n".repeat(300))]
}

/// The result of a run is the same with and without output in the answer to the start.
#[test]
fn the_result_does_not_depend_on_the_short_cut() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let config = ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let given = (stream(), stream(), 0..1200_usize, 0..2_usize);
    let tested = runner.run(&given, |(stdout, stderr, limit, waits)| {
        let ended = |is_old| {
            let model = Model { is_old, waits, stdout: stdout.clone(), stderr: stderr.clone(), ..Model::new("i-1") };
            let world = &world;
            runtime.block_on(async move {
                let (server, _) = serve(world, model).await;
                output(&run_on(world, &server, |request| request.output_limit = limit).await).clone()
            })
        };
        prop_assert_eq!(ended(false), ended(true));
        Ok(())
    });
    tested.unwrap();
}

/// Connects in progress are bounded, whatever number of instances is in flight. The instances accept and say nothing, so that each
/// connect takes its whole time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_in_progress_are_bounded() {
    const INSTANCES: usize = 400;
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let silent = std::thread::spawn(move || {
        let (mut held, mut most) = (Vec::new(), 0);
        for stream in listener.incoming().take(INSTANCES) {
            let stream = stream.unwrap();
            stream.set_nonblocking(true).unwrap();
            // A connection that the client closed before it made the next one is seen as closed here.
            held.retain(is_open);
            held.push(stream);
            most = most.max(held.len());
        }
        (held, most)
    });
    let targets = (0..INSTANCES).map(|number| server::instance(&format!("i-{number}"), address)).collect();
    let report = fleet::run(&run(targets), &world.identity(), &Control::default(), |_| {}).await;
    assert!(report.endings.iter().all(|ending| matches!(ending, Ending::Unreachable { may_run: false, .. })));
    // An eighth of the descriptors, of which seven are left for open connections.
    let (_held, most) = silent.join().unwrap();
    assert_eq!(most, (max_open() / 7).min(256));
}

fn is_open(mut stream: &TcpStream) -> bool {
    let mut space = [0; 4096];
    loop {
        match stream.read(&mut space) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test]
async fn a_request_to_many_instances_uses_one_connection_each() {
    let world = World::new();
    let mut servers = Vec::new();
    for number in 0..8 {
        servers.push(serve(&world, Model::new(&format!("i-{number}"))).await);
    }
    let instances: Vec<Instance> = servers.iter().map(|(server, _)| server.instance.clone()).collect();
    let action = ActionRef::new("linux.true").unwrap();
    let question = async |agent: &Agent| {
        agent.action(&action).await?;
        agent.action(&action).await
    };
    let answers = across(&instances, &world.identity(), 8, question).await;
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
    assert!(servers.iter().all(|(server, model)| server.connections() == 1 && model.requests().len() == 2));
}

/// `bolt run` asks for the definition of an action once for each version of its pack, and never trusts it for the class.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_definition_saves_the_request_for_it() {
    let world = World::new();
    let mut servers = Vec::new();
    for number in 0..3 {
        servers.push(serve(&world, Model::new(&format!("i-{number}"))).await);
    }
    let inventory = Inventory::of(servers.iter().map(|(server, _)| server.instance.clone()).collect());
    std::fs::write(world.path().join("inventory.toml"), inventory.to_toml()).unwrap();
    let cache = world.path().join("cache");
    let first = world.command(&["run", "tried.uptime", "--everywhere", "--at-once"]);
    // The same certificate, so that it is the same client configuration.
    let arguments: Vec<_> = first.as_std().get_args().map(ToOwned::to_owned).collect();
    let run = async |more: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bolt"));
        command.args(&arguments).args(more).env("HOME", world.path()).env("XDG_CACHE_HOME", &cache);
        command.env_remove("BOLT_CLIENT_CONFIG").env_remove("XDG_CONFIG_HOME").stdin(std::process::Stdio::null());
        let before: Vec<usize> = servers.iter().map(|(_, model)| model.requests().len()).collect();
        let output = command.output().await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let since = |((_, model), before): (&(Server, Arc<Model>), usize)| model.requests().split_off(before);
        let requests: Vec<Vec<String>> = servers.iter().zip(before).map(since).collect();
        (output.status.code(), said, requests)
    };
    let start = "POST /v1/executions?wait=2s&output=65536&class=diagnostic";
    let definition = "GET /v1/actions/tried.uptime";
    let count = |requests: &[Vec<String>], what: &str| requests.iter().flatten().filter(|one| *one == what).count();

    let (code, said, requests) = run(&[]).await;
    assert_eq!((code, count(&requests, start)), (Some(0), 3), "{said}");
    assert!(count(&requests, definition) >= 1);
    let (code, said, requests) = run(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(requests.iter().all(|requests| requests == &[start]), "{requests:?}");

    // Two instances get another version: one request tells what it is.
    for (_, model) in &servers[1..] {
        *model.digest.lock().unwrap() = "1".repeat(64);
    }
    let (_, said, requests) = run(&[]).await;
    assert_eq!((count(&requests, start), count(&requests, definition)), (3, 1), "{said}");
    let (_, _, requests) = run(&[]).await;
    assert_eq!((count(&requests, start), count(&requests, definition)), (3, 0));
    // A request that does not fit what is kept is checked against an instance's definition.
    let (code, said, requests) = run(&["surprise=1"]).await;
    assert_eq!((code, count(&requests, start)), (Some(2), 0), "{said}");
    assert!(said.contains("surprise") && count(&requests, definition) >= 1, "{said}");

    // The action becomes a remediation: nothing starts unasked, and the next run asks.
    for (_, model) in &servers {
        *model.class.lock().unwrap() = "remediation";
        *model.started.lock().unwrap() = None;
    }
    let (code, said, _) = run(&[]).await;
    assert!(code == Some(4) && said.contains("class_mismatch"), "{code:?} {said}");
    let (code, said, requests) = run(&[]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--yes") && requests.iter().flatten().all(|one| one == definition), "{said}");
    assert!(servers.iter().all(|(_, model)| model.started.lock().unwrap().is_none()));
    // A run that may change instances asks for the definition each time.
    let (code, said, requests) = run(&["--yes"]).await;
    assert_eq!((code, count(&requests, "POST /v1/executions?wait=2s&output=65536")), (Some(0), 3), "{said}");
    assert!(count(&requests, definition) >= 1);
}
