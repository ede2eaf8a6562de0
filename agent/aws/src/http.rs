//! HTTP/1.1 client for the SDK, based on hyper and rustls like the rest of Bolt. The SDK's own client depends on HTTP/2 and a second
//! set of connectors.
//!
//! ```text
//!  SDK: signed request ──▶ idle connection, or dial (directly or through a proxy) ──▶ response ──▶ SDK
//! ```
//!
//! The server is untrusted: the SDK collects responses other than objects in memory, so they are limited to
//! [`MAX_RESPONSE`] bytes, and a page of a listing to [`MAX_LISTING`].
//!
//! Must never: follow a redirect, or print a header, which may contain signatures and tokens.

mod dial;
mod tls;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;

use crate::environment::Checked;
use dial::Connection;
#[cfg(feature = "ec2")]
pub(crate) use tls::host_authorities;

/// Maximum size of a response that is neither an object nor a page of a listing, in bytes.
const MAX_RESPONSE: usize = 1 << 20;
/// Maximum size of a page of a listing, in bytes: 1000 keys of 1024 bytes, each of which may be encoded in three.
const MAX_LISTING: usize = 4 << 20;
/// Parameter of the SDK's requests for an object.
const OBJECT: &str = "x-id=GetObject";
/// Parameter of requests for a listing.
const LISTING: &str = "list-type=2";
/// Maximum number of idle connections.
const MAX_IDLE: usize = 8;
/// Maximum time for an idle connection to become ready.
const READY_TIMEOUT: Duration = Duration::from_millis(20);

/// Error returned when a request fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("cannot connect to {0}: not a valid address")]
    Address(String),
    #[error("cannot connect to {to}")]
    Connect {
        to: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the proxy: {0}")]
    Proxy(String),
    #[error("this host has no trusted certificate authorities ({0}): install ca-certificates, or set SSL_CERT_FILE")]
    NoAuthorities(String),
    #[error("cannot configure TLS")]
    Tls(#[source] rustls::Error),
    #[error("the connection failed")]
    Http(#[source] hyper::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("no response within {0:?}")]
    ResponseTimeout(Duration),
    #[error("cannot send the request: {0}")]
    Request(String),
}

impl From<HttpError> for ConnectorError {
    fn from(error: HttpError) -> ConnectorError {
        match error {
            HttpError::ConnectTimeout(_) => ConnectorError::timeout(error.into()).never_connected(),
            HttpError::ResponseTimeout(_) => ConnectorError::timeout(error.into()),
            HttpError::Connect { .. } => ConnectorError::io(error.into()).never_connected(),
            HttpError::Http(_) => ConnectorError::io(error.into()),
            HttpError::Address(_)
            | HttpError::Proxy(_)
            | HttpError::NoAuthorities(_)
            | HttpError::Tls(_)
            | HttpError::Request(_) => ConnectorError::user(error.into()),
        }
    }
}

/// HTTP client of the SDK. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    shared: Arc<Shared>,
    /// True if all responses are limited, because none is an object.
    limited: bool,
}

#[derive(Debug)]
struct Shared {
    proxies: Matcher,
    tls: Mutex<Option<Arc<ClientConfig>>>,
    idle: Mutex<Vec<(String, Connection)>>,
}

impl Http {
    /// Returns a client with the proxies of the environment, which the proxy matcher reads again.
    pub(crate) fn new(_: Checked) -> Http {
        Http::with(Matcher::from_env(), false)
    }

    /// Returns a client for services of this host: without a proxy, and with all responses limited to [`MAX_RESPONSE`].
    pub(crate) fn for_this_host() -> Http {
        Http::with(Matcher::builder().build(), true)
    }

    /// Uses this TLS configuration in place of the host's authorities.
    #[cfg(feature = "ec2")]
    pub(crate) fn set_tls(&self, config: Arc<ClientConfig>) {
        *self.shared.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }

    /// Sends a request that the SDK does not know. The caller limits the response.
    #[cfg(feature = "ec2")]
    pub(crate) async fn send(
        &self,
        request: Request<SdkBody>,
        connect_timeout: Option<Duration>,
        response_timeout: Option<Duration>,
    ) -> Result<Response<Incoming>, HttpError> {
        self.shared.send(request, connect_timeout, response_timeout).await
    }

    fn with(proxies: Matcher, limited: bool) -> Http {
        let shared = Shared { proxies, tls: Mutex::new(None), idle: Mutex::new(Vec::new()) };
        Http { shared: Arc::new(shared), limited }
    }
}

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let (connect_timeout, response_timeout) = (settings.connect_timeout(), settings.read_timeout());
        let (shared, limited) = (Arc::clone(&self.shared), self.limited);
        SharedHttpConnector::new(Connector { shared, limited, connect_timeout, response_timeout })
    }
}

#[derive(Debug)]
struct Connector {
    shared: Arc<Shared>,
    limited: bool,
    connect_timeout: Option<Duration>,
    response_timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let shared = Arc::clone(&self.shared);
        let (connect_timeout, response_timeout) = (self.connect_timeout, self.response_timeout);
        let limited = self.limited;
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| HttpError::Request(e.to_string()))?;
            let max = max_response(request.method(), request.uri()).or(limited.then_some(MAX_RESPONSE));
            let response = shared.send(request, connect_timeout, response_timeout).await?;
            let is_success = response.status().is_success();
            let response = response.map(|body| match max {
                None if is_success => SdkBody::from_body_1_x(body),
                max => SdkBody::from_body_1_x(Limited::new(body, max.unwrap_or(MAX_RESPONSE))),
            });
            Ok(HttpResponse::try_from(response).map_err(|e| HttpError::Request(e.to_string()))?)
        })
    }
}

impl Shared {
    async fn send(
        &self,
        request: Request<SdkBody>,
        connect_timeout: Option<Duration>,
        response_timeout: Option<Duration>,
    ) -> Result<Response<Incoming>, HttpError> {
        let uri = request.uri().clone();
        let key = connection_key(&uri);
        let mut connection = match self.take_idle(&key).await {
            Some(connection) => connection,
            None => {
                let tls = if uri.scheme_str() == Some("https") { Some(self.tls()?) } else { None };
                let late = HttpError::ConnectTimeout(connect_timeout.unwrap_or_default());
                within(connect_timeout, late, dial::dial(&uri, &self.proxies, tls)).await?
            }
        };
        let request = set_target(request, &uri, &connection)?;
        let late = HttpError::ResponseTimeout(response_timeout.unwrap_or_default());
        let sent = connection.sender.send_request(request);
        let response = within(response_timeout, late, async { sent.await.map_err(HttpError::Http) }).await?;
        self.keep(key, connection);
        Ok(response)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, HttpError> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*tls {
            return Ok(Arc::clone(config));
        }
        let config = tls::config()?;
        *tls = Some(Arc::clone(&config));
        Ok(config)
    }

    /// Takes an idle connection that is ready for a request. A connection whose response is still being read stays in the list.
    async fn take_idle(&self, key: &str) -> Option<Connection> {
        let mut connection = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|(_, connection)| !connection.sender.is_closed());
            let index = idle.iter().rposition(|(other, _)| other == key)?;
            idle.swap_remove(index).1
        };
        match tokio::time::timeout(READY_TIMEOUT, connection.sender.ready()).await {
            Ok(Ok(())) => Some(connection),
            Ok(Err(_)) => None,
            Err(_) => {
                self.keep(key.to_owned(), connection);
                None
            }
        }
    }

    fn keep(&self, key: String, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((key, connection));
        }
    }
}

/// Returns the maximum size of the response to a request, in bytes; `None` for an object, which its reader limits.
fn max_response(method: &Method, uri: &Uri) -> Option<usize> {
    let has = |parameter| uri.query().is_some_and(|query| query.split('&').any(|part| part == parameter));
    match *method {
        Method::GET if has(OBJECT) => None,
        Method::GET if has(LISTING) => Some(MAX_LISTING),
        _ => Some(MAX_RESPONSE),
    }
}

/// Returns the key of reusable connections: those to the same server that this thread opened. A connection is driven by a task of the
/// runtime that opened it, which may be blocked while the runtime of another thread is running.
fn connection_key(uri: &Uri) -> String {
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
    format!("{:?} {scheme}://{authority}", std::thread::current().id())
}

async fn within<T>(
    time: Option<Duration>,
    late: HttpError,
    future: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    match time {
        None => future.await,
        Some(time) => tokio::time::timeout(time, future).await.unwrap_or(Err(late)),
    }
}

/// Sets the `Host` header and the request target: only the path, or the whole address for a forwarding proxy.
fn set_target(
    mut request: Request<SdkBody>,
    uri: &Uri,
    connection: &Connection,
) -> Result<Request<SdkBody>, HttpError> {
    if !request.headers().contains_key(HOST) {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(authority).map_err(|e| HttpError::Request(e.to_string()))?;
        request.headers_mut().insert(HOST, host);
    }
    match &connection.forwarded {
        Some(forwarded) => {
            if let Some(value) = &forwarded.authorization {
                request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
            }
        }
        None => {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = path.parse().map_err(|_| HttpError::Address(path.chars().take(200).collect()))?;
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
