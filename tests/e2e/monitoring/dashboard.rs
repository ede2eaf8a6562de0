//! The dashboard: its queries, and its form by Grafana's own types.

use std::path::{Path, PathBuf};
use std::process::Command;

use bolt_tests::prometheus::Programs;
use bolt_tests::skip;
use serde_json::Value;

use super::exposition::Exposition;
use super::queries::{as_rules, of_alerts, of_dashboard};
use super::{NO_PROMETHEUS, NOT_EVERYWHERE, monitoring, watched};

pub(crate) fn read() -> Value {
    serde_json::from_str(&std::fs::read_to_string(monitoring().join("dashboard.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn each_query_of_dashboard_and_alerts_names_what_an_agent_tells() {
    let text = watched::busy_agent().await;
    let told = Exposition::parse(&text);
    let (panels, alerts) = (of_dashboard(&read()), of_alerts(&monitoring().join("alerts.yml")));
    assert!(panels.len() > 30 && alerts.len() > 8, "{} {}", panels.len(), alerts.len());
    for query in panels.iter().chain(&alerts) {
        let mut unknown = query.unknown_names(&told);
        unknown.retain(|name| bolt_tests::is_root() || !NOT_EVERYWHERE.contains(&name.as_str()));
        assert!(unknown.is_empty(), "{query:?} names {unknown:?}, which no agent tells\n{text}");
    }
}

#[test]
fn each_query_of_the_dashboard_parses() {
    let Some(programs) = Programs::find() else { return skip("each_query_of_the_dashboard_parses", NO_PROMETHEUS) };
    let directory = tempfile::tempdir().unwrap();
    let rules = as_rules(&of_dashboard(&read()));
    std::fs::write(directory.path().join("queries.yml"), &rules).unwrap();
    let said = programs.promtool(directory.path(), &["check", "rules", "queries.yml"], "");
    assert!(said.is_ok(), "{said:?}\n{rules}");
}

#[test]
fn an_instance_that_never_synced_is_shown_with_the_time_since_its_start() {
    const TEST: &str = "an_instance_that_never_synced_is_shown_with_the_time_since_its_start";
    let Some(programs) = Programs::find() else { return skip(TEST, NO_PROMETHEUS) };
    let queries = of_dashboard(&read());
    let query = |title: &str| {
        let query = queries.iter().find(|query| query.place == format!("panel {title}"));
        serde_json::to_string(&query.unwrap().text).unwrap()
    };
    let series = |name: &str, instance: &str, value: u32| {
        format!("  - {{series: '{name}{{job=\"bolt\",instance=\"{instance}\"}}', values: '{value}x60'}}\n")
    };
    // At 30 minutes, i-2 has been without a success since its start at 600 s.
    let input = [
        series("bolt_sync_age_seconds", "i-1", 90),
        series("process_start_time_seconds", "i-1", 0),
        series("process_start_time_seconds", "i-2", 600),
    ];
    let test = format!(
        "tests:\n- interval: 1m\n  input_series:\n{}  promql_expr_test:\n\
         \x20 - expr: {}\n    eval_time: 30m\n    exp_samples: [{{labels: '{{}}', value: 1200}}]\n\
         \x20 - expr: {}\n    eval_time: 30m\n    exp_samples:\n\
         \x20   - {{labels: '{{job=\"bolt\",instance=\"i-2\"}}', value: 1200}}\n\
         \x20   - {{labels: 'bolt_sync_age_seconds{{job=\"bolt\",instance=\"i-1\"}}', value: 90}}\n",
        input.concat(),
        query("Oldest successful poll"),
        query("Time since the last successful poll"),
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("shown.test.yml"), &test).unwrap();
    let said = programs.promtool(directory.path(), &["test", "rules", "shown.test.yml"], "");
    assert!(said.is_ok(), "{said:?}\n{test}");
}

#[test]
fn the_first_execution_of_an_instance_is_shown_in_its_interval() {
    const TEST: &str = "the_first_execution_of_an_instance_is_shown_in_its_interval";
    let Some(programs) = Programs::find() else { return skip(TEST, NO_PROMETHEUS) };
    let queries = of_dashboard(&read());
    let query = queries.iter().find(|query| query.place == "panel Executions by state").unwrap();
    let query = serde_json::to_string(&query.text).unwrap();
    let series = |name: &str, instance: &str, values: &str| {
        format!("  - {{series: '{name}job=\"bolt\",instance=\"{instance}\"}}', values: '{values}'}}\n")
    };
    let counter = "bolt_executions_total{pack=\"linux\",action=\"linux.a\",state=\"succeeded\",";
    // i-1 counts its first execution after 20 minutes; i-2 was not scraped before, and may have counted at any time.
    let input = [
        series("up{", "i-1", "1x60"),
        series("up{", "i-2", "_x20 1x40"),
        series(counter, "i-1", "_x20 1x40"),
        series(counter, "i-2", "_x20 50x40"),
    ];
    let shown = |minute: u32, count: u32| {
        format!(
            "\x20 - expr: {query}\n    eval_time: {minute}m\n    exp_samples:\n\
             \x20   - {{labels: '{{state=\"succeeded\"}}', value: {count}}}\n"
        )
    };
    let test = format!(
        "tests:\n- interval: 1m\n  input_series:\n{}  promql_expr_test:\n{}{}",
        input.concat(),
        shown(23, 1),
        shown(40, 0)
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("shown.test.yml"), &test).unwrap();
    let said = programs.promtool(directory.path(), &["test", "rules", "shown.test.yml"], "");
    assert!(said.is_ok(), "{said:?}\n{test}");
}

#[test]
fn the_dashboard_has_the_form_that_grafana_s_types_describe() {
    const TEST: &str = "the_dashboard_has_the_form_that_grafana_s_types_describe";
    let modules = std::env::var_os("BOLT_TEST_GRAFANA_SCHEMA").map(PathBuf::from).filter(|path| path.exists());
    let Some(modules) = modules else {
        return skip(TEST, "BOLT_TEST_GRAFANA_SCHEMA names no node_modules with @grafana/schema and typescript");
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/monitoring/grafana.js");
    let check = |dashboard: &Value| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dashboard.json");
        std::fs::write(&file, dashboard.to_string()).unwrap();
        let output = Command::new("node").arg(&script).arg(&modules).arg(&file).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    };
    let dashboard = read();
    let said = check(&dashboard).unwrap();
    assert!(said.contains("values checked"), "{said}");
    // Mistakes are found.
    for (place, value) in [
        ("/schemaVersion", Value::from("39")),
        ("/panels/1/fieldConfig/defaults/unitt", Value::from("s")),
        ("/panels/1/options/colorMode", Value::from("rainbow")),
        ("/panels/7/fieldConfig/defaults/custom/drawStyle", Value::from("dots")),
        ("/templating/list/1/refresh", Value::from(9)),
    ] {
        let mut wrong = dashboard.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[name] = value;
        let said = check(&wrong).expect_err(place);
        assert!(said.contains(place), "{place}: {said}");
    }
}

#[test]
fn panels_are_distinct_and_do_not_overlap() {
    let dashboard = read();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    let mut taken = std::collections::BTreeMap::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for y in at("y")..at("y") + at("h") {
            for x in at("x")..at("x") + at("w") {
                let other = taken.insert((x, y), panel["title"].clone());
                assert_eq!(other, None, "{} overlaps", panel["title"]);
            }
        }
    }
}
