//! Packs that are pushed onto an instance: only where it is allowed, never as if they were signed, and gone when their time is.

use std::path::PathBuf;

use bolt_client::local::{AgentSpec, LocalAgent, OPERATOR};
use bolt_tests::http::{Answer, Call, send};
use bolt_tests::{Bolt, Operator, PackSource, World, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, Health, PackList, PackView, Pushed, StateChange};
use serde_json::json;

use crate::calls::{caller, refused, run, until};
use crate::restarts::child;

/// Returns the settings of an instance that accepts pushed packs, and a caller that may push.
fn allowing(id: &str) -> AgentSpec {
    let verbs = "[\"read\", \"run\", \"kill\", \"sync\", \"push\"]";
    let grants = format!("[[grant]]\nprincipal = \"{OPERATOR}\"\nverbs = {verbs}\nactions = [\"*\"]\n");
    AgentSpec { grants: Some(grants), ..spec(id).set("dev", "push", true) }
}

/// Returns the probe pack with an edited output.
fn edited(word: &str) -> PackSource {
    let script = format!("#!/bin/sh\necho {word}\n");
    PackSource::probe().version("1.0.1").file("actions/hello.sh", &script, 0o755)
}

/// The directory of an edited probe pack.
fn source(world: &World, word: &str) -> PathBuf {
    edited(word).write(&world.scratch(&format!("work-{word}")))
}

/// A push of these bytes as the pack probe, without the help of our client.
fn upload(query: &str, archive: Vec<u8>) -> Call {
    Call::post(&format!("/v1/packs/push?{query}"), archive).header("content-type", "application/gzip")
}

async fn push(world: &World, agent: &LocalAgent, word: &str, more: &str) -> Answer {
    let operator = world.operator(agent);
    let built = bolt_client::pack::build(&source(world, word)).unwrap();
    operator.send(upload(&format!("pack=probe&version=1.0.1{more}"), built.archive.to_vec().unwrap())).await
}

async fn probe(operator: &Operator) -> PackView {
    operator.send(Call::get("/v1/packs/probe")).await.json()
}

async fn says(operator: &Operator) -> String {
    let execution = operator.run("probe.hello", json!({})).await;
    assert_eq!(execution.state, State::Succeeded, "{execution:?}");
    operator.stdout(&execution).await
}

fn store(agent: &LocalAgent) -> PathBuf {
    agent.directory().join("packs")
}

fn is_version(view: &PackView, version: &str) -> bool {
    view.version.as_ref().is_some_and(|active| active.to_string() == version)
}

#[tokio::test]
async fn a_pushed_version_is_marked_wherever_it_shows_and_gone_when_it_is_taken_back() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1"));
    let operator = world.operator(&agent);
    let bolt = world.bolt(&[&agent]);
    let directory = source(&world, "edited");
    let (code, said) = bolt.json(["pack", "push", directory.to_str().unwrap(), "--to", "i-1", "--ttl", "1h"]);
    assert_eq!(code, 0, "{said}");
    let pushed: Pushed = serde_json::from_value(said["instances"][0]["pushed"].clone()).unwrap();
    let dev = pushed.dev.clone().unwrap();
    assert_eq!((dev.by.as_str(), dev.until_ms - dev.pushed_at_ms), (OPERATOR, 3_600_000));
    assert_eq!(pushed.signed.as_ref().map(ToString::to_string).as_deref(), Some("1.0.0"));

    let view = probe(&operator).await;
    assert!(is_version(&view, "1.0.1") && view.dev == pushed.dev && view.signed == pushed.signed, "{view:?}");
    let action = operator.send(Call::get("/v1/actions/probe.hello")).await;
    assert!(action.text().contains(&format!("\"by\":\"{OPERATOR}\"")), "{}", action.text());
    let execution = operator.run("probe.hello", json!({})).await;
    assert_eq!((execution.dev.as_ref(), execution.version.to_string().as_str()), (pushed.dev.as_ref(), "1.0.1"));
    assert_eq!(operator.stdout(&execution).await, "edited\n");
    let listed = operator.send(Call::get("/v1/executions")).await.text();
    assert!(listed.contains("\"dev\":{"), "{listed}");
    let events = operator.send(Call::get("/v1/events")).await.text();
    let events: Vec<StateChange> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().filter(|event| event.execution == execution.id).all(|event| event.dev), "{events:?}");
    let metrics = operator.send(Call::get("/v1/metrics")).await.text();
    assert!(metrics.contains("bolt_dev_packs 1\n"), "{metrics}");
    assert!(metrics.contains("bolt_dev_executions_total{state=\"succeeded\"} 1\n"), "{metrics}");
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(!health.degraded && health.notes.iter().any(|note| note.code == "dev_pack"), "{health:?}");
    assert!(!format!("{health:?}").contains(OPERATOR), "anybody may see it");
    let log = std::fs::read_to_string(agent.log()).unwrap();
    assert!(log.contains("pack pushed") && log.contains(OPERATOR), "{log}");

    let shown = |arguments: &[&str]| {
        let said = bolt.run(arguments);
        format!("{}{}", said.stdout, said.stderr)
    };
    for arguments in
        [&["packs"][..], &["actions"], &["actions", "probe.hello"], &["ps"], &["show", execution.id.as_str()]]
    {
        assert!(shown(arguments).contains("dev"), "{arguments:?}: {}", shown(arguments));
    }
    assert!(shown(&["run", "probe.hello"]).contains("pushed version"), "{}", shown(&["run", "probe.hello"]));

    let said = bolt.run(["pack", "unpush", "probe", "--from", "i-1"]);
    assert_eq!((said.code, said.stdout.trim()), (0, "i-1: probe: the signed 1.0.0 is active again"), "{said:?}");
    let view = probe(&operator).await;
    assert!(is_version(&view, "1.0.0") && view.dev.is_none() && view.signed.is_none(), "{view:?}");
    assert_eq!(says(&operator).await, "hello from i-1\n");
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(health.notes.is_empty(), "{health:?}");
    // Past executions keep the dev mark, also after a restart.
    let then: Execution = operator.send(Call::get(&format!("/v1/executions/{}", execution.id))).await.json();
    assert_eq!(then.dev, pushed.dev);
    let again = bolt.run(["pack", "unpush", "probe", "--from", "i-1"]);
    assert!(again.code == 4 && again.stderr.contains("not_pushed"), "{again:?}");
}

#[tokio::test]
async fn it_goes_when_its_time_is_over_and_nothing_can_be_started_in_it() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1").set("execution", "max_running", 1));
    let operator = world.operator(&agent);
    let answer = push(&world, &agent, "brief", "&ttl=5s").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let pushed: Pushed = answer.json();
    let running = operator.start("probe.sleep", json!({"seconds": 600})).await;
    operator.wait_for_output(&running).await;
    // Waits for a place that comes free too late.
    let waiting = operator.start("probe.hello", json!({})).await;
    assert!(waiting.dev.is_some() && waiting.state == State::Queued, "{waiting:?}");
    until("the signed version", async || is_version(&probe(&operator).await, "1.0.0")).await;
    let directory = store(&agent)
        .join("probe")
        .join(packs_schema::agent::store::version_directory(&pushed.version, &pushed.digest));
    until("its definitions to be gone", async || !directory.join(".bolt").exists()).await;
    let stopped = operator.wait(&running).await;
    assert_eq!((stopped.state, stopped.version.to_string().as_str()), (State::TimedOut, "1.0.1"), "{stopped:?}");
    let over = "when the pushed version expired";
    assert!(stopped.reason.as_deref().is_some_and(|why| why.contains(over)), "{stopped:?}");
    // The launcher refuses it, whether the sync has been there or not: each of its two reasons says so.
    let late = operator.wait(&waiting).await;
    assert_eq!(late.state, State::Error, "{late:?}");
    assert!(late.reason.as_deref().is_some_and(|why| why.contains("has expired")), "{late:?}");
    assert_eq!(says(&operator).await, "hello from i-1\n");
    let (code, report) = world.bolt(&[&agent]).json(["pack", "check", "--packs", store(&agent).to_str().unwrap()]);
    assert_eq!((code, report["problems"].as_array().map(Vec::len)), (0, Some(0)), "{report}");
}

#[tokio::test]
async fn an_instance_that_does_not_say_so_takes_none() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1").set("dev", "push", false));
    let operator = world.operator(&agent);
    let answer = push(&world, &agent, "edited", "").await;
    refused(&answer, Code::PushNotAllowed, "[dev]");
    let unpush = operator.send(Call::post("/v1/packs/probe/unpush", "")).await;
    refused(&unpush, Code::PushNotAllowed, "[dev]");
    assert!(!store(&agent).join(".inbox").exists());
    let said = world.bolt(&[&agent]).run(["pack", "push", source(&world, "edited").to_str().unwrap(), "--to", "i-1"]);
    assert!(said.code == 4 && said.stderr.contains("push_not_allowed") && said.stderr.contains("i-1"), "{said:?}");
    assert!(is_version(&probe(&operator).await, "1.0.0"));
}

#[tokio::test]
async fn a_caller_whose_grant_does_not_cover_the_whole_pack_may_not() {
    let world = World::with_probe();
    let grant = |name: &str, actions: &str, more: &str| {
        format!(
            "[[grant]]\nprincipal = \"spiffe://bolt.local/{name}\"\nverbs = [\"push\"]\nactions = [{actions}]\n{more}\n"
        )
    };
    let grants = [
        grant("one", "\"probe.hello\"", ""),
        grant("other", "\"linux.*\"", ""),
        grant("class", "\"probe.*\"", "classes = [\"diagnostic\"]"),
        "[[grant]]\nprincipal = \"spiffe://bolt.local/runner\"\nverbs = [\"run\", \"sync\"]\nactions = [\"*\"]\n"
            .to_owned(),
    ];
    let agent = world.start(&AgentSpec { grants: Some(grants.concat()), ..allowing("i-1") });
    let built = bolt_client::pack::build(&source(&world, "edited")).unwrap();
    for name in ["one", "other", "class", "runner"] {
        let who = caller(&world, name);
        let call = upload("pack=probe&version=1.0.1", built.archive.to_vec().unwrap());
        let answer = send(agent.address(), Some(&who), call).await.unwrap();
        refused(&answer, Code::Forbidden, name);
        let unpush = send(agent.address(), Some(&who), Call::post("/v1/packs/probe/unpush", "")).await.unwrap();
        refused(&unpush, Code::Forbidden, name);
    }
    assert!(!store(&agent).join(".pushes").exists(), "nothing came as far as the sync");
}

#[tokio::test]
async fn what_is_wrong_with_a_push_is_said_by_name_and_changes_nothing() {
    let world = World::with_probe();
    let spec = allowing("i-1").set("dev", "max_ttl", "2h").set("dev", "max_bytes", "64KiB").set("dev", "max_packs", 1);
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    let good = bolt_client::pack::build(&source(&world, "edited")).unwrap().archive.to_vec().unwrap();
    let signed = bolt_client::pack::build(&world.path().join("sources/probe-1.0.0")).unwrap().archive.to_vec().unwrap();
    let root = edited("rooted").file(
        "actions/hello.yaml",
        "name: hello\ndescription: x\nrunner_type: local-shell-script\nentry_point: hello.sh\nbolt: {class: diagnostic, run_as: root, timeout: 1m}\n",
        0o644,
    );
    let root = bolt_client::pack::build(&root.write(&world.scratch("rooted"))).unwrap().archive.to_vec().unwrap();
    let heavy = edited("heavy").file("heavy", &"0123456789abcdef".repeat(5000), 0o644);
    let heavy = bolt_client::pack::build(&heavy.write(&world.scratch("heavy"))).unwrap().archive.to_vec().unwrap();
    let query = "pack=probe&version=1.0.1";
    for (query, archive, code, words) in [
        (format!("{query}&ttl=3h"), good.clone(), Code::TtlTooLong, "2h"),
        (format!("{query}&ttl=0s"), good.clone(), Code::TtlTooLong, "2h"),
        (format!("{query}&digest={}", "a".repeat(64)), good.clone(), Code::InvalidPack, "digest"),
        (query.to_owned(), vec![7; 70 << 10], Code::BodyTooLarge, "65536"),
        (query.to_owned(), b"no archive".to_vec(), Code::InvalidPack, "cannot unpack"),
        (query.to_owned(), good[..good.len() / 2].to_vec(), Code::InvalidPack, "cannot unpack"),
        (
            query.to_owned(),
            crate::packs_refused::linked(&good),
            Code::InvalidPack,
            "actions/passwd is an entry of type",
        ),
        (query.to_owned(), root, Code::InvalidPack, "run_as_not_allowed"),
        (query.to_owned(), heavy, Code::TooManyPushed, "dev.max_bytes"),
        ("pack=probe&version=1.0.2".to_owned(), good.clone(), Code::InvalidPack, "1.0.1, not the probe 1.0.2"),
        ("pack=other&version=1.0.1".to_owned(), good.clone(), Code::InvalidPack, "not the other 1.0.1"),
        ("pack=probe&version=1.0.0".to_owned(), signed, Code::AlreadySigned, "1.0.0"),
        ("pack=probe".to_owned(), good.clone(), Code::BadRequest, "version"),
        ("pack=../x&version=1.0.1".to_owned(), good.clone(), Code::BadRequest, "pack"),
    ] {
        let answer = operator.send(upload(&query, archive)).await;
        let problem = answer.problem();
        let text = format!("{} {:?}", problem.detail, problem.findings);
        assert!(problem.code == code && text.contains(words), "{query}: {words}: {problem:?}");
        assert_eq!(answer.status.as_u16(), code.status());
    }
    let json = Call::post(&format!("/v1/packs/push?{query}"), good);
    refused(&operator.send(json).await, Code::UnsupportedMediaType, "application/gzip");
    let packs: PackList = operator.send(Call::get("/v1/packs")).await.json();
    assert!(
        packs.items.len() == 1 && is_version(&packs.items[0], "1.0.0") && packs.items[0].dev.is_none(),
        "{packs:?}"
    );
    let versions = std::fs::read_dir(store(&agent).join("probe")).unwrap().count();
    assert_eq!(versions, 3, "the version, current and its record");
    let count = |name: &str| std::fs::read_dir(store(&agent).join(name)).unwrap().count();
    assert_eq!((count(".inbox"), count(".staging")), (0, 0));
    assert_eq!(says(&operator).await, "hello from i-1\n");
    // With one pushed pack, another one exceeds the limit, and the same one does not.
    assert_eq!(push(&world, &agent, "edited", "").await.status, 200);
    assert_eq!(push(&world, &agent, "again", "").await.status, 200);
    let other = PackSource::new("other", "1.0.0").action("nothing", "", "#!/bin/true\n").write(&world.scratch("other"));
    let other = bolt_client::pack::build(&other).unwrap().archive.to_vec().unwrap();
    let answer = operator.send(upload("pack=other&version=1.0.0", other)).await;
    refused(&answer, Code::TooManyPushed, "dev.max_packs");
}

#[tokio::test]
async fn a_signed_version_that_comes_meanwhile_waits_beneath_and_the_repository_need_not_be_there() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1"));
    let operator = world.operator(&agent);
    assert_eq!(push(&world, &agent, "edited", "").await.status, 200);
    world.publish(&PackSource::probe().version("1.1.0"));
    operator.send(Call::post("/v1/packs/sync", "")).await;
    let over = |view: &PackView| view.signed.as_ref().map(ToString::to_string);
    until("1.1.0 beneath", async || over(&probe(&operator).await).as_deref() == Some("1.1.0")).await;
    assert!(is_version(&probe(&operator).await, "1.0.1"), "the pushed one stays in front");
    assert_eq!(says(&operator).await, "edited\n");
    let repository = world.site.repository();
    std::fs::rename(&repository, repository.with_extension("gone")).unwrap();
    assert_eq!(push(&world, &agent, "offline", "&ttl=30m").await.status, 200);
    assert_eq!(says(&operator).await, "offline\n");
    let answer = operator.send(Call::post("/v1/packs/probe/unpush", "")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(is_version(&probe(&operator).await, "1.1.0"));
}

#[tokio::test]
async fn what_was_pushed_and_is_then_published_is_signed_from_there_on() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1"));
    let operator = world.operator(&agent);
    assert_eq!(push(&world, &agent, "good", "").await.status, 200);
    let running = operator.start("probe.sleep", json!({"seconds": 600})).await;
    operator.wait_for_output(&running).await;
    world.publish(&edited("good"));
    operator.send(Call::post("/v1/packs/sync", "")).await;
    until("the mark's end", async || probe(&operator).await.dev.is_none()).await;
    assert!(is_version(&probe(&operator).await, "1.0.1"));
    let execution = operator.run("probe.hello", json!({})).await;
    assert!(execution.dev.is_none() && execution.state == State::Succeeded, "{execution:?}");
    let answer = operator.send(Call::post("/v1/packs/probe/unpush", "")).await;
    refused(&answer, Code::NotPushed, "probe");
    operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    assert_eq!(operator.wait(&running).await.state, State::Killed);
}

#[tokio::test]
async fn a_pack_that_was_never_published_comes_and_goes() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1"));
    let operator = world.operator(&agent);
    let directory = PackSource::new("fresh", "0.1.0")
        .action("hello", "bolt: {class: diagnostic, timeout: 1s, grace: 1ms}", "#!/bin/sh\necho fresh\n")
        .write(&world.scratch("fresh"));
    let bolt: Bolt = world.bolt(&[&agent]);
    let said = bolt.run(["pack", "push", directory.to_str().unwrap(), "--to", "i-1"]);
    assert!(said.code == 0 && said.stdout.contains("and there is no signed version"), "{said:?}");
    let execution = operator.run("fresh.hello", json!({})).await;
    assert_eq!(operator.stdout(&execution).await, "fresh\n");
    let said = bolt.run(["pack", "unpush", "fresh", "--from", "i-1"]);
    assert!(said.code == 0 && said.stdout.contains("no version of it is active"), "{said:?}");
    let gone = operator.send(Call::get("/v1/packs/fresh")).await;
    refused(&gone, Code::UnknownPack, "fresh");
    let start = operator.send(Call::post("/v1/executions", run("fresh.hello", json!({})))).await;
    refused(&start, Code::UnknownAction, "fresh.hello");
}

#[tokio::test]
async fn it_outlives_the_api_and_not_the_permission() {
    let world = World::with_probe();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut agent = world.start(&allowing("i-1").set("api", "listen", free.to_string()));
    let operator = world.operator(&agent);
    assert_eq!(push(&world, &agent, "edited", "&ttl=1h").await.status, 200);
    let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
    kill(Pid::from_raw(api), Signal::SIGKILL).unwrap();
    until("another api", async || child(agent.launcher_pid().unwrap(), "api").is_some_and(|pid| pid != api)).await;
    until("the api's answer", async || {
        send(agent.address(), Some(&world.site.operator()), Call::get("/v1/health")).await.is_ok()
    })
    .await;
    let before = probe(&operator).await.dev.unwrap();
    assert_eq!(says(&operator).await, "edited\n");
    // The same archive again lasts longer, and is nothing new otherwise.
    let again: Pushed = push(&world, &agent, "edited", "&ttl=3h").await.json();
    assert!(again.dev.clone().unwrap().until_ms > before.until_ms + 3_600_000, "{again:?}");
    assert_eq!(probe(&operator).await.dev, again.dev);
    // The permission is taken away: the next sync, which reads it itself, ends what was pushed.
    agent.terminate();
    let config = std::fs::read_to_string(agent.config()).unwrap();
    assert!(config.contains("push = true"));
    std::fs::write(agent.config(), config.replace("push = true", "push = false")).unwrap();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    until("the signed version", async || is_version(&probe(&operator).await, "1.0.0")).await;
}

#[tokio::test]
async fn two_pushes_at_once_leave_one_of_them() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1"));
    let operator = world.operator(&agent);
    let (one, other) = tokio::join!(push(&world, &agent, "one", ""), push(&world, &agent, "other", ""));
    assert_eq!((one.status.as_u16(), other.status.as_u16()), (200, 200), "{} {}", one.text(), other.text());
    let (one, other): (Pushed, Pushed) = (one.json(), other.json());
    let view = probe(&operator).await;
    let active = view.digest.clone().unwrap();
    assert!((active == one.digest || active == other.digest) && one.digest != other.digest, "{view:?}");
    assert_eq!(view.signed.map(|version| version.to_string()).as_deref(), Some("1.0.0"));
    let said = says(&operator).await;
    assert_eq!(said, if active == one.digest { "one\n" } else { "other\n" });
    let answer = operator.send(Call::post("/v1/packs/probe/unpush", "")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(is_version(&probe(&operator).await, "1.0.0"));
}

/// Writes a request with the api's account, as an attacker who took over the api could.
#[tokio::test]
async fn the_sync_takes_nobodys_word_for_what_is_allowed() {
    let world = World::with_probe();
    let agent = world.start(&allowing("i-1").set("dev", "push", false));
    let operator = world.operator(&agent);
    let built = bolt_client::pack::build(&source(&world, "evil")).unwrap();
    let inbox = store(&agent).join(".inbox");
    std::fs::create_dir(&inbox).unwrap();
    let id = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let request = json!({
        "format": 1, "id": id, "by": OPERATOR, "at_ms": u64::try_from(now.as_millis()).unwrap(), "pack": "probe",
        "ask": {"install": {"version": "1.0.1", "digest": built.digest, "size_bytes": built.archive.size_bytes(), "ttl_ms": 60000}},
    });
    std::fs::write(inbox.join(format!("{id}.tar.gz")), built.archive.to_vec().unwrap()).unwrap();
    std::fs::write(inbox.join(format!("{id}.json")), request.to_string()).unwrap();
    if let Some(accounts) = world.site.accounts() {
        for path in [&inbox, &inbox.join(format!("{id}.tar.gz")), &inbox.join(format!("{id}.json"))] {
            std::os::unix::fs::chown(path, Some(accounts.api), Some(accounts.sync)).unwrap();
        }
    }
    operator.send(Call::post("/v1/packs/sync", "")).await;
    let outcome = store(&agent).join(".pushes").join(format!("{id}.json"));
    until("the outcome", async || outcome.exists()).await;
    let outcome = std::fs::read_to_string(outcome).unwrap();
    assert!(outcome.contains("push_not_allowed"), "{outcome}");
    assert!(is_version(&probe(&operator).await, "1.0.0"));
}
