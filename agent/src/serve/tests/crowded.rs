//! Many sockets whose peers never show who they are.

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
    // All were accepted before the calls: of one source no more than its limit is left.
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
    // No request needs the grants: the agent finds the change by itself.
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
    let hidden = ["grants.toml", "line", "principal", api.dir.path().to_str().unwrap(), "message"];
    for hidden in hidden.into_iter().chain(["instance", "i-1", "version", crate::VERSION]) {
        assert!(!answer.contains(hidden), "{hidden}: {answer}");
    }
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let mut keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["degraded", "live", "notes", "ready", "reasons"]);
    for reason in body["reasons"].as_array().unwrap() {
        assert!(reason.as_object().unwrap().keys().eq(["code"]), "{answer}");
    }
    for other in ["GET /v1/metrics", "GET /v1/openapi.json", "POST /v1/health", "GET /v1/health/"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(format!("{other} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 404 ") && body.is_empty(), "{other}: {answer}");
    }
    assert!(open(&sockets) <= 16, "{} are open", open(&sockets));
    // Likewise for a caller whom no grant names, over TLS; a caller whom a grant names sees the reason.
    let bob = leaf(&api.issuer, &["spiffe://x/bob"], |_| {});
    let answer = api.ask(Some(&bob), "GET", "/v1/health", "").await.unwrap();
    assert!(answer.contains("grants_invalid") && !answer.contains("grants.toml"), "{answer}");
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let answer = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
    assert!(answer.contains("grants_invalid") && answer.contains("grants.toml"), "{answer}");
    api.stop().await;
}

/// The beginning of a ClientHello that never goes on.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// A socket from an address of this host, 127.a.b.c for the number.
async fn from(number: u32, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((std::net::Ipv4Addr::from(0x7f00_0000 + number), 0))).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn half_done_handshakes_of_many_addresses_keep_no_caller_out() {
    let api = Api::start().await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let mut sockets = Vec::new();
    for number in 0..600 {
        // Four addresses that have their share each, and then one each.
        let mut socket = from(if number < 256 { 1000 + number % 4 } else { 2000 + number }, api.address).await;
        socket.write_all(HALF).await.unwrap();
        sockets.push(socket);
        if number % 50 == 49 {
            let answer = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
            assert_eq!(status(&answer), 200, "after {number}: {answer}");
        }
    }
    assert!(open(&sockets) <= 256, "{} are open", open(&sockets));
    let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
    let family = "bolt_handshakes_failed_total{listener=\"api\",reason=\"evicted\"} ";
    let evicted = metrics.lines().find_map(|line| line.strip_prefix(family)?.parse::<u32>().ok());
    assert!(evicted.is_some_and(|count| count >= 300), "{evicted:?} in {metrics}");
    api.stop().await;
}

#[tokio::test]
async fn callers_without_a_certificate_are_counted_and_logged_in_a_few_lines() {
    super::scope::take_log();
    let api = Api::start().await;
    for _ in 0..30 {
        assert!(api.ask(None, "GET", "/v1/health", "").await.is_err());
    }
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
    let line = "bolt_handshakes_failed_total{listener=\"api\",reason=\"refused\"} 30";
    assert!(metrics.lines().any(|said| said == line), "{metrics}");
    let log = super::scope::take_log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("before its peer was authenticated")).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].contains("reason=refused") || lines[0].contains("reason=\"refused\""), "{}", lines[0]);
    assert!(lines[0].contains("127.0.0.1"), "{}", lines[0]);
    api.stop().await;
}

#[tokio::test]
async fn a_caller_who_waits_for_a_place_is_not_evicted() {
    let api = Api::start_changed(|config, _| config.api.max_connections = 1).await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let request = "GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut first = api.open(Some(&ann), request).await.unwrap();
    first.read_u8().await.unwrap();
    let mut second = api.open(Some(&ann), request).await.unwrap();
    let mut sockets = Vec::new();
    for number in 0..600 {
        let mut socket = from(4000 + number, api.address).await;
        socket.write_all(HALF).await.unwrap();
        sockets.push(socket);
    }
    let deadline = std::time::Duration::from_secs(20);
    while open(&sockets) > 256 {
        tokio::task::yield_now().await;
    }
    drop(first);
    let answered = tokio::time::timeout(deadline, second.read_u8()).await.expect("it is answered");
    assert_eq!(answered.unwrap(), b'H');
    api.stop().await;
}
