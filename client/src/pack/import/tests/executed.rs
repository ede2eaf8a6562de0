//! Runs imported actions as an agent would, and compares them with what StackStorm does: `reference.py` beside the packs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use packs_schema::agent::execution::output::Stream;
use packs_schema::base::document::yaml;
use serde_json::{Value, json};

use super::*;
use crate::pack::test::{TestError, TestOptions, TestOutcome, run};

/// An execution with values on a command line.
pub(super) fn execute(
    pack: &Path,
    action: &str,
    given: &[&str],
    site: Option<&Path>,
) -> Result<TestOutcome, TestError> {
    run(&TestOptions {
        pack: pack.to_owned(),
        action: action.to_owned(),
        parameters: given.iter().map(|given| given.parse().unwrap()).collect(),
        run_as_me: true,
        site_config: site.map(Path::to_owned),
        ..TestOptions::default()
    })
}

/// The same, without a site configuration; says that it is skipped where there is no launcher.
pub(super) fn run_action(pack: &Path, action: &str, given: &[&str]) -> Option<TestOutcome> {
    unless_skipped(action, execute(pack, action, given, None))
}

/// Returns what was executed; says that it is skipped where there is no launcher.
pub(super) fn unless_skipped(action: &str, executed: Result<TestOutcome, TestError>) -> Option<TestOutcome> {
    match executed {
        Ok(outcome) => Some(outcome),
        Err(TestError::NoLauncher(_)) => {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED {action}: bolt-launch is not built; run cargo build -p bolt-launch, or set BOLT_LAUNCH"
            );
            None
        }
        Err(error) => panic!("{action}: {error}"),
    }
}

pub(super) fn stdout(outcome: &TestOutcome) -> String {
    let pieces = outcome.output.iter().filter(|piece| piece.stream == Stream::Stdout);
    String::from_utf8_lossy(&pieces.flat_map(|piece| piece.data.clone()).collect::<Vec<u8>>()).into_owned()
}

pub(super) fn stderr(outcome: &TestOutcome) -> String {
    let pieces = outcome.output.iter().filter(|piece| piece.stream == Stream::Stderr);
    String::from_utf8_lossy(&pieces.flat_map(|piece| piece.data.clone()).collect::<Vec<u8>>()).into_owned()
}

/// Asks the reference about an action of the source.
fn reference(source: &Path, file: &str, given: &Value) -> Value {
    let text = fs::read_to_string(source.join("actions").join(file)).unwrap();
    let metadata: Value = yaml::parse(&text).unwrap();
    let config = json!({"region": "south", "token": "t0p", "poll-interval": 30});
    let asked = json!({"metadata": metadata, "parameters": given, "config": config});
    said(&source.parent().unwrap().join("reference.py"), &asked, Some(source))
}

/// Asks a program of Python a question.
pub(super) fn said(program: &Path, asked: &Value, argument: Option<&Path>) -> Value {
    let mut child = Command::new("python3")
        .arg(program)
        .args(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let answer = child.wait_with_output().unwrap();
    serde_json::from_slice(&answer.stdout).unwrap_or_else(|error| panic!("{asked}: {error}: {answer:?}"))
}

/// A source, its imported pack, and the site configuration.
struct Imported {
    temp: tempfile::TempDir,
}

impl Imported {
    fn new() -> Imported {
        let temp = tempfile::tempdir().unwrap();
        copy(&shapes(), &temp.path().join("collection/shapes"));
        let reference = shapes().parent().unwrap().join("reference.py");
        fs::copy(reference, temp.path().join("collection/reference.py")).unwrap();
        import(&temp.path().join("collection/shapes"), &temp.path().join("pack")).unwrap();
        fs::write(temp.path().join("site.yaml"), "region: south\ntoken: t0p\n").unwrap();
        Imported { temp }
    }

    fn source(&self) -> PathBuf {
        self.temp.path().join("collection/shapes")
    }

    fn run(&self, action: &str, given: &[&str]) -> Option<TestOutcome> {
        let (pack, site) = (self.temp.path().join("pack"), self.temp.path().join("site.yaml"));
        unless_skipped(action, execute(&pack, action, given, Some(&site)))
    }
}

/// Actions with values, as the command line and as the reference take them.
fn compared() -> Vec<(&'static str, Vec<&'static str>, Value)> {
    let none = || json!({});
    vec![
        ("py_echo", vec!["text=a b", "flag=false"], json!({"text": "a b", "flag": false})),
        ("py_tuple_true", vec![], none()),
        ("py_tuple_false", vec![], none()),
        ("py_tuple_none", vec![], none()),
        ("py_raise", vec![], none()),
        ("py_list", vec![], none()),
        ("py_none", vec![], none()),
        ("py_invalid_status", vec![], none()),
        ("py_config", vec![], none()),
        ("py_config_missing", vec![], none()),
        ("py_lib", vec![], none()),
        ("py_shared", vec!["text=grün"], json!({"text": "grün"})),
        ("py_logger", vec![], none()),
        ("py_legacy", vec!["value=2.5"], json!({"value": 2.5})),
        ("py_store", vec![], none()),
        ("py_store_server", vec![], none()),
        ("py_immutable", vec![], none()),
        ("py_not_json", vec![], none()),
        ("py_dashes", vec!["user_name=me"], json!({"user-name": "me"})),
        (
            "py_types",
            vec!["items=a,b", "mapping={\"b\": [1, null]}"],
            json!({"items": ["a", "b"], "mapping": {"b": [1, null]}}),
        ),
        ("py_template", vec!["name=web"], json!({"name": "web"})),
        ("py_nested", vec![], none()),
        ("py_stdin", vec![], none()),
        ("sh_positional", vec!["first=$(id) `id`"], json!({"first": "$(id) `id`"})),
        ("sh_positional", vec!["first=a", "second=b'\"c"], json!({"first": "a", "second": "b'\"c"})),
        ("sh_named", vec!["name=a b", "loud=true"], json!({"name": "a b", "loud": true})),
        ("sh_named", vec!["count=3"], json!({"count": 3})),
        ("sh_mixed", vec!["first=x; id"], json!({"first": "x; id"})),
        ("sh_mixed", vec!["first=*", "verbose=false"], json!({"first": "*", "verbose": false})),
        (
            "sh_lists",
            vec!["items=a,b", "mapping={\"k\": 1}", "named=c,d"],
            json!({"items": ["a", "b"], "mapping": {"k": 1}, "named": ["c", "d"]}),
        ),
        ("sh_lists", vec![], none()),
        ("sh_env", vec![], none()),
        ("sh_cwd", vec![], none()),
        ("sh_operator", vec!["first=x"], json!({"first": "x"})),
        ("sh_no_shebang", vec!["first=a b"], json!({"first": "a b"})),
        ("sh_exit", vec![], none()),
        ("sh_remote", vec!["first=1"], json!({"first": "1"})),
        ("sh_dash", vec![], none()),
        ("cmd_plain", vec![], none()),
        ("cmd_value", vec!["message=hello"], json!({"message": "hello"})),
        ("cmd_single", vec!["message=hello"], json!({"message": "hello"})),
        ("cmd_words", vec!["args=a b", "target=c"], json!({"args": "a b", "target": "c"})),
        ("cmd_words", vec!["target=c"], json!({"target": "c"})),
        ("cmd_computed", vec!["name=web"], json!({"name": "web"})),
        ("cmd_number", vec!["count=41"], json!({"count": 41})),
        ("cmd_boolean", vec![], none()),
    ]
}

#[test]
fn imported_actions_do_what_stackstorm_does() {
    let imported = Imported::new();
    let mut executed = 0;
    for (action, given, parameters) in compared() {
        let Some(outcome) = imported.run(action, &given) else { return };
        let wanted = reference(&imported.source(), &format!("{action}.yaml"), &parameters);
        let said = format!("{action} {given:?}: {outcome:?} {}\nreference: {wanted}", stderr(&outcome));
        assert_eq!(outcome.exit.exit_status.map(i64::from), wanted["exit"].as_i64(), "{said}");
        assert_eq!(stdout(&outcome), wanted["stdout"].as_str().unwrap(), "{said}");
        let result = outcome.exit.result.clone().map(Value::Object);
        match &wanted["result"] {
            Value::Null if action == "py_none" => assert_eq!(result, Some(json!({"result": null})), "{said}"),
            Value::Null => assert_eq!(result, None, "{said}"),
            object @ Value::Object(_) => assert_eq!(result.as_ref(), Some(object), "{said}"),
            value => assert_eq!(result, Some(json!({"result": value})), "{said}"),
        }
        executed += 1;
    }
    assert!(executed > 30, "{executed}");
}

#[test]
fn values_of_callers_are_never_shell_text() {
    let imported = Imported::new();
    for (action, given, wanted) in [
        ("cmd_value", vec!["message=\"; id; $(id) `id` '"], "\"; id; $(id) `id` '\n\"; id; $(id) `id` '\n"),
        ("cmd_single", vec!["message='; id #"], "it says '; id #\n"),
        ("cmd_words", vec!["args=* $(id) ;", "target=a  b"], "<*>\n<$(id)>\n<;>\n<a  b>\n"),
        ("cmd_condition", vec!["path=/x y", "server=h;id", "force=true"], "<-v>\n<-f>\n<h;id:/x y>\n"),
        ("cmd_condition", vec!["path=/x"], "<-v>\n</x>\n"),
        ("cmd_filters", vec!["name= ABA "], " aba  none b cBb c\n"),
        ("cmd_loop", vec!["items=a b,$(id)"], "<a b>\n<$(id)>\n"),
        ("cmd_computed", vec!["name=$(id)"], "Package $(id) built\n"),
        ("cmd_raw", vec![], "{{ kept }}\n"),
        ("cmd_program", vec![], "version\n"),
        ("sh_argparse", vec!["first=$(id)"], "high $(id)\n"),
        ("sh_crlf", vec![], "one\n"),
        ("dotted_name", vec!["first=a"], "<a>\n"),
        ("py_client", vec![], ""),
    ] {
        let Some(outcome) = imported.run(action, &given) else { return };
        assert_eq!(outcome.exit.exit_status, Some(0), "{action}: {outcome:?}: {}", stderr(&outcome));
        assert_eq!(stdout(&outcome), wanted, "{action} {given:?}");
    }
}

#[test]
fn options_and_empty_values_do_not_reach_a_command() {
    let imported = Imported::new();
    let Some(outcome) = imported.run("cmd_words", &["target=-rf"]) else { return };
    assert_eq!((outcome.exit.exit_status, stdout(&outcome).as_str()), (Some(64), ""));
    assert!(stderr(&outcome).contains("target must not begin with '-'"), "{}", stderr(&outcome));
    let refused = |action: &str, given: &str| {
        execute(&imported.temp.path().join("pack"), action, &[given], Some(&imported.temp.path().join("site.yaml")))
            .unwrap_err()
    };
    for (action, given, words) in [
        ("cmd_words", "target=", "at least 1 character"),
        ("cmd_program", "tool=/bin/sh", "immutable"),
        ("cmd_plain", "cmd=id", "not a parameter"),
        ("sh_env", "env={\"X\": \"y\"}", "not a parameter"),
        ("py_datastore", "token=x", "secret"),
    ] {
        let said = refused(action, given).to_string();
        assert!(said.contains(words), "{action} {given}: {said}");
    }
}

#[test]
fn a_large_result_is_on_standard_output() {
    let imported = Imported::new();
    let Some(outcome) = imported.run("py_large", &[]) else { return };
    assert_eq!(
        outcome.exit.result.clone().map(Value::Object),
        Some(json!({"result_in": "stdout", "result_bytes": 100_014}))
    );
    assert_eq!(stdout(&outcome).trim().len(), 100_014);
}
