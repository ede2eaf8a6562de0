//! Reports of faults that need no accounts; the others are tested from outside.

use std::fs;

use super::*;

#[test]
fn every_problem_of_agent_toml_is_reported_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    fs::write(&path, "[api]\nlisten = \"127.0.0.1:0\"\nlisen = 1\n").unwrap();
    let report = check(&path);
    assert!(!report.is_ok());
    assert_eq!(report.findings()[0].line, Some(3), "{report:?}");
    let text = report.to_text(&path);
    assert!(text.starts_with(&format!("{}:3: error: ", path.display())) && text.contains("lisen"), "{text}");
    assert!(text.ends_with("1 error, 1 warning\n"), "{text}");
    let missing = check(&dir.path().join("none.toml"));
    assert!(!missing.is_ok() && missing.to_text(&path).contains("cannot"), "{missing:?}");
}

#[test]
fn all_wrong_values_are_reported_at_once_and_no_key_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    let pem = "-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\\n-----END PRIVATE KEY-----";
    let text = format!(
        "[instance]\nid = \"i-1\"\n[api]\nlisten = \"127.0.0.1:0\"\nmax_connections = 0\n\
         [tls]\ncertificate = \"cert.pem\"\nkey = \"{pem}\"\nclient_ca = \"/ca.pem\"\n\
         [repository]\nurl = \"file:///nowhere\"\nroot = \"/root.json\"\nchannel = \"dev\"\n"
    );
    fs::write(&path, text).unwrap();
    let report = check(&path);
    let said = report.to_text(&path);
    for part in ["api.max_connections", "tls.certificate", "tls.key holds the content"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("c2VjcmV0"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&report.to_json(&path)).unwrap();
    assert_eq!((&json["ok"], &json["errors"]), (&serde_json::json!(false), &serde_json::json!(3)), "{json}");
}
