//! Services that an action leaves behind on request (`leftovers: keep`): recorded, shown, and living on through restarts of
//! the agent. After a kill or a time-out nothing is left.

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::process::{lives, with_words};
use bolt_tests::{Bolt, Operator, PackSource, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::json;

use crate::calls::until;

/// A number that `sleep` takes, and that no other process has in its command line.
fn mark(case: &str) -> String {
    format!("86400.{}{case}", std::process::id())
}

fn pack() -> PackSource {
    let yaml = "parameters: {mark: {type: string, required: true, position: 0}}\n\
        bolt: {class: remediation, timeout: 1m, grace: 200ms, leftovers: keep}";
    let service = "#!/bin/sh\nsetsid sleep \"$BOLT_PARAM_MARK\" </dev/null >/dev/null 2>&1 &\n";
    PackSource::new("svc", "1.0.0")
        .action("serve", yaml, &format!("{service}echo started\n"))
        .action("fail", yaml, &format!("{service}echo started\nexit 3\n"))
        .action("hang", yaml, &format!("{service}echo started\nsleep \"$BOLT_PARAM_MARK\"\n"))
}

fn living(mark: &str) -> Vec<i32> {
    let sleeps = with_words(&[format!("sleep {mark}")]);
    sleeps.into_iter().map(|(pid, _)| pid).collect()
}

async fn record(operator: &Operator, id: &str) -> Execution {
    operator.send(Call::get(&format!("/v1/executions/{id}"))).await.json()
}

#[tokio::test]
async fn a_kept_service_is_recorded_and_shown_and_outlives_the_agent() {
    let world = World::empty();
    world.publish(&pack());
    let mut agent = world.agent();
    let operator = world.operator(&agent);
    let bolt = world.bolt(&[&agent]);
    let mark = mark("01");
    let said = bolt.run(["run", "svc.serve", &format!("mark={mark}"), "--yes"]);
    assert_eq!(said.code, 0, "{said:?}");
    let printed = format!("{}{}", said.stdout, said.stderr);
    assert!(printed.contains("1 process (sleep) kept running after the exit"), "{said:?}");

    let listed = operator.send(Call::get("/v1/executions")).await;
    let id = listed.json::<serde_json::Value>()["items"][0]["id"].as_str().unwrap().to_owned();
    let check = async |agent: &LocalAgent, bolt: &Bolt, when: &str| {
        let now = record(&world.operator(agent), &id).await;
        let left = now.leftovers.clone().unwrap_or_else(|| panic!("{when}: {now:?}"));
        assert_eq!((now.state, left.kept, left.programs.as_slice()), (State::Succeeded, 1, &["sleep".to_owned()][..]));
        let shown = bolt.run(["show", &id]);
        assert!(shown.stdout.contains("1 process (sleep) kept running after the exit"), "{when}: {shown:?}");
        assert_eq!(living(&mark).len(), 1, "{when}");
    };
    check(&agent, &bolt, "at first").await;
    // An api and a launcher that crash, and a restart as in an upgrade.
    agent.kill_launcher();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    check(&agent, &world.bolt(&[&agent]), "after a crash").await;
    agent.terminate();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    check(&agent, &world.bolt(&[&agent]), "after a restart").await;
    // A kill of what has ended reaches nothing.
    let late = world.bolt(&[&agent]).run(["kill", &id]);
    assert!(late.stderr.contains("ended") || late.stdout.contains("ended"), "{late:?}");
    check(&agent, &world.bolt(&[&agent]), "after a late kill").await;

    let service = Pid::from_raw(living(&mark)[0]);
    kill(service, Signal::SIGKILL).unwrap();
    until("the end of the service", async || !lives(service.as_raw())).await;
}

#[tokio::test]
async fn after_a_failure_a_time_out_or_a_kill_nothing_is_kept() {
    let world = World::empty();
    world.publish(&pack());
    let agent = world.agent();
    let operator = world.operator(&agent);
    let bolt = world.bolt(&[&agent]);
    for (case, action, more, state) in
        [("02", "svc.fail", None, State::Failed), ("03", "svc.hang", Some("1s"), State::TimedOut)]
    {
        let mark = mark(case);
        let parameter = format!("mark={mark}");
        let mut arguments = vec!["run", action, &parameter, "--yes"];
        arguments.extend(more.iter().flat_map(|time| ["--timeout", time]));
        let said = bolt.run(arguments);
        assert_eq!(said.code, 1, "{said:?}");
        let listed = operator.send(Call::get("/v1/executions?limit=1")).await.json::<serde_json::Value>();
        let ended = record(&operator, listed["items"][0]["id"].as_str().unwrap()).await;
        assert_eq!((ended.state, ended.leftovers.as_ref().map(|left| left.kept)), (state, Some(0)), "{ended:?}");
        assert!(!format!("{said:?}").contains("kept running"), "{said:?}");
        assert_eq!(living(&mark), Vec::<i32>::new(), "{action}");
    }
    let mark = mark("04");
    let running = operator.start("svc.hang", json!({ "mark": mark })).await;
    operator.wait_for_output(&running).await;
    let said = bolt.run(["kill", running.id.as_str()]);
    let ended = world.operator(&agent).wait(&running).await;
    assert_eq!((ended.state, ended.leftovers.map(|left| left.kept)), (State::Killed, Some(0)), "{said:?}");
    assert_eq!(living(&mark), Vec::<i32>::new());
}
