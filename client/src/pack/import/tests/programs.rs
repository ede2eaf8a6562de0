//! Programs in Python and Ruby that run what a caller gives: disabled in every format where it is the whole of it, and
//! named where it is a part.

use serde_json::json;

use super::stackstorm::{Pack, script};
use super::*;

/// Imports one source, and returns its findings and the text of its only action.
fn imported(files: &[(&str, &str)]) -> (String, String) {
    let temp = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = temp.path().join("from").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let report = import(&temp.path().join("from"), &temp.path().join("pack")).unwrap();
    let action = &report.actions[0];
    let findings: Vec<String> = action.findings.iter().map(ToString::to_string).collect();
    let file = temp.path().join("pack/actions").join(format!("{}.yaml", action.name));
    (findings.join("; "), fs::read_to_string(file).unwrap())
}

fn task(program: &str, text: &str) -> (String, String) {
    let metadata = r#"{"parameters": {"path": {"type": "String"}}}"#;
    imported(&[
        ("metadata.json", r#"{"name": "a-small", "version": "1.0.0"}"#),
        ("tasks/one.json", metadata),
        (&format!("tasks/{program}"), text),
    ])
}

fn document(text: &str) -> (String, String) {
    let lines: Vec<&str> = text.lines().collect();
    let document = json!({
        "schemaVersion": "2.2",
        "parameters": {"path": {"type": "String"}},
        "mainSteps": [{"action": "aws:runShellScript", "name": "s", "inputs": {"runCommand": lines}}],
    });
    imported(&[("one.json", &document.to_string())])
}

fn job(text: &str, rest: &str) -> (String, String) {
    let text = text.replace('\n', "\n        ");
    let job = format!(
        "- name: one\n  options: [{{name: path}}]\n  sequence:\n    commands:\n    - script: |\n        {text}\n{rest}"
    );
    imported(&[("jobs.yaml", &job)])
}

#[test]
fn a_program_that_runs_a_whole_value_is_disabled_in_every_format() {
    let ruby = "#!/usr/bin/env ruby\n";
    let python = "#!/usr/bin/env python3\nimport os, shlex, subprocess, sys\n";
    for (findings, action) in [
        task("one.rb", &format!("{ruby}params = JSON.parse(STDIN.read)\nsystem(params['path'])\n")),
        task("one.rb", &format!("{ruby}out, _ = Open3.capture2e(ENV['PT_path'])\n")),
        task("one.rb", &format!("{ruby}path = ENV['PT_path']\nexec path\n")),
        task("one.py", &format!("{python}subprocess.run(shlex.split(os.environ['PT_path']))\n")),
        document(&format!("{python}os.system(os.environ['SSM_path'])\n")),
        document(&format!("{python}subprocess.run([os.environ['SSM_path'], '-x'])\n")),
        document(&format!("{ruby}system(ENV['SSM_path'])\n")),
        job(&format!("{python}os.system(os.environ['RD_OPTION_PATH'])"), ""),
        job(&format!("{python}subprocess.run([sys.argv[1]])"), "      args: ${option.path}\n"),
        job("system(ARGV[0])", "      scriptInterpreter: ruby\n      args: ${option.path}\n"),
    ] {
        assert!(findings.contains("with path; the action is disabled"), "{action}: {findings}");
        assert!(action.contains("\nenabled: false\n"), "{action}: {findings}");
    }
    let of_arguments = Pack::new(&[
        ("actions/a.yaml", &script("a", "  path: {type: string, position: 0}\n")),
        ("actions/a.sh", "#!/usr/bin/env python3\nimport os, sys\nos.system(sys.argv[1])\n"),
        (
            "actions/b.yaml",
            "name: b\nrunner_type: python-script\nentry_point: b.py\nparameters: {cmd: {type: string}}\n",
        ),
        ("actions/b.py", "import subprocess\nclass A:\n    def run(self, cmd):\n        subprocess.run(cmd.split())\n"),
    ]);
    let report = of_arguments.import().unwrap();
    for name in ["a", "b"] {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        assert!(action.findings.iter().any(|finding| finding.code == "any_command"), "{action:?}");
    }
}

#[test]
fn a_program_that_runs_text_with_a_value_in_it_is_named() {
    let ruby = "#!/usr/bin/env ruby\n";
    let python = "#!/usr/bin/env python3\nimport os, subprocess\npath = os.environ['PT_path']\n";
    for ((findings, action), line) in [
        (task("one.rb", &format!("{ruby}puts `ls #{{ENV['PT_path']}}`\n")), "tasks/one.rb:2"),
        (task("one.rb", &format!("{ruby}\nsystem \"ls #{{path}}\"\n")), "tasks/one.rb:3"),
        (task("one.py", &format!("{python}subprocess.run(['sh', '-c', 'ls ' + path])\n")), "tasks/one.py:4"),
        (task("one.py", &format!("{python}subprocess.run('ls ' + path, shell = True)\n")), "tasks/one.py:4"),
        (document(&format!("{ruby}system(\"ls #{{ENV['SSM_path']}}\")\n")), "s:2"),
    ] {
        let words = format!("may become code of a shell at {line}");
        assert!(findings.contains(&words), "{findings}");
        assert!(action.contains("\nenabled: true\n"), "{action}");
    }
    for (program, text) in [
        ("one.rb", format!("{ruby}system('ls', ENV['PT_path'])\nputs `ls`\n")),
        ("one.py", format!("{python}subprocess.run(['ls', path])\n")),
    ] {
        let (findings, action) = task(program, &text);
        assert!(!findings.contains("shell_code") && action.contains("\nenabled: true\n"), "{findings}");
    }
}

#[test]
fn a_secret_that_a_program_gives_to_another_one_is_named() {
    let metadata = r#"{"input_method": "stdin", "parameters": {"password": {"type": "Sensitive[String]"}}}"#;
    let ruby = "#!/usr/bin/env ruby\nsystem(\"mysql -p#{params['password']}\")\n";
    let head = ("metadata.json", r#"{"name": "a-small", "version": "1.0.0"}"#);
    let (findings, _) = imported(&[head, ("tasks/one.json", metadata), ("tasks/one.rb", ruby)]);
    assert!(findings.contains("password is secret, and \"tasks/one.rb\" gives it to a program"), "{findings}");
    let options =
        "- name: one\n  options: [{name: pw, secure: true}]\n  sequence:\n    commands:\n    - script: |\n        ";
    let script = "#!/usr/bin/env python3\n        subprocess.run(['mysql', '-p' + os.environ['RD_OPTION_PW']])\n";
    let (findings, _) = imported(&[("jobs.yaml", &format!("{options}{script}"))]);
    assert!(findings.contains("pw is secret, and \"step 1\" gives it to a program as an argument"), "{findings}");
    let pack = Pack::new(&[
        (
            "actions/a.yaml",
            "name: a\nrunner_type: python-script\nentry_point: a.py\nparameters: {pw: {secret: true}}\n",
        ),
        ("actions/a.py", "class A:\n    def run(self, pw):\n        subprocess.run(['x', pw, self.config['token']])\n"),
        (
            "actions/b.yaml",
            "name: b\nrunner_type: python-script\nentry_point: b.py\nparameters: {pw: {secret: true}}\n",
        ),
        ("actions/b.py", "class A:\n    def run(self, pw):\n        subprocess.run(['x'], input=pw)\n"),
    ]);
    let report = pack.import().unwrap();
    let count = |name: &str| {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        action.findings.iter().filter(|finding| finding.code == "secret_argument").count()
    };
    assert_eq!((count("a"), count("b")), (2, 0));
}

#[test]
fn a_secret_inside_of_a_value_is_one_or_is_named() {
    let head = ("metadata.json", r#"{"name": "a-small", "version": "1.0.0"}"#);
    let metadata = r#"{"parameters": {"login": {"type": "Struct[{user => String, password => String}]"}}}"#;
    let (findings, action) = imported(&[head, ("tasks/one.json", metadata), ("tasks/one.sh", "#!/bin/sh\n")]);
    assert!(findings.contains("login holds password, a secret by its name"), "{findings}");
    assert!(action.contains("secret: true"), "{action}");
    let parameters = "  login: {type: array, items: {type: object, properties: {db_pass: {type: string}}}}\n";
    let pack = Pack::new(&[("actions/a.yaml", &script("a", parameters)), ("actions/a.sh", "#!/bin/sh\ntrue\n")]);
    let report = pack.import().unwrap();
    let action = report.actions.iter().find(|action| action.name == "a").unwrap();
    assert!(action.findings.iter().any(|one| one.message.contains("db_pass is not declared a secret")), "{action:?}");
}

#[test]
fn a_value_in_the_first_line_of_a_script_is_refused() {
    for line in ["#!/usr/bin/env {{ path }}", "#!/bin/bash {{ path }}"] {
        let document = json!({
            "schemaVersion": "2.2",
            "parameters": {"path": {"type": "String"}},
            "mainSteps": [{"action": "aws:runShellScript", "name": "s", "inputs": {"runCommand": [line, "echo"]}}],
        });
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("one.json"), document.to_string()).unwrap();
        let said = import(&temp.path().join("one.json"), &temp.path().join("pack")).unwrap_err().to_string();
        assert!(said.contains("callers would choose the program of its first line, or its options"), "{said}");
    }
}
