//! Raw HTTPS requests with any certificate and any bytes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bolt_client::local::Caller;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use packs_schema::agent::rest::Problem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// Parses the body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.text()))
    }

    /// Parses the body as a problem, whose status and media type must match the answer's.
    pub fn problem(&self) -> Problem {
        assert_eq!(
            self.headers.get(CONTENT_TYPE).map(|v| v.as_bytes()),
            Some(&b"application/problem+json"[..]),
            "{self:?}"
        );
        let problem: Problem = self.json();
        assert_eq!(problem.status, self.status.as_u16(), "{problem:?}");
        problem
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// A GET.
    pub fn get(path: &str) -> Call {
        Call { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// A POST of JSON.
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Call {
        let call = Call { method: Method::POST, body: body.into(), ..Call::get(path) };
        call.header("content-type", "application/json")
    }

    /// Creates a request with another method.
    pub fn method(method: Method, path: &str) -> Call {
        Call { method, ..Call::get(path) }
    }

    /// Sets a header, in place of one with the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Call {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Sends one request over a new connection with `identity`'s certificate, or none. The error is the
/// connection's: a refused handshake.
pub async fn send(address: SocketAddr, identity: Option<&Caller>, call: Call) -> Result<Answer, String> {
    send_with(address, identity, &TLS13, call).await
}

/// [`send`] with a version of TLS.
pub async fn send_with(
    address: SocketAddr,
    identity: Option<&Caller>,
    version: &'static SupportedProtocolVersion,
    call: Call,
) -> Result<Answer, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let stream = TcpStream::connect(address).await.map_err(|e| text(&e))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config(identity, version)));
    let name = ServerName::try_from("agent.invalid").expect("a valid name");
    let stream = connector.connect(name, stream).await.map_err(|e| text(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(call.method).uri(call.path).header("host", "agent");
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(call.body))).map_err(|e| text(&e))?;
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(e) => {
            // In TLS 1.3 a refused client certificate shows at the first read.
            let why = connection
                .await
                .map_or_else(|e| text(&e), |ended| ended.map_or_else(|e| format!("{e:?}"), |()| text(&e)));
            return Err(why);
        }
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| text(&e))?.to_bytes();
    connection.abort();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// A connection that is held open. Closed when it is dropped.
#[derive(Debug)]
pub struct Held(tokio_rustls::client::TlsStream<TcpStream>);

impl Held {
    /// Connects, sends the head of a GET for `path` (nothing, when there is none), and then neither reads nor writes.
    pub async fn open(address: SocketAddr, identity: &Caller, path: Option<&str>) -> Result<Held, String> {
        let text = |e: std::io::Error| e.to_string();
        let stream = TcpStream::connect(address).await.map_err(text)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config(Some(identity), &TLS13)));
        let name = ServerName::try_from("agent.invalid").expect("a valid name");
        let mut held = Held(connector.connect(name, stream).await.map_err(text)?);
        if let Some(path) = path {
            held.ask(path).await?;
        }
        Ok(held)
    }

    /// Sends the head of a GET.
    pub async fn ask(&mut self, path: &str) -> Result<(), String> {
        self.write(&format!("GET {path} HTTP/1.1\r\nhost: agent\r\n\r\n")).await
    }

    /// Sends a part of a request.
    pub async fn write(&mut self, text: &str) -> Result<(), String> {
        use tokio::io::AsyncWriteExt as _;
        self.0.write_all(text.as_bytes()).await.map_err(|e| e.to_string())?;
        self.0.flush().await.map_err(|e| e.to_string())
    }

    /// Reads until the agent closes the connection.
    pub async fn to_close(&mut self) -> Result<String, String> {
        use tokio::io::AsyncReadExt as _;
        let mut read = Vec::new();
        self.0.read_to_end(&mut read).await.map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    /// Reads the rest of a streamed answer, to its last chunk.
    pub async fn to_end(&mut self) -> Result<(), String> {
        use tokio::io::AsyncReadExt as _;
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n0\r\n\r\n") {
            if self.0.read_buf(&mut read).await.map_err(|e| e.to_string())? == 0 {
                return Err("the connection was closed before the end".to_owned());
            }
        }
        Ok(())
    }

    /// Sends another GET, and reads the whole answer: its head and its body.
    pub async fn get(&mut self, path: &str) -> Result<String, String> {
        use tokio::io::AsyncReadExt as _;
        let text = |e: std::io::Error| e.to_string();
        self.ask(path).await?;
        let head = self.read_until("\r\n\r\n").await?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.ok_or_else(|| format!("it does not say its length: {head}"))?];
        self.0.read_exact(&mut body).await.map_err(text)?;
        Ok(head + &String::from_utf8_lossy(&body))
    }

    /// Reads up to and including `end`; returns what was read.
    pub async fn read_until(&mut self, end: &str) -> Result<String, String> {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            read.push(self.first_byte().await?);
        }
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    /// Returns the agent's own certificate, in DER, that this connection was made with.
    pub fn server_certificate(&self) -> Vec<u8> {
        let sent = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        sent.map(|certificate| certificate.to_vec()).unwrap_or_default()
    }

    /// The first byte of the answer.
    pub async fn first_byte(&mut self) -> Result<u8, String> {
        use tokio::io::AsyncReadExt as _;
        self.0.read_u8().await.map_err(|e| e.to_string())
    }
}

/// The TLS configuration of a caller.
pub(crate) fn of(identity: &Caller) -> ClientConfig {
    config(Some(identity), &TLS13)
}

/// The TLS configuration of a peer without a certificate.
pub(crate) fn anonymous() -> ClientConfig {
    config(None, &TLS13)
}

/// TLS configuration that accepts any server certificate.
fn config(identity: Option<&Caller>, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .expect("the provider has this version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    match identity {
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(&read(&identity.certificate))
                .collect::<Result<Vec<_>, _>>()
                .expect("the certificate is PEM");
            let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)).expect("the key is PEM");
            builder.with_client_auth_cert(chain, key).expect("certificate and key fit")
        }
        None => builder.with_no_client_auth(),
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// These tests are about what the agent checks.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
