//! Findings about options: secrets that others could read, quotes in defaults, and values that programs take for options.

use packs_schema::base::document::{from_value, yaml};
use packs_schema::pack::param::Schema;
use packs_schema::pack::param::check::check;
use serde_json::Value;

use super::interpreters::{findings, imported};
use super::*;

#[test]
fn a_secret_that_becomes_an_argument_is_named_with_its_step() {
    let job = |step: &str| {
        format!(
            "- name: x\n  options: [{{name: pass, secure: true}}, {{name: b}}]\n  sequence: {{commands: [{{{step}}}]}}\n"
        )
    };
    for (step, taker) in [
        ("exec: 'mysql -p${option.pass}', description: dump", Some("\"dump\" gives it to mysql")),
        ("script: 'curl -u x:@option.pass@ y'", Some("\"step 1\" gives it to curl")),
        ("script: 'P=$RD_OPTION_PASS; curl -u x:$P y'", Some("\"step 1\" gives it to curl")),
        ("script: 'cat', args: '-p ${option.pass}'", Some("\"step 1\" gives it to its script")),
        ("script: '@option.b@', args: '-p ${option.pass}'", Some("\"step 1\" gives it to its script")),
        ("scriptfile: tool.sh, args: '${option.pass}'", Some("\"step 1\" gives it to its script")),
        ("scriptfile: tool.sh", Some("\"step 1\" gives it to curl")),
        ("exec: 'true', errorhandler: {exec: 'x ${option.pass}'}", Some("\"step 1\" gives it to x")),
        ("script: 'echo @option.pass@ | sha1sum; curl ${option.b}'", None),
        ("script: 'print', scriptInterpreter: python3", None),
    ] {
        let (_temp, report) = imported(&job(step));
        let found = findings(&report);
        assert_eq!(found.contains("[secret_argument]"), taker.is_some(), "{step}: {found}");
        assert!(
            found.contains(&taker.map_or(String::new(), |taker| format!("pass is secret, and {taker}"))),
            "{found}"
        );
    }
}

#[test]
fn quotes_in_a_default_are_named() {
    for (value, named) in [("'\"b c\"'", true), ("\"'a'\"", true), ("it''s", true), ("plain", false)] {
        let text = format!(
            "- name: x\n  options: [{{name: a, value: {value}}}]\n  sequence: {{commands: [{{exec: echo}}]}}\n"
        );
        let (_temp, report) = imported(&text);
        let found = findings(&report);
        assert_eq!(found.contains("the default of a has quotes in it"), named, "{value}: {found}");
    }
}

#[test]
fn files_and_jobs_without_steps_are_listed() {
    let temp = tempfile::tempdir().unwrap();
    let job = "- {name: a, sequence: {commands: [{exec: echo}]}}\n";
    for (name, text) in [
        ("good.yaml", job.to_owned()),
        ("some.yaml", format!("{job}- {{name: b}}\n- {{name: c}}\n")),
        ("playbook.yaml", "- name: no sequence of commands\n".to_owned()),
        ("map.yaml", "a:\n- sequence\n- commands\n".to_owned()),
        ("other.xml", "<joblist><jobs/></joblist>".to_owned()),
        ("none.yaml", "a: 1\n".to_owned()),
    ] {
        fs::create_dir_all(temp.path().join("from")).unwrap();
        fs::write(temp.path().join("from").join(name), text).unwrap();
    }
    let report = import(&temp.path().join("from"), &temp.path().join("pack")).unwrap();
    let left: Vec<String> = report.left_out.iter().map(|left| format!("{}: {}", left.file, left.why)).collect();
    let none = "it has no job with steps (sequence)";
    let wanted = [
        format!("map.yaml: {none}"),
        format!("other.xml: {none}"),
        format!("playbook.yaml: {none}"),
        "some.yaml: 2 of its 3 jobs have no steps (sequence)".to_owned(),
    ];
    assert_eq!(left, wanted);
}

#[test]
fn an_element_that_is_there_twice_is_not_chosen_from() {
    let job = |head: &str, step: &str| {
        format!("<joblist><job><name>x</name>{head}<sequence><command>{step}</command></sequence></job></joblist>")
    };
    for (text, named) in [
        (job("", "<exec>a</exec><exec>b</exec>"), "<command> has <exec> more than once"),
        (job("<name>y</name>", "<exec>a</exec>"), "<job> has <name> more than once"),
        (job("<context><options/><options/></context>", "<exec>a</exec>"), "<context> has <options> more than once"),
        (
            job("", "<exec>a</exec><errorhandler><exec>a</exec><exec>b</exec></errorhandler>"),
            "<errorhandler> has <exec> more than once",
        ),
        (job("", "<exec>a</exec>") + "<joblist/>", "more than one element"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("from")).unwrap();
        fs::write(temp.path().join("from/job.xml"), &text).unwrap();
        let Err(ImportError::NothingRuns { report, .. }) = import(&temp.path().join("from"), &temp.path().join("pack"))
        else {
            panic!("{text}");
        };
        let found = findings(&report);
        assert!(found.contains("[unreadable]") && found.contains(named), "{text}: {found}");
    }
}

#[test]
fn scripts_in_other_languages_that_run_text_are_named() {
    for (step, named) in [
        ("script: \"#!/usr/bin/perl\\nsystem(\\\"ls $ENV{RD_OPTION_X}\\\");\"", true),
        ("script: \"#!/usr/bin/env python3\\nimport os\\nos.system('ls ' + os.environ['RD_OPTION_X'])\"", true),
        ("{script: \"import os\\nos.system('ls ' + x)\", scriptInterpreter: python3}", true),
        ("script: \"#!/usr/bin/env python3\\nimport os\\nos.system('sync')\"", false),
        ("exec: ls", false),
    ] {
        let (_temp, report) =
            imported(&format!("- name: j\n  options: [{{name: x}}]\n  sequence:\n    commands:\n    - {step}\n"));
        let found = report.actions[0].findings.iter().any(|finding| finding.code == "shell_code");
        assert_eq!(found, named, "{step}: {:?}", report.actions[0].findings);
    }
}

#[test]
fn values_in_scripts_of_shells_that_evaluate_more_than_bash_are_limited() {
    for (first, limited) in
        [("#!/bin/ksh", true), ("#!/usr/bin/env zsh", true), ("#!/bin/bash", false), ("#!/bin/sh", false)]
    {
        let (_temp, report) = imported(&format!(
            "- name: j\n  options: [{{name: x}}]\n  sequence: {{commands: [{{script: \"{first}\\n[ @option.x@ -eq 1 ]\"}}]}}\n"
        ));
        let found = report.actions[0].findings.iter().any(|finding| finding.code == "value_limited");
        assert_eq!(found, limited, "{first}: {:?}", report.actions[0].findings);
    }
    for option in ["name: x, values: [a, b], enforced: true", "name: x, regex: '[0-9]+'"] {
        let (_temp, report) = imported(&format!(
            "- name: j\n  options: [{{{option}}}]\n  sequence: {{commands: [{{script: \"#!/bin/ksh\\n[ @option.x@ -eq 1 ]\"}}]}}\n"
        ));
        let codes: Vec<_> = report.actions[0].findings.iter().map(|finding| finding.code).collect();
        assert!(!codes.contains(&"value_limited") && !codes.contains(&"value_as_code"), "{option}: {codes:?}");
    }
}

#[test]
fn callers_choose_no_option_by_which_a_program_starts_others() {
    for (step, name, code) in [
        ("tar ${option.options} -cf x y", "options", "any_command"),
        ("yum install -y ${option.packages}", "packages", "no_option"),
        ("cd ${option.x} && ./run.sh", "x", "any_command"),
    ] {
        let (_temp, report) = imported(&format!(
            "- name: j\n  options: [{{name: {name}}}]\n  sequence: {{commands: [{{exec: '{step}'}}]}}\n"
        ));
        let found = report.actions[0].findings.iter().any(|finding| finding.code == code);
        assert!(found, "{step}: {:?}", report.actions[0].findings);
    }
}

#[test]
fn no_word_of_a_list_that_a_script_cuts_is_an_option() {
    let script = "for h in $(echo \\\"@option.hosts@\\\" | tr ',' ' '); do ssh \\\"$h\\\" uptime; done";
    let (temp, report) = imported(&format!(
        "- name: j\n  options: [{{name: hosts}}]\n  sequence: {{commands: [{{script: \"{script}\"}}]}}\n"
    ));
    assert!(findings(&report).contains("no word of hosts may begin with '-'"), "{}", findings(&report));
    let action: Value = yaml::parse(&fs::read_to_string(temp.path().join("pack/actions/j.yaml")).unwrap()).unwrap();
    let schema: Schema = from_value(&action["parameters"]["hosts"]).unwrap();
    for (value, fits) in [
        ("", true),
        ("a", true),
        ("web-1,web-2", true),
        ("a, b c", true),
        ("-x", false),
        ("a,-oProxyCommand=x", false),
        ("a -x", false),
        ("a\n-x", false),
        (",-x", false),
    ] {
        assert_eq!(check(&schema, &Value::from(value)).is_empty(), fits, "{value:?}");
    }
}

#[test]
fn a_pattern_of_the_author_that_lets_options_in_is_named() {
    for (regex, named) in [("[A-Za-z=-]+", true), ("[A-Za-z][A-Za-z-]*", false), ("[^;]*", true)] {
        let (_temp, report) = imported(&format!(
            "- name: j\n  options: [{{name: x, regex: '{regex}'}}]\n  sequence: {{commands: [{{exec: 'ssh ${{option.x}} uptime'}}]}}\n"
        ));
        let found = report.actions[0].findings.iter().any(|finding| finding.code == "option_allowed");
        assert_eq!(found, named, "{regex}: {}", findings(&report));
    }
}

#[test]
fn a_secret_by_its_name_that_is_not_declared_is_named() {
    for (option, named) in [
        ("{name: password}", true),
        ("{name: api_token}", true),
        ("{name: DbPwd}", true),
        ("{name: mysql-pass}", true),
        ("{name: smtp_credentials}", true),
        ("{name: bypass}", false),
        ("{name: password, secure: true}", false),
        ("{name: password, values: [a, b], enforced: true}", false),
        ("{name: directory}", false),
    ] {
        let (_temp, report) =
            imported(&format!("- name: j\n  options: [{option}]\n  sequence: {{commands: [{{exec: ls}}]}}\n"));
        let found = report.actions[0].findings.iter().any(|finding| finding.code == "undeclared_secret");
        assert_eq!(found, named, "{option}: {:?}", report.actions[0].findings);
    }
}

#[test]
fn attributes_of_steps_and_parts_of_options_are_read_or_named() {
    let read = |text: &str| {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("from")).unwrap();
        fs::write(temp.path().join("from/job.xml"), text).unwrap();
        let report = match import(&temp.path().join("from"), &temp.path().join("pack")) {
            Ok(report) => report,
            Err(ImportError::NothingRuns { report, .. }) => *report,
            Err(error) => panic!("{error}"),
        };
        let steps = fs::read_to_string(temp.path().join("pack/actions/bolt_steps/steps.json")).unwrap_or_default();
        (findings(&report), steps.matches("\"script\": \"").count())
    };
    let job = |option: &str, steps: &str| {
        format!(
            "<joblist><job><name>x</name><context><options>{option}</options></context>\
             <sequence>{steps}<command><exec>echo</exec></command></sequence></job></joblist>"
        )
    };
    let (found, steps) = read(&job("", "<command enabled='false'><exec>rm -rf /data</exec></command>"));
    assert!(found.contains("step 1 is disabled and left out"), "{found}");
    assert_eq!(steps, 1, "{found}");
    let (found, _) = read(&job("", "<command threads='2'><exec>ls</exec></command>"));
    assert!(found.contains("not imported of step 1: threads"), "{found}");
    let (found, _) = read(&job("", "<command exec='ls'><exec>rm</exec></command>"));
    assert!(found.contains("<command> has exec as an attribute and as an element"), "{found}");
    let option =
        "<option name='a' isDate='true' label='A'><multivalueAllSelected>true</multivalueAllSelected></option>";
    let (found, _) = read(&job(option, ""));
    assert!(found.contains("not imported of the option a: isDate, multivalueAllSelected"), "{found}");
    let (found, _) = read(&job("<option name='a' enforcedvalues='true'><values>x,y</values></option>", ""));
    assert!(!found.contains("not imported of the option"), "{found}");
}
