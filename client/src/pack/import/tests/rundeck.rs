//! Jobs of Rundeck: small ones in the shapes that published ones have, `tests/fixtures/rundeck`.

use serde_json::{Value, json};

use super::executed::{execute, run_action, said, stderr, stdout};
use super::*;
use crate::pack::import::source::SourceFile;

mod interpreters;
mod notes;

fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/rundeck/shapes")
}

fn imported() -> (tempfile::TempDir, PathBuf, Report) {
    let temp = tempfile::tempdir().unwrap();
    let pack = temp.path().join("pack");
    let report = import(&jobs(), &pack).unwrap();
    (temp, pack, report)
}

#[test]
fn every_job_has_a_verdict_and_the_pack_builds() {
    let (_temp, pack, report) = imported();
    let verdicts = verdicts(&report);
    let cannot = [
        "Restart",
        "Unknown_context",
        "Unknown_option",
        "Python_text",
        "Other_job",
        "A_plugin",
        "An_address",
        "A_missing_file",
        "A_file_option",
        "PowerShell_command",
        "PowerShell_script",
        "An_invocation",
    ];
    assert_eq!(verdicts[&Verdict::CannotRun], cannot);
    assert_eq!(
        verdicts[&Verdict::RunsUnchanged],
        ["Going_on", "Stopping", "Handled_and_failed", "Going_on_handled", "Going_on_not_handled"]
    );
    assert_eq!(
        verdicts[&Verdict::MadeSafer],
        [
            "From_XML",
            "Echo_text",
            "Arguments",
            "Handled",
            "Files_and_invocations",
            "Without_values",
            "One_argument",
            "Notation",
            "Numbers",
            "Secrets",
            "Any_command",
            "Any_text",
            "Any_script"
        ]
    );
    let linted = lint(&pack).unwrap();
    assert!(linted.builds(), "{:?}", linted.findings);
    assert!(pack.join("LICENSE").exists());
}

#[test]
fn reasons_name_job_and_remedy() {
    let (_temp, _, report) = imported();
    let why = |name: &str| {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        action.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (name, words) in [
        ("Unknown_context", "it uses globals.url, which an instance does not know"),
        ("Unknown_option", "it uses the option none, which the job has not"),
        ("Any_command", "callers would choose any program with command; the action is disabled"),
        ("Any_text", "callers would give any command with command; the action is disabled"),
        ("Python_text", "values would be put into the text of a python3 program"),
        ("Other_job", "step 1 runs another job"),
        ("A_plugin", "step 1 is the plugin com.example.step"),
        ("An_address", "step 1 runs a script of an address"),
        ("A_missing_file", "step 1 runs /opt/rundeck/gone.sh of Rundeck's server"),
        ("A_file_option", "data is a file that callers upload"),
        ("PowerShell_command", "step 1 is PowerShell, which Bolt does not run"),
        ("PowerShell_script", "step 1 is PowerShell, which Bolt does not run"),
        ("An_invocation", "does not take the script as its last argument"),
        ("Notation", "\"step 1\" has places that Rundeck leaves as they are"),
        ("Notation", "\"step 2\" has places that Rundeck leaves as they are"),
        ("From_XML", "runs on the nodes \"tags: www\" in Rundeck"),
        ("From_XML", "its schedule is not imported"),
        ("Restart", "the strategy parallel is not imported"),
        ("Numbers", "arithmetic would run the value of count as code; it may be a number now"),
        ("Secrets", "hidden is secure and hidden from scripts in Rundeck"),
        ("Secrets", "password is in the environment of the scripts' processes (RD_OPTION_PASSWORD), which root"),
        ("Secrets", "hidden is in the environment of the scripts' processes (RD_OPTION_HIDDEN), which root"),
        ("Secrets", "the default of hidden is in Rundeck's key storage"),
        ("Echo_text", "values of callers were put into the text of \"a script\""),
    ] {
        assert!(why(name).contains(words), "{name}: {}", why(name));
    }
    assert!(!why("Numbers").contains("secret_in_environment"), "{}", why("Numbers"));
}

#[test]
fn imported_jobs_do_what_rundeck_does() {
    let (_temp, pack, _) = imported();
    let all: Vec<Value> =
        packs_schema::base::document::yaml::parse(&fs::read_to_string(jobs().join("jobs.yaml")).unwrap()).unwrap();
    let directory = jobs();
    let mut executed = 0;
    for (name, given, options) in [
        ("Echo text", vec![], json!({})),
        ("Echo text", vec!["text=x.y/z"], json!({"text": "x.y/z"})),
        ("Echo text", vec!["other_name=c"], json!({"other-name": "c"})),
        ("Arguments", vec![], json!({})),
        ("Arguments", vec!["text=$(id) 'q", "more=z"], json!({"text": "word", "more": ["z"]})),
        ("Arguments", vec!["text=one", "more=z,x"], json!({"text": "one", "more": ["z", "x"]})),
        ("Going on", vec![], json!({})),
        ("Stopping", vec![], json!({})),
        ("Handled", vec![], json!({})),
        ("Handled", vec!["status=1"], json!({"status": "1"})),
        ("Handled and failed", vec![], json!({})),
        ("Going on handled", vec![], json!({})),
        ("Going on not handled", vec![], json!({})),
        ("Files and invocations", vec![], json!({})),
        ("Files and invocations", vec!["text=x  y"], json!({"text": "x  y"})),
        ("Without values", vec![], json!({})),
        ("Without values", vec!["first=a", "second=b c"], json!({"first": "a", "second": "b c"})),
        ("One argument", vec![], json!({})),
        ("One argument", vec!["args=-x  y"], json!({"args": "-x  y"})),
        ("Notation", vec![], json!({})),
        ("Numbers", vec![], json!({})),
        ("Numbers", vec!["count=40", "level=2"], json!({"count": "40", "level": "2"})),
    ] {
        let Some(outcome) = run_action(&pack, &name.replace(' ', "_"), &given) else { return };
        let job = all.iter().find(|job| job["name"] == name).unwrap();
        let asked = json!({"job": job, "options": options, "directory": directory, "meant": name == "Notation"});
        let wanted = said(&directory.parent().unwrap().join("reference.py"), &asked, None);
        // Text that a shell would read there is printed here.
        let text = wanted["stdout"]
            .as_str()
            .unwrap()
            .replace("word", if given.contains(&"text=$(id) 'q") { "$(id) 'q" } else { "word" });
        let text = if given.contains(&"text=$(id) 'q") { text.replace("two $(id) 'qs", "two words") } else { text };
        let told = format!("{name} {given:?}: {outcome:?} {}\nreference: {wanted}", stderr(&outcome));
        assert_eq!(stdout(&outcome), text, "{told}");
        assert_eq!(outcome.exit.exit_status.map(i64::from), wanted["code"].as_i64(), "{told}");
        executed += 1;
    }
    assert!(executed > 21, "{executed}");
    let Some(outcome) = run_action(&pack, "From_XML", &["service=ssh", "note=c & d"]) else { return };
    assert_eq!(stdout(&outcome), "restart ssh\ndone\nc & d examples\nhandled c & d\nc & d\n", "{}", stderr(&outcome));
    assert_eq!(outcome.exit.exit_status, Some(0));
}

#[test]
fn options_are_checked_and_never_text_of_a_script() {
    let (_temp, pack, _) = imported();
    for value in ["$(echo hurt)", "'; echo hurt; '", "\"; echo hurt #", "`echo hurt`", "a\necho hurt"] {
        let Some(outcome) = run_action(&pack, "Echo_text", &[&format!("text={value}")]) else { return };
        assert_eq!(outcome.exit.exit_status, Some(0), "{value}: {}", stderr(&outcome));
        let printed = stdout(&outcome);
        assert_eq!(printed.matches(value).count(), 6, "{value:?}: {printed}");
        assert!(!printed.lines().any(|line| line == "hurt"), "{value:?}: {printed}");
    }
    for (action, given, words) in [
        ("Numbers", "count=a[$(id)]", "must match"),
        ("Numbers", "level=123", "must match"),
        ("Handled", "status=2", "one of"),
        ("Arguments", "more=w", "one of"),
        ("Secrets", "password=x", "secret"),
        ("From_XML", "note=A", "must match"),
    ] {
        let refused = execute(&pack, action, &[given], None).unwrap_err().to_string();
        assert!(refused.contains(words), "{action} {given}: {refused}");
    }
}

#[test]
fn hostile_jobs_are_refused_and_nothing_is_written() {
    let good = fs::read_to_string(jobs().join("jobs.xml")).unwrap();
    let mut bomb =
        String::from("- name: a\n  sequence: {commands: [{exec: id}]}\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        bomb += &format!("  a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
    }
    for (name, text, words) in [
        ("a.yaml", bomb, "too large, with its aliases written out"),
        ("a.xml", format!("<!DOCTYPE x [<!ENTITY a 'b'>]>{good}"), "it has a document type"),
        ("a.xml", good.replace("From XML", "&x;"), "it uses the entity \"x\" of its own"),
        ("a.xml", good.replace("<group>", &"<group>".repeat(100)), "nest more than 64 deep"),
        ("a.xml", good.replace("From XML", "../x"), "has a name that cannot be used: action name \"../x\""),
        ("a.xml", good.replace("From XML", "{{ x }}"), "has a name that cannot be used"),
        ("a.xml", good.replace("From XML", "${option.x}"), "has a name that cannot be used"),
        (
            "a.yaml",
            format!("- name: a\n  sequence: {{commands: {}x{}}}\n", "[".repeat(80), "]".repeat(80)),
            "nests more than 64 deep",
        ),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let (from, out) = (temp.path().join("from"), temp.path().join("out"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(from.join("good.xml"), &good).unwrap();
        fs::write(from.join(name), text).unwrap();
        let error = import(&from, &out.join("pack")).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let error = format!("{error}: {cause}");
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "something was written");
    }
    let temp = tempfile::tempdir().unwrap();
    fs::File::create(temp.path().join("big.xml")).unwrap().set_len(200 << 20).unwrap();
    let error = import(&temp.path().join("big.xml"), &temp.path().join("pack")).unwrap_err().to_string();
    assert!(error.contains("it has 209715200 bytes, more than the maximum of 262144"), "{error}");
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("good.xml"), &good).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", temp.path().join("x.yaml")).unwrap();
    let error = import(temp.path(), &temp.path().join("pack")).unwrap_err().to_string();
    assert!(error.contains("x.yaml of the source is refused: it is a link out of the source"), "{error}");
}

/// Jobs with bytes changed: no panic, and each plan passes the check of agents.
#[test]
fn damaged_jobs_are_refused_or_give_packs_that_build() {
    let tree = source::read(&jobs(), Format::Rundeck).unwrap();
    let mut random = fastrand::Rng::with_seed(15);
    let mut planned = 0;
    for (path, file) in tree.files.iter().filter(|(path, _)| path.starts_with("jobs")) {
        for _ in 0..60 {
            let mut bytes = file.bytes.clone();
            let at = random.usize(..=bytes.len());
            match random.u8(..5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, random.u8(..)),
                2 => bytes.splice(at..at, b"${option.text}'\"$(<<E@option.text@".iter().copied()).for_each(drop),
                3 => bytes.splice(at..at, b"<exec>&lt;</exec>".iter().copied()).for_each(drop),
                _ => bytes.extend_from_within(..at),
            }
            let mut damaged = source::SourceTree { name: "damaged".to_owned(), ..source::SourceTree::default() };
            damaged.files.insert(path.clone(), SourceFile { bytes, executable: false });
            planned += usize::from(Format::Rundeck.convert(&damaged, None).and_then(plan::check).is_ok());
        }
    }
    assert!(planned > 20, "{planned}");
}
