//! HTTP/1.1 for the SDK, over hyper and rustls as the rest of Bolt has them.
//!
//! ```text
//!  SDK: signed request ──▶ idle connection, or dial (straight, or by a proxy) ──▶ answer ──▶ SDK
//! ```
//!
//! The SDK's own client needs HTTP/2 and a second set of connectors; this one is what a bucket needs. What answers is
//! hostile: an answer that is no object is cut after [`MAX_ANSWER`], since the SDK collects those in memory.
//!
//! Must never: follow a redirect, or print a header (they hold signatures and tokens).

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

/// The longest answer that is no object, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// The most connections that are kept for a next request.
const MAX_IDLE: usize = 8;
/// How long an idle connection may take to show that it can take another request.
const READY_WITHIN: Duration = Duration::from_millis(20);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0} is not an address that can be connected to")]
    Address(String),
    #[error("cannot connect to {to}")]
    Connect {
        to: String,
        #[source]
        source: io::Error,
    },
    #[error("the proxy cannot be used: {0}")]
    Proxy(String),
    #[error("this host trusts no authorities ({0}): install ca-certificates, or set SSL_CERT_FILE")]
    NoAuthorities(String),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("the connection broke")]
    Http(#[source] hyper::Error),
    #[error("no connection within {0:?}")]
    ConnectTime(Duration),
    #[error("no answer within {0:?}")]
    AnswerTime(Duration),
    #[error("the request cannot be sent: {0}")]
    Request(String),
}

impl From<HttpError> for ConnectorError {
    fn from(error: HttpError) -> ConnectorError {
        match error {
            HttpError::ConnectTime(_) => ConnectorError::timeout(error.into()).never_connected(),
            HttpError::AnswerTime(_) => ConnectorError::timeout(error.into()),
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

/// The client that the SDK is given. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    shared: Arc<Shared>,
    /// No answer is an object.
    bounded: bool,
}

#[derive(Debug)]
struct Shared {
    proxies: Matcher,
    tls: Mutex<Option<Arc<ClientConfig>>>,
    idle: Mutex<Vec<(String, Connection)>>,
}

impl Http {
    /// With the proxies that the environment names; the matcher reads the variables again by itself.
    pub(crate) fn new(_: Checked) -> Http {
        Http::with(Matcher::from_env(), false)
    }

    /// For a service of this host, which has no objects: every answer is cut after [`MAX_ANSWER`], and no proxy is asked.
    pub(crate) fn of_this_host() -> Http {
        Http::with(Matcher::builder().build(), true)
    }

    fn with(proxies: Matcher, bounded: bool) -> Http {
        let shared = Shared { proxies, tls: Mutex::new(None), idle: Mutex::new(Vec::new()) };
        Http { shared: Arc::new(shared), bounded }
    }
}

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let (connect, answer) = (settings.connect_timeout(), settings.read_timeout());
        let (shared, bounded) = (Arc::clone(&self.shared), self.bounded);
        SharedHttpConnector::new(Connector { shared, bounded, connect, answer })
    }
}

#[derive(Debug)]
struct Connector {
    shared: Arc<Shared>,
    bounded: bool,
    connect: Option<Duration>,
    answer: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (shared, connect, answer) = (Arc::clone(&self.shared), self.connect, self.answer);
        let has_objects = !self.bounded;
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| HttpError::Request(e.to_string()))?;
            let is_get = request.method() == Method::GET;
            let response = shared.send(request, connect, answer).await?;
            let is_object = has_objects && is_get && response.status().is_success();
            let response = response.map(|body| {
                if is_object {
                    SdkBody::from_body_1_x(body)
                } else {
                    SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER))
                }
            });
            Ok(HttpResponse::try_from(response).map_err(|e| HttpError::Request(e.to_string()))?)
        })
    }
}

impl Shared {
    async fn send(
        &self,
        request: Request<SdkBody>,
        connect: Option<Duration>,
        answer: Option<Duration>,
    ) -> Result<Response<Incoming>, HttpError> {
        let uri = request.uri().clone();
        let key = key(&uri);
        let mut connection = match self.take_idle(&key).await {
            Some(connection) => connection,
            None => {
                let tls = if uri.scheme_str() == Some("https") { Some(self.tls()?) } else { None };
                let late = HttpError::ConnectTime(connect.unwrap_or_default());
                within(connect, late, dial::dial(&uri, &self.proxies, tls)).await?
            }
        };
        let request = addressed(request, &uri, &connection)?;
        let late = HttpError::AnswerTime(answer.unwrap_or_default());
        let sent = connection.sender.send_request(request);
        let response = within(answer, late, async { sent.await.map_err(HttpError::Http) }).await?;
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

    /// A connection that can take a request now. One whose answer is still being read is left alone.
    async fn take_idle(&self, key: &str) -> Option<Connection> {
        let mut connection = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|(_, connection)| !connection.sender.is_closed());
            let index = idle.iter().rposition(|(other, _)| other == key)?;
            idle.swap_remove(index).1
        };
        match tokio::time::timeout(READY_WITHIN, connection.sender.ready()).await {
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

/// Which idle connections are as good as a new one: those to the same server that this thread opened. What carries one is a
/// task of the runtime that it was opened on, which may stand still while another thread's runs.
fn key(uri: &Uri) -> String {
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

/// The request as it goes over the connection: with its host, and the path only, unless a proxy has to know it all.
fn addressed(mut request: Request<SdkBody>, uri: &Uri, connection: &Connection) -> Result<Request<SdkBody>, HttpError> {
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
