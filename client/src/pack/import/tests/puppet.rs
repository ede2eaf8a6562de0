//! Imports of a small Puppet module with tasks in the shapes that published ones have: `tests/fixtures/puppet`.

mod executed;
mod hostile;
mod mutated;
mod parameters;

use std::collections::BTreeSet;

use packs_schema::base::finding::Severity;

use super::*;

/// The directory of modules.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/puppet/modules")
}

fn imported() -> (tempfile::TempDir, Report) {
    let temp = tempfile::tempdir().unwrap();
    let report = import(&modules().join("shapes"), &temp.path().join("pack")).unwrap();
    (temp, report)
}

fn findings(report: &Report, name: &str) -> String {
    let action = report.actions.iter().find(|action| action.name == name).unwrap_or_else(|| panic!("no {name}"));
    action.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_task_has_a_verdict_and_the_pack_builds() {
    let (temp, report) = imported();
    let verdicts = verdicts(&report);
    assert_eq!(
        verdicts[&Verdict::CannotRun],
        [
            "broken",
            "feature",
            "manifest",
            "missing_file",
            "missing_program",
            "old_python",
            "other_module",
            "remote",
            "windows",
        ]
    );
    assert_eq!(verdicts[&Verdict::MadeSafer], ["command", "kinds"]);
    assert_eq!(verdicts[&Verdict::RarelyUseful], ["client", "client_python"]);
    let linted = lint(&temp.path().join("pack")).unwrap();
    assert!(linted.builds(), "{:?}", linted.findings);
    let warnings = linted.findings.iter().filter(|finding| finding.severity == Severity::Warning);
    let codes: BTreeSet<&str> = warnings.map(|finding| finding.code.as_ref()).collect();
    assert_eq!(codes, BTreeSet::from(["no_description"]), "{:?}", linted.findings);
    assert_eq!((report.pack.as_str(), report.version.as_str()), ("shapes", "0.4.0"));
}

#[test]
fn findings_name_file_line_and_remedy() {
    let (_temp, report) = imported();
    for (name, words) in [
        ("windows", "windows.ps1 is PowerShell, which Bolt does not run [powershell]"),
        ("remote", "through a proxy"),
        (
            "client",
            "it is a client of a service elsewhere (Net::HTTP); run it once, not on every instance [remote_client]",
        ),
        ("client_python", "it is a client of a service elsewhere (boto3)"),
        ("manifest", "manifest.pp is a manifest"),
        ("feature", "needs the feature cisco_ios"),
        ("missing_file", "shapes/files/nowhere.sh is not in the module"),
        ("other_module", "put the module faraway beside this one"),
        ("missing_program", "no program tasks/missing_program.*"),
        ("old_python", "tasks/old_python.py:2: Python 3 cannot read it"),
        ("broken", "tasks/broken.json:2: expected value"),
        ("env", "tasks/env.json:3: input_method is there twice; the last one counts"),
        ("init", "windows.ps1 is PowerShell"),
        ("linux", "Puppet's tools do not list it"),
        ("no_shebang", "has no shebang; #!/bin/bash was added"),
        ("crlf", "has LF line ends now"),
        ("command", "callers would give any command with command; the action is disabled"),
        ("command", "may become code of a shell at tasks/command.sh:2"),
        ("background", "background.sh:2: starts a process that stays"),
        ("secret_env", "token is in the environment"),
        ("secret_argument", "token is secret, and \"tasks/secret_argument.sh\" gives it to expr as an argument"),
        ("two_programs", "two_programs.ps1 is PowerShell"),
        ("bare", "it declares no parameters; those that it reads are texts now (first, second)"),
        ("bare_python", "it declares no parameters, so callers give none"),
        ("kinds", "unknown is checked less than by Puppet: the schema lacks the type Foo::Bar"),
        ("kinds", "looking is checked less than by Puppet: the schema lacks the pattern /a(?!b)/"),
        ("kinds", "the type \"Optional[String\" of broken is not understood"),
        ("kinds", "the pattern of timeout has ^ or $"),
        ("wrong_default", "the default of wrong does not fit its own schema"),
    ] {
        assert!(findings(&report, name).contains(words), "{name}: {words:?} is not in {}", findings(&report, name));
    }
    assert!(!findings(&report, "secrets").contains("secret_in_environment"));
    assert!(!findings(&report, "secret_env").contains("secret_argument"));
}

#[test]
fn only_what_tasks_name_is_part_of_the_pack() {
    let (temp, report) = imported();
    let pack = temp.path().join("pack");
    for file in [
        "LICENSE",
        "actions/bolt_puppet/run_task.py",
        "tasks/init/shapes/tasks/linux.sh",
        "tasks/files/shapes/files/more/two.txt",
        "tasks/library/shapes/lib/shared/numbers.py",
        "tasks/files/shapes_helper/files/task_helper.sh",
        "tasks/python_helper/python_task_helper/files/task_helper.py",
        "tasks/ruby_helper/ruby_task_helper/files/task_helper.rb",
    ] {
        assert!(pack.join(file).exists(), "{file}");
    }
    for file in [
        "tasks/init/shapes/tasks/windows.ps1",
        "tasks/README.md",
        "tasks/files/shapes/files/unused.txt",
        "tasks/files/shapes_helper/files/secret.txt",
        "tasks/old_python",
        "manifests",
        "plans",
        "spec",
    ] {
        assert!(!pack.join(file).exists(), "{file}");
    }
    let left: Vec<&str> = report.left_out.iter().map(|left| left.file.as_str()).collect();
    for file in
        ["manifests", "plans", "spec", "README.md", "files", "tasks/README.md", "tasks/Upper.sh", "tasks/lib/helper.sh"]
    {
        assert!(left.contains(&file), "{file} is not in {left:?}");
    }
}

#[test]
fn a_module_beside_is_read_only_if_it_says_that_it_is_one() {
    let temp = tempfile::tempdir().unwrap();
    copy(&modules(), temp.path());
    fs::rename(temp.path().join("acme-shapes_helper"), temp.path().join("shapes_helper")).unwrap();
    let task = |out: &str| {
        let report = import(&temp.path().join("shapes"), &temp.path().join(out)).unwrap();
        findings(&report, "files")
    };
    assert!(!task("one").contains("file_missing"));
    fs::write(temp.path().join("shapes_helper/metadata.json"), "{\"name\": \"acme-other\"}").unwrap();
    assert!(task("two").contains("put the module shapes_helper beside this one"));
    fs::remove_file(temp.path().join("shapes_helper/metadata.json")).unwrap();
    assert!(task("three").contains("file_missing"));
}

#[test]
fn a_directory_of_modules_is_imported_whole() {
    let temp = tempfile::tempdir().unwrap();
    let to = temp.path().join("to");
    let sources = import_all(&modules(), &to, None).unwrap().sources;
    let names: Vec<&Path> = sources.iter().map(|source| source.directory.as_path()).collect();
    assert_eq!(names, [Path::new("shapes")], "a module without tasks is no source");
    assert!(to.join("shapes/pack.yaml").exists());
}

#[test]
fn a_module_is_recognised_by_its_tasks() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    for (name, files, wanted) in [
        ("acme-described", vec!["metadata.json", "tasks/a.sh"], true),
        ("project", vec!["bolt-project.yaml", "tasks/a.sh"], true),
        ("puppetlabs-plain", vec!["tasks/a.json", "tasks/a.sh"], true),
        ("role", vec!["tasks/main.yml", "meta/main.yml"], false),
    ] {
        for file in files {
            let path = at(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = match file {
                "metadata.json" => format!("{{\"name\": \"{name}\", \"version\": \"1.0.0\"}}"),
                "bolt-project.yaml" => "name: project\n".to_owned(),
                "tasks/a.json" => "{}".to_owned(),
                _ => "#!/bin/sh\n".to_owned(),
            };
            fs::write(path, text).unwrap();
        }
        let outcome = import(&at(name), &at(&format!("{name}.out")));
        assert_eq!(outcome.is_ok(), wanted, "{name}: {outcome:?}");
        if let Ok(report) = outcome {
            assert!(["described", "project", "plain"].contains(&report.pack.as_str()), "{}", report.pack);
        }
    }
}
