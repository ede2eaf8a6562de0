//! `agent.toml`, which root writes: mistakes in it must be named, in bounded text.

use packs_schema::agent::config::Config;

use crate::repository;

/// Maximum length of an error, in bytes: it quotes values of the file, shortened.
const MAX_ERROR: usize = 4096;

pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = Config::parse(text);
    match (&parsed, Config::parse_unchecked(text)) {
        (Ok(config), Ok(unchecked)) => {
            assert_eq!(*config, unchecked);
            assert!(unchecked.problems().is_empty(), "accepted with problems");
            assert!(config.execution.max_shims() > 0);
        }
        (Err(error), unchecked) => {
            let message = error.to_string();
            assert!(message.len() <= MAX_ERROR, "an error of {} bytes", message.len());
            assert!(unchecked.is_err() || !unchecked.is_ok_and(|config| config.problems().is_empty()), "{message}");
        }
        (Ok(_), Err(error)) => panic!("accepted, and not without checks: {error}"),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![repository::read("systemd/agent.toml"), SHORT.into(), EVERYTHING.into()];
    // With every commented key on.
    let all = String::from_utf8(seeds[0].clone()).expect("UTF-8");
    let is_key = |line: &&str| line.starts_with("# ") && line.contains(" = ");
    seeds.push(all.lines().filter(is_key).map(|line| format!("{}\n", &line[2..])).collect::<String>().into());
    seeds
}

const SHORT: &str = "[instance]\nid = \"i-1\"\n[tls]\ncertificate = \"/c\"\nkey = \"/k\"\nclient_ca = \"/a\"\n[repository]\n\
    url = \"https://packs.example.net/prod\"\nroot = \"/r\"\nchannel = \"stable\"\n";

const EVERYTHING: &str = r#"[instance]
metadata = true
app = "cassandra"
tags = {team = "db"}
[api]
listen = "127.0.0.1:7443"
health_listen = "127.0.0.1:7480"
max_connections = 100
[tls]
certificate = "/c"
key = "/k"
crls = ["/crl"]
expired_crl = "refuse"
[[tls.client_authority]]
file = "/a"
principals = ["spiffe://example/*"]
[paths]
state = "/s"
packs = "/p"
runtime = "/r"
grants = "/g"
[repository]
url = "s3://bucket/prefix"
root = "/r"
channel = "stable"
poll = "2m"
timeout = "10s"
[execution]
max_running = 4
max_queued = 100
max_shims = 32
uid_range = "70000-80000"
memory = "50%"
[history]
keep = "90d"
max_bytes = "2GiB"
max_files = 100000
[dev]
push = true
run_as = ["nobody"]
max_ttl = "8h"
[python]
require_hashes = true
index = "https://pypi.example.net/simple"
[users]
api = "bolt"
sync = "bolt-sync"
map = {app = "www-data"}
"#;
