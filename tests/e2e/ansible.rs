//! Ansible playbooks as actions: the template of `bolt pack new`, published, with the ansible-core that its `requirements.txt`
//! names, installed by the sync with hashes required.
//!
//! `.ci/run` downloads the wheels and sets `BOLT_TEST_ANSIBLE_WHEELS`; without them the test says that it was skipped.

use std::fs;
use std::path::{Path, PathBuf};

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::process::with_words;
use bolt_tests::{Operator, World, is_root, skip, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use crate::calls::until;
use crate::secrets::search;

const CANARY: &str = "canary-\"7d51e0c4aa\"-in-quotes";
/// Part of it that is the same in every notation.
const PART: &str = "7d51e0c4aa";
/// Argument of a process that must not survive.
const LONG: &str = "600.70519";

/// Shows what reaches Ansible, in the ways in which playbooks use a value.
const PROBE: &str = r#"
- hosts: localhost
  tasks:
    - {debug: {msg: "text={{ text }}"}}
    - {set_fact: {copied: "{{ text }}!"}}
    - {debug: {msg: "copied={{ copied }}"}}
    - {debug: {msg: "{{ item.key }} is {{ item.value }}"}, loop: "{{ object | dict2items }}"}
    - {debug: {msg: "{{ object }}"}}
    - name: Take it for a condition
      debug: {msg: reached}
      when: text
      ignore_errors: true
    - {debug: {msg: "roles {{ lookup('config', 'DEFAULT_ROLES_PATH') }}, syslog {{ not lookup('config', 'DEFAULT_NO_TARGET_SYSLOG') }}"}}
    - {debug: {msg: "files in {{ lookup('env', 'TMPDIR') }}"}}
    - name: Look for the token where other accounts could
      shell: cat >"$TMPDIR/token"; grep -lsF -f "$TMPDIR/token" /proc/[0-9]*/cmdline /proc/[0-9]*/environ
      args: {stdin: "{{ token[8:18] }}", stdin_add_newline: false}
      register: found
      failed_when: found.stdout != ''
      when: token is defined
    - {debug: {msg: "the token is {{ token | default('') }}"}}
    - {debug: {msg: "{{ 'x' * 3990 }}{{ token | default('') }}"}}
    - {set_stats: {data: {small: 1, large: "{{ 'x' * 100000 }}"}}, when: text == 'large'}
    - {fail: {msg: "no use for {{ token }}"}, when: token is defined}
    - {command: "sleep {{ seconds }}", when: seconds != 0}
"#;
const PROBE_YAML: &str = "
parameters:
  text: {type: string, default: ''}
  object: {type: object, default: {}}
  seconds: {type: number, default: 0}
  token: {type: string, secret: true}
bolt: {class: diagnostic, timeout: 15m, grace: 10s}
";

struct Site {
    world: World,
    agent: LocalAgent,
    operator: Operator,
    /// Directory that the playbook of the template is applied to.
    settings: PathBuf,
}

impl Site {
    /// Publishes the template, with two actions more, for an agent that has the wheels.
    async fn start(wheels: &Path) -> Site {
        let world = World::empty();
        let pack = world.scratch("work").join("web");
        let at = |path: &Path| path.display().to_string();
        let made = world.bolt(&[]).run(["pack", "new", "web", "--template", "ansible", "--dir", &at(&pack)]);
        assert_eq!(made.code, 0, "{made:?}");
        // As root, executions share one account here, as they do where a site names one.
        let account = if is_root() { "  run_as: root\n" } else { "" };
        let edit = |path: &str, from: &str, to: &str| {
            let text = fs::read_to_string(pack.join(path)).unwrap();
            assert!(text.contains(from), "{path} has no {from:?}");
            fs::write(pack.join(path), text.replace(from, to)).unwrap();
        };
        edit("actions/apply.yaml", "  timeout: 10m\n", &format!("  timeout: 10m\n{account}"));
        edit("actions/apply.yaml", "max: 12", "max: 100");
        for (name, playbook) in [("probe", PROBE), ("nowhere", "- {hosts: web, tasks: [{debug: {msg: reached}}]}\n")] {
            let yaml =
                format!("name: {name}\ndescription: x\nrunner_type: python-script\nentry_point: {name}.py{PROBE_YAML}");
            fs::write(pack.join(format!("actions/{name}.yaml")), yaml).unwrap();
            fs::copy(pack.join("actions/apply.py"), pack.join(format!("actions/{name}.py"))).unwrap();
            edit(&format!("actions/{name}.py"), "apply.yml", &format!("{name}.yml"));
            fs::write(pack.join(format!("ansible/{name}.yml")), playbook).unwrap();
        }
        world.publish_directory(&pack);
        let agent = world.start(&spec("i-1").set("python", "wheels", at(wheels)));
        until("the environment", async || {
            let failed = agent.sync_status().and_then(|s| s.failed.into_iter().find(|(_, f)| !f.is_building()));
            assert!(failed.is_none(), "{failed:?}");
            agent.directory().join("packs/web/current").exists()
        })
        .await;
        let operator = world.operator(&agent);
        let settings = world.scratch("site").join("settings");
        Site { world, agent, operator, settings }
    }

    async fn run(&self, action: &str, parameters: Value, noop: bool) -> Execution {
        let order = json!({"action": format!("web.{action}"), "parameters": parameters, "noop": noop});
        let answer = self.operator.send(Call::post("/v1/executions", order.to_string())).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        self.operator.wait(&answer.json()).await
    }

    async fn apply(&self, greeting: &str, noop: bool) -> Execution {
        let parameters = json!({"directory": self.settings.display().to_string(), "greeting": greeting});
        self.run("apply", parameters, noop).await
    }

    async fn stderr(&self, execution: &Execution) -> String {
        self.operator.send(Call::get(&format!("/v1/executions/{}/stderr", execution.id))).await.text()
    }

    fn written(&self) -> String {
        fs::read_to_string(self.settings.join("settings.conf")).unwrap()
    }
}

#[tokio::test]
async fn a_playbook_runs_as_an_action() {
    let test = "ansible::a_playbook_runs_as_an_action";
    let wheels = std::env::var_os("BOLT_TEST_ANSIBLE_WHEELS").map(PathBuf::from).filter(|path| path.exists());
    let Some(wheels) = wheels else { return skip(test, "BOLT_TEST_ANSIBLE_WHEELS names no directory with wheels") };
    // A single environment for all, which takes longer to install than the rest takes.
    let site = Site::start(&wheels).await;
    a_dry_run_tells_what_would_change_and_changes_nothing(&site).await;
    a_task_that_fails_is_named(&site).await;
    a_play_that_runs_nowhere_is_a_failure(&site).await;
    no_value_of_a_caller_is_a_template(&site).await;
    a_value_that_is_too_large_is_left_out_of_the_result(&site).await;
    a_secret_is_in_no_output_file_argument_or_variable(&site).await;
    a_kill_leaves_no_process_and_no_file(&site).await;
}

async fn a_dry_run_tells_what_would_change_and_changes_nothing(site: &Site) {
    let dry = site.apply("Hello", true).await;
    let result = dry.result.clone().unwrap_or_default();
    assert_eq!(
        (dry.state, &result["changed"], &result["noop"]),
        (State::Succeeded, &json!(2), &json!(true)),
        "{dry:?}"
    );
    assert_eq!(result["tasks"][1], json!({"task": "Write the settings", "status": "changed"}));
    assert!(!site.settings.exists());

    let done = site.apply("Hello", false).await;
    let result = done.result.clone().unwrap_or_default();
    assert_eq!(
        (done.state, &result["changed"], &result["noop"]),
        (State::Succeeded, &json!(2), &json!(false)),
        "{done:?}"
    );
    assert_eq!((&result["ok"], &result["skipped"]), (&json!(3), &json!(1)));
    assert_eq!(result["data"], json!({"settings": site.settings.join("settings.conf")}));
    assert_eq!(site.written(), "greeting = \"Hello\"\n");
    assert_eq!(site.apply("Hello", false).await.result.unwrap_or_default()["changed"], 0, "nothing is left to change");

    let dry = site.apply("Goodbye", true).await;
    let said = site.operator.stdout(&dry).await;
    assert!(said.contains("-greeting = \"Hello\"\n+greeting = \"Goodbye\"\nchanged: Write the settings\n"), "{said}");
    assert_eq!(dry.result.unwrap_or_default()["changed"], 1);
    assert_eq!(site.written(), "greeting = \"Hello\"\n");
}

async fn a_task_that_fails_is_named(site: &Site) {
    let failed = site.run("apply", json!({"directory": "/proc/none"}), false).await;
    let result = failed.result.clone().unwrap_or_default();
    assert_eq!(
        (failed.state, failed.exit_status, &result["failed"]),
        (State::Failed, Some(1), &json!(1)),
        "{failed:?}"
    );
    let error = result["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("Make the directory: ") && error.contains("/proc/none"), "{error}");
    assert_eq!(result["tasks"].as_array().map(Vec::len), Some(1), "no task after it ran");
    assert!(site.stderr(&failed).await.contains(error));
}

/// Ansible itself calls it a success.
async fn a_play_that_runs_nowhere_is_a_failure(site: &Site) {
    let failed = site.run("nowhere", json!({}), false).await;
    assert_eq!((failed.state, failed.exit_status), (State::Failed, Some(3)), "{failed:?}");
    assert!(failed.result.unwrap_or_default()["error"].to_string().contains("runs on no host"));
}

async fn no_value_of_a_caller_is_a_template(site: &Site) {
    let witness = site.world.scratch("site").join("witness");
    let hostile = format!("{{{{ lookup('pipe', 'touch {}') }}}}", witness.display());
    let applied = site.apply(&hostile, false).await;
    assert_eq!(applied.state, State::Succeeded, "{applied:?}");
    assert_eq!(site.written(), format!("greeting = {}\n", json!(hostile)));

    // Also as a name in an object, deep in it, in a condition, and where the result of a template is used again.
    let object = json!({ hostile.clone(): 1, "deep": [{"deeper": hostile}], "raw": "{% raw %}" });
    let probed = site.run("probe", json!({"text": hostile, "object": object}), false).await;
    let said = site.operator.stdout(&probed).await;
    assert_eq!(probed.state, State::Succeeded, "{said}");
    assert!(!witness.exists(), "a value was evaluated: {said}");
    for shown in [format!("text={hostile}\n"), format!("copied={hostile}!\n"), format!("{hostile} is 1\n")] {
        assert!(said.contains(&shown), "{shown:?} is not in {said}");
    }
    assert!(said.contains("ignored: Take it for a condition"), "{said}");
    assert!(said.contains("/ansible/roles'], syslog False\n"), "the pack's own configuration is in effect: {said}");

    // Marks of Ansible's own, by which it would read the variables in another way.
    for name in ["__ansible_unsafe", "__ansible_vault"] {
        let refused = site.run("probe", json!({"object": {"deep": {name: [hostile]}}}), false).await;
        assert_eq!((refused.state, refused.exit_status), (State::Failed, Some(2)), "{refused:?}");
        assert!(refused.result.unwrap_or_default()["error"].to_string().contains(name));
    }
    assert!(!witness.exists());
}

async fn a_value_that_is_too_large_is_left_out_of_the_result(site: &Site) {
    let probed = site.run("probe", json!({"text": "large"}), false).await;
    let result = probed.result.clone().unwrap_or_default();
    assert_eq!((probed.state, &result["data"]), (State::Succeeded, &json!({"small": 1})), "{probed:?}");
    let said = result["data_left_out"].as_str().unwrap_or_default();
    assert!(said.starts_with("set_stats gave 1000") && said.ends_with("left out: large"), "{said}");
    assert!(result["tasks"].as_array().is_some_and(|tasks| tasks.len() > 5), "{result:?}");
}

async fn a_secret_is_in_no_output_file_argument_or_variable(site: &Site) {
    let probed = site.run("probe", json!({"token": CANARY}), false).await;
    let said = site.operator.stdout(&probed).await;
    assert_eq!((probed.state, probed.exit_status), (State::Failed, Some(1)), "{probed:?}");
    assert!(said.contains("ok: Look for the token") || said.contains("changed: Look for the token"), "{said}");
    assert!(!said.contains("canary"), "the half of a token that was cut in two: {said}");
    assert!(said.contains("the token is ********\n") && said.contains("failed: fail: no use for ********\n"), "{said}");
    let error = probed.result.clone().unwrap_or_default()["error"].clone();
    assert_eq!(error, "fail: no use for ********");

    let parameters = json!({"directory": site.settings.display().to_string(), "token": CANARY});
    let applied = site.run("apply", parameters, false).await;
    assert_eq!(applied.state, State::Succeeded, "{applied:?}");
    assert_eq!(fs::read_to_string(site.settings.join("token")).unwrap(), CANARY);
    let mut found = Vec::new();
    search(site.agent.directory(), PART, &mut found);
    assert!(found.is_empty(), "{found:?}");
}

async fn a_kill_leaves_no_process_and_no_file(site: &Site) {
    let seconds: Value = serde_json::from_str(LONG).unwrap();
    let execution = site.operator.start("web.probe", json!({ "seconds": seconds })).await;
    let words = [format!("sleep {LONG}")];
    until("the task", async || !with_words(&words).is_empty()).await;
    let said = site.operator.stdout(&execution).await;
    let files = said.lines().find_map(|line| line.strip_prefix("files in ")).unwrap();
    assert!(Path::new(files).is_dir(), "{files}");
    let kill = site.operator.send(Call::post(&format!("/v1/executions/{}/kill", execution.id), "")).await;
    assert_eq!(kill.status, 202, "{}", kill.text());
    let end = site.operator.wait(&execution).await;
    assert_eq!(end.state, State::Killed, "{end:?}");
    assert!(end.result.unwrap_or_default()["error"].to_string().contains("stopped by SIGTERM"));
    assert_eq!(with_words(&words), []);
    assert!(!Path::new(files).exists(), "{files} is still there");
}
