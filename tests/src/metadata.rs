//! The metadata service of an instance (IMDSv2): credentials of its profile, its identity and its tags.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::answering::{Answer, Answering, Request};
use crate::bucket::{ACCESS_KEY, SECRET_KEY};

const TOKEN: &str = "a-session-token-of-the-service";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const IDENTITY: &str = "/latest/dynamic/instance-identity/document";
const TAGS: &str = "/latest/meta-data/tags/instance";

/// A running service; stops when dropped.
#[derive(Debug)]
pub struct Metadata {
    says: Arc<Mutex<Says>>,
    server: Answering,
}

#[derive(Debug, Default)]
struct Says {
    asked: Vec<String>,
    /// Answers by path, for requests with a token.
    pages: BTreeMap<String, String>,
    /// Answer to every request, if set.
    broken: Option<&'static str>,
    /// True if the metadata do not expose the tags.
    keeps_tags: bool,
}

impl Metadata {
    /// Starts the service on a free loopback port; its role has access to the tests' bucket.
    pub fn start() -> Metadata {
        let credentials = format!(
            "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\"AccessKeyId\":\"{ACCESS_KEY}\",\
             \"SecretAccessKey\":\"{SECRET_KEY}\",\"Token\":\"of-a-role\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}"
        );
        let pages = [(ROLES.to_owned(), "bolt-packs".to_owned()), (format!("{ROLES}bolt-packs"), credentials)];
        let says = Arc::new(Mutex::new(Says { pages: pages.into(), ..Says::default() }));
        let inside = Arc::clone(&says);
        Metadata { says, server: Answering::start(move |request| answer(request, &inside)) }
    }

    /// Returns the value for `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// Returns the requests so far, in order: method, path, and whether they carried a token.
    pub fn asked(&self) -> Vec<String> {
        self.says().asked.clone()
    }

    /// Serves the identity of this instance from now on.
    pub fn identify(&self, id: &str, region: &str, zone: &str) {
        self.identity(&format!(
            "{{\"accountId\":\"123456789012\",\"architecture\":\"x86_64\",\"availabilityZone\":\"{zone}\",\"instanceId\":\"{id}\",\
             \"instanceType\":\"i4i.large\",\"marketplaceProductCodes\":null,\"region\":\"{region}\",\"version\":\"2017-09-30\"}}"
        ));
    }

    /// Serves this identity document from now on.
    pub fn identity(&self, document: &str) {
        self.says().pages.insert(IDENTITY.to_owned(), document.to_owned());
    }

    /// Serves these tags from now on; `None` if the metadata do not expose tags.
    pub fn tags(&self, tags: Option<&[(&str, &str)]>) {
        let mut says = self.says();
        says.pages.retain(|path, _| !path.starts_with(TAGS));
        let Some(tags) = tags else { return };
        let names: Vec<&str> = tags.iter().map(|(name, _)| *name).collect();
        says.pages.insert(TAGS.to_owned(), names.join("\n"));
        says.pages.extend(tags.iter().map(|(name, value)| (format!("{TAGS}/{name}"), (*value).to_owned())));
    }

    /// Answers every request with this status from now on; `None` restores normal answers.
    pub fn broken(&self, status: Option<&'static str>) {
        self.says().broken = status;
    }

    /// Refuses requests for tags from now on, or answers them again.
    pub fn keep_tags(&self, keep: bool) {
        self.says().keeps_tags = keep;
    }

    fn says(&self) -> MutexGuard<'_, Says> {
        self.says.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(request: &Request, says: &Mutex<Says>) -> Answer {
    let mut says = says.lock().unwrap_or_else(PoisonError::into_inner);
    let (asked, with_token) = (&request.line, request.header("x-aws-ec2-metadata-token") == Some(TOKEN));
    says.asked.push(if with_token { format!("{asked} with a token") } else { asked.clone() });
    let page = asked.strip_prefix("GET ").and_then(|path| says.pages.get(path));
    let (status, body) = match (says.broken, asked.as_str(), with_token, page) {
        (Some(status), ..) => (status, ""),
        (None, "PUT /latest/api/token", ..) => ("200 OK", TOKEN),
        (None, _, false, _) => ("401 Unauthorized", ""),
        (None, asked, true, _) if says.keeps_tags && asked.contains(TAGS) => ("403 Forbidden", ""),
        (None, _, true, Some(page)) => ("200 OK", page.as_str()),
        (None, _, true, None) => ("404 Not Found", ""),
    };
    (status, "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n".to_owned(), body.as_bytes().to_vec())
}
