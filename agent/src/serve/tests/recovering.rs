//! A start that takes long: callers get health and 503, and the log has one line.

use packs_schema::agent::execution::Spec;
use serde_json::json;

use super::scope::take_log;
use super::*;
use crate::api::starting::{self, Starting};

const MANY: usize = 300;

#[tokio::test]
async fn a_long_start_answers_health_and_asks_to_retry() {
    let (dir, issuer, root) = prepare();
    let config = config(dir.path());
    let health = Arc::new(Health::default());
    health.set("recovering", "the history is being rebuilt from the execution directories: 7 of 9".to_owned());
    let tls = Arc::new(Tls::load(&config.tls, health.clone()));
    let (api, probes) = (bound().await, bound().await);
    let (address, plain) = (api.local_addr().unwrap(), probes.local_addr().unwrap());
    let registry = Arc::new(Registry::new(config.paths.packs.clone()));
    let instance = packs_schema::base::name::InstanceId::new("i-1").unwrap();
    let starting = Arc::new(Starting { instance, health, registry, metrics: Arc::default() });
    let serving = tokio::spawn(async move { starting::answer(starting, &api, Some(&probes), tls).await });
    let ann = leaf(&issuer, &["spiffe://x/ann"], |_| {});
    let caller = Caller { address, root };
    let said = caller.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
    assert!(status(&said) == 503 && said.contains("\"recovering\"") && said.contains("7 of 9"), "{said}");
    let said = caller.ask(Some(&ann), "POST", "/v1/executions", "content-length: 0\r\n").await.unwrap();
    assert!(status(&said) == 503 && said.contains("retry-after: ") && said.contains("\"unavailable\""), "{said}");
    let mut probe = TcpStream::connect(plain).await.unwrap();
    probe.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = String::new();
    probe.read_to_string(&mut said).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{said}");
    let codes = "\"reasons\":[{\"code\":\"recovering\"},{\"code\":\"never_synced\"}],\"notes\":[]}";
    assert_eq!(body, format!("{{\"live\":true,\"ready\":false,\"degraded\":true,{codes}"));
    assert!(caller.ask(None, "GET", "/v1/health", "").await.is_err(), "without a certificate nothing is answered");

    // The start ends while requests are being received: those callers get their answers as well.
    let mut slow = caller.open(Some(&ann), "GET /v1/health HTTP/1.1\r\n").await.unwrap();
    let mut slow_probe = TcpStream::connect(plain).await.unwrap();
    slow_probe.write_all(b"GET /v1/health HTTP/1.1\r\n").await.unwrap();
    // Connections are accepted in order, so both were accepted when later ones are answered.
    caller.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
    let mut later = TcpStream::connect(plain).await.unwrap();
    later.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    later.read_to_string(&mut said).await.unwrap();
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    for stream in [&mut slow as &mut dyn Stream, &mut slow_probe] {
        stream.write_all(b"host: x\r\n\r\n").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(status(&said) == 503 && said.contains("\"recovering\""), "{said}");
    }
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Stream for T {}

async fn bound() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_history_that_is_read_in_again_is_one_line_of_the_log() {
    take_log();
    let api = Api::start_with(|dir| {
        for n in 0..MANY {
            let id = format!("01932c07-1f4e-7c61-b4b0-{n:012x}");
            let spec: Spec = crate::records::record(json!({ "id": id, "created_at_ms": n, "boot_id": "another" }));
            let directory = dir.join("state/exec").join(id);
            std::fs::create_dir_all(&directory).unwrap();
            write_private(&directory.join("spec"), &serde_json::to_string(&spec).unwrap());
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.join("state/exec"), std::fs::Permissions::from_mode(0o700)).unwrap();
    })
    .await;
    let log = take_log();
    // A start that takes long on a busy machine is reported as well.
    let other = log.lines().filter(|line| !line.contains(" DEBUG ") && !line.contains("the start takes long"));
    let lines: Vec<&str> = other.filter(|line| line.contains("WARN") || line.contains("recovered")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains(&format!("imported={MANY}")), "{lines:?}");
    assert!(lines[1].contains(&format!("ended={MANY}")), "{lines:?}");
    // In the order in which they were made.
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let page = api.ask(Some(&ann), "GET", "/v1/executions?limit=500", "").await.unwrap();
    let page: serde_json::Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
    let items = page["items"].as_array().unwrap();
    assert!(items.len() == MANY && items.iter().all(|item| item["state"] == "interrupted"), "{page}");
    api.stop().await;
}
