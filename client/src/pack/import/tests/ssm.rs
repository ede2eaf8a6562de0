//! Documents of Systems Manager: small ones in the shapes that published ones have, `tests/fixtures/ssm`.

use serde_json::{Value, json};

use super::executed::{execute, run_action, said, stderr, stdout};
use super::*;
use crate::pack::import::source::SourceFile;

mod restrictions;

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ssm/shapes")
}

#[test]
fn every_document_has_a_verdict_and_the_pack_builds() {
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("pack");
    let report = import(&documents(), &to).unwrap();
    let verdicts = verdicts(&report);
    let cannot =
        ["any_line", "code", "old_precondition", "plugin", "powershell", "python_value", "store", "twice", "restart"];
    assert_eq!(verdicts[&Verdict::CannotRun], cannot);
    assert_eq!(verdicts[&Verdict::RunsUnchanged], ["docker", "environment", "given", "plain", "python", "time"]);
    assert_eq!(verdicts[&Verdict::MadeSafer].len(), 17, "{verdicts:?}");
    let linted = lint(&to).unwrap();
    assert!(linted.builds(), "{:?}", linted.findings);
    let warned: Vec<_> = linted.findings.iter().filter(|finding| finding.code == "unused_parameter").collect();
    assert!(warned.is_empty(), "{warned:?}");
    assert!(to.join("LICENSE").exists());
    let left = |file: &str| report.left_out.iter().find(|left| left.file == file).map(|left| left.why.clone());
    let graph = left("automation.yaml").unwrap();
    assert!(graph.contains("stop (aws:changeInstanceState; on failure start), start"), "{graph}");
    assert_eq!(left("other.json"), None);
}

#[test]
fn reasons_name_document_and_remedy() {
    let temp = tempfile::tempdir().unwrap();
    let report = import(&documents(), &temp.path().join("pack")).unwrap();
    let why = |name: &str| {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        action.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (name, words) in [
        ("any", "callers would give any command with commands; the action is disabled"),
        ("any", "commands is text of one or more lines, since items of a list cannot have commas"),
        ("any_none", "callers would give any command with After; the action is disabled"),
        ("any_none", "since items of a list cannot have commas; without any its steps run nothing and succeed"),
        ("any_line", "callers would give lines of the script with Lines"),
        ("any_program", "callers would choose any program with Tool; the action is disabled"),
        ("any_program", "Tool must not begin with '-'"),
        ("code", "code.yaml:2: eval would run the value of Command as code"),
        ("old_precondition", "preconditions need schema version 2.2"),
        ("plugin", "the step download downloads what later steps run (aws:downloadContent)"),
        ("docker", "the step ConfigureDocker is a script that does what aws:configureDocker does on Amazon Linux"),
        ("template", "format has {{ Other }}, and the document has no such parameter: it stays as it is"),
        ("powershell", "the step run is a PowerShell script"),
        ("python_value", "values would be put into the text of a python3 program"),
        ("store", "it reads a value of Parameter Store"),
        ("twice", "duplicate key \"schemaVersion\""),
        ("restart", "no step of it runs on Linux"),
        ("numbers", "numbers.yaml:4: arithmetic of [[ would run the value of Duration as code; it may be a number now"),
        ("words", "words.yaml:6: sh would run the value of Minutes as code; it may be letters, digits and"),
        ("words", "packages is split at blanks into words"),
        ("quotes", "values of callers were put into the text of quotes; they are quoted variables now"),
        ("password", "DBPassword is a secret by its name"),
        ("password", "DBPassword is in the environment of the scripts' processes (SSM_DBPassword), which root"),
        ("steps", "the step windows is for another system and left out"),
        ("success", "isEnd of the step never has no effect in Command documents"),
        ("plain", "runs as root, as in Systems Manager"),
    ] {
        assert!(why(name).contains(words), "{name}: {}", why(name));
    }
}

/// Asks the reference about a document.
fn reference(file: &str, given: &Value) -> Value {
    let source = documents();
    let path = source.join(file);
    let text = fs::read_to_string(&path).unwrap();
    let document: Value = match file.ends_with(".json") {
        true => serde_json::from_str(&text).unwrap(),
        false => packs_schema::base::document::yaml::parse(&text).unwrap(),
    };
    let program = source.parent().unwrap().join("reference.py");
    said(&program, &json!({"document": document, "parameters": given}), None)
}

#[test]
fn imported_documents_do_what_systems_manager_does() {
    let temp = tempfile::tempdir().unwrap();
    let pack = temp.path().join("pack");
    import(&documents(), &pack).unwrap();
    let mut executed = 0;
    for (file, given, parameters) in [
        ("plain.json", vec![], json!({})),
        ("version_1.json", vec![], json!({})),
        ("version_1.json", vec!["directory=/usr"], json!({"directory": "/usr"})),
        ("version_2.yaml", vec!["Text=a b"], json!({"Text": "a b"})),
        ("quotes.yaml", vec!["Message=hello"], json!({"Message": "hello"})),
        ("quotes.yaml", vec!["Message=other-1.2/x"], json!({"Message": "other-1.2/x"})),
        ("lines.yaml", vec!["UserName=daemon"], json!({"UserName": "daemon"})),
        ("lines.yaml", vec!["UserName=me"], json!({"UserName": "me"})),
        ("numbers.yaml", vec![], json!({})),
        (
            "numbers.yaml",
            vec!["Duration=7", "Percent=9", "Workers=2", "Loud=false"],
            json!({"Duration": "7", "Percent": "9", "Workers": 2, "Loud": false}),
        ),
        ("numbers.yaml", vec!["Percent=101"], json!({"Percent": "101"})),
        ("numbers.yaml", vec!["Duration=0"], json!({"Duration": "0"})),
        ("steps.yaml", vec![], json!({})),
        ("steps.yaml", vec!["First=1"], json!({"First": "1"})),
        ("steps.yaml", vec!["First=168"], json!({"First": "168"})),
        ("steps.yaml", vec!["First=169"], json!({"First": "169"})),
        ("steps.yaml", vec!["Mode=skip"], json!({"Mode": "skip"})),
        ("success.yaml", vec![], json!({})),
        ("success.yaml", vec!["Status=0"], json!({"Status": "0"})),
        ("time.yaml", vec![], json!({})),
        ("lists.yaml", vec![], json!({})),
        ("lists.yaml", vec!["Names=x,y z", "Pairs={\"a\": 1}"], json!({"Names": ["x", "y z"], "Pairs": {"a": 1}})),
        ("environment.yaml", vec![], json!({})),
        ("environment.yaml", vec!["Message=a  b"], json!({"Message": "a  b"})),
        ("python.yaml", vec![], json!({})),
        ("words.yaml", vec![], json!({})),
        (
            "words.yaml",
            vec!["packages=one", "Hosts=h1 h2 h3", "Minutes=30"],
            json!({"packages": "one", "Hosts": "h1 h2 h3", "Minutes": "30"}),
        ),
        ("template.yaml", vec![], json!({})),
        ("template.yaml", vec!["Name=db"], json!({"Name": "db"})),
        ("version_2.yaml", vec![], json!({})),
        ("words.yaml", vec!["packages=x  y z"], json!({"packages": "x  y z"})),
    ] {
        let action = file.split('.').next().unwrap();
        let Some(outcome) = run_action(&pack, action, &given) else { return };
        let wanted = reference(file, &parameters);
        let told = format!("{file} {given:?}: {outcome:?} {}\nreference: {wanted}", stderr(&outcome));
        assert_eq!(stdout(&outcome), wanted["stdout"].as_str().unwrap(), "{told}");
        let status = match wanted["status"].as_str().unwrap() {
            "Success" => 0,
            "TimedOut" => 124,
            _ => wanted["code"].as_i64().unwrap(),
        };
        assert_eq!(outcome.exit.exit_status.map(i64::from), Some(status), "{told}");
        if wanted["steps"].as_array().unwrap().len() > 1 {
            assert!(outcome.exit.result.is_some(), "{told}");
        }
        executed += 1;
    }
    assert!(executed > 30, "{executed}");
}

#[test]
fn values_of_callers_are_never_text_of_a_script() {
    let temp = tempfile::tempdir().unwrap();
    let pack = temp.path().join("pack");
    import(&documents(), &pack).unwrap();
    for value in [
        "$(echo hurt)",
        "'; echo hurt; '",
        "\"; echo hurt #",
        "`echo hurt`",
        "a\necho hurt",
        "${HOME}",
        "EOF\necho hurt",
    ] {
        let Some(outcome) = run_action(&pack, "quotes", &[&format!("Message={value}")]) else { return };
        assert_eq!(outcome.exit.exit_status, Some(0), "{value}: {}", stderr(&outcome));
        let printed = stdout(&outcome);
        assert!(printed.matches(value).count() >= 9, "{value:?}: {printed}");
        assert!(!printed.lines().any(|line| line == "hurt" || line == "a hurt"), "{value:?}: {printed}");
    }
    let Some(outcome) = run_action(&pack, "steps", &["First=194"]) else { return };
    assert_eq!((outcome.exit.exit_status, stdout(&outcome).as_str()), (Some(194), "first\n"));
    assert!(stderr(&outcome).contains("asks for a reboot"), "{}", stderr(&outcome));
    let Some(outcome) = run_action(&pack, "docker", &[]) else { return };
    assert_eq!((outcome.exit.exit_status, stdout(&outcome).as_str()), (Some(1), "shown\n"));
    assert!(stderr(&outcome).contains("supported on Amazon Linux only"), "{}", stderr(&outcome));
    for (action, given, words) in [
        ("docker", "action=remove", "one of"),
        ("numbers", "Duration=a[$(id)]", "must match"),
        ("words", "Minutes=1; id", "must match"),
        ("numbers", "Percent=1x", "must match"),
        ("steps", "First=7", "one of"),
        ("lists", "Names=1,2,3,4,5,6", "at most 5"),
        ("password", "DBPassword=x", "secret"),
        ("lines", "UserName=", "at least 1 character"),
    ] {
        let refused = execute(&pack, action, &[given], None).unwrap_err().to_string();
        assert!(refused.contains(words), "{action} {given}: {refused}");
    }
}

#[test]
fn one_document_is_a_pack_and_a_collection_is_one_pack_for_each_directory() {
    let temp = tempfile::tempdir().unwrap();
    let report = import(&documents().join("quotes.yaml"), &temp.path().join("one")).unwrap();
    assert_eq!((report.pack.as_str(), report.actions.len()), ("quotes", 1));
    assert!(temp.path().join("one/LICENSE").exists());
    let from = temp.path().join("from");
    let document = fs::read(documents().join("version_2.yaml")).unwrap();
    for path in ["Repo+One/a/1/Document.yaml", "Repo+One/b/2/Document.yaml", "two/x.yml", "two/deep/er/y.yml"] {
        fs::create_dir_all(from.join(path).parent().unwrap()).unwrap();
        fs::write(from.join(path), &document).unwrap();
    }
    let sources = import_all(&from, &temp.path().join("to"), None).unwrap().sources;
    let told: Vec<(String, Vec<String>)> = sources
        .iter()
        .map(|source| source.outcome.as_ref().unwrap())
        .map(|report| (report.pack.clone(), report.actions.iter().map(|action| action.name.clone()).collect()))
        .collect();
    let wanted = [("repo_one", vec!["a_1_Document", "b_2_Document"]), ("two", vec!["y", "x"])];
    assert_eq!(told, wanted.map(|(pack, actions)| (pack.to_owned(), actions.into_iter().map(str::to_owned).collect())));
}

#[test]
fn documents_in_two_notations_are_both_imported_and_nothing_vanishes() {
    let temp = tempfile::tempdir().unwrap();
    let from = temp.path().join("from");
    fs::create_dir(&from).unwrap();
    let yaml = fs::read_to_string(documents().join("version_2.yaml")).unwrap();
    let json = fs::read_to_string(documents().join("plain.json")).unwrap();
    let broken = "schemaVersion: '2.2'\nmainSteps: [\n";
    let template = "Resources:\n  Document:\n    Content: {schemaVersion: '2.2', mainSteps: []}\n";
    for (name, text) in [
        ("x.json", json.as_str()),
        ("x.yaml", &yaml),
        ("x.yml", &yaml),
        ("broken.json", broken),
        ("broken.yaml", &yaml),
        ("cut.yaml", "a:\n  schemaVersion: '2.2'\n  mainSteps: [\n"),
        ("stack.yaml", template),
        ("answer.json", r#"{"Name": "x", "Content": "{\"schemaVersion\": \"2.2\", \"mainSteps\": []}"}"#),
        ("new.yaml", "schemaVersion: '9.9'\nmainSteps: []\n"),
        ("none.yaml", "a: 1\n"),
    ] {
        fs::write(from.join(name), text).unwrap();
    }
    let report = import(&from, &temp.path().join("pack")).unwrap();
    let verdicts = verdicts(&report);
    assert_eq!(verdicts[&Verdict::CannotRun], ["broken_json"]);
    assert_eq!(verdicts[&Verdict::RunsUnchanged], ["x_json"]);
    assert_eq!(verdicts[&Verdict::MadeSafer], ["broken_yaml", "x_yaml", "x_yml"]);
    let renamed = report.actions.iter().find(|action| action.name == "x_json").unwrap();
    let found = renamed.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(found.contains("is called x_json in Bolt: an action of x.yaml would have the same name"), "{found}");
    let left: Vec<String> = report.left_out.iter().map(|left| format!("{}: {}", left.file, left.why)).collect();
    for words in [
        "cut.yaml: Bolt does not read it: ",
        "stack.yaml: it names schemaVersion, but not as a document does",
        "answer.json: an answer of `aws ssm get-document`",
        "new.yaml: a document of schema version 9.9, which Bolt does not know",
    ] {
        assert!(left.iter().any(|left| left.starts_with(words)), "{words}: {left:?}");
    }
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn hostile_documents_are_refused_and_nothing_is_written() {
    let good = fs::read_to_string(documents().join("version_2.yaml")).unwrap();
    let refused = |name: &str, bytes: &dyn Fn(&Path)| {
        let temp = tempfile::tempdir().unwrap();
        let (from, out) = (temp.path().join("from"), temp.path().join("out"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(from.join("good.yaml"), &good).unwrap();
        bytes(&from.join(name));
        let of_directory = import(&from, &out.join("pack")).unwrap_err().to_string();
        let of_document = import(&from.join(name), &out.join("pack")).unwrap_err().to_string();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "something was written");
        format!("{of_directory}\n{of_document}")
    };
    let big = |path: &Path| fs::File::create(path).unwrap().set_len(200 << 20).unwrap();
    let said = refused("big.json", &big);
    assert!(
        said.contains("it has 209715200 bytes, more than the 16777216") && said.contains("maximum of 262144"),
        "{said}"
    );
    let mut bomb = good.replace("parameters:", "a0: &a0 [x, x, x, x, x, x, x, x, x]\nparameters:");
    for level in 1..12 {
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    let said = refused("bomb.yaml", &|path| fs::write(path, &bomb).unwrap());
    assert_eq!(said.matches("too large, with its aliases written out").count(), 2, "{said}");
    let deep = format!("{{\"schemaVersion\": \"2.2\", \"mainSteps\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    let said = refused("deep.json", &|path| fs::write(path, &deep).unwrap());
    assert_eq!(said.matches("nests more than 127 deep").count(), 2, "{said}");
    for name in ["{{ x }}.yaml", "-rf.yaml", "a;b.yaml", "$(id).yaml"] {
        let said = refused(name, &|path| fs::write(path, &good).unwrap());
        assert_eq!(said.matches("has a name that cannot be used").count(), 2, "{name}: {said}");
    }
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("good.yaml"), &good).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", temp.path().join("x.json")).unwrap();
    let said = import(temp.path(), &temp.path().join("pack")).unwrap_err().to_string();
    assert!(said.contains("x.json of the source is refused: it is a link out of the source"), "{said}");
}

/// Documents with bytes changed: no panic, and each plan passes the check of agents.
#[test]
fn damaged_documents_are_refused_or_give_packs_that_build() {
    let tree = source::read(&documents(), Format::Ssm).unwrap();
    let mut random = fastrand::Rng::with_seed(14);
    let mut planned = 0;
    for (path, file) in tree.files.iter().filter(|(path, _)| Format::may_be_document(path)) {
        for _ in 0..12 {
            let mut bytes = file.bytes.clone();
            let at = random.usize(..=bytes.len());
            match random.u8(..5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, random.u8(..)),
                2 => bytes.splice(at..at, b"{{ Message }}'\"$(<<E".iter().copied()).for_each(drop),
                3 => bytes.splice(at..at, b": [{a: &b, c: *b}]\n".iter().copied()).for_each(drop),
                _ => bytes.extend_from_within(..at),
            }
            let mut damaged = source::SourceTree { name: "damaged".to_owned(), ..source::SourceTree::default() };
            damaged.files.insert(path.clone(), SourceFile { bytes, executable: false });
            planned += usize::from(Format::Ssm.convert(&damaged, None).and_then(plan::check).is_ok());
        }
    }
    assert!(planned > 100, "{planned}");
}

#[test]
fn a_secret_that_becomes_an_argument_is_named_with_its_step() {
    for (step, taker) in [
        ("runShellScript', inputs: {runCommand: ['mysql -p{{Password}} x']}", Some("mysql")),
        ("runShellScript', inputs: {runCommand: ['mysql -p$SSM_Password x']}", Some("mysql")),
        ("runShellScript', inputs: {runCommand: ['echo {{Password}} | sha1sum']}", None),
        ("runShellScript', inputs: {runCommand: '{{Password}}'}", None),
        ("configureDocker', inputs: {action: '{{Password}}'}", Some("its script")),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let text = format!(
            "schemaVersion: '2.2'\nparameters: {{Password: {{type: String}}}}\nmainSteps:\n- {{name: dump, action: 'aws:{step}}}\n"
        );
        fs::write(temp.path().join("a.yaml"), text).unwrap();
        let report = import(&temp.path().join("a.yaml"), &temp.path().join("pack")).unwrap();
        let found = report.actions[0].findings.iter().map(ToString::to_string).collect::<String>();
        assert_eq!(found.contains("[secret_argument]"), taker.is_some(), "{step}: {found}");
        let words = taker.map_or(String::new(), |taker| {
            format!("Password is secret, and \"dump\" gives it to {taker} as an argument")
        });
        assert!(found.contains(&words), "{step}: {found}");
    }
}

#[test]
fn a_step_that_runs_what_lies_in_a_directory_of_the_caller_is_disabled() {
    for (line, values, disabled) in
        [("./run.sh", json!(null), true), ("./run.sh", json!(["/opt", "/srv"]), false), ("ls", json!(null), false)]
    {
        let temp = tempfile::tempdir().unwrap();
        let document = json!({
            "schemaVersion": "2.2",
            "parameters": {"x": {"type": "String", "allowedValues": values}},
            "mainSteps": [{
                "action": "aws:runShellScript",
                "name": "s",
                "inputs": {"runCommand": [line], "workingDirectory": "{{ x }}"},
            }],
        });
        fs::write(temp.path().join("s.json"), document.to_string()).unwrap();
        let report = import(&temp.path().join("s.json"), &temp.path().join("pack")).unwrap();
        assert_eq!(report.actions[0].is_disabled(), disabled, "{line} {values}: {:?}", report.actions[0].findings);
    }
}

#[test]
fn a_pattern_that_takes_any_text_is_no_limit_of_its_author() {
    for (pattern, code) in [("[a-z;]*$", "value_limited"), ("^[a-z;]*$", "value_as_code")] {
        let temp = tempfile::tempdir().unwrap();
        let document = json!({
            "schemaVersion": "2.2",
            "parameters": {"x": {"type": "String", "allowedPattern": pattern, "default": "a"}},
            "mainSteps": [{"action": "aws:runShellScript", "name": "s", "inputs": {"runCommand": ["eval \"ls {{ x }}\""]}}],
        });
        fs::write(temp.path().join("s.json"), document.to_string()).unwrap();
        let imported = format!("{:?}", import(&temp.path().join("s.json"), &temp.path().join("pack")));
        assert!(imported.contains(&format!("code: \"{code}\"")), "{pattern}: {imported}");
    }
}

#[test]
fn a_parameter_keeps_its_value_beside_what_the_agent_sets() {
    let temp = tempfile::tempdir().unwrap();
    let document = json!({
        "schemaVersion": "2.2",
        "parameters": {"COMMAND_ID": {"type": "String"}},
        "mainSteps": [{"action": "aws:runShellScript", "name": "s", "inputs": {"runCommand": ["echo {{ COMMAND_ID }}"]}}],
    });
    fs::write(temp.path().join("s.json"), document.to_string()).unwrap();
    import(&temp.path().join("s.json"), &temp.path().join("pack")).unwrap();
    let Some(outcome) = run_action(&temp.path().join("pack"), "s", &["COMMAND_ID=mine"]) else { return };
    assert_eq!(stdout(&outcome), "mine\n", "{}", stderr(&outcome));
}
