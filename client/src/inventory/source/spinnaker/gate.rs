//! Requests to Gate, the API of Spinnaker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bolt_aws::web::{Web, WebAnswer, WebError, WebTls, backoff};
use bytes::Bytes;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use url::{Host, Url};

use super::SpinnakerSettings;
use crate::files;
use crate::inventory::entry;
use crate::inventory::source::{SourceError, chain};
use crate::show;

/// Header with the name of the client, by which Gate counts requests.
const RATE_LIMIT_APP: &str = "x-ratelimit-app";
/// Value of this header.
const CLIENT: &str = "bolt";
/// Maximum size of an answer, in bytes.
const MAX_ANSWER: usize = 128 << 20;
/// Maximum size of a certificate, key or token file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of attempts of one request.
const MAX_ATTEMPTS: u32 = 5;
/// Maximum time that is waited because Gate says so.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Server group; texts are untrusted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GateServerGroup {
    pub(super) name: String,
    pub(super) account: String,
    pub(super) region: String,
    #[serde(default)]
    pub(super) cluster: Option<String>,
    #[serde(default)]
    pub(super) moniker: Moniker,
    #[serde(default)]
    cloud_provider: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    is_disabled: Option<bool>,
    #[serde(default)]
    disabled: Option<bool>,
    /// Absent where Gate was not asked to expand server groups: that must not look like an empty one.
    pub(super) instances: Vec<GateInstance>,
}

/// Names of a server group by Spinnaker's conventions.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Moniker {
    #[serde(default)]
    pub(super) app: Option<String>,
    #[serde(default)]
    pub(super) cluster: Option<String>,
}

/// Instance; texts are untrusted.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GateInstance {
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) zone: String,
    #[serde(default)]
    pub(super) private_ip_address: Option<String>,
    #[serde(default)]
    pub(super) public_ip_address: Option<String>,
}

impl GateServerGroup {
    pub(super) fn is_aws(&self) -> bool {
        self.cloud_provider.as_ref().or(self.kind.as_ref()).is_none_or(|provider| provider == "aws")
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.is_disabled.or(self.disabled).unwrap_or(false)
    }
}

/// Gate, and how it is reached. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    base: Url,
    timeout: Duration,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    token: Option<PathBuf>,
    /// Read and made at the first request.
    client: OnceCell<Client>,
}

#[derive(Debug)]
struct Client {
    web: Web,
    authorization: Option<HeaderValue>,
}

impl Gate {
    /// Reads the settings; the error names the key.
    pub(super) fn new(settings: &SpinnakerSettings, base: &Path, timeout: Duration) -> Result<Gate, String> {
        const FORM: &str = "gate: give an address such as https://gate.example.org:8084";
        let mut url = Url::parse(&settings.gate).map_err(|_| FORM.to_owned())?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
            return Err(FORM.to_owned());
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| base.join(path));
        let identity = match (path(&settings.certificate), path(&settings.key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("certificate: give certificate and key, or none of them".to_owned()),
        };
        if settings.token_file.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            return Err("token_file: a token is sent over https only".to_owned());
        }
        let (ca, token) = (path(&settings.ca), path(&settings.token_file));
        Ok(Gate { shared: Arc::new(Shared { base: url, timeout, ca, identity, token, client: OnceCell::new() }) })
    }

    /// Returns the server groups of an application, expanded.
    pub(super) async fn of_application(
        &self,
        name: &str,
        clusters: &[String],
    ) -> Result<Vec<GateServerGroup>, SourceError> {
        let mut url = self.url(&["applications", name, "serverGroups"]);
        url.query_pairs_mut().append_pair("expand", "true").append_pair("cloudProvider", "aws");
        if !clusters.is_empty() {
            url.query_pairs_mut().append_pair("clusters", &clusters.join(","));
        }
        self.get(url).await
    }

    /// Returns the server groups with these ids.
    pub(super) async fn of_ids(&self, ids: &[String]) -> Result<Vec<GateServerGroup>, SourceError> {
        let mut url = self.url(&["serverGroups"]);
        url.query_pairs_mut().append_pair("ids", &ids.join(","));
        self.get(url).await
    }

    /// Returns the details of an instance.
    pub(super) async fn instance(&self, account: &str, region: &str, id: &str) -> Result<GateInstance, SourceError> {
        self.get(self.url(&["instances", account, region, id])).await
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.shared.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Sends a request until it is answered, with backoff after transient errors.
    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, SourceError> {
        let client = self.shared.client.get_or_try_init(|| self.client()).await?;
        let mut attempts = 1;
        loop {
            let (error, retry_after) = match client.attempt(&url).await {
                Ok(body) => {
                    return serde_json::from_slice(&body).map_err(|error| {
                        let what = show::visible(&error.to_string());
                        SourceError::new(format!("the answer of Gate to {} is not as expected: {what}", shown(&url)))
                    });
                }
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Transient { error, retry_after }) => (error, retry_after),
            };
            if attempts == MAX_ATTEMPTS {
                let message = format!("{} ({attempts} attempts)", error.message);
                return Err(SourceError { message, ..error });
            }
            tokio::time::sleep(retry_after.unwrap_or_default().max(backoff(attempts))).await;
            attempts += 1;
        }
    }

    async fn client(&self) -> Result<Client, SourceError> {
        let Shared { ca, identity, token, timeout, .. } = &*self.shared;
        let read = |path: &Path| files::read_text(path, MAX_FILE).map_err(|error| SourceError::new(chain(&error)));
        let private =
            |path: &Path| files::read_private_text(path, MAX_FILE).map_err(|error| SourceError::new(chain(&error)));
        let authorities = ca.as_deref().map(read).transpose()?.map(String::into_bytes);
        let identity = match identity {
            None => None,
            Some((certificate, key)) => Some((read(certificate)?.into_bytes(), private(key)?.into_bytes())),
        };
        let authorization = match token {
            None => None,
            Some(path) => {
                let token = private(path)?;
                let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
                let mut value = value.map_err(|_| SourceError::new(format!("{} holds no token", show::path(path))))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let web = Web::with_tls(*timeout, &WebTls { authorities, identity });
        Ok(Client { web: web.map_err(|error| SourceError::new(error.to_string()))?, authorization })
    }
}

/// Outcome of an attempt that got no answer.
enum Attempt {
    Failed(SourceError),
    Transient { error: SourceError, retry_after: Option<Duration> },
}

impl Client {
    async fn attempt(&self, url: &Url) -> Result<Bytes, Attempt> {
        let mut request = Request::get(url.as_str()).header(ACCEPT, "application/json").header(RATE_LIMIT_APP, CLIENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Bytes::new());
        let request = request.map_err(|error| Attempt::Failed(SourceError::new(error.to_string())))?;
        let WebAnswer { status, headers, body } = match self.web.send(request, MAX_ANSWER).await {
            Ok(answer) => answer,
            Err(WebError::NoAnswer(why)) => {
                let error = SourceError::new(format!("no answer of Gate to {}: {why}", shown(url)))
                    .hint("check `gate`, `ca` and the network; a slow Gate needs a longer `timeout`");
                return Err(Attempt::Transient { error, retry_after: None });
            }
            Err(error) => return Err(Attempt::Failed(SourceError::new(error.to_string()))),
        };
        if status == 200 {
            return Ok(body);
        }
        let text = show::cell(&entry::shorten(&String::from_utf8_lossy(&body)));
        let error = SourceError::new(format!("Gate answered {status} to {}: {text}", shown(url)));
        Err(match status {
            429 | 500..=599 => Attempt::Transient { error, retry_after: retry_after(&headers) },
            300..=399 | 401 | 403 => {
                Attempt::Failed(error.hint("Gate wants you to log in: give `token_file`, or `certificate` and `key`"))
            }
            404 => Attempt::Failed(error.hint("check the names of application, account, region and server group")),
            _ => Attempt::Failed(error),
        })
    }
}

/// Returns the pause that Gate asks for, in whole seconds, bounded.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Returns the path of a request, for messages.
fn shown(url: &Url) -> String {
    show::visible(&entry::shorten(url.path()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
