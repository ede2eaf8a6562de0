//! Queries of the dashboard and the alerts, and the names that they use.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::exposition::Exposition;

/// Labels that Prometheus adds: to each target, and to its own series.
const ADDED: [&str; 3] = ["job", "instance", "alertname"];
/// Series of Prometheus's own.
const OWN: [&str; 1] = ["up"];
/// Keywords that are followed by labels in parentheses.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// A query, and labels that are taken from its result.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Panel or alert.
    pub(crate) place: String,
    /// PromQL, with values in the place of the dashboard's variables.
    pub(crate) text: String,
    /// Labels in the legend or in the annotation.
    legend: Vec<String>,
}

/// Returns all queries of a dashboard, those of its variables included.
pub(crate) fn of_dashboard(dashboard: &Value) -> Vec<Query> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let place = format!("panel {}", panel["title"].as_str().unwrap());
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            found.push(Query { place, text: with_values(target["expr"].as_str().unwrap()), legend: templates(legend) });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(text) = variable["query"]["query"].as_str() else { continue };
        let arguments = text.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (series, label) = arguments.rsplit_once(", ").unwrap();
        let place = format!("variable {}", variable["name"].as_str().unwrap());
        found.push(Query { place, text: with_values(series), legend: vec![label.to_owned()] });
    }
    found
}

/// Returns the queries of a file of alert rules, as this repository writes them.
pub(crate) fn of_alerts(file: &Path) -> Vec<Query> {
    let (mut found, mut alert): (Vec<Query>, _) = (Vec::new(), String::new());
    for line in std::fs::read_to_string(file).unwrap().lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            name.clone_into(&mut alert);
        } else if let Some(text) = line.strip_prefix("expr: ") {
            let place = format!("alert {alert}");
            found.push(Query { place, text: text.to_owned(), legend: Vec::new() });
        } else if let (Some(query), true) = (found.last_mut(), line.starts_with("summary: ")) {
            query.legend.extend(line.split("$labels.").skip(1).map(|rest| leading_name(rest).to_owned()));
        }
    }
    found
}

/// Puts values in the place of variables, as Grafana does.
fn with_values(text: &str) -> String {
    let values = [("$__rate_interval", "5m"), ("$job", "bolt"), ("$instance", ".*"), ("$pack", ".*")];
    let text = values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!text.contains('$'), "{text:?} has an unknown variable");
    text
}

/// Returns the names in `{{a}} {{b}}`.
fn templates(text: &str) -> Vec<String> {
    text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().trim().to_owned()).collect()
}

fn leading_name(text: &str) -> &str {
    &text[..text.find(|c: char| !is_name(c)).unwrap_or(text.len())]
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns a rules file of recording rules, one for each query.
pub(crate) fn as_rules(queries: &[Query]) -> String {
    let rules = queries.iter().enumerate().map(|(number, query)| {
        let text = serde_json::to_string(&query.text).unwrap();
        format!("  - {{record: \"query_{number}\", expr: {text}}}\n")
    });
    format!("groups:\n- name: queries\n  rules:\n{}", rules.collect::<String>())
}

impl Query {
    /// Returns what it names and an agent does not tell: metrics, and labels of them.
    pub(crate) fn unknown_names(&self, told: &Exposition) -> Vec<String> {
        let Names { metrics, grouping } = names(&self.text);
        assert!(!metrics.is_empty(), "{self:?} names no metric");
        let mut unknown = Vec::new();
        let mut all: BTreeSet<&str> = ADDED.into_iter().collect();
        for (metric, matched) in &metrics {
            let labels = told.labels_of(metric);
            if labels.is_none() && !OWN.contains(&metric.as_str()) {
                unknown.push(metric.clone());
            }
            let has =
                |label: &String| labels.is_some_and(|labels| labels.contains(label)) || ADDED.contains(&label.as_str());
            unknown.extend(matched.iter().filter(|label| !has(label)).map(|label| format!("{metric}{{{label}}}")));
            all.extend(labels.into_iter().flatten().map(String::as_str));
        }
        let named = grouping.iter().chain(&self.legend);
        unknown.extend(named.filter(|label| !all.contains(label.as_str())).cloned());
        unknown
    }
}

/// Names in a query.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// Metrics, each with the labels in its braces.
    metrics: Vec<(String, Vec<String>)>,
    /// Labels of groupings.
    grouping: Vec<String>,
}

/// Finds the names in a query, which must parse: PromQL without `@` and subqueries.
fn names(query: &str) -> Names {
    let mut found = Names::default();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"' || c == '[') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = &quoted[quoted.find('"').unwrap() + 1..];
            continue;
        }
        if rest.starts_with('[') {
            rest = &rest[rest.find(']').unwrap()..];
            continue;
        }
        let name = leading_name(rest);
        rest = rest[name.len()..].trim_start();
        if name == "offset" {
            // Its duration follows.
            rest = &rest[leading_name(rest).len()..];
            continue;
        }
        if GROUPING.contains(&name) && rest.starts_with('(') {
            let (labels, after) = rest[1..].split_once(')').unwrap();
            found.grouping.extend(labels.split(',').map(|label| label.trim().to_owned()).filter(|l| !l.is_empty()));
            rest = after;
        } else if rest.starts_with('(')
            || GROUPING.contains(&leading_name(rest))
            || ["and", "or", "unless", "bool"].contains(&name)
        {
            // A function, an aggregation or an operator.
        } else if let Some(braces) = rest.strip_prefix('{') {
            let mut labels = Vec::new();
            rest = braces;
            while !rest.starts_with('}') {
                rest = rest.trim_start_matches([',', ' ']);
                let label = leading_name(rest);
                labels.push(label.to_owned());
                let value = rest.find('"').unwrap() + 1;
                rest = &rest[value..];
                rest = &rest[rest.find('"').unwrap() + 1..];
            }
            found.metrics.push((name.to_owned(), labels));
        } else if name.parse::<f64>().is_err() {
            found.metrics.push((name.to_owned(), Vec::new()));
        }
    }
    found
}

#[test]
fn names_are_found_in_queries() {
    let of = |metric: &str, labels: &[&str]| (metric.to_owned(), labels.iter().map(|l| (*l).to_owned()).collect());
    let found = names("sum by (a, b) (rate(x_total{c=\"1,d=2}\",e=~\"y{\"}[5m])) / 0.8 * time() - z > 1 or up");
    assert_eq!(found.metrics, [of("x_total", &["c", "e"]), of("z", &[]), of("up", &[])]);
    assert_eq!(found.grouping, ["a", "b"]);
    let found = names("x{a=\"1\"} unless x offset 5m and on (b) up offset 1h == 1");
    assert_eq!(found.metrics, [of("x", &["a"]), of("x", &[]), of("up", &[])]);
    let told = Exposition::parse("x{a=\"1\"} 1\n");
    let unknown = |text: &str, legend: &[&str]| {
        let legend = legend.iter().map(|label| (*label).to_owned()).collect();
        Query { place: String::new(), text: text.to_owned(), legend }.unknown_names(&told)
    };
    assert_eq!(unknown("sum by (a, instance) (x{a=\"1\",job=\"b\"})", &["a"]), Vec::<String>::new());
    assert_eq!(unknown("sum by (b) (x{c=\"1\"} + y)", &["d"]), ["x{c}", "y", "b", "d"]);
}
