//! From request to answer: the same few steps for every route, in this order.
//!
//! ```text
//!  Origin? ──▶ principal ──▶ route ──▶ grant for its verb ──▶ query ──▶ handler
//!   403         401          404, 405   403                    400
//! ```

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, ORIGIN};
use hyper::{Request, Response};
use packs_schema::name::Principal;
use packs_schema::rest::REQUEST_ID;

use super::body::Body;
use super::handlers::{self, Call};
use super::problem::ApiError;
use super::query::Query;
use super::routes::{self, Found, Operation, Route};
use super::{App, openapi};

/// Who is at the other end: the name in the client's certificate, or why there is none.
pub(super) type Peer = Result<Principal, String>;

/// Answers a request. Never fails: an error is an answer as well.
pub(super) async fn answer(app: Arc<App>, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Body> {
    let begun = Instant::now();
    let id = uuid::Uuid::now_v7().hyphenated().to_string();
    let method = request.method().clone();
    let (route, result) = route(&app, &peer, request).await;
    let mut response = result.unwrap_or_else(|error| error.respond(&id));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), value);
    }
    let status = response.status().as_u16();
    app.metrics.request(route, status);
    let principal = peer.as_ref().as_ref().map_or("-", |principal| principal.as_str());
    let duration_ms = begun.elapsed().as_millis();
    // A method is a token of the peer's choice: only those that we know are repeated.
    let method = if method.as_str().len() <= 7 { method.as_str() } else { "other" };
    tracing::info!(request_id = %id, %principal, method, route, status, %duration_ms, "request");
    response
}

/// The route's path for the log and the metrics, and what came of it.
async fn route(
    app: &Arc<App>,
    peer: &Peer,
    request: Request<Incoming>,
) -> (&'static str, Result<Response<Body>, ApiError>) {
    let path = request.uri().path().to_owned();
    let found = routes::find(request.method(), &path);
    let name = match &found {
        Found::Route(route, _) => route.path,
        Found::OtherMethods(_) | Found::Nothing => "none",
    };
    if request.headers().contains_key(ORIGIN) {
        let message = "requests with an Origin header come from browsers, which this interface does not serve";
        return (name, Err(ApiError::Forbidden(message.to_owned())));
    }
    let principal = match peer {
        Ok(principal) => principal.clone(),
        Err(why) => return (name, Err(ApiError::Unauthenticated(why.clone()))),
    };
    let result = match found {
        Found::Route(route, segment) => enter(app, principal, route, segment, request).await,
        Found::OtherMethods(methods) => Err(ApiError::MethodNotAllowed(methods)),
        Found::Nothing => Err(ApiError::NotFound(path.chars().take(200).collect())),
    };
    (name, result)
}

async fn enter(
    app: &Arc<App>,
    principal: Principal,
    route: &'static Route,
    segment: Option<&str>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let Some(verb) = route.verb else {
        Query::parse(request.uri().query(), route.query)?;
        return match route.operation {
            Operation::OpenApi => Ok(handlers::json(200, &openapi::document())),
            _ => Ok(handlers::instance::health(app)),
        };
    };
    let refused = || ApiError::Forbidden(format!("no grant gives {principal} the verb {verb} on anything here"));
    let caller = app.access.enter(principal.clone(), verb).ok_or_else(refused)?;
    let query = Query::parse(request.uri().query(), route.query)?;
    let (head, body) = request.into_parts();
    let segment = segment.unwrap_or_default().to_owned();
    let call = Call { app: app.clone(), caller, segment, query, headers: head.headers, body };
    dispatch(route.operation, call).await
}

async fn dispatch(operation: Operation, call: Call) -> Result<Response<Body>, ApiError> {
    use handlers::{create, executions, instance, output, push, stream};
    use packs_schema::run::output::Stream;
    match operation {
        Operation::Health => Ok(instance::health(&call.app)),
        Operation::OpenApi => Ok(handlers::json(200, &openapi::document())),
        Operation::Info => instance::info(&call),
        Operation::Metrics => instance::metrics(&call),
        Operation::ListPacks => instance::list_packs(&call),
        Operation::GetPack => instance::get_pack(&call),
        Operation::SyncPacks => instance::sync(&call).await,
        Operation::PushPack => push::push(call).await,
        Operation::UnpushPack => push::unpush(&call).await,
        Operation::ListActions => instance::list_actions(&call),
        Operation::GetAction => instance::get_action(&call),
        Operation::CreateExecution => create::create(call).await,
        Operation::ListExecutions => executions::list(&call).await,
        Operation::GetExecution => executions::get(&call).await,
        Operation::KillExecution => executions::kill(call).await,
        Operation::GetOutput => output::chunks(&call).await,
        Operation::GetStdout => output::bytes(&call, Stream::Stdout).await,
        Operation::GetStderr => output::bytes(&call, Stream::Stderr).await,
        Operation::Events => stream::events(&call).await,
    }
}
