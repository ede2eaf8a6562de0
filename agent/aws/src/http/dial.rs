//! New connections: directly to the server, or through a proxy according to `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
//!
//! Services that issue credentials to a host or container have link-local or loopback addresses. They are never reached through a
//! proxy, which would receive this host's credentials or return its own.

use std::net::IpAddr;
use std::sync::Arc;

use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::HttpError;

/// Size of the read buffer of a connection, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<SdkBody>,
    /// Present when a proxy forwards each request.
    pub(super) forwarded: Option<Forwarded>,
}

/// Forwarding of plain `http` by a proxy: requests contain the whole address.
#[derive(Debug, Clone)]
pub(super) struct Forwarded {
    pub(super) authorization: Option<HeaderValue>,
}

/// Opens a connection for `uri`.
pub(super) async fn dial(
    uri: &Uri,
    proxies: &Matcher,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Connection, HttpError> {
    let (host, port) = target(uri)?;
    let proxy = if is_local(&host) { None } else { proxies.intercept(uri) };
    let Some(proxy) = proxy else {
        let tcp = connect(&host, port).await?;
        return finish(tcp, &host, tls, None).await;
    };
    if proxy.uri().scheme_str() != Some("http") {
        return Err(HttpError::Proxy(format!("{} is not http://host:port", without_password(proxy.uri()))));
    }
    let (proxy_host, proxy_port) = target(proxy.uri())?;
    let tcp = connect(&proxy_host, proxy_port).await?;
    if tls.is_none() {
        let forwarded = Forwarded { authorization: authorization(&proxy) };
        return finish(tcp, &host, None, Some(forwarded)).await;
    }
    let tunnel = tunnel(tcp, &host, port, &proxy).await?;
    finish(tunnel, &host, tls, None).await
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, HttpError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port)).await;
    let tcp = tcp.map_err(|source| HttpError::Connect { to: format!("{host}:{port}"), source })?;
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

async fn finish<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: T,
    host: &str,
    tls: Option<Arc<ClientConfig>>,
    forwarded: Option<Forwarded>,
) -> Result<Connection, HttpError> {
    let sender = match tls {
        None => handshake(io).await?,
        Some(config) => {
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(bare).map_err(|_| HttpError::Address(host.to_owned()))?;
            let connected = TlsConnector::from(config).connect(name, io).await;
            handshake(connected.map_err(|source| HttpError::Connect { to: host.to_owned(), source })?).await?
        }
    };
    Ok(Connection { sender, forwarded })
}

async fn handshake<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: T,
) -> Result<SendRequest<SdkBody>, HttpError> {
    let (sender, connection) =
        http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(io)).await.map_err(HttpError::Http)?;
    // Errors are reported to the request. The task ends when the sender is dropped.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Opens a tunnel to `host` through the proxy (CONNECT).
async fn tunnel(
    tcp: TcpStream,
    host: &str,
    port: u16,
    proxy: &Intercept,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(HttpError::Http)?;
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let authority = format!("{host}:{port}");
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(HOST, &authority);
    if let Some(value) = authorization(proxy) {
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| HttpError::Address(authority.clone()))?;
    let response = sender.send_request(request).await.map_err(HttpError::Http)?;
    if !response.status().is_success() {
        return Err(HttpError::Proxy(format!("it answered {} for {authority}", response.status())));
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(HttpError::Http)?))
}

fn authorization(proxy: &Intercept) -> Option<HeaderValue> {
    if let Some(value) = proxy.basic_auth() {
        return Some(value.clone());
    }
    let (user, password) = proxy.raw_auth()?;
    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).ok()
}

/// Returns host and port of an address.
pub(super) fn target(uri: &Uri) -> Result<(String, u16), HttpError> {
    let host = uri.host().ok_or_else(|| HttpError::Address(without_password(uri)))?;
    let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Ok((host.to_owned(), uri.port_u16().unwrap_or(default_port)))
}

/// Returns true for loopback and link-local addresses and the metadata services.
fn is_local(host: &str) -> bool {
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        // fd00:ec2::254 and fd00:ec2::23: the metadata services over IPv6.
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local() || ip.segments()[..2] == [0xfd00, 0x0ec2],
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn without_password(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{}", uri.scheme_str().unwrap_or(""), authority.rsplit('@').next().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_issue_credentials_are_not_reached_through_a_proxy() {
        for local in ["169.254.169.254", "169.254.170.2", "127.0.0.1", "localhost", "[::1]", "[fd00:ec2::254]"] {
            assert!(is_local(local), "{local}");
        }
        for other in ["s3.eu-west-1.amazonaws.com", "10.0.0.1", "[2600::1]"] {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn an_address_is_printed_without_its_password() {
        let uri: Uri = "http://user:secret@proxy.example:3128/x".parse().unwrap();
        assert_eq!(without_password(&uri), "http://proxy.example:3128");
    }
}
