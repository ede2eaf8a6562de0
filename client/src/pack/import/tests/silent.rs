//! Nothing of a source that an action does not do vanishes without a finding, and what scripts rely on is there.

use serde_json::{Value, json};

use super::executed::{run_action, stderr, stdout};
use super::stackstorm::Pack;
use super::*;

/// Imports one document, and returns its findings and the text of its action.
fn imported(name: &str, text: &str) -> (tempfile::TempDir, String, String) {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("from")).unwrap();
    fs::write(temp.path().join("from").join(name), text).unwrap();
    let report = match import(&temp.path().join("from"), &temp.path().join("pack")) {
        Ok(report) => report,
        Err(ImportError::NothingRuns { report, .. }) => *report,
        Err(error) => panic!("{text}: {error}"),
    };
    let findings: Vec<String> = report.actions[0].findings.iter().map(ToString::to_string).collect();
    let file = temp.path().join("pack/actions").join(format!("{}.yaml", report.actions[0].name));
    (temp, findings.join("; "), fs::read_to_string(file).unwrap_or_default())
}

/// A job of Rundeck with these keys, and with these commands.
fn job(keys: &str, commands: &str) -> (tempfile::TempDir, String, String) {
    imported("jobs.yaml", &format!("- name: j\n{keys}\n  sequence:\n    commands:\n    - {commands}\n"))
}

fn document(inputs: &Value, rest: &Value) -> Value {
    let mut step = json!({"action": "aws:runShellScript", "name": "s", "inputs": inputs});
    for (key, value) in rest.as_object().into_iter().flatten() {
        step[key] = value.clone();
    }
    json!({"schemaVersion": "2.2", "mainSteps": [step]})
}

#[test]
fn what_a_job_has_and_an_action_has_not_is_named() {
    for (keys, commands, words) in [
        ("  loglimit: 10MB", "exec: ls", "not imported: loglimit"),
        ("  nodefilters: {filter: a, dispatch: {threadcount: 2}}", "exec: ls", "not imported: dispatch"),
        ("  maxMultipleExecutions: 3", "exec: ls", "not imported: maxMultipleExecutions"),
        ("  executionEnabled: false", "exec: ls", "is disabled in Rundeck, and here"),
        ("", "exec: ls", "so Rundeck runs it on its server"),
        ("", "{exec: ls, plugins: {LogFilter: [{type: mask}]}}", "not imported of step 1: plugins"),
        ("", "{exec: ls, if: x}", "not imported of step 1: if"),
        ("", "{exec: ls, errorhandler: {exec: ls, retry: 3}}", "not imported of step 1: retry"),
        ("", "{exec: ls, enabled: false}", "step 1 is disabled and left out"),
        ("", "exec: 'echo $RD_NODE_TAGS ${RD_JOB_URL}'", "have no value here: RD_JOB_URL, RD_NODE_TAGS"),
        ("", "{exec: ls, errorhandler: {exec: 'echo ${result.reason}'}}", "it uses result.reason"),
        ("", "exec: sudo systemctl restart x", "\"step 1\" uses sudo"),
        ("  timeout: 1x", "exec: ls", "\"1x\" is not understood: the action has a day"),
        ("  timeout: 30d", "exec: ls", "\"30d\" is longer than an action may take: the action has a day"),
        ("  options: [{name: d, value: '~/x'}]", "exec: ls", "the default of d has characters"),
        ("", "exec: 'nohup x &'", "\"step 1\" starts a process that stays"),
        ("", "{script: dir, fileExtension: .bat}", "step 1 is a script for Windows (bat)"),
        (
            "  options: [{name: o, enforced: true, optionValuesPluginType: p}]",
            "exec: ls",
            "of o come from the plugin p",
        ),
    ] {
        let (_temp, found, _) = job(keys, commands);
        assert!(found.contains(words), "{keys} {commands}: {found}");
    }
    let rules = "- name: j\n  sequence:\n    strategy: ruleset\n    commands:\n    - exec: ls\n    pluginConfig:\n      LogFilter: [{type: m}]\n";
    let (_temp, found, action) = imported("jobs.yaml", rules);
    assert!(found.contains("a set of rules") && found.contains("its log filters are not imported"), "{found}");
    assert_eq!(action, "");
    let logging = "<joblist><job><name>j</name><logging limit='1MB'><x/></logging><sequence><command><exec>ls</exec><plugins><LogFilter/></plugins></command></sequence></job></joblist>";
    let (_temp, found, _) = imported("jobs.xml", logging);
    assert!(found.contains("not imported of step 1: plugins") && found.contains("not imported: logging"), "{found}");
    let (_temp, found, _) = job("  nodefilters: {filter: 'tags: a'}", "exec: ls $RD_OPTION_X $RD_JOB_NAME");
    assert!(!found.contains("not imported") && found.contains("have no value here: RD_OPTION_X"), "{found}");
}

#[test]
fn a_job_has_the_time_and_the_company_that_it_has_in_rundeck() {
    for (keys, wanted) in [
        ("  timeout: '0'", "timeout: \"86400s\""),
        ("  timeout: ''", "timeout: \"86400s\""),
        ("  timeout: 1h 30m", "timeout: \"5400s\""),
        ("  timeout: 90", "timeout: \"90s\""),
        ("", "concurrency: {max: 1, when_busy: reject}"),
    ] {
        let (_temp, _, action) = job(keys, "exec: ls");
        assert!(action.contains(wanted), "{keys}: {action}");
    }
    let (_temp, _, action) = job("  multipleExecutions: true", "exec: ls");
    assert!(!action.contains("concurrency"), "{action}");
    let (_temp, _, action) = job("", "exec: setsid sleep 9");
    assert!(action.contains("leftovers: keep"), "{action}");
}

#[test]
fn what_a_document_has_and_an_action_has_not_is_named() {
    let lists = json!({"runCommand": ["ls"]});
    for (inputs, rest, words) in [
        (json!({}), json!({}), "the step s has no runCommand, and does nothing"),
        (json!({"commands": ["ls"]}), json!({}), "not imported of the step s: commands"),
        (lists.clone(), json!({"onCancel": "x", "outputs": [1]}), "not imported of the step s: onCancel, outputs"),
        (
            json!({"runCommand": ["ls"], "onFailure": "Abort"}),
            json!({}),
            "onFailure: \"Abort\" of the step s has no effect",
        ),
        (json!({"runCommand": ["nohup x & disown"]}), json!({}), "\"s\" starts a process that stays"),
        (json!({"runCommand": ["ls"], "timeoutSeconds": 172_800}), json!({}), "may take 172860 seconds together"),
    ] {
        let (_temp, found, _) = imported("s.json", &document(&inputs, &rest).to_string());
        assert!(found.contains(words), "{inputs} {rest}: {found}");
    }
    let mut whole = document(&lists, &json!({}));
    whole["files"] = json!({"a": 1});
    whole["parameters"] = json!({"f": {"type": "Boolean", "default": "true", "allowedValues": ["true", "false"]}});
    let (_temp, found, action) = imported("s.json", &whole.to_string());
    assert!(found.contains("not imported: files"), "{found}");
    assert!(action.contains("default: true") && action.contains("enum: [true, false]"), "{action}");
    let (_temp, found, _) = imported("s.json", &document(&lists, &json!({"description": "x"})).to_string());
    assert!(!found.contains("not imported") && !found.contains("has no effect") && !found.contains("sudo"), "{found}");
}

#[test]
fn a_status_of_a_script_is_no_time_out() {
    let mut whole = document(&json!({"runCommand": ["exit 124"], "onFailure": "exit"}), &json!({}));
    let next = json!({"action": "aws:runShellScript", "name": "next", "inputs": {"runCommand": ["echo next"]}});
    whole["mainSteps"].as_array_mut().unwrap().push(next);
    let (temp, ..) = imported("s.json", &whole.to_string());
    let Some(outcome) = run_action(&temp.path().join("pack"), "s", &[]) else { return };
    assert_eq!((stdout(&outcome).as_str(), outcome.exit.exit_status), ("", Some(124)), "{}", stderr(&outcome));
}

#[test]
fn what_a_pack_of_stackstorm_has_and_an_action_has_not_is_named() {
    let action = |runner: &str, parameters: &str| {
        let pack = Pack::new(&[
            (
                "actions/a.yaml",
                &format!("name: a\nrunner_type: {runner}\nentry_point: a.sh\nparameters:\n{parameters}"),
            ),
            ("actions/a.sh", "#!/bin/sh\ntrue\n"),
        ]);
        let report = pack.import().unwrap();
        let found = report.actions.iter().find(|action| action.name == "a").unwrap();
        let findings: Vec<String> = found.findings.iter().map(ToString::to_string).collect();
        (findings.join("; "), fs::read_to_string(pack.temp.path().join("pack/actions/a.yaml")).unwrap())
    };
    let fixed = "  cmd: {immutable: true, default: '";
    for (runner, parameters, words, written) in [
        ("local-shell-script", "  sudo: {default: 'true'}", "runs as root, as with sudo", "run_as: root"),
        ("local-shell-script", "  sudo: {default: '{{ config_context.region }}'}", "sudo is computed by", "timeout"),
        ("local-shell-script", "  sudo: {default: false}", "can no longer choose to run it as root", "timeout"),
        ("local-shell-script", "  timeout: {default: 3000000}", "is longer than a day", "timeout: \"86400s\""),
        ("local-shell-script", "  timeout: {default: '{{ x }}'}", "is no number of seconds", "timeout: \"60s\""),
        ("local-shell-script", "  a: {type: string}", "runs as an account of its own", "timeout"),
        ("remote-shell-script", "  dir: {default: /opt/x}", "dir is where StackStorm copies the script to", "timeout"),
        ("local-shell-cmd", &format!("{fixed}nohup x &'}}"), "starts a process that stays", "leftovers: keep"),
        ("local-shell-cmd", &format!("{fixed}sudo -n x'}}"), "uses sudo, which fails", "timeout"),
    ] {
        let (found, text) = action(runner, parameters);
        assert!(found.contains(words), "{parameters}: {found}");
        assert!(text.contains(written), "{parameters}: {text}");
    }
}

#[test]
fn defaults_inside_of_an_object_of_the_configuration_stay() {
    let pack = Pack::new(&[(
        "config.schema.yaml",
        "nest: {type: object, properties: {b: {type: integer, default: 3}, c: {type: string}}}\nopen: {type: object, properties: {b: {type: string, required: true}, c: {type: integer, default: 1}}}\n",
    )]);
    pack.import().unwrap();
    let written = fs::read_to_string(pack.temp.path().join("pack/config.schema.yaml")).unwrap();
    assert!(written.contains("nest:\n  default: {b: 3}\n"), "{written}");
    assert!(!written.contains("open:\n  default"), "{written}");
}
