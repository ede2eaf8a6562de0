//! sslyze on the port of a live agent, held against what SECURITY.md says: TLS 1.3 alone, a client certificate required, no
//! resumption, early data, renegotiation or compression, and none of the known faults.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Tools;
use crate::World;

/// Cipher suites of TLS 1.3 (RFC 8446) with at least 128 bits.
const SUITES: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// Groups, beside X25519MLKEM768, which sslyze does not know.
const GROUPS: [&str; 3] = ["X25519", "secp256r1", "prime256v1"];
/// Versions, as sslyze calls them in its report.
const OLD: [&str; 5] = ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"];
/// Name that sslyze gives to the store of `--certinfo_ca_file`, beside those of public authorities.
const SUPPLIED: &str = "Supplied CA file";
const SCANS: [&str; 16] = [
    "--certinfo",
    "--sslv2",
    "--sslv3",
    "--tlsv1",
    "--tlsv1_1",
    "--tlsv1_2",
    "--tlsv1_3",
    "--reneg",
    "--compression",
    "--early_data",
    "--resum",
    "--heartbleed",
    "--robot",
    "--openssl_ccs",
    "--elliptic_curves",
    "--ems",
];

/// Fact about the port.
#[derive(Debug, Clone)]
pub struct Row {
    /// Peer that asked: anonymous, or with a certificate.
    pub peer: &'static str,
    /// Name of the fact.
    pub what: String,
    /// Observation.
    pub seen: String,
    /// True if it is as SECURITY.md says.
    pub is_expected: bool,
}

/// Facts that sslyze found.
#[derive(Debug, Clone)]
pub struct Figures(pub Vec<Row>);

impl Figures {
    /// Returns the first fact that differs from what is wanted.
    pub fn broken(&self) -> Option<&Row> {
        self.0.iter().find(|row| !row.is_expected)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { peer, what, seen, is_expected } in &self.0 {
            let verdict = if *is_expected { "" } else { "  UNEXPECTED" };
            writeln!(f, "  {peer:<12} {what:<26} {seen}{verdict}")?;
        }
        write!(f, "  {} facts, {} unexpected", self.0.len(), self.0.iter().filter(|row| !row.is_expected).count())
    }
}

/// Scans the port of an agent, without a certificate and with one.
pub fn run(tools: &Tools) -> Figures {
    let world = World::with_probe();
    let agent = world.agent();
    // Its certificate is for its instance id.
    let (address, port) = (agent.address().ip(), agent.address().port());
    let target = format!("{}:{port}{{{address}}}", agent.facts().id);
    let mut rows = Vec::new();
    for peer in ["anonymous", "operator"] {
        let report = world.path().join("sslyze.json");
        let mut command = Command::new(tools.sslyze());
        command.args(SCANS).args(["--quiet", "--mozilla_config", "disable", "--json_out"]).arg(&report);
        if peer == "operator" {
            let operator = world.site.operator();
            command.arg("--cert").arg(&operator.certificate).arg("--key").arg(&operator.key);
        }
        command.arg("--certinfo_ca_file").arg(world.site.ca()).arg(&target);
        let output = command.stdin(Stdio::null()).output().expect("sslyze can be run");
        let text = fs::read_to_string(&report);
        let text = text.unwrap_or_else(|e| panic!("no report: {e}: {}", String::from_utf8_lossy(&output.stderr)));
        let report: Value = serde_json::from_str(&text).expect("the report is JSON");
        rows.extend(judge(peer, &report["server_scan_results"][0]));
    }
    Figures(rows)
}

/// Turns a report into facts. A scan that did not complete is none, and unexpected.
fn judge(peer: &'static str, scanned: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |what: &str, seen: String, is_expected: bool| {
        rows.push(Row { peer, what: what.to_owned(), seen, is_expected });
    };
    let connected = &scanned["connectivity_result"];
    let version = text(&connected["highest_tls_version_supported"]);
    row("highest version", version.clone(), version == "TLS_1_3");
    if peer == "anonymous" {
        let wanted = text(&connected["client_auth_requirement"]);
        row("client certificate", wanted.clone(), wanted == "REQUIRED");
    }
    let result = |scan: &str| &scanned["scan_result"][scan]["result"];
    for version in OLD {
        let found = result(&format!("{version}_cipher_suites"));
        let (is_off, accepted) = (found["is_tls_version_supported"] == false, names(&found["accepted_cipher_suites"]));
        row(
            version,
            if is_off { "refused".to_owned() } else { format!("accepted: {found}") },
            is_off && accepted.is_empty(),
        );
    }
    let accepted = names(&result("tls_1_3_cipher_suites")["accepted_cipher_suites"]);
    let are_known = !accepted.is_empty() && accepted.iter().all(|name| SUITES.contains(&name.as_str()));
    row("tls_1_3", accepted.join(" "), are_known);
    let groups = list(&result("elliptic_curves")["supported_curves"], |curve| text(&curve["name"]));
    let are_known = groups.contains(&"X25519".to_owned()) && groups.iter().all(|name| GROUPS.contains(&name.as_str()));
    row("groups", groups.join(" "), are_known);
    if peer != "anonymous" {
        // Early data follow a handshake.
        let seen = &result("tls_1_3_early_data")["supports_early_data"];
        row("early data", format!("supports_early_data: {seen}"), *seen == false);
    }
    for (scan, key, wanted) in [
        ("tls_compression", "supports_compression", false),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", false),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", false),
        ("heartbleed", "is_vulnerable_to_heartbleed", false),
    ] {
        let seen = &result(scan)[key];
        row(scan, format!("{key}: {seen}"), *seen == wanted);
    }
    let robot = text(&result("robot")["robot_result"]);
    row("robot", robot.clone(), robot == "NOT_VULNERABLE_RSA_NOT_SUPPORTED");
    let resumed = result("session_resumption");
    for kind in ["session_id", "tls_ticket"] {
        let seen = text(&resumed[format!("{kind}_resumption_result")]);
        row(&format!("resumption by {kind}"), seen.clone(), seen == "SERVER_IS_TLS_1_3_ONLY");
    }
    let deployments = &result("certificate_info")["certificate_deployments"];
    let validated = |deployment: &Value| {
        let paths = list(&deployment["path_validation_results"], |path| {
            (text(&path["trust_store"]["name"]), path["was_validation_successful"] == true)
        });
        let trusted: Vec<String> = paths.into_iter().filter(|(_, ok)| *ok).map(|(name, _)| name).collect();
        (deployment["received_chain_has_valid_order"] == true, trusted)
    };
    for (is_ordered, trusted) in list(deployments, validated) {
        // By the authority of this site, and by no store of public authorities.
        row(
            "certificate",
            format!("in order: {is_ordered}; trusted by: {}", trusted.join(", ")),
            is_ordered && trusted == [SUPPLIED],
        );
    }
    row("certificates", list(deployments, |_| ()).len().to_string(), list(deployments, |_| ()).len() == 1);
    rows
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().into_iter().flatten().map(read).collect()
}

fn names(suites: &Value) -> Vec<String> {
    list(suites, |accepted| text(&accepted["cipher_suite"]["name"]))
}
