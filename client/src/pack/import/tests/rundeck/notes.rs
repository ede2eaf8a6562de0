//! Findings about options: secrets that others could read, and quotes in defaults.

use super::interpreters::{findings, imported};

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
