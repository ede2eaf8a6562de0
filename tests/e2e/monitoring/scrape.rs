//! A real Prometheus that scrapes an agent over mutual TLS, as `systemd/README.md` says, with alerts and dashboard.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bolt_client::local::{AgentSpec, LocalAgent, OPERATOR};
use bolt_client::pki::Validity;
use bolt_tests::prometheus::Programs;
use bolt_tests::{World, skip, spec};
use serde_json::{Value, json};

use super::queries::of_dashboard;
use super::watched::with_certificate;
use super::{NO_PROMETHEUS, dashboard, monitoring};
use crate::calls::{caller, until};

/// A running Prometheus; ends when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it with `prometheus.yml` in `directory`.
    fn start(programs: &Programs, directory: &Path) -> Server {
        let mut command = Command::new(programs.path("prometheus"));
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let address = lines.by_ref().find_map(|line| {
            let address = line.contains("Listening on").then(|| line.split_once(" address=")).flatten();
            said += &line;
            said.push('\n');
            address.and_then(|(_, address)| address.trim().parse().ok())
        });
        std::thread::spawn(move || lines.for_each(drop));
        Server { address: address.unwrap_or_else(|| panic!("it does not listen: {said}")), process }
    }

    /// Returns `data` of an answer of its interface, or the whole answer if it is an error.
    fn get(&self, path: &str) -> Result<Value, String> {
        let mut socket = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        socket.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
        let value: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?;
        if value["status"] == "success" { Ok(value["data"].clone()) } else { Err(body.to_owned()) }
    }

    /// Returns the result of a query.
    fn query(&self, text: &str) -> Vec<Value> {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let found = self.get(&format!("query?query={encoded}")).unwrap_or_else(|error| panic!("{text}: {error}"));
        found["result"].as_array().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Returns the configuration in the paper for operators.
fn documented() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|block| block.contains("scrape_configs:")).collect()
}

/// Returns `text` with each of these replaced; each must be there.
fn replaced(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        assert!(text.contains(name), "{text} has no {name}");
        text.replace(name, value)
    })
}

/// Starts an agent whose certificate names its address as well, as the paper says.
fn agent(world: &World) -> LocalAgent {
    let grants = format!(
        "[[grant]]\nprincipal = \"{OPERATOR}\"\nverbs = [\"read\", \"run\"]\nactions = [\"*\"]\n\n\
         [[grant]]\nprincipal = \"spiffe://bolt.local/prometheus\"\nverbs = [\"metrics\"]\nactions = [\"*\"]\n"
    );
    let spec = AgentSpec { grants: Some(grants), ..spec("i-1") };
    with_certificate(world, &spec, &["127.0.0.1".to_owned()], Validity::days(30))
}

#[tokio::test]
async fn prometheus_scrapes_an_agent_with_the_configuration_in_the_paper() {
    const TEST: &str = "prometheus_scrapes_an_agent_with_the_configuration_in_the_paper";
    let Some(programs) = Programs::find() else { return skip(TEST, NO_PROMETHEUS) };
    let world = World::with_probe();
    let agent = agent(&world);
    let prometheus = caller(&world, "prometheus");
    let configuration = replaced(
        &documented(),
        &[
            ("/etc/prometheus/bolt/ca.pem", world.site.ca().to_str().unwrap()),
            ("/etc/prometheus/bolt/prometheus.pem", prometheus.certificate.to_str().unwrap()),
            ("/etc/prometheus/bolt/prometheus.key", prometheus.key.to_str().unwrap()),
            ("/etc/prometheus/bolt/alerts.yml", monitoring().join("alerts.yml").to_str().unwrap()),
            ("10.0.0.7:8443", &agent.address().to_string()),
            ("i-0abc", "i-1"),
        ],
    );
    let directory = world.scratch("prometheus");
    let quick = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n";
    std::fs::write(directory.join("prometheus.yml"), format!("{quick}{configuration}")).unwrap();
    programs.promtool(&directory, &["check", "config", "prometheus.yml"], "").unwrap();

    let server = Server::start(&programs, &directory);
    until("Prometheus", async || server.get("query?query=1").is_ok()).await;
    until("a successful scrape", async || !server.query("up{job=\"bolt\",instance=\"i-1\"} == 1").is_empty()).await;
    let operator = world.operator(&agent);
    for action in ["hello", "fail"] {
        operator.run(&format!("probe.{action}"), json!({})).await;
    }
    let ended = "sum(bolt_executions_total{state=~\"succeeded|failed\"})";
    until("the executions", async || server.query(ended).iter().any(|one| one["value"][1] == "2")).await;
    // Rates have values after a second scrape.
    until("rates", async || !server.query("rate(bolt_http_requests_total[5m]) > 0").is_empty()).await;

    let mut empty = Vec::new();
    for query in of_dashboard(&dashboard::read()) {
        if server.query(&query.text).is_empty() {
            empty.push(query.place);
        }
    }
    assert!(empty.len() < 8, "most panels have something to show: {empty:?}");
    until("all rules evaluated", async || {
        let rules = server.get("rules").unwrap();
        let rules = rules["groups"][0]["rules"].as_array().unwrap();
        rules.len() > 8 && rules.iter().all(|rule| rule["health"] == "ok")
    })
    .await;

    // Without the verb, nothing is told.
    let refused = operator.send(bolt_tests::http::Call::get("/v1/metrics")).await;
    assert_eq!(refused.status, 200);
    let stranger = caller(&world, "stranger");
    let call = bolt_tests::http::Call::get("/v1/metrics");
    let answer = bolt_tests::http::send(agent.address(), Some(&stranger), call).await.unwrap();
    assert_eq!(answer.status, 403);
}
