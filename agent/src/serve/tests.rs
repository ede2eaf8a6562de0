//! The interface over real TLS: which callers are admitted, and that every route refuses all others.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

mod random;
mod recovering;
mod scope;
mod stopping;

mod access_review;
mod crowded;
mod ends;
mod found;
mod identity;
mod list_shapes;
mod local;
mod revoked;
mod shapes;

type Authority = Issuer<'static, KeyPair>;

/// Certificate with its key, both PEM.
struct Identity {
    certificate: String,
    key: String,
}

fn authority() -> (Authority, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn leaf(issuer: &Authority, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.strip_prefix("dns:") {
            Some(dns) => SanType::DnsName(dns.try_into().unwrap()),
            None => SanType::URI((*name).try_into().unwrap()),
        })
        .collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.signed_by(&key, issuer).unwrap().pem(), key: key.serialize_pem() }
}

/// Api with a launcher that never answers, for requests that must not reach it.
struct Api {
    dir: tempfile::TempDir,
    address: SocketAddr,
    issuer: Authority,
    root: String,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<Result<Ended, StartError>>,
    _launcher: UnixStream,
}

const GRANTS: &str = "[[grant]]\nprincipal = \"spiffe://x/ann\"\nverbs = [\"read\", \"run\", \"kill\", \"sync\", \"push\"]\nactions = [\"*\"]\n";

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// Returns an `agent.toml` for files in `dir`.
fn text(dir: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    format!(
        "[instance]\nid = \"i-1\"\n[api]\nlisten = \"127.0.0.1:0\"\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
         [paths]\nstate = {:?}\npacks = {:?}\nruntime = {:?}\ngrants = {:?}\n\
         [repository]\nurl = \"file:///nowhere\"\nroot = {:?}\nchannel = \"dev\"\n",
        at("server.pem"),
        at("server.key"),
        at("ca.pem"),
        at("state"),
        at("packs"),
        at("run"),
        at("grants.toml"),
        at("root.json"),
    )
}

fn config(dir: &Path) -> Config {
    Config::parse(&text(dir)).unwrap()
}

fn prepare() -> (tempfile::TempDir, Authority, String) {
    use std::os::unix::fs::DirBuilderExt;
    let dir = tempfile::tempdir().unwrap();
    let (issuer, root) = authority();
    let server = leaf(&issuer, &["bolt://instance/i-1", "dns:localhost"], |_| {});
    std::fs::write(dir.path().join("server.pem"), server.certificate).unwrap();
    write_private(&dir.path().join("server.key"), &server.key);
    std::fs::write(dir.path().join("ca.pem"), &root).unwrap();
    std::fs::write(dir.path().join("grants.toml"), GRANTS).unwrap();
    std::fs::DirBuilder::new().mode(0o700).create(dir.path().join("state")).unwrap();
    (dir, issuer, root)
}

impl Api {
    async fn start() -> Api {
        Api::start_with(|_| {}).await
    }

    /// Starts with a change of its directory.
    async fn start_with(change: impl FnOnce(&Path)) -> Api {
        Api::start_changed(|config, _| change(config.tls.key.parent().unwrap())).await
    }

    /// Starts with another configuration, or other files of this authority.
    async fn start_changed(change: impl FnOnce(&mut Config, &Authority)) -> Api {
        let (dir, issuer, root) = prepare();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut config = config(dir.path());
        change(&mut config, &issuer);
        let file = config.paths.state.join("api.address");
        let watched = dir.path().join("agent.toml");
        let watched = watched.exists().then_some(watched);
        let ended = tokio::spawn(run(config, watched, ours.into(), Passed::default(), async move {
            let _ = stopped.await;
        }));
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&file) {
                break text.trim().parse().unwrap();
            }
            assert!(!ended.is_finished() && tokio::time::Instant::now() < deadline, "it did not start");
            tokio::task::yield_now().await;
        };
        Api { dir, address, issuer, root, stop: Some(stop), ended, _launcher: theirs }
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        assert!(matches!(self.ended.await.unwrap(), Ok(Ended::Signalled)));
        assert!(!self.dir.path().join("state/api.address").exists());
    }

    fn caller(&self) -> Caller {
        Caller { address: self.address, root: self.root.clone() }
    }

    async fn raw(&self, identity: Option<&Identity>, request: &str) -> io::Result<String> {
        self.caller().raw(identity, request).await
    }

    async fn open(&self, identity: Option<&Identity>, request: &str) -> io::Result<TlsStream<TcpStream>> {
        self.caller().open(identity, request).await
    }

    async fn ask(&self, identity: Option<&Identity>, method: &str, target: &str, more: &str) -> io::Result<String> {
        self.caller().ask(identity, method, target, more).await
    }
}

/// Client of an address whose authority is `root`.
struct Caller {
    address: SocketAddr,
    root: String,
}

impl Caller {
    fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        self.client_with(identity, rustls::crypto::aws_lc_rs::default_provider())
    }

    fn client_with(&self, identity: Option<&Identity>, provider: rustls::crypto::CryptoProvider) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain =
                    CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }

    /// Opens a connection and sends `request`.
    async fn open(&self, identity: Option<&Identity>, request: &str) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(self.client(identity))).connect(name, tcp).await?;
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }

    /// Sends a request unchanged, returns everything that is received.
    async fn raw(&self, identity: Option<&Identity>, request: &str) -> io::Result<String> {
        let mut stream = self.open(identity, request).await?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    async fn ask(&self, identity: Option<&Identity>, method: &str, target: &str, more: &str) -> io::Result<String> {
        let head = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n");
        self.raw(identity, &head).await
    }
}

/// Returns every route of the interface, with example names in its path.
fn every_route(api: &Api) -> Vec<(String, String, bool)> {
    let _ = api;
    let document = crate::api::openapi_document();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let target = path
                .replace("{id}", "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa")
                .replace("{action}", "linux.a")
                .replace("{pack}", "linux");
            routes.push((method.to_ascii_uppercase(), target, operation["x-bolt-verb"] != "none"));
        }
    }
    assert!(routes.len() >= 17);
    routes
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test]
async fn no_route_answers_without_a_certificate_of_the_authority() {
    let api = Api::start().await;
    let (other, _) = authority();
    let stranger = leaf(&other, &["spiffe://x/ann"], |_| {});
    let expired = leaf(&api.issuer, &["spiffe://x/ann"], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let server_only = leaf(&api.issuer, &["spiffe://x/ann"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (method, target, _) in every_route(&api) {
        for identity in [None, Some(&stranger), Some(&expired), Some(&server_only)] {
            let answer = api.ask(identity, &method, &target, "").await;
            assert!(answer.is_err(), "{method} {target}: {answer:?}");
        }
    }
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let health = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
    assert_eq!(status(&health), 200, "{health}");
    assert!(health.contains("never_synced") && health.contains("bolt-request-id: "), "{health}");
    api.stop().await;
}

#[tokio::test]
async fn no_route_answers_a_caller_without_one_name_or_without_a_grant() {
    let api = Api::start().await;
    let nameless = leaf(&api.issuer, &["dns:somewhere"], |_| {});
    let twice = leaf(&api.issuer, &["spiffe://x/ann", "spiffe://x/bob"], |_| {});
    let star = leaf(&api.issuer, &["spiffe://x/*"], |_| {});
    let bob = leaf(&api.issuer, &["spiffe://x/bob"], |_| {});
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    for (method, target, needs_grant) in every_route(&api) {
        for identity in [&nameless, &twice, &star] {
            let answer = api.ask(Some(identity), &method, &target, "").await.unwrap();
            assert_eq!(status(&answer), 401, "{method} {target}: {answer}");
            assert!(answer.contains("\"code\":\"unauthenticated\""), "{answer}");
        }
        if needs_grant {
            let answer = api.ask(Some(&bob), &method, &target, "").await.unwrap();
            assert_eq!(status(&answer), 403, "{method} {target}: {answer}");
        }
        let answer = api.ask(Some(&ann), &method, &target, "origin: null\r\n").await.unwrap();
        assert_eq!(status(&answer), 403, "{method} {target}: {answer}");
        let answer = api.ask(Some(&ann), &method, &format!("{target}?colour=red"), "").await.unwrap();
        assert_eq!(status(&answer), 400, "{method} {target}: {answer}");
        assert!(answer.contains("colour") && answer.contains("application/problem+json"), "{answer}");
    }
    api.stop().await;
}

#[tokio::test]
async fn keys_are_exchanged_with_ml_kem_and_by_older_callers_without() {
    use rustls::NamedGroup::{self, X25519, X25519MLKEM768, secp256r1};
    let api = Api::start().await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let caller = api.caller();
    let exchange = async |offered: &[NamedGroup]| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if !offered.is_empty() {
            provider.kx_groups.retain(|group| offered.contains(&group.name()));
        }
        let config = caller.client_with(Some(&ann), provider);
        let tcp = TcpStream::connect(api.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        stream.get_ref().1.negotiated_key_exchange_group().unwrap().name()
    };
    assert_eq!(exchange(&[]).await, X25519MLKEM768, "what clients offer");
    assert_eq!(exchange(&[X25519]).await, X25519);
    assert_eq!(exchange(&[secp256r1]).await, secp256r1);
    api.stop().await;
}

#[tokio::test]
async fn an_invalid_request_is_refused_with_its_problem() {
    let api = Api::start().await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let json = "content-type: application/json\r\n";
    let post = |body: &str, more: &str| {
        let length = body.len();
        format!(
            "POST /v1/executions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
        )
    };
    let long = format!("{{\"action\":\"linux.a\",\"note\":\"{}\"}}", "x".repeat(501));
    for (request, code, wanted) in [
        (post("{\"action\":\"linux.a\"}", ""), 415, "unsupported_media_type"),
        (post("nonsense", json), 400, "invalid_body"),
        (post("{\"action\":\"linux.a\",\"action\":\"linux.b\"}", json), 400, "duplicate key"),
        (post("{\"action\":\"linux.a\",\"instance\":\"i-2\"}", json), 421, "wrong_instance"),
        (post("{\"action\":\"linux.a\"}", json), 404, "unknown_action"),
        (post(&long, json), 400, "note"),
        (post(&" ".repeat(70_000), json), 413, "body_too_large"),
        ("DELETE /v1/executions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 405, "allow: POST, GET"),
        ("GET /v1/nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 404, "not_found"),
        ("GET /v1/executions/xyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 400, "execution id"),
        (
            "GET /v1/executions/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                .to_owned(),
            404,
            "unknown_execution",
        ),
    ] {
        let answer = api.raw(Some(&ann), &request).await.unwrap();
        assert_eq!(status(&answer), code, "{answer}");
        assert!(answer.contains(wanted), "{wanted}: {answer}");
    }
    // The same without a length, in chunks.
    let chunks: String = std::iter::repeat_n(format!("2000\r\n{}\r\n", " ".repeat(0x2000)), 9).collect();
    let chunked = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{json}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    let answer = api.raw(Some(&ann), &chunked).await.unwrap();
    assert_eq!(status(&answer), 413, "{answer}");
    api.stop().await;
}

#[tokio::test]
async fn a_caller_needs_the_usage_and_the_authorities_between_may_leave_it_out() {
    let api = Api::start().await;
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    for (between, own, accepted) in [
        (vec![], vec![client.clone()], true),
        (vec![client.clone(), server.clone()], vec![client.clone()], true),
        (vec![server.clone()], vec![client.clone()], false),
        (vec![], vec![], false),
        (vec![client.clone()], vec![], false),
        (vec![], vec![server.clone()], false),
        (vec![], vec![ExtendedKeyUsagePurpose::Any], false),
    ] {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "between");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = between.clone();
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &api.issuer).unwrap().pem();
        let mut ann = leaf(&Issuer::new(params, key), &["spiffe://x/ann"], |params| {
            params.extended_key_usages = own.clone();
        });
        ann.certificate += &pem;
        let answer = api.ask(Some(&ann), "GET", "/v1/health", "").await;
        assert_eq!(answer.is_ok(), accepted, "{between:?} {own:?}: {answer:?}");
    }
    api.stop().await;
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let api = Api::start().await;
    // A ClientHello of TLS 1.2 (RFC 5246, 7.4.1.2): no supported_versions, one cipher suite, X25519 and P-256 offered.
    let extensions: &[u8] = &[
        0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x1d, 0x00, 0x17, // supported groups
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // point formats
        0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03, // signature algorithms
    ];
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    hello.extend([0x00, 0x00, 0x02, 0xc0, 0x2b, 0x01, 0x00]);
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![0x16, 0x03, 0x01];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([0x01, 0x00]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    let mut tcp = TcpStream::connect(api.address).await.unwrap();
    tcp.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    // A fatal alert (2), protocol_version (70).
    assert_eq!(answer.get(..1), Some(&[0x15][..]), "{answer:?}");
    assert_eq!(answer.get(5..7), Some(&[2, 70][..]), "{answer:?}");
    api.stop().await;
}

#[tokio::test]
async fn changed_certificates_apply_and_broken_ones_do_not() {
    let api = Api::start().await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let ca = api.dir.path().join("ca.pem");
    // At once: a file that is written in place is read when it has settled.
    let put = |text: &str| {
        std::fs::write(ca.with_extension("new"), text).unwrap();
        std::fs::rename(ca.with_extension("new"), &ca).unwrap();
    };
    put("broken");
    let health = api.ask(Some(&ann), "GET", "/v1/health", "").await.unwrap();
    assert!(health.contains("tls_invalid"), "{health}");
    let (other, pem) = authority();
    put(&pem);
    assert!(api.ask(Some(&ann), "GET", "/v1/health", "").await.is_err(), "its authority is no longer trusted");
    let eve = leaf(&other, &["spiffe://x/ann"], |_| {});
    let health = api.ask(Some(&eve), "GET", "/v1/health", "").await.unwrap();
    assert!(!health.contains("tls_invalid"), "{health}");
    api.stop().await;
}

async fn refusal(config: Config) -> String {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let started = run(config, None, ours.into(), Passed::default(), std::future::pending());
    match tokio::time::timeout(std::time::Duration::from_secs(20), started).await {
        Ok(Err(error)) => crate::log::chain(&error),
        Ok(Ok(_)) | Err(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let said = local::health_of_closed(|dir| {
        std::fs::set_permissions(dir.join("server.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    })
    .await;
    assert!(said.contains("server.key") && said.contains("0644") && said.contains("chmod 0600"), "{said}");
}

#[tokio::test]
async fn a_port_in_use_and_a_state_directory_in_use_are_reported() {
    let api = Api::start().await;
    let said = refusal(config(api.dir.path())).await;
    assert!(said.contains("in use by a running agent"), "{said}");
    let (dir, _issuer, _root) = prepare();
    let mut config = config(dir.path());
    config.api.listen = api.address;
    let said = refusal(config).await;
    assert!(said.contains("the port is in use") && said.contains(&api.address.to_string()), "{said}");
    api.stop().await;
}

#[tokio::test]
async fn the_api_ends_when_the_launcher_disconnects() {
    let (dir, _issuer, _root) = prepare();
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let ended = run(config(dir.path()), None, ours.into(), Passed::default(), std::future::pending()).await;
    assert!(matches!(ended, Ok(Ended::LauncherGone)));
}
