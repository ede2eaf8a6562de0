//! `DescribeInstances` of EC2: the query protocol, signed by `aws-sigv4`, over the HTTP stack of this crate. The SDK's crate for
//! EC2 takes minutes to compile for this one request.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
//!
//! ```text
//!  Account: credentials once, for all regions ─▶ describe_instances: page by page, throttled ones again with backoff ─▶ instances
//! ```
//!
//! Answers are untrusted: bounded in bytes, pages and instances. An answer that is not complete is an error, never fewer
//! instances.

mod account;
pub(crate) mod answer;
mod endpoint;

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use url::form_urlencoded;

use crate::environment::EnvironmentError;
use crate::web::{Web, WebAnswer, WebError, backoff};

pub use account::{Account, Base, Role};
pub use answer::Ec2Instance;

/// Version of the API.
const VERSION: &str = "2016-11-15";
/// Number of instances of a page: the maximum of the API.
const PAGE: &str = "1000";
/// Maximum size of a page, in bytes.
const MAX_PAGE: usize = 32 << 20;
/// Maximum number of pages.
const MAX_PAGES: usize = 1000;
/// Maximum number of instances.
const MAX_INSTANCES: usize = 200_000;
/// Maximum number of attempts of one request.
const MAX_ATTEMPTS: u32 = 6;
/// Error codes with which EC2 asks for a slower pace, or that are its own fault.
const TRANSIENT: [&str; 9] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "BandwidthLimitExceeded",
    "InternalError",
    "InternalFailure",
    "ServiceUnavailable",
    "Unavailable",
];

/// Filters of the API: names such as `tag:app` or `vpc-id`, each with the accepted values.
pub type Filters = BTreeMap<String, Vec<String>>;

/// Error returned when instances cannot be listed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Ec2Error {
    /// An environment variable is invalid.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// No credentials were found.
    #[error("no AWS credentials were found: {0}")]
    NoCredentials(String),
    /// The role cannot be assumed.
    #[error("cannot assume the role: {0}")]
    Role(String),
    /// The address of the service is not valid.
    #[error("{0:?} is not an address of EC2")]
    Endpoint(String),
    /// The request cannot be signed.
    #[error("cannot sign the request: {0}")]
    Signature(String),
    /// EC2 refused the request, or failed at the last attempt.
    #[error("EC2 answered {code}{message} (status {status}, {attempts})", attempts = times(*attempts))]
    ErrorResponse {
        /// HTTP status.
        status: u16,
        /// Error code.
        code: String,
        /// Its message, with a colon before it.
        message: String,
        /// Number of attempts.
        attempts: u32,
    },
    /// EC2 did not answer the last attempt.
    #[error("no answer from EC2 at {endpoint}: {why} ({attempts})", attempts = times(*attempts))]
    NoAnswer {
        /// Address.
        endpoint: String,
        /// Reason.
        why: String,
        /// Number of attempts.
        attempts: u32,
    },
    /// The answer is not one to `DescribeInstances`.
    #[error("the answer of EC2 cannot be read: {0}")]
    Answer(String),
    /// There are too many instances.
    #[error("more than {MAX_INSTANCES} instances")]
    TooMany,
}

fn times(attempts: u32) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") }
}

impl Ec2Error {
    /// Returns advice what to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Ec2Error::NoCredentials(_) => {
                Some("set AWS_PROFILE or `profile`, log in (`aws sso login`), or give the host an instance profile")
            }
            Ec2Error::Role(_) => {
                Some("check role_arn and external_id, the role's trust policy, and that you may call sts:AssumeRole")
            }
            Ec2Error::ErrorResponse { code, .. } => match code.as_str() {
                "UnauthorizedOperation" => Some("the credentials need ec2:DescribeInstances"),
                "AuthFailure" => Some("check the credentials, and that the region is enabled for the account"),
                "RequestExpired" | "ExpiredToken" | "InvalidClientTokenId" => {
                    Some("renew the credentials, and check the clock of this host")
                }
                "InvalidParameterValue" | "InvalidFilter" | "FilterLimitExceeded" => Some("check `filters`"),
                code if TRANSIENT.contains(&code) => Some("try again later, or list fewer regions at once"),
                _ => None,
            },
            Ec2Error::NoAnswer { .. } => {
                Some("check the name of the region, the network, HTTPS_PROXY and AWS_ENDPOINT_URL_EC2")
            }
            Ec2Error::TooMany => Some("narrow it with `filters`"),
            Ec2Error::Environment(_) | Ec2Error::Endpoint(_) | Ec2Error::Signature(_) | Ec2Error::Answer(_) => None,
        }
    }
}

impl Account {
    /// Returns the instances of a region that meet all filters.
    pub async fn describe_instances(&self, region: &str, filters: &Filters) -> Result<Vec<Ec2Instance>, Ec2Error> {
        let access = self.access(region).await?;
        let (mut instances, mut token, mut seen) = (Vec::new(), None::<String>, HashSet::new());
        for _ in 0..MAX_PAGES {
            let body = form(filters, token.as_deref());
            let page = access.request(&body).await?;
            instances.extend(page.instances);
            if instances.len() > MAX_INSTANCES {
                return Err(Ec2Error::TooMany);
            }
            let Some(next) = page.next else { return Ok(instances) };
            if !seen.insert(next.clone()) {
                return Err(Ec2Error::Answer("the same page again".to_owned()));
            }
            token = Some(next);
        }
        Err(Ec2Error::Answer(format!("more than {MAX_PAGES} pages")))
    }
}

/// Returns the parameters of a request.
fn form(filters: &Filters, token: Option<&str>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", "DescribeInstances").append_pair("Version", VERSION).append_pair("MaxResults", PAGE);
    for (number, (name, values)) in (1..).zip(filters) {
        form.append_pair(&format!("Filter.{number}.Name"), name);
        for (index, value) in (1..).zip(values) {
            form.append_pair(&format!("Filter.{number}.Value.{index}"), value);
        }
    }
    if let Some(token) = token {
        form.append_pair("NextToken", token);
    }
    form.finish()
}

/// All that a request to one region needs.
struct Access {
    web: Web,
    endpoint: String,
    region: String,
    credentials: Credentials,
}

impl Access {
    /// Sends a request until it is answered, with backoff after transient errors.
    async fn request(&self, body: &str) -> Result<answer::Page, Ec2Error> {
        let mut attempts = 1;
        loop {
            let (error, is_transient) = match self.attempt(body, attempts).await {
                Ok(page) => return Ok(page),
                Err(failed) => failed,
            };
            if !is_transient || attempts == MAX_ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(region = self.region, attempts, error = error.to_string(), "retrying DescribeInstances");
            tokio::time::sleep(backoff(attempts)).await;
            attempts += 1;
        }
    }

    /// Returns the page, or the error and whether it is transient.
    async fn attempt(&self, body: &str, attempts: u32) -> Result<answer::Page, (Ec2Error, bool)> {
        let request = self.sign(body).map_err(|error| (error, false))?;
        let no_answer = |why: String| Ec2Error::NoAnswer { endpoint: self.endpoint.clone(), why, attempts };
        let WebAnswer { status, body, .. } = match self.web.send(request, MAX_PAGE).await {
            Ok(answer) => answer,
            Err(WebError::Environment(error)) => return Err((error.into(), false)),
            Err(error @ WebError::TooLarge(_)) => return Err((Ec2Error::Answer(error.to_string()), false)),
            Err(error) => return Err((no_answer(error.to_string()), true)),
        };
        if status == 200 {
            return answer::page(&body).map_err(|why| (Ec2Error::Answer(why), true));
        }
        let (code, message) = answer::error(&body);
        let is_transient = status >= 500 || status == 429 || TRANSIENT.contains(&code.as_str());
        let message = if message.is_empty() { message } else { format!(": {message}") };
        Err((Ec2Error::ErrorResponse { status, code, message, attempts }, is_transient))
    }

    fn sign(&self, body: &str) -> Result<Request<Bytes>, Ec2Error> {
        const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
        let failed = |why: String| Ec2Error::Signature(why);
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.to_string()))?
            .into();
        let headers = [(CONTENT_TYPE.as_str(), FORM)];
        let signable =
            SignableRequest::new("POST", &self.endpoint, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| failed(error.to_string()))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| failed(error.to_string()))?.into_parts();
        let request = Request::builder().method(Method::POST).uri(&self.endpoint).header(CONTENT_TYPE, FORM);
        let mut request = request
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .map_err(|_| Ec2Error::Endpoint(self.endpoint.clone()))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_tokens_are_parameters() {
        let filters = Filters::from([
            ("instance-state-name".to_owned(), vec!["pending".to_owned(), "running".to_owned()]),
            ("tag:a b&c".to_owned(), vec!["x=y".to_owned()]),
        ]);
        assert_eq!(
            form(&filters, Some("a+b/=")),
            "Action=DescribeInstances&Version=2016-11-15&MaxResults=1000&Filter.1.Name=instance-state-name\
             &Filter.1.Value.1=pending&Filter.1.Value.2=running&Filter.2.Name=tag%3Aa+b%26c&Filter.2.Value.1=x%3Dy\
             &NextToken=a%2Bb%2F%3D"
        );
    }
}
