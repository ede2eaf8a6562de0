//! An agent's end of the wire: real TLS with client certificates, and answers that a test makes up.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bolt_client::inventory::{Address, Instance};
use bolt_client::pki::{Authority, Issued, Validity};
use bolt_client::tls::Identity;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use packs_schema::agent::rest::{Code, PROBLEM_TYPE, Problem};
use packs_schema::base::name::{InstanceId, Principal};
use packs_schema::delivery::facts::Facts;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, version};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// An answer; its body may break off.
pub(crate) type Answer = Response<BoxBody<Bytes, io::Error>>;

/// An authority, a place for files, and the client's certificate.
pub(crate) struct World {
    pub(crate) authority: Authority,
    dir: tempfile::TempDir,
}

/// A server that ends with this value.
pub(crate) struct Server {
    pub(crate) instance: Instance,
    task: JoinHandle<()>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Number of connections that were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

pub(crate) fn instance(name: &str, address: SocketAddr) -> Instance {
    Instance { facts: Facts::of(id(name)), address: Address::new(&address.to_string()).unwrap() }
}

impl World {
    pub(crate) fn new() -> World {
        World { authority: Authority::create("test").unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    /// A client that this authority vouches for.
    pub(crate) fn identity(&self) -> Identity {
        let principal = Principal::new("spiffe://test/operator").unwrap();
        self.identity_of(&self.authority.issue_client(&principal, Validity::days(1)).unwrap(), "operator")
    }

    /// Returns the authority of this world.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A client with this certificate, which trusts this world's authority.
    pub(crate) fn identity_of(&self, issued: &Issued, stem: &str) -> Identity {
        let dir = self.dir.path().join(format!("{stem}-{}", uuid::Uuid::now_v7()));
        let (certificate, key) = issued.write(&dir, stem).unwrap();
        Identity::load(&certificate, &key, &self.ca_file()).unwrap()
    }

    fn ca_file(&self) -> PathBuf {
        let path = self.dir.path().join("ca.pem");
        std::fs::write(&path, self.authority.cert_pem()).unwrap();
        path
    }

    /// Runs the `bolt` command as the operator, with `inventory.toml` of this world's directory.
    pub(crate) async fn bolt(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().await.unwrap()
    }

    /// The same command, not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let principal = Principal::new("spiffe://test/operator").unwrap();
        let issued = self.authority.issue_client(&principal, Validity::days(1)).unwrap();
        let directory = self.path().join(format!("bolt-{}", uuid::Uuid::now_v7()));
        let (certificate, key) = issued.write(&directory, "operator").unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bolt"));
        command.arg("--cert").arg(certificate).arg("--key").arg(key).arg("--ca").arg(self.ca_file());
        command.arg("--inventory").arg(self.path().join("inventory.toml")).args(arguments);
        // Relative paths of a command lie in this world.
        command.current_dir(&directory);
        command.env("HOME", &directory).env_remove("BOLT_CLIENT_CONFIG").env_remove("XDG_CONFIG_HOME");
        command
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A server that is who it says, called `name`.
    pub(crate) async fn server(
        &self,
        name: &str,
        handler: impl Fn(&Request<Bytes>) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let issued = self.authority.issue_instance(&id(name), Validity::days(1)).unwrap();
        self.server_with(name, &issued, handler).await
    }

    /// A server with this certificate, which the inventory calls `name`.
    pub(crate) async fn server_with(
        &self,
        name: &str,
        issued: &Issued,
        handler: impl Fn(&Request<Bytes>) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.server_on(listener, name, issued, handler)
    }

    /// The same, on a socket that listens already.
    pub(crate) fn server_on(
        &self,
        listener: TcpListener,
        name: &str,
        issued: &Issued,
        handler: impl Fn(&Request<Bytes>) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&self.authority, issued)));
        let instance = instance(name, listener.local_addr().unwrap());
        let handler = Arc::new(handler);
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let (acceptor, handler) = (acceptor.clone(), handler.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(async |request: Request<Incoming>| {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                        Ok::<_, Infallible>(handler(&Request::from_parts(head, body)))
                    });
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Server { instance, task, connections }
    }
}

fn server_config(authority: &Authority, issued: &Issued) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.send_tls13_tickets = 0;
    config
}

/// An answer with a body.
pub(crate) fn answer(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).header("content-type", kind).body(body).unwrap()
}

/// A JSON answer.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    answer(StatusCode::OK, "application/json", serde_json::to_vec(value).unwrap())
}

/// A refusal.
pub(crate) fn problem(code: Code, detail: &str) -> Answer {
    let problem = Problem::new(code, detail, "request-1");
    let status = StatusCode::from_u16(problem.status).unwrap();
    answer(status, PROBLEM_TYPE, serde_json::to_vec(&problem).unwrap())
}

/// An answer that breaks off after `text`.
pub(crate) fn broken_after(text: &str) -> Answer {
    // The pause lets the server send what it has before it breaks off.
    let pieces = [Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes()))), Err(io::Error::other("broken"))];
    let pieces = stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        piece
    });
    Response::new(BoxBody::new(StreamBody::new(Box::pin(pieces))))
}

/// The head of an answer whose body never comes.
pub(crate) fn hold() -> Answer {
    let body = stream::pending::<Result<Frame<Bytes>, io::Error>>();
    Response::new(BoxBody::new(StreamBody::new(Box::pin(body))))
}
