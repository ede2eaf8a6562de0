//! Services that list instances: EC2 with many pages, and Gate, the API of Spinnaker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::answering::{Answer, Answering, Request};

/// EC2 with a number of pages of instances; stops when dropped.
#[derive(Debug)]
pub struct Ec2Pages {
    server: Answering,
    forms: Arc<Mutex<Vec<String>>>,
}

impl Ec2Pages {
    /// Starts it; `pages` pages with `on_each` instances each, called `i-<page>-<number>`. With `repeats`, the last page
    /// leads to the first one again.
    pub fn start(pages: usize, on_each: usize, repeats: bool) -> Ec2Pages {
        let forms = Arc::new(Mutex::new(Vec::new()));
        let inside = Arc::clone(&forms);
        let server = Answering::start(move |request| {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let page = form.split_once("NextToken=page").map_or(0, |(_, rest)| rest.parse().unwrap_or(0));
            inside.lock().unwrap_or_else(PoisonError::into_inner).push(form);
            let next = match page + 1 {
                next if next < pages => format!("<nextToken>page{next}</nextToken>"),
                _ if repeats => "<nextToken>page1</nextToken>".to_owned(),
                _ => String::new(),
            };
            let instances: String = (0..on_each).map(|number| instance(page, number)).collect();
            let body = format!(
                "<DescribeInstancesResponse>{next}<reservationSet><item><instancesSet>{instances}</instancesSet></item>\
                 </reservationSet></DescribeInstancesResponse>"
            );
            ("200 OK", String::new(), body.into_bytes())
        });
        Ec2Pages { server, forms }
    }

    /// Returns the value for `AWS_ENDPOINT_URL_EC2`.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// Returns the bodies of the requests, in order.
    pub fn forms(&self) -> Vec<String> {
        self.forms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn instance(page: usize, number: usize) -> String {
    let (high, low) = (number / 250, number % 250);
    format!(
        "<item><instanceId>i-{page}-{number}</instanceId><instanceState><code>16</code><name>running</name></instanceState>\
         <privateIpAddress>10.{page}.{high}.{low}</privateIpAddress><placement><availabilityZone>eu-west-1a</availabilityZone>\
         </placement><tagSet><item><key>app</key><value>web</value></item></tagSet></item>"
    )
}

/// Gate with prepared answers; stops when dropped.
#[derive(Debug)]
pub struct Gate {
    server: Answering,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Answers by path and query.
    pages: Mutex<BTreeMap<String, String>>,
    /// Statuses with which the next requests are refused.
    refused: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
}

impl Gate {
    /// Starts it, without any answer.
    pub fn start() -> Gate {
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        Gate { server: Answering::start(move |request| answer(request, &inside)), shared }
    }

    /// Answers requests for this path and query with this JSON.
    pub fn serve(&self, path: &str, json: &serde_json::Value) {
        self.shared.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), json.to_string());
    }

    /// Refuses the next requests with these statuses, the last one first.
    pub fn refuse(&self, statuses: &[&'static str]) {
        *self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = statuses.to_vec();
    }

    /// Returns the requests so far: path, `X-RateLimit-App` and `Authorization`.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }
}

fn answer(request: &Request, shared: &Shared) -> Answer {
    let path = request.line.strip_prefix("GET ").unwrap_or(&request.line).to_owned();
    let header = |name| request.header(name).unwrap_or("-");
    let asked = format!("{path} {} {}", header("x-ratelimit-app"), header("authorization"));
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    if let Some(status) = shared.refused.lock().unwrap_or_else(PoisonError::into_inner).pop() {
        let body = br#"{"message": "refused by the test\u001b[2J"}"#.to_vec();
        return (status, "retry-after: 0\r\nlocation: /login\r\n".to_owned(), body);
    }
    match shared.pages.lock().unwrap_or_else(PoisonError::into_inner).get(&path) {
        Some(page) => ("200 OK", "content-type: application/json\r\n".to_owned(), page.clone().into_bytes()),
        None => ("404 Not Found", String::new(), br#"{"message": "no such path"}"#.to_vec()),
    }
}
