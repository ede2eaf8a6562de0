//! Local access: which routes it offers and to whom, and that it works while certificates or grants are broken.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use tokio::net::UnixStream as TokioUnixStream;

use super::*;

/// Api whose launcher, which never answers, has passed a socket of local access.
struct Local {
    api: Option<oneshot::Sender<()>>,
    dir: tempfile::TempDir,
    issuer: Authority,
    root: String,
    ended: tokio::task::JoinHandle<Result<Ended, StartError>>,
    _launcher: UnixStream,
}

impl Local {
    fn start(change: impl FnOnce(&Path)) -> Local {
        let (dir, issuer, root) = prepare();
        change(dir.path());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let local = Some(UnixListener::bind(dir.path().join("local.sock")).unwrap());
        let passed = Passed { local, ..Passed::default() };
        let ended = tokio::spawn(run(config(dir.path()), None, ours.into(), passed, async move {
            let _ = stopped.await;
        }));
        Local { api: Some(stop), dir, issuer, root, ended, _launcher: theirs }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn open(&self) -> TokioUnixStream {
        TokioUnixStream::connect(self.at("local.sock")).await.unwrap()
    }

    async fn ask(&self, method: &str, target: &str) -> String {
        let mut stream = self.open().await;
        let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Waits until the interface answers callers.
    async fn address(&self) -> SocketAddr {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            if let Ok(text) = std::fs::read_to_string(self.at("state/api.address")) {
                return text.trim().parse().unwrap();
            }
            assert!(!self.ended.is_finished() && tokio::time::Instant::now() < deadline, "it does not open");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn stop(mut self) {
        self.api.take().unwrap().send(()).unwrap();
        assert!(matches!(self.ended.await.unwrap(), Ok(Ended::Signalled)));
    }
}

/// Starts an api with files that keep its interface closed, and returns what health says of them.
pub(super) async fn health_of_closed(change: impl FnOnce(&Path)) -> String {
    let local = Local::start(change);
    let health = local.ask("GET", "/v1/health").await;
    assert!(status(&health) == 503 && health.contains("interface_closed"), "{health}");
    assert!(!local.at("state/api.address").exists(), "it answers callers");
    local.stop().await;
    health
}

/// Routes that local access offers.
const OFFERED: [&str; 7] = [
    "GET /v1/executions",
    "GET /v1/executions/{id}",
    "GET /v1/executions/{id}/output",
    "GET /v1/executions/{id}/stderr",
    "GET /v1/executions/{id}/stdout",
    "GET /v1/health",
    "POST /v1/executions/{id}/kill",
];

#[tokio::test]
async fn root_reads_and_kills_and_does_nothing_else() {
    let local = Local::start(|_| {});
    let api = Api::start().await;
    let mut offered = Vec::new();
    for (method, target, _) in every_route(&api) {
        let answer = local.ask(&method, &target).await;
        if status(&answer) == 403 {
            assert!(answer.contains("local access does not offer this"), "{answer}");
        } else {
            offered.push(format!("{method} {}", target.replace("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "{id}")));
        }
    }
    offered.sort();
    assert_eq!(offered, OFFERED);
    assert_eq!(status(&local.ask("GET", "/v1/nothing").await), 404);
    let list = local.ask("GET", "/v1/executions").await;
    assert!(status(&list) == 200 && list.contains("\"items\":[]"), "{list}");
    let origin = "GET /v1/executions HTTP/1.1\r\nhost: x\r\norigin: null\r\nconnection: close\r\n\r\n";
    let mut stream = local.open().await;
    stream.write_all(origin.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(status(&text), 403);
    api.stop().await;
    local.stop().await;
}

#[tokio::test]
async fn no_certificate_has_the_name_of_local_access() {
    let grants = |dir: &Path| {
        let all = GRANTS.replace("spiffe://x/ann", "local://root");
        std::fs::write(dir.join("grants.toml"), format!("{GRANTS}{all}")).unwrap();
    };
    let api = Api::start_with(grants).await;
    for name in ["local://root", "local://x"] {
        let impostor = leaf(&api.issuer, &[name], |_| {});
        for (method, target, _) in every_route(&api) {
            let answer = api.ask(Some(&impostor), &method, &target, "").await.unwrap();
            assert!(
                status(&answer) == 401 && answer.contains("reserved for local access"),
                "{method} {target}: {answer}"
            );
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn local_access_works_while_files_are_broken_and_callers_are_answered_after_the_repair() {
    type Change = fn(&Path);
    let faults: [(&str, Change); 6] = [
        ("tls_invalid", |dir| std::fs::write(dir.join("server.pem"), "damaged").unwrap()),
        ("tls_invalid", |dir| std::fs::remove_file(dir.join("ca.pem")).unwrap()),
        ("tls_invalid", |dir| {
            std::fs::set_permissions(dir.join("server.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("grants_invalid", |dir| std::fs::write(dir.join("grants.toml"), "[[grant]]\nverb = 1\n").unwrap()),
        ("grants_invalid", |dir| std::fs::remove_file(dir.join("grants.toml")).unwrap()),
        ("grants_invalid", |dir| {
            std::fs::set_permissions(dir.join("grants.toml"), std::fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (code, change) in faults {
        let mut kept = Vec::new();
        let local = Local::start(|dir| {
            for name in ["server.pem", "ca.pem", "server.key", "grants.toml"] {
                kept.push((name, std::fs::read_to_string(dir.join(name)).unwrap()));
            }
            change(dir);
        });
        let health = local.ask("GET", "/v1/health").await;
        assert_eq!(status(&health), 503, "{health}");
        assert!(health.contains("interface_closed") && health.contains(code), "{health}");
        assert_eq!(status(&local.ask("GET", "/v1/executions").await), 200);
        let kill = "/v1/executions/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa/kill";
        assert_eq!(status(&local.ask("POST", kill).await), 404, "there is no such execution");
        assert!(!local.at("state/api.address").exists());
        for (name, text) in kept {
            write_private(&local.at("new"), &text);
            std::fs::rename(local.at("new"), local.at(name)).unwrap();
        }
        let caller = Caller { address: local.address().await, root: local.root.clone() };
        let ann = leaf(&local.issuer, &["spiffe://x/ann"], |_| {});
        let answer = caller.ask(Some(&ann), "GET", "/v1/executions", "").await.unwrap();
        assert_eq!(status(&answer), 200, "{answer}");
        let health = local.ask("GET", "/v1/health").await;
        assert!(status(&health) == 200 && !health.contains("interface_closed"), "{health}");
        local.stop().await;
    }
}

#[tokio::test]
async fn a_closed_interface_resets_every_connection() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (dir, issuer, root) = prepare();
    std::fs::write(dir.path().join("grants.toml"), "broken").unwrap();
    let text = text(dir.path()).replace("127.0.0.1:0", &free.to_string());
    let (ours, _launcher) = UnixStream::pair().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let local = Some(UnixListener::bind(dir.path().join("local.sock")).unwrap());
    let passed = Passed { local, ..Passed::default() };
    let running = tokio::spawn(run(Config::parse(&text).unwrap(), None, ours.into(), passed, async move {
        let _ = stopped.await;
    }));
    let mut stream = TokioUnixStream::connect(dir.path().join("local.sock")).await.unwrap();
    stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 503, "it runs");
    let caller = Caller { address: free, root };
    let ann = leaf(&issuer, &["spiffe://x/ann"], |_| {});
    for (method, target) in [("GET", "/v1/health"), ("GET", "/v1/openapi.json"), ("POST", "/v1/executions")] {
        assert!(caller.ask(Some(&ann), method, target, "").await.is_err(), "{target}");
    }
    stop.send(()).unwrap();
    assert!(matches!(running.await.unwrap(), Ok(Ended::Signalled)));
}

#[tokio::test]
async fn connections_are_bounded_and_more_wait() {
    let local = Local::start(|_| {});
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = local.open().await;
        stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_ne!(stream.read(&mut [0; 64]).await.unwrap(), 0);
        held.push(stream);
    }
    let mut asked = Box::pin(local.ask("GET", "/v1/executions"));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(200), asked.as_mut()).await;
    assert!(waits.is_err(), "one too many: {waits:?}");
    held.pop();
    assert_eq!(status(&asked.await), 200);
    drop(held);
    local.stop().await;
}
