//! Parameters of tasks that are commands or secrets, by what their metadata says and by their names.

use super::*;

/// Imports a task with one parameter; the codes of its findings, and the action's file.
fn imported_with(name: &str, options: &str) -> (Vec<&'static str>, String) {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    fs::create_dir_all(source.join("tasks")).unwrap();
    fs::write(source.join("metadata.json"), "{\"name\": \"acme-good\", \"version\": \"1.0.0\"}").unwrap();
    fs::write(source.join("tasks/a.sh"), "#!/bin/sh\n").unwrap();
    fs::write(source.join("tasks/a.json"), format!("{{\"parameters\": {{\"{name}\": {options}}}}}")).unwrap();
    let report = import(&source, &temp.path().join("pack")).unwrap();
    let codes = report.actions[0].findings.iter().map(|finding| finding.code).collect();
    (codes, fs::read_to_string(temp.path().join("pack/actions/a.yaml")).unwrap())
}

#[test]
fn commands_are_disabled_unless_their_values_are_limited() {
    for (name, kind, disabled) in [
        ("command", "String", true),
        ("commands", "Array[String]", true),
        ("command", "Pattern[/.*/]", true),
        ("command", "Pattern[/\\\\A.+\\\\z/]", true),
        ("command", "Pattern[/\\\\A[a-z]+\\\\z/]", false),
        ("commands", "Array[Enum[start, stop]]", false),
        ("command", "Enum[start, stop]", false),
        ("command", "Integer", false),
        ("name", "String", false),
    ] {
        let (codes, text) = imported_with(name, &format!("{{\"type\": \"{kind}\"}}"));
        assert_eq!(codes.contains(&"any_command"), disabled, "{name} {kind}: {codes:?}");
        assert_eq!(text.contains("enabled: false"), disabled, "{name} {kind}");
    }
}

#[test]
fn secrets_stay_secret_whatever_else_is_said_of_them() {
    for (name, options, secret, by_name) in [
        ("x", "{\"type\": \"Sensitive[String]\"}", true, false),
        ("x", "{\"type\": \"Sensitive[Foo[\"}", true, false),
        ("password", "{\"type\": \"String\"}", true, true),
        ("api_token", "{}", true, true),
        ("password", "{\"type\": \"String\", \"sensitive\": false}", false, false),
        ("password", "{\"type\": \"String\", \"sensitive\": true}", true, false),
        ("token_size", "{\"type\": \"Integer\"}", false, false),
        ("x", "{\"type\": \"String\"}", false, false),
    ] {
        let (codes, text) = imported_with(name, options);
        assert_eq!(text.contains("secret: true"), secret, "{name} {options}: {text}");
        assert_eq!(codes.contains(&"secret"), by_name, "{name} {options}: {codes:?}");
    }
}
