//! Runs imported tasks as an agent would, and compares them with what Puppet does: `reference.py` beside the modules.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::executed::{stderr, stdout, unless_skipped};
use super::*;
use crate::pack::test::{TestError, TestOptions, TestOutcome, run};

/// The imported module.
struct Imported {
    temp: tempfile::TempDir,
}

impl Imported {
    fn new() -> Imported {
        let temp = tempfile::tempdir().unwrap();
        import(&modules().join("shapes"), &temp.path().join("pack")).unwrap();
        // A person has reviewed it.
        let path = temp.path().join("pack/actions/command.yaml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("enabled: false\n"));
        fs::write(path, text.replace("enabled: false\n", "enabled: true\n")).unwrap();
        Imported { temp }
    }

    fn try_run(&self, action: &str, given: &Value, noop: bool) -> Result<TestOutcome, TestError> {
        let word = |(name, value): (&String, &Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}={text}").parse().unwrap()
        };
        run(&TestOptions {
            pack: self.temp.path().join("pack"),
            action: action.to_owned(),
            parameters: given.as_object().unwrap().iter().map(word).collect(),
            noop,
            run_as_me: true,
            ..TestOptions::default()
        })
    }

    fn run(&self, action: &str, given: &Value, noop: bool) -> Option<TestOutcome> {
        unless_skipped(action, self.try_run(action, given, noop))
    }
}

/// Asks the reference about a task.
fn reference(task: &str, given: &Value, noop: bool) -> Value {
    let program = modules().join("../reference.py");
    let mut child = Command::new("python3")
        .arg(program)
        .arg(modules())
        .args(["shapes", task])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let asked = json!({"parameters": given, "noop": noop});
    serde_json::to_writer(child.stdin.take().unwrap(), &asked).unwrap();
    let answer = child.wait_with_output().unwrap();
    serde_json::from_slice(&answer.stdout).unwrap_or_else(|error| panic!("{task}: {error}: {answer:?}"))
}

fn has_ruby() -> bool {
    let ruby = Command::new("ruby").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ruby.is_ok_and(|status| status.success())
}

/// Tasks with parameters.
fn compared() -> Vec<(&'static str, Value)> {
    let none = || json!({});
    vec![
        ("init", json!({"name": "a b; id"})),
        ("linux", json!({"name": "$(id) `id` '\""})),
        ("env", json!({"text": "a b"})),
        (
            "env",
            json!({"text": "grün $(id)", "number": 3, "flag": false, "list": ["a", "b"], "map": {"x": {"y": [0]}}}),
        ),
        ("stdin_only", json!({"text": "a\nb", "level": 4, "ratio": 0.5, "targets": "one"})),
        ("stdin_only", json!({"text": "", "level": "low", "targets": "one,two", "map": {"b": 1}})),
        ("both", json!({"text": "x", "ratio": 2.5})),
        ("both", json!({"text": "{\"a\": 1}", "map": {"a": 1, "b": 2}})),
        ("both_named", json!({"text": "x"})),
        ("defaults", none()),
        ("defaults", json!({"text": "given", "number": 9})),
        ("kinds", json!({"word": "dist-upgrade", "bounded": 5, "mixed": "true"})),
        ("files", none()),
        ("library", json!({"number": 21})),
        ("python_helper", json!({"name": "Ada"})),
        ("python_helper", json!({"name": "Ada", "fail": "task"})),
        ("python_helper", json!({"name": "Ada", "fail": "other"})),
        ("ruby_helper", json!({"name": "Ada"})),
        ("ruby_helper", json!({"name": "Ada", "fail": "task"})),
        ("ruby_plain", json!({"words": ["a", "b"]})),
        ("error_zero", none()),
        ("error_three", none()),
        ("error_text", none()),
        ("fails", none()),
        ("object", none()),
        ("list", none()),
        ("half", none()),
        ("two", none()),
        ("silent", none()),
        ("output_key", none()),
        ("noop", json!({"name": "x"})),
        ("bare", json!({"first": "1"})),
        ("bare", json!({"first": "1", "second": "2"})),
        ("bare_python", none()),
        ("no_shebang", none()),
        ("command", json!({"command": "echo $((1 + 2)); exit 5"})),
        ("background", none()),
        ("two_programs", none()),
    ]
}

/// Result as Bolt has it: text is on standard output only, and errors have their three parts.
fn wanted_result(reference: &Value) -> Value {
    let mut result = reference["result"].clone();
    let text = result.get("_output").cloned();
    let object = result.as_object_mut().unwrap();
    if text.as_ref() == reference.get("stdout") {
        object.remove("_output");
    }
    if let Some(Value::String(words)) = object.get("_error") {
        let details = json!({"exitcode": reference["exit"]});
        object
            .insert("_error".into(), json!({"kind": "puppetlabs.tasks/task-error", "msg": words, "details": details}));
    }
    if object.is_empty() { Value::Null } else { result }
}

#[test]
fn imported_tasks_do_what_puppet_does() {
    let imported = Arc::new(Imported::new());
    let ruby = has_ruby();
    let mut executed = 0;
    for (task, given) in compared() {
        if task.starts_with("ruby") && !ruby {
            let _ = writeln!(std::io::stderr(), "SKIPPED {task}: there is no ruby");
            continue;
        }
        let Some(outcome) = imported.run(task, &given, false) else { return };
        let wanted = reference(task, &given_as_json(task, &given), false);
        let said = format!("{task} {given}: {outcome:?} {}\nreference: {wanted}", stderr(&outcome));
        let exit = outcome.exit.exit_status.map(i64::from);
        match wanted["exit"].as_i64() {
            Some(0) if wanted["failed"] == json!(true) => assert_eq!(exit, Some(1), "{said}"),
            status => assert_eq!(exit, status, "{said}"),
        }
        let result = outcome.exit.result.clone().map_or(Value::Null, Value::Object);
        assert_eq!(result, wanted_result(&wanted), "{said}");
        let text = wanted["stdout"].as_str().unwrap();
        match serde_json::from_str::<Value>(text) {
            Ok(object @ Value::Object(_)) => {
                assert_eq!(serde_json::from_str::<Value>(&stdout(&outcome)).unwrap(), object, "{said}");
            }
            _ => assert_eq!(stdout(&outcome), text, "{said}"),
        }
        executed += 1;
    }
    assert!(executed > 30, "{executed}");
}

/// Values as the schema reads them from a command line.
fn given_as_json(task: &str, given: &Value) -> Value {
    let mut given = given.clone();
    if task == "kinds" {
        // Text for a parameter that also takes booleans.
        given["mixed"] = json!(true);
        given["json_word"] = json!("x");
    }
    given
}

#[test]
fn an_error_of_a_task_is_shown_and_fails_the_execution() {
    let imported = Imported::new();
    for (task, words, status) in [
        ("error_zero", "shapes::error_zero failed: did not work [shapes/odd]\n", 1),
        ("error_three", "shapes::error_three failed: did not work [shapes/odd]\n", 3),
        ("fails", "worse\nshapes::fails failed: The task errored with a code 7 [puppetlabs.tasks/task-error]\n", 7),
    ] {
        let Some(outcome) = imported.run(task, &json!({}), false) else { return };
        assert_eq!((stderr(&outcome).as_str(), outcome.exit.exit_status), (words, Some(status)), "{task}");
        assert!(outcome.exit.result.clone().unwrap().contains_key("_error"), "{task}");
    }
}

#[test]
fn secrets_reach_a_task_and_nothing_else() {
    let imported = Imported::new();
    let refused = imported.try_run("secrets", &json!({"token": "t0p"}), false);
    if matches!(refused, Err(TestError::NoLauncher(_))) {
        return;
    }
    assert!(refused.unwrap_err().to_string().contains("secret"));
    let secret = imported.temp.path().join("token");
    fs::write(&secret, "t0psecret").unwrap();
    let run = |action: &str| {
        run(&TestOptions {
            pack: imported.temp.path().join("pack"),
            action: action.to_owned(),
            parameters: vec![format!("token=@{}", secret.display()).parse().unwrap()],
            run_as_me: true,
            ..TestOptions::default()
        })
        .unwrap()
    };
    let outcome = run("secrets");
    let shown = format!("{outcome:?} {}", stdout(&outcome));
    assert!(!shown.contains("t0psecret"), "{shown}");
    let result = outcome.exit.result.clone().map(Value::Object);
    assert_eq!(result, Some(json!({"length": 9, "_sensitive": "********"})));
    assert_eq!(stdout(&run("secret_env")), "9\n");
}

#[test]
fn lists_and_maps_in_variables_are_json_without_blanks() {
    let imported = Imported::new();
    let given = json!({"text": "x", "list": ["ä b", "c"], "map": {"x": {"y": [0, 1]}}});
    let Some(outcome) = imported.run("env", &given, false) else { return };
    let wanted = "list=[\"ä b\",\"c\"]\nmap={\"x\":{\"y\":[0,1]}}\n";
    assert!(stdout(&outcome).contains(wanted), "{}", stdout(&outcome));
}

#[test]
fn a_dry_run_reaches_only_tasks_that_know_it() {
    let imported = Imported::new();
    let Some(outcome) = imported.run("noop", &json!({"name": "x"}), true) else { return };
    let wanted = reference("noop", &json!({"name": "x"}), true);
    assert_eq!(stdout(&outcome), wanted["stdout"].as_str().unwrap());
    assert_eq!(stdout(&outcome), "would change x\n");
    let said = imported.try_run("env", &json!({"text": "x"}), true).unwrap_err().to_string();
    assert!(said.contains("dry run") || said.contains("noop"), "{said}");
}

#[test]
fn a_task_that_needs_the_agent_says_so() {
    let imported = Imported::new();
    if Path::new("/opt/puppetlabs/puppet/bin/puppet").exists() {
        return drop(writeln!(std::io::stderr(), "SKIPPED: Puppet's agent is installed here"));
    }
    let Some(outcome) = imported.run("agent_only", &json!({"name": "x"}), false) else { return };
    assert_eq!(outcome.exit.exit_status, Some(1));
    assert_eq!(stderr(&outcome), "shapes::agent_only does not run here: it needs puppet-agent\n");
}

#[test]
fn a_large_object_is_on_standard_output() {
    let imported = Imported::new();
    let Some(outcome) = imported.run("large", &json!({}), false) else { return };
    let result = outcome.exit.result.clone().map(Value::Object);
    assert_eq!(result, Some(json!({"result_in": "stdout", "result_bytes": 100_012})));
    assert_eq!(stdout(&outcome).trim().len(), 100_012);
    // Windows' line ends were removed.
    assert_eq!(stdout(&imported.run("crlf", &json!({}), false).unwrap()), "one\n");
}

#[test]
fn values_that_do_not_fit_their_type_are_refused() {
    let imported = Imported::new();
    for (given, words) in [
        (json!({"word": "x"}), "word must be one of"),
        (json!({"bounded": 2}), "bounded must be at least 3"),
        (json!({"length": "a"}), "length must have at least 2"),
        (json!({"pattern": "ab"}), "pattern must match"),
        (json!({"timeout": "1\n2"}), "timeout must match"),
        (json!({"struct": {"mode": 1}}), "struct"),
        (json!({"ports": [1, 2, 3, 4]}), "ports must have at most 3"),
        (json!({"level": 9}), "level must be at most 5"),
        (json!({"nowhere": "x"}), "is not a parameter"),
    ] {
        match imported.try_run("kinds", &given, false) {
            Err(TestError::NoLauncher(_)) => return,
            outcome => {
                let said = outcome.unwrap_err().to_string();
                assert!(said.contains(words), "{given}: {said}");
            }
        }
    }
}
