//! Input of an action and the record of its end.

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Operation, Outcome, Refusal};
use serde_json::json;

use crate::driver::{Host, is_alive, object, wait_for};

#[test]
fn both_streams_are_recorded_unchanged() {
    let mut host = Host::new();
    let ended = host.run("#!/bin/sh\nprintf 'one\\0two\\377\\n'; printf 'err' >&2; printf tail\n", json!({}));
    assert_eq!(ended.exit.state, State::Succeeded, "{:?}", ended.exit);
    assert_eq!(ended.output.text(packs_schema::agent::execution::output::Stream::Stdout), b"one\0two\xff\ntail");
    assert_eq!(ended.stderr(), "err");
    assert_eq!((ended.exit.stdout.written_bytes, ended.exit.stdout.dropped_bytes), (13, 0));
    assert_eq!((ended.exit.exit_status, ended.exit.signal, ended.exit.leftovers), (Some(0), None, None));
    assert!(ended.exit.started_at_ms > 1_600_000_000_000 && ended.exit.ended_at_ms >= ended.exit.started_at_ms);
    assert_eq!(ended.started.unwrap().timeout_ms, 30_000);
}

#[test]
fn secrets_are_only_on_standard_input() {
    let mut host = Host::new();
    let parameters = json!({"first": {"type": "string", "position": 0}, "n": {"type": "integer", "default": 7},
        "on": {"type": "boolean"}, "token": {"type": "string", "secret": true}});
    // Searches the arguments, environments and files of the action and of its shim.
    let script = "#!/bin/sh\necho \"args=$*\"; env | grep BOLT_PARAM | sort; cat\n\
        tr '\\0' ' ' </proc/$$/cmdline; cat /proc/$$/environ /proc/$PPID/cmdline | tr '\\0' '\\n' | grep -c canary\n";
    host.action("it", script, json!({"parameters": parameters}));
    let mut request = host.request("it", json!({"first": "a b; $(x)", "on": true, "token": "canary-4711"}));
    request.run = Some("run-1".parse().unwrap());
    let ended = host.started(&request).finished();
    assert_eq!(ended.exit.exit_status, Some(1), "grep -c found none\n{}", ended.stdout());
    let said = ended.stdout();
    assert!(said.starts_with("args=a b; $(x) --n=7 --on\n"), "{said}");
    assert!(said.contains("BOLT_PARAM_FIRST=a b; $(x)\nBOLT_PARAM_N=7\nBOLT_PARAM_ON=true\n{"), "{said}");
    assert!(said.contains("\"token\":\"canary-4711\""), "{said}");
    assert_eq!(said.matches("canary").count(), 1, "{said}");
    for entry in std::fs::read_dir(&ended.dir).unwrap().map(|e| e.unwrap()) {
        let holds = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).contains("canary");
        assert!(!holds || entry.file_name() == "output.log", "{entry:?}");
    }
}

#[test]
fn arguments_can_be_turned_off() {
    let mut host = Host::new();
    let parameters = json!({"first": {"type": "string", "position": 0}, "on": {"type": "boolean"}});
    let script = "#!/bin/sh\necho \"$# $BOLT_PARAM_FIRST\"; cat; tr '\\0' ' ' </proc/$$/cmdline\n";
    host.action("it", script, json!({"parameters": parameters, "arguments": false}));
    let request = host.request("it", json!({"first": "for nobody else", "on": true}));
    let said = host.started(&request).finished().stdout();
    assert!(said.starts_with("0 for nobody else\n{\"first\":\"for nobody else\",\"on\":true}\n/bin/sh "), "{said}");
    assert_eq!(said.lines().last().unwrap().matches("nobody").count(), 0, "{said}");
}

#[test]
fn an_action_need_not_read_its_parameters() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\nexec <&-\necho done\n", json!({"parameters": {"text": {"type": "string"}}}));
    let request = host.request("it", json!({"text": "x".repeat(60_000)}));
    let ended = host.started(&request).finished();
    assert_eq!((ended.exit.state, ended.stdout().as_str()), (State::Succeeded, "done\n"), "{:?}", ended.exit);
}

#[test]
fn exit_status_and_signal_are_recorded() {
    let mut host = Host::new();
    let failed = host.run("#!/bin/sh\nexit 42\n", json!({})).exit;
    assert_eq!((failed.state, failed.exit_status, failed.signal), (State::Failed, Some(42), None));
    let killed = host.run("#!/bin/sh\nkill -SEGV $$\n", json!({})).exit;
    assert_eq!((killed.state, killed.exit_status, killed.signal), (State::Failed, None, Some(11)));
    let real_time = host.run("#!/bin/sh\nkill -40 $$\n", json!({})).exit;
    assert_eq!((real_time.state, real_time.signal), (State::Failed, Some(40)));
}

#[test]
fn the_reason_of_a_failed_exec_is_recorded() {
    let mut host = Host::new();
    let lost = host.run("#!/nonexistent/interpreter\n", json!({})).exit;
    assert_eq!(lost.state, State::Error);
    assert!(lost.reason.unwrap().contains("the interpreter \"/nonexistent/interpreter\" of its first line"));
    // Saved with CRLF: the kernel searches a program whose name ends in a carriage return.
    let windows = host.run("#!/bin/sh\r\necho hello\r\n", json!({})).exit;
    let reason = windows.reason.unwrap();
    assert_eq!(windows.state, State::Error);
    assert!(reason.contains(r#""/bin/sh\r""#) && reason.contains("LF line ends"), "{reason}");
    let neither = host.run("no first line\n", json!({})).exit;
    assert_eq!(neither.state, State::Error);
    assert!(neither.reason.unwrap().contains("#!/bin/sh"));
}

#[test]
fn a_result_that_matches_its_schema_is_recorded() {
    let mut host = Host::new();
    let schema = json!({"output_schema": {"type": "object", "properties": {"bytes": {"type": "integer"}}}});
    let good = host.run("#!/bin/sh\necho '{\"bytes\": 17}' > \"$BOLT_RESULT\"\n", schema.clone()).exit;
    assert_eq!((good.result, good.result_error), (Some(object(json!({"bytes": 17}))), None));
    for (script, why) in [
        ("echo '{\"bytes\": \"many\"}'", "output_schema"),
        ("echo '[1]'", "result"),
        ("echo '{\"a\":1,\"a\":2}'", "duplicate key"),
        ("head -c 65537 /dev/zero", "the maximum is 65536"),
    ] {
        let bad = host.run(&format!("#!/bin/sh\n{script} > \"$BOLT_RESULT\"\n"), schema.clone()).exit;
        assert_eq!((bad.state, &bad.result), (State::Succeeded, &None));
        assert!(bad.result_error.as_ref().unwrap().contains(why), "{bad:?}");
    }
    assert_eq!(host.run("#!/bin/sh\n", schema).exit.result_error, None);
}

#[test]
fn noop_is_passed_to_actions_that_support_it() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho \"noop=$BOLT_NOOP\"\n", json!({"noop": true}));
    let mut request = host.request("it", json!({}));
    request.noop = true;
    assert_eq!(host.started(&request).finished().stdout(), "noop=1\n");
    let request = host.request("it", json!({}));
    assert_eq!(host.started(&request).finished().stdout(), "noop=0\n");
    host.action("it", "#!/bin/sh\n", json!({}));
    let mut request = host.request("it", json!({}));
    request.noop = true;
    assert_eq!(host.refused(&request).0, Refusal::InvalidParameters);
}

#[test]
fn an_execution_starts_once() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\nsleep 600\n", json!({}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    assert_eq!(host.refused(&request).0, Refusal::AlreadyStarted);
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    running.finished();
    assert_eq!(host.refused(&request).0, Refusal::AlreadyStarted);
}

#[test]
fn an_execution_outlives_its_launcher() {
    let mut host = Host::new();
    let gate = host.path("gate");
    host.action(
        "it",
        "#!/bin/sh\necho here; while [ ! -e \"$1\" ]; do sleep 0.01; done; echo there\n",
        json!({"parameters": {"gate": {"type": "string", "position": 0}}}),
    );
    let request = host.request("it", json!({"gate": gate}));
    let running = host.started(&request);
    running.wait_for_stdout("here");
    host.kill_launcher();
    std::fs::write(&gate, "").unwrap();
    let ended = running.finished();
    assert_eq!((ended.exit.state, ended.stdout().as_str()), (State::Succeeded, "here\nthere\n"));
}

#[test]
fn the_launcher_ends_with_its_client_and_executions_continue() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho $$; sleep 600\n", json!({}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    let pid = running.wait_for_stdout("\n");
    assert!(host.disconnect().success());
    assert!(is_alive(&pid));
    std::fs::write(running.dir.join("kill"), "").unwrap();
    assert_eq!(running.finished().exit.state, State::Killed);
    wait_for("its end", || (!is_alive(&pid)).then_some(()));
}

#[test]
fn a_site_configures_a_pack() {
    let mut host = Host::new();
    let config = host.path("packs/demo/config.json");
    crate::driver::put(&config, br#"{"dir":"/data","ports":[1,2],"deep":{"a":1}}"#, 0o644);
    let ended = host.run(
        "#!/bin/sh\necho \"$BOLT_CONFIG_DIR $BOLT_CONFIG_PORTS ${BOLT_CONFIG_DEEP-none}\"\necho \"$BOLT_CONFIG\"\n",
        json!({}),
    );
    let said = ended.stdout();
    assert!(said.starts_with("/data 1,2 none\n{") && said.contains("\"deep\":{\"a\":1}"), "{said}");
}

/// The copy in the pack's directory belongs to the active version, but an execution may run in the previous one.
#[test]
fn a_version_runs_with_its_own_configuration() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\ncat\necho \"$BOLT_CONFIG_DIR\"\n", json!({}));
    let version = host.version();
    crate::driver::put(&host.path("packs/demo/config.json"), br#"{"dir":"/later"}"#, 0o644);
    crate::driver::put(&host.path("packs/demo/config.secret.json"), br#"{"pin":"later"}"#, 0o600);
    crate::driver::put(&version.join(".bolt/config.json"), br#"{"dir":"/own"}"#, 0o644);
    let request = host.request("it", json!({}));
    assert_eq!(host.started(&request).finished().stdout(), "{}\n/own\n");
}

#[test]
fn secret_configuration_is_only_on_standard_input() {
    let mut host = Host::new();
    crate::driver::put(&host.path("packs/demo/config.json"), br#"{"dir":"/data","pin":"canary-old"}"#, 0o644);
    crate::driver::put(&host.path("packs/demo/config.secret.json"), br#"{"pin":"canary"}"#, 0o600);
    let ended = host.run("#!/bin/sh\ncat\nenv >&2\necho \"$*\" >&2\ntr '\\0' ' ' < /proc/$$/cmdline >&2\n", json!({}));
    assert_eq!(ended.stdout(), "{\"bolt_config\":{\"dir\":\"/data\",\"pin\":\"canary\"}}\n");
    let rest = ended.stderr();
    assert!(rest.contains("BOLT_CONFIG_DIR=/data") && rest.contains("BOLT_CONFIG={\"dir\":\"/data\"}"), "{rest}");
    assert!(!rest.contains("canary") && !rest.contains("PIN"), "{rest}");
}

#[test]
fn a_shim_ends_when_its_directory_was_removed() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ready\nsleep 0.5\n", json!({}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    running.wait_for_stdout("ready");
    std::fs::remove_dir_all(&running.dir).unwrap();
    let launcher = host.launcher_pid();
    let children = || std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    wait_for("the shim's end", || children().trim().is_empty().then_some(()));
}

/// Counts executions that an older launcher started and those of a dead shim, whatever the api counts.
#[test]
fn executions_beyond_max_shims_are_refused() {
    let mut host = Host::with("require_limits = false\nmax_running = 2\nmax_shims = 2", "");
    host.action("it", "#!/bin/sh\necho ready; sleep 600\n", json!({}));
    let running: Vec<_> = (0..2)
        .map(|_| {
            let request = host.request("it", json!({}));
            let running = host.started(&request);
            running.wait_for_stdout("ready");
            running
        })
        .collect();
    let more = host.request("it", json!({}));
    let refused = |host: &mut Host| {
        let (code, message) = host.refused(&more);
        assert!(code == Refusal::TooManyRunning && message.contains("execution.max_shims"), "{code:?}: {message}");
    };
    refused(&mut host);
    host.kill_launcher();
    host.restart_launcher();
    refused(&mut host);
    // Nor is an execution ended because the api, whose directory it is, says so, or has removed it.
    std::fs::write(running[0].dir.join("exit"), "{}").unwrap();
    let away = running[1].dir.with_extension("away");
    std::fs::rename(&running[1].dir, &away).unwrap();
    host.kill_launcher();
    host.restart_launcher();
    refused(&mut host);
    std::fs::remove_file(running[0].dir.join("exit")).unwrap();
    std::fs::rename(&away, &running[1].dir).unwrap();
    std::fs::write(running[0].dir.join("kill"), "").unwrap();
    let mut running = running.into_iter();
    running.next().unwrap().finished();
    let more = host.started(&more);
    more.wait_for_stdout("ready");
    for execution in running.chain([more]) {
        assert_eq!(host.ask(Operation::Kill { execution: execution.id.clone() }), Outcome::Done);
        execution.finished();
    }
}

/// The directory of an execution belongs to the api, which could so keep any number of shims beside those that run.
#[test]
fn ends_that_cannot_be_recorded_are_bounded() {
    let mut host = Host::with("require_limits = false\nmax_running = 2\nmax_shims = 2", "");
    host.action("it", "#!/bin/sh\nexit 0\n", json!({}));
    let mut blocked = Vec::new();
    let refused = (0..10).find_map(|_| {
        let request = host.request("it", json!({}));
        let exit = host.path(&format!("state/exec/{}/exit", request.execution));
        std::fs::create_dir(&exit).unwrap();
        match host.start(&request) {
            Outcome::Refused { code, .. } => Some(code),
            Outcome::Done => {
                let ended = host.path(&format!("run/{}/ended", request.execution));
                wait_for("the end", || ended.exists().then_some(()));
                blocked.push(exit);
                None
            }
        }
    });
    assert_eq!((refused, blocked.len()), (Some(Refusal::TooManyRunning), 4));
    for exit in blocked {
        std::fs::remove_dir(exit).unwrap();
    }
    wait_for("a slot", || {
        let request = host.request("it", json!({}));
        (host.start(&request) == Outcome::Done).then_some(())
    });
}
