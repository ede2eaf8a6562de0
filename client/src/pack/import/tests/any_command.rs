//! Actions whose callers give a command or name a program: disabled in every format, refused, and once a person has enabled
//! them what their source is.

use packs_schema::base::document::yaml;
use packs_schema::base::finding::Severity;
use serde_json::{Value, json};

use super::executed::{execute, run_action, said, stderr, stdout};
use super::*;

fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path)
}

/// Sources with the actions that callers give a command to.
const GIVEN: [(&str, &[&str]); 4] = [
    ("stackstorm/shapes", &["cmd_any", "cmd_any_program"]),
    ("puppet/modules/shapes", &["command"]),
    ("ssm/shapes", &["any", "any_none", "any_old", "any_program", "literal", "starts"]),
    ("rundeck/shapes", &["Any_command", "Any_text", "Any_script"]),
];

fn imported(source: &str) -> (tempfile::TempDir, PathBuf, Report) {
    let temp = tempfile::tempdir().unwrap();
    let pack = temp.path().join("pack");
    let report = import(&fixtures(source), &pack).unwrap();
    (temp, pack, report)
}

/// Enables an action, as a person does after a review.
fn enable(pack: &Path, action: &str) {
    let file = pack.join(format!("actions/{action}.yaml"));
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("\nenabled: false\n").count(), 1, "{text}");
    fs::write(file, text.replace("\nenabled: false\n", "\nenabled: true\n")).unwrap();
}

#[test]
fn they_are_disabled_in_every_format_and_no_others_are() {
    for (source, given) in GIVEN {
        let (_temp, pack, report) = imported(source);
        let linted = lint(&pack).unwrap();
        assert!(linted.builds(), "{source}: {:?}", linted.findings);
        let mut disabled: Vec<String> = linted
            .checked
            .iter()
            .flat_map(|checked| &checked.actions)
            .filter(|action| !action.enabled)
            .map(|action| action.name.to_string())
            .collect();
        disabled.sort();
        let mut wanted: Vec<&str> = given.to_vec();
        wanted.sort_unstable();
        assert_eq!(disabled, wanted, "{source}");
        let mut totals = Totals::default();
        totals.add(&report);
        assert_eq!(totals.disabled, given.len(), "{source}");
        for name in given {
            let action = report.actions.iter().find(|action| action.name == *name).unwrap();
            assert_eq!(action.verdict(), Verdict::MadeSafer, "{source} {name}");
            let found: Vec<_> = action.findings.iter().filter(|finding| finding.code == "any_command").collect();
            let wanted = if *name == "any_none" { 2 } else { 1 };
            assert_eq!(found.len(), wanted, "{source} {name}: {:?}", action.findings);
            let words = "the action is disabled: restrict the parameter by an enum or a pattern, and set enabled: true after a review";
            assert!(found[0].message.contains(words), "{source} {name}: {}", found[0]);
            let noted = |finding: &packs_schema::base::finding::Finding| {
                finding.code == "disabled"
                    && finding.severity == Severity::Note
                    && finding.at == format!("actions/{name}.yaml: enabled")
            };
            assert!(linted.findings.iter().any(noted), "{source} {name}: {:?}", linted.findings);
            let refused = execute(&pack, name, &[], None).unwrap_err().to_string();
            assert!(refused.contains("is disabled, so agents refuse it as well"), "{source} {name}: {refused}");
        }
    }
}

#[test]
fn a_list_of_commands_that_is_none_leaves_the_action_disabled() {
    for list in ["null", "abc", "'{{ x }}'", "{a: 1}"] {
        let action = format!(
            "name: any\nrunner_type: local-shell-cmd\nparameters:\n  cmd: {{type: string, required: true, enum: {list}}}\n"
        );
        let pack = stackstorm::Pack::new(&[("actions/any.yaml", &action)]);
        let report = pack.import().unwrap();
        let any = report.actions.iter().find(|action| action.name == "any").unwrap();
        let is_disabled = any.findings.iter().any(|finding| finding.code == "any_command");
        assert!(is_disabled || any.verdict() == Verdict::CannotRun, "{list}: {:?}", any.findings);
        let written = fs::read_to_string(pack.temp.path().join("pack/actions/any.yaml")).unwrap_or_default();
        assert!(!written.contains("enabled: true"), "{list}: {written}");
    }
    let listed = "name: any\nrunner_type: local-shell-cmd\nparameters:\n  cmd: {type: string, enum: [ls, pwd]}\n";
    let report = stackstorm::Pack::new(&[("actions/any.yaml", listed)]).import().unwrap();
    let any = report.actions.iter().find(|action| action.name == "any").unwrap();
    assert!(!any.findings.iter().any(|finding| finding.code == "any_command"), "{:?}", any.findings);
}

#[test]
fn values_with_one_variable_are_refused() {
    let document = json!({
        "schemaVersion": "2.2",
        "parameters": {"a-b": {"type": "String", "allowedValues": ["ls", "pwd"]}, "a_b": {"type": "String"}},
        "mainSteps": [{"action": "aws:runShellScript", "name": "one", "inputs": {"runCommand": ["eval \"{{ a-b }}\""]}}],
    });
    let job = "- name: job\n  options:\n  - {name: run-it, enforced: true, values: [ls, pwd]}\n  - {name: run_it}\n  sequence:\n    \
               commands:\n    - exec: eval \"${option.run-it}\"\n";
    for (file, text, variable) in
        [("one.json", document.to_string(), "SSM_a_b"), ("jobs.yaml", job.to_owned(), "RD_OPTION_RUN_IT")]
    {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("source")).unwrap();
        fs::write(temp.path().join("source").join(file), text).unwrap();
        let error = import(&temp.path().join("source"), &temp.path().join("pack")).unwrap_err().to_string();
        assert!(error.contains(&format!("would both be the variable {variable}; rename one of them")), "{error}");
    }
}

/// Asks the reference of Systems Manager.
fn systems_manager(file: &str, given: &Value) -> Value {
    let text = fs::read_to_string(fixtures("ssm/shapes").join(file)).unwrap();
    let document: Value = yaml::parse(&text).unwrap();
    said(&fixtures("ssm/reference.py"), &json!({"document": document, "parameters": given}), None)
}

#[test]
fn enabled_documents_do_what_systems_manager_does() {
    let (_temp, pack, _) = imported("ssm/shapes");
    ["any", "any_none", "any_old", "any_program", "literal", "starts"].iter().for_each(|action| enable(&pack, action));
    let lines = |lines: &[&str]| (format!("commands={}", lines.join("\n")), json!({"commands": lines}));
    let python = ["#!/usr/bin/env python3", "import os", "print([1, 2], 'SSM_commands' in os.environ)"];
    let value = |name: &str, value: &str| (format!("{name}={value}"), json!({name: value}));
    for (file, (given, parameters)) in [
        ("any.json", lines(&["echo a,b {1,2} \"$BASH_VERSION\"", "for i in 1 2; do", "  echo \"$i\"", "done"])),
        ("any.json", lines(&["exit 3"])),
        ("any.json", lines(&["echo one; false", "", "echo $?", "x='a  b'; echo \"$x\" # {{ commands }}"])),
        ("any.json", lines(&["read x; echo \"<$x>\"", "cat <<E", "$HOME `echo d`", "E"])),
        ("any_none.yaml", (String::new(), json!({}))),
        ("any_none.yaml", ("Before=echo a,b\nfalse".to_owned(), json!({"Before": ["echo a,b", "false"]}))),
        ("any_none.yaml", ("After= \n".to_owned(), json!({"After": [" ", ""]}))),
        ("any_old.json", (String::new(), json!({}))),
        ("any_old.json", lines(&["pwd"])),
        ("any_program.yaml", value("Tool", "/bin/echo")),
        ("any_program.yaml", value("Tool", "echo")),
        ("any_program.yaml", value("Tool", "false")),
        ("literal.yaml", (String::new(), json!({}))),
        ("literal.yaml", value("Tags", "a=b c=d")),
        ("starts.yaml", value("Name", "pwd")),
        ("starts.yaml", value("Name", "/bin/pwd")),
        ("starts.yaml", value("Name", "no-such-program")),
        ("given.yaml", value("Command", "echo one; exit 3")),
        ("given.yaml", value("Command", "printf \"%s\\n\" two")),
    ] {
        let action = file.split('.').next().unwrap();
        let given: Vec<&str> = Some(given.as_str()).filter(|given| !given.is_empty()).into_iter().collect();
        let Some(outcome) = run_action(&pack, action, &given) else { return };
        let wanted = systems_manager(file, &parameters);
        let told = format!("{file} {given:?}: {outcome:?} {}\nreference: {wanted}", stderr(&outcome));
        let printed = stdout(&outcome);
        // A command of the caller is in a file, and not in the environment besides.
        let printed = if given.first().is_some_and(|given| given.contains("python3")) {
            printed.replace("False", "True")
        } else {
            printed
        };
        assert_eq!(printed, wanted["stdout"].as_str().unwrap(), "{told}");
        assert_eq!(outcome.exit.exit_status.map(i64::from), wanted["code"].as_i64(), "{told}");
    }
    let (given, _) = lines(&python);
    let Some(outcome) = run_action(&pack, "any", &[&given]) else { return };
    assert_eq!(stdout(&outcome), "[1, 2] True\n", "{}", stderr(&outcome));
    // The command is killed at its time-out, and its file is removed.
    let Some(outcome) = run_action(&pack, "any_old", &["commands=echo $0; sleep 300.14", "time=5"]) else { return };
    assert_eq!(outcome.exit.exit_status, Some(124), "{}", stderr(&outcome));
    let file = stdout(&outcome);
    let directory = Path::new(file.trim()).parent().unwrap();
    assert!(directory.to_string_lossy().contains("/bolt-step-") && !directory.exists(), "{file}");
}

#[test]
fn enabled_jobs_and_actions_do_what_their_sources_do() {
    let (_temp, pack, _) = imported("rundeck/shapes");
    let jobs: Vec<Value> = yaml::parse(&fs::read_to_string(fixtures("rundeck/shapes/jobs.yaml")).unwrap()).unwrap();
    ["Any_command", "Any_text", "Any_script"].iter().for_each(|action| enable(&pack, action));
    for (name, option, value) in [
        ("Any command", "command", "pwd"),
        ("Any command", "command", "echo one; exit 3"),
        ("Any text", "command", "echo one 'a  b'; exit 3"),
        ("Any text", "command", "for i in 1 2; do echo \"$i ${BASH_VERSION:+bash}\"; done"),
        ("Any script", "text", "for a in \"$@\"; do echo \"<$a>\"; done"),
        ("Any script", "text", "#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])"),
    ] {
        let Some(outcome) = run_action(&pack, &name.replace(' ', "_"), &[&format!("{option}={value}")]) else { return };
        let job = jobs.iter().find(|job| job["name"] == name).unwrap();
        let asked = json!({"job": job, "options": {option: value}, "directory": fixtures("rundeck/shapes")});
        let wanted = said(&fixtures("rundeck/reference.py"), &asked, None);
        let told = format!("{name} {value:?}: {outcome:?} {}\nreference: {wanted}", stderr(&outcome));
        if value != "pwd" {
            assert_eq!(stdout(&outcome), wanted["stdout"].as_str().unwrap(), "{told}");
        }
        assert_eq!(outcome.exit.exit_status.map(i64::from), wanted["code"].as_i64(), "{told}");
    }
    let (_temp, pack, _) = imported("stackstorm/shapes");
    enable(&pack, "cmd_any");
    let source = fixtures("stackstorm/shapes");
    let metadata: Value = yaml::parse(&fs::read_to_string(source.join("actions/cmd_any.yaml")).unwrap()).unwrap();
    for command in
        ["echo one; exit 3", "echo \"$(echo a  b)\" {1,2} 'x'\ncat", "printf '%s\\n' \"${BASH_VERSION:+bash}\""]
    {
        let Some(outcome) = run_action(&pack, "cmd_any", &[&format!("cmd={command}")]) else { return };
        let asked = json!({"metadata": metadata, "parameters": {"cmd": command}, "config": {}});
        let wanted = said(&fixtures("stackstorm/reference.py"), &asked, Some(&source));
        let told = format!("{command:?}: {outcome:?} {}\nreference: {wanted}", stderr(&outcome));
        assert_eq!(stdout(&outcome), wanted["stdout"].as_str().unwrap(), "{told}");
        assert_eq!(outcome.exit.exit_status.map(i64::from), wanted["exit"].as_i64(), "{told}");
    }
}

#[test]
fn a_value_that_names_a_program_is_no_shell_text() {
    let (_temp, pack, _) = imported("ssm/shapes");
    enable(&pack, "starts");
    enable(&pack, "any_program");
    for value in [
        "echo hurt",
        "x; echo hurt",
        "x$(echo hurt)",
        "x`echo hurt`",
        "eval echo hurt",
        "x && echo hurt",
        "x > hurt",
        "-c echo hurt",
        "/bin/echo hurt",
        "x ${IFS}",
    ] {
        let Some(outcome) = run_action(&pack, "starts", &[&format!("Name={value}")]) else { return };
        assert_eq!(stdout(&outcome), format!("no <{value}>\n<plain>\n"), "{value:?}: {}", stderr(&outcome));
    }
    for value in ["echo hurt", "x; echo hurt", "$(echo hurt)", "`echo hurt`", "x\necho hurt", "A=b echo hurt"] {
        let Some(outcome) = run_action(&pack, "any_program", &[&format!("Tool={value}")]) else { return };
        assert_eq!((outcome.exit.exit_status, stdout(&outcome).as_str()), (Some(127), ""), "{value:?}");
    }
    for (action, value, words) in [
        ("any_program", "Tool=-c", "must match"),
        ("any_program", "Tool=--help", "must match"),
        ("starts", "Name=x\ny", "must match"),
    ] {
        let refused = execute(&pack, action, &[value], None).unwrap_err().to_string();
        assert!(refused.contains(words), "{action} {value:?}: {refused}");
    }
}
