//! Metrics, and the alerts, dashboard and scrape configuration that are built on them.
//!
//! `promtool` and Prometheus come from Debian's package; `BOLT_TEST_PROMETHEUS` names the directory with both.

mod dashboard;
mod exposition;
mod queries;
mod scrape;
mod watched;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bolt_tests::prometheus::Programs;
use bolt_tests::{is_root, skip};

use exposition::Exposition;

/// Reason for which a test is skipped.
const NO_PROMETHEUS: &str = "BOLT_TEST_PROMETHEUS names no directory with promtool and prometheus";

/// The directory with alerts and dashboard.
fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/monitoring")
}

/// Families that have samples as root only.
const NOT_EVERYWHERE: [&str; 2] = ["bolt_running_cpu_seconds", "bolt_running_memory_bytes"];

/// Names of the families in the table of the paper.
fn documented() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let families = rows.filter(|(_, rest)| ["counter", "gauge", "histogram"].iter().any(|kind| rest.starts_with(kind)));
    families.map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn an_agent_tells_each_documented_metric_and_promtool_accepts_all_of_them() {
    const TEST: &str = "an_agent_tells_each_documented_metric_and_promtool_accepts_all_of_them";
    let text = watched::busy_agent().await;
    let told = Exposition::parse(&text);
    let documented = documented();
    assert!(documented.len() > 50, "{documented:?}");
    assert_eq!(told.families().collect::<BTreeSet<_>>(), documented.iter().collect::<BTreeSet<_>>());
    for family in &documented {
        let samples = told.samples_of(family);
        let may_lack = !is_root() && NOT_EVERYWHERE.contains(&family.as_str());
        assert!(samples > 0 || may_lack, "no sample of {family}\n{text}");
    }
    let Some(programs) = Programs::find() else { return skip(TEST, NO_PROMETHEUS) };
    let said = programs.promtool(Path::new("/"), &["check", "metrics"], &text);
    assert_eq!(said.as_deref(), Ok(""), "{text}");
}

/// Health codes that alerts on other metrics report.
const REPORTED_OTHERWISE: [(&str, &str); 19] = [
    ("starting", "BoltAgentNotReady"),
    ("recovering", "BoltAgentNotReady"),
    ("certificate_wrong", "BoltAgentNotReady"),
    ("limits_unavailable", "BoltAgentNotReady"),
    ("launcher_gone", "BoltAgentDown"),
    ("interface_closed", "BoltAgentDown"),
    ("grants_invalid", "BoltFileInvalid"),
    ("tls_invalid", "BoltFileInvalid"),
    ("certificate_expired", "BoltExpiresSoon"),
    ("certificate_expiring", "BoltExpiresSoon"),
    ("authority_expired", "BoltExpiresSoon"),
    ("authority_expiring", "BoltExpiresSoon"),
    ("crl_expired", "BoltExpiresSoon"),
    ("crl_expiring", "BoltExpiresSoon"),
    ("metadata_expiring", "BoltExpiresSoon"),
    ("metadata_expired", "BoltMetadataExpired"),
    ("never_synced", "BoltNeverSynced"),
    ("sync_failed", "BoltSyncStale"),
    ("pack_failed", "BoltPackFailed"),
];
/// Health codes that no alert reports: what they say was configured.
const NOT_REPORTED: [&str; 1] = ["execution_configuration"];

/// Health codes in the table of the operators' paper, without the notes.
fn health_codes() -> Vec<String> {
    let paper = std::fs::read_to_string(monitoring().join("../README.md")).unwrap();
    let (_, section) = paper.split_once("\n## Health codes\n").unwrap();
    let (table, _) = section.split_once("\nNotes are not problems").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    rows.flat_map(|cell| cell.split(", ")).map(|code| code.trim_matches('`').to_owned()).collect()
}

#[test]
fn each_health_code_has_an_alert() {
    let alerts = std::fs::read_to_string(monitoring().join("alerts.yml")).unwrap();
    let patterns = alerts.split("bolt_health_problem{code=").skip(1);
    let patterns: Vec<regex_lite::Regex> = patterns
        .map(|rest| rest.split('"').nth(1).unwrap())
        .map(|pattern| regex_lite::Regex::new(&format!("^(?:{pattern})$")).unwrap())
        .collect();
    let codes = health_codes();
    assert!(codes.len() > 30, "{codes:?}");
    for code in &codes {
        let otherwise = REPORTED_OTHERWISE.iter().filter(|(other, _)| other == code);
        let there = otherwise.filter(|(_, alert)| alerts.contains(&format!("- alert: {alert}\n"))).count();
        let by_code = patterns.iter().filter(|pattern| pattern.is_match(code)).count();
        let is_quiet = NOT_REPORTED.contains(&code.as_str());
        assert_eq!(by_code + there + usize::from(is_quiet), 1, "{code} has no alert, or more than one");
    }
    for (code, _) in REPORTED_OTHERWISE {
        assert!(codes.iter().any(|other| other == code), "{code} is no health code");
    }
}

#[test]
fn alerts_fire_when_they_should() {
    let Some(programs) = Programs::find() else { return skip("alerts_fire_when_they_should", NO_PROMETHEUS) };
    programs.promtool(&monitoring(), &["check", "rules", "alerts.yml"], "").unwrap();
    programs.promtool(&monitoring(), &["test", "rules", "alerts.test.yml"], "").unwrap();
}
