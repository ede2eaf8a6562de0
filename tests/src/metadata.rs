//! The metadata service of an instance (IMDSv2), as far as credentials of its profile need it.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use std::sync::{Arc, Mutex, PoisonError};

use crate::answering::{Answer, Answering, Request};
use crate::bucket::{ACCESS_KEY, SECRET_KEY};

const TOKEN: &str = "a-session-token-of-the-service";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// A service that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Metadata {
    asked: Arc<Mutex<Vec<String>>>,
    server: Answering,
}

impl Metadata {
    /// Starts one on a free port of loopback; its role may use the tests' bucket.
    pub fn start() -> Metadata {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let inside = Arc::clone(&asked);
        Metadata { asked, server: Answering::start(move |request| answer(request, &inside)) }
    }

    /// As `AWS_EC2_METADATA_SERVICE_ENDPOINT` is given.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// What it was asked, in order: method, path, and whether with a token.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(request: &Request, notes: &Mutex<Vec<String>>) -> Answer {
    let (asked, with_token) = (&request.line, request.header("x-aws-ec2-metadata-token") == Some(TOKEN));
    let credentials = format!(
        "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\"AccessKeyId\":\"{ACCESS_KEY}\",\
         \"SecretAccessKey\":\"{SECRET_KEY}\",\"Token\":\"of-a-role\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}"
    );
    let (status, body) = match (asked.as_str(), with_token) {
        ("PUT /latest/api/token", _) => ("200 OK", TOKEN),
        (_, false) => ("401 Unauthorized", ""),
        (asked, true) if asked == format!("GET {ROLES}") => ("200 OK", "bolt-packs"),
        (asked, true) if asked == format!("GET {ROLES}bolt-packs") => ("200 OK", credentials.as_str()),
        _ => ("404 Not Found", ""),
    };
    let note = if with_token { format!("{asked} with a token") } else { asked.clone() };
    notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    (status, "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n".to_owned(), body.into())
}
