//! Connections through a proxy, with TLS from end to end.

use std::sync::Arc;

use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Creates a certificate for `bucket.test` and a client configuration that trusts it.
fn identity() -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["bucket.test".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (server, client.with_root_certificates(roots).with_no_client_auth())
}

/// Starts a server that returns the requested path and host.
async fn server(config: ServerConfig) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let answer = service_fn(|request: Request<Incoming>| async move {
                let host = request.headers()[HOST].to_str().unwrap().to_owned();
                assert!(!request.headers().contains_key(PROXY_AUTHORIZATION), "the credentials are only for the proxy");
                Ok::<_, std::io::Error>(Response::new(Full::new(bytes::Bytes::from(format!(
                    "{host} {}",
                    request.uri()
                )))))
            });
            let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(async move { drop(serve.await) });
        }
    });
    address
}

/// Starts a proxy that tunnels every CONNECT with the right password to `server`.
async fn proxy(server: std::net::SocketAddr) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |mut request: Request<Incoming>| async move {
                let mut response = Response::new(Full::new(bytes::Bytes::new()));
                let password = request.headers().get(PROXY_AUTHORIZATION).map(|value| value.as_bytes().to_vec());
                let asked = (request.method().clone(), request.uri().to_string());
                if asked != (Method::CONNECT, "bucket.test:443".to_owned()) {
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                } else if password.as_deref() != Some(b"Basic dXNlcjpzZWNyZXQ=") {
                    *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
                } else {
                    tokio::spawn(async move {
                        let mut through = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                        let mut to = TcpStream::connect(server).await.unwrap();
                        drop(copy_bidirectional(&mut through, &mut to).await);
                    });
                }
                Ok::<_, std::io::Error>(response)
            });
            let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(async move { drop(serve.with_upgrades().await) });
        }
    });
    address
}

fn shared(proxy: &str, tls: ClientConfig) -> Shared {
    let proxies = Matcher::builder().https(proxy).build();
    Shared { proxies, tls: Mutex::new(Some(Arc::new(tls))), idle: Mutex::new(Vec::new()) }
}

fn get(uri: &str) -> Request<SdkBody> {
    Request::builder().uri(uri).body(SdkBody::empty()).unwrap()
}

#[tokio::test]
async fn https_uses_a_proxy_and_reuses_connections() {
    let (theirs, ours) = identity();
    let proxy = proxy(server(theirs).await).await;
    let shared = shared(&format!("http://user:secret@{proxy}"), ours);
    for n in 0..3 {
        let time = Some(Duration::from_secs(20));
        let response = shared.send(get(&format!("https://bucket.test/object?n={n}")), time, time).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, format!("bucket.test /object?n={n}"));
        assert_eq!(shared.idle.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_refusing_proxy_and_a_wrong_server_are_reported() {
    let (theirs, ours) = identity();
    let proxy = proxy(server(theirs).await).await;
    let time = Some(Duration::from_secs(20));
    let refused = shared(&format!("http://user:wrong@{proxy}"), ours.clone());
    let error = refused.send(get("https://bucket.test/"), time, time).await.unwrap_err();
    assert!(error.to_string().contains("407") && !error.to_string().contains("wrong"), "{error}");
    let socks = shared("socks5://127.0.0.1:1", ours.clone());
    let error = socks.send(get("https://bucket.test/"), time, time).await;
    assert!(error.is_err());
    let (_, others) = identity();
    let stranger = shared(&format!("http://user:secret@{proxy}"), others);
    let error = stranger.send(get("https://bucket.test/"), time, time).await.unwrap_err();
    assert!(crate::error::deepest(&error).contains("certificate"), "{error:?}");
}

#[test]
fn only_objects_have_no_limit_here() {
    let max = |method: &Method, uri: &str| max_response(method, &uri.parse().unwrap());
    assert_eq!(max(&Method::GET, "/packs/bolt/metadata/timestamp.json?x-id=GetObject"), None);
    assert_eq!(max(&Method::GET, "http://127.0.0.1/packs?list-type=2&prefix=bolt%2F"), Some(MAX_LISTING));
    for other in
        ["/packs/x-id=GetObject", "/federation/credentials?role_name=x", "/latest/meta-data/", "/?x-id=GetObjectAcl"]
    {
        assert_eq!(max(&Method::GET, other), Some(MAX_RESPONSE), "{other}");
    }
    assert_eq!(max(&Method::PUT, "/packs/a?x-id=GetObject"), Some(MAX_RESPONSE));
}

#[test]
fn a_connection_of_a_blocked_runtime_is_not_reused() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (servers, stands_still) = (runtime(), runtime());
    let (theirs, ours) = identity();
    let proxy = servers.block_on(async { proxy(server(theirs).await).await });
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = Arc::clone(&stop);
    let carrier = std::thread::spawn(move || servers.block_on(stopped.notified()));
    let shared = shared(&format!("http://user:secret@{proxy}"), ours);
    let time = Some(Duration::from_secs(20));
    let ask = async || {
        let response = shared.send(get("https://bucket.test/"), time, time).await.unwrap();
        response.into_body().collect().await.unwrap()
    };
    stands_still.block_on(async {
        ask().await;
        // Like a blocking call in an async function.
        std::thread::scope(|scope| scope.spawn(|| runtime().block_on(async { drop(ask().await) })).join().unwrap());
    });
    stop.notify_one();
    carrier.join().unwrap();
}
