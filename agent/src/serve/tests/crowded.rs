//! Many sockets that never say who they are.

use super::*;

/// More than all bounds together.
const MANY: usize = 200;

/// Opens sockets and says nothing on them.
async fn silent(address: SocketAddr) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for _ in 0..MANY {
        sockets.push(TcpStream::connect(address).await.unwrap());
    }
    sockets
}

/// The sockets that the agent has not closed, once it has looked at all of them.
fn open(sockets: &[TcpStream]) -> usize {
    let mut byte = [0];
    let mut is_open =
        |socket: &TcpStream| matches!(socket.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock);
    sockets.iter().filter(|socket| is_open(socket)).count()
}

#[tokio::test]
async fn sockets_without_a_handshake_keep_no_caller_out() {
    let api = Api::start_changed(|config, _| config.api.max_connections = 2).await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let sockets = silent(api.address).await;
    for _ in 0..5 {
        let answer = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
        assert_eq!(status(&answer), 200, "{answer}");
    }
    // All were accepted before the calls were: of one source no more than its share is left.
    assert!(open(&sockets) <= 64, "{} are open", open(&sockets));
    api.stop().await;
}

#[tokio::test]
async fn sockets_on_the_health_listener_keep_no_probe_out_and_it_tells_codes_only() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let api = Api::start_changed(|config, _| config.api.health_listen = Some(address)).await;
    std::fs::write(api.dir.path().join("grants.toml"), "[[grant]]\nprincipal = 7\n").unwrap();
    let sockets = silent(address).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    // Nobody asks for anything that needs the grants: the agent finds the change by itself.
    let answer = loop {
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        if answer.contains("grants_invalid") {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
        tokio::task::yield_now().await;
    };
    assert!(answer.contains("\"code\":\"never_synced\""), "{answer}");
    for hidden in ["grants.toml", "line", "principal", api.dir.path().to_str().unwrap()] {
        assert!(!answer.contains(hidden), "{hidden}: {answer}");
    }
    assert!(open(&sockets) <= 8, "{} are open", open(&sockets));
    // The same for a caller whom no grant names, over TLS; one whom a grant names sees the reason.
    let bob = leaf(&api.issuer, &["spiffe://x/bob"], |_| {});
    let answer = api.ask(Some(&bob), "GET", "/v1/health", "").await.unwrap();
    assert!(answer.contains("grants_invalid") && !answer.contains("grants.toml"), "{answer}");
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let answer = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
    assert!(answer.contains("grants_invalid") && answer.contains("grants.toml"), "{answer}");
    api.stop().await;
}
