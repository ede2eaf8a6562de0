//! Routing: every request goes through the same few steps, in this order.
//!
//! ```text
//!  Origin? ──▶ principal ──▶ route ──▶ grant for its verb ──▶ query ──▶ handler
//!   403         401          404, 405   403                    400
//! ```
//!
//! The origin of a request is a caller over TLS, or the socket of local access, which offers few of the routes.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response};
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::REQUEST_ID;
use packs_schema::base::name::{ActionRef, ExecutionId, PackName, Principal};

use super::body::Body;
use super::handlers::{self, Call};
use super::live_access::LiveAccess;
use super::local::LocalPeer;
use super::problem::ApiError;
use super::query::Query;
use super::refusal::{self, Refused, Subject};
use super::routes::{self, Operation, Route, RouteMatch};
use super::tls::Peer;
use super::{App, local, openapi};
use crate::access::Caller;

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A connection over TLS: its certificate names the principal.
    Remote(Arc<Peer>),
    /// The socket of local access: root of this instance.
    Local(LocalPeer),
}

impl Origin {
    fn principal(&self) -> Result<Principal, String> {
        match self {
            Origin::Remote(peer) => peer.principal.clone(),
            Origin::Local(_) => Ok(Principal::local_root()),
        }
    }

    /// Admits the caller to one of the verbs.
    fn enter(&self, app: &App, verbs: &'static [Verb]) -> Option<Caller> {
        match self {
            Origin::Remote(peer) => app.access.enter(peer.principal.clone().ok()?, verbs),
            Origin::Local(_) => app.access.enter_local(verbs),
        }
    }

    fn knows(&self, app: &App, principal: &Principal) -> bool {
        matches!(self, Origin::Local(_)) || app.access.knows(principal)
    }

    fn offers(&self, operation: Operation) -> bool {
        matches!(self, Origin::Remote(_)) || local::OPERATIONS.contains(&operation)
    }
}

/// Answers a request. Never fails: an error becomes a response as well.
pub(super) async fn answer(app: Arc<App>, origin: Origin, request: Request<Incoming>) -> Response<Body> {
    let begun = Instant::now();
    let id = uuid::Uuid::now_v7().hyphenated().to_string();
    let method = request.method().clone();
    let subject = Subject::default();
    let (route, verbs, result) = route(&app, &origin, &subject, request).await;
    let principal = origin.principal().map_or_else(|_| "-".to_owned(), |principal| principal.to_string());
    let login_uid = match &origin {
        Origin::Local(peer) => peer.login_uid,
        Origin::Remote(_) => None,
    };
    if let Err(error) = &result {
        app.metrics.problem(error.code().0);
        let (principal, is_change) = (origin.principal().is_ok().then_some(&*principal), method == Method::POST);
        let is_local = matches!(origin, Origin::Local(_));
        let refused = Refused { request_id: &id, principal, route, verbs, subject: &subject, is_change, is_local };
        refused.log(error);
        refused.record(&app.audit, error);
    }
    let mut response = result.unwrap_or_else(|error| error.respond(&id));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), value);
    }
    let status = response.status().as_u16();
    let took = begun.elapsed();
    app.metrics.request(route, status, took);
    let duration_ms = took.as_millis();
    // A method is any token of the peer's choice: a long one is not repeated.
    let method = if method.as_str().len() <= 7 { method.as_str() } else { "other" };
    tracing::info!(request_id = %id, %principal, login_uid, method, route, status, %duration_ms, "request");
    response
}

/// Routes a request; returns path and verbs of the route for log and metrics, and the result.
async fn route(
    app: &Arc<App>,
    origin: &Origin,
    subject: &Subject,
    request: Request<Incoming>,
) -> (&'static str, &'static [Verb], Result<Response<Body>, ApiError>) {
    let path = request.uri().path().to_owned();
    let found = routes::find(request.method(), &path);
    let (name, verbs) = match &found {
        RouteMatch::Route(route, _) => (route.path, route.verbs),
        RouteMatch::OtherMethods(_) | RouteMatch::Nothing => ("none", &[][..]),
    };
    if request.headers().contains_key(ORIGIN) {
        let message = "requests with an Origin header come from browsers, which this interface does not serve";
        return (name, verbs, Err(ApiError::Forbidden(message.to_owned())));
    }
    let principal = match origin.principal() {
        Ok(principal) => principal,
        Err(why) => return (name, verbs, Err(ApiError::Unauthenticated(why))),
    };
    let result = match found {
        RouteMatch::Route(route, _) if !origin.offers(route.operation) => {
            Err(ApiError::Forbidden("local access does not offer this; use the REST interface with a grant".to_owned()))
        }
        RouteMatch::Route(route, segment) => enter(app, principal, origin, subject, route, segment, request).await,
        RouteMatch::OtherMethods(methods) => Err(ApiError::MethodNotAllowed(methods)),
        RouteMatch::Nothing => Err(ApiError::NotFound(path.chars().take(200).collect())),
    };
    (name, verbs, result)
}

async fn enter(
    app: &Arc<App>,
    principal: Principal,
    origin: &Origin,
    subject: &Subject,
    route: &'static Route,
    segment: Option<&str>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    if route.verbs.is_empty() {
        Query::parse(request.uri().query(), route.query)?;
        return match route.operation {
            Operation::OpenApi => Ok(openapi::response()),
            _ if !origin.knows(app, &principal) => Ok(handlers::instance::health_codes(app)),
            _ => Ok(handlers::instance::health(app, origin.enter(app, &[Verb::Read]).as_ref())),
        };
    }
    let Some(caller) = origin.enter(app, route.verbs) else {
        let verb = refusal::join_verbs(route.verbs);
        let named = name_subject(app, subject, route.operation, segment.unwrap_or_default(), request).await;
        return Err(ApiError::Forbidden(match named {
            Some(action) => format!("no grant lets {principal} {verb} {action}"),
            None if route.operation == Operation::Access => format!("no grant names {principal} on this instance"),
            None => format!("no grant gives {principal} the verb {verb} on anything here"),
        }));
    };
    let query = Query::parse(request.uri().query(), route.query)?;
    let (head, body) = request.into_parts();
    let segment = segment.unwrap_or_default().to_owned();
    let live_access = Arc::new(LiveAccess::new(app.access.clone(), app.registry.clone(), caller.clone()));
    let call = Call {
        app: app.clone(),
        caller,
        authority: match origin {
            Origin::Remote(peer) => peer.authority.clone(),
            Origin::Local(_) => None,
        },
        subject: subject.clone(),
        live_access: live_access.clone(),
        segment,
        query,
        headers: head.headers,
        body,
    };
    let answered = live_access.run(dispatch(route.operation, call)).await;
    let answered = answered.map_err(|revoked| ApiError::Forbidden(revoked.to_string()))?;
    answered.map(|response| response.map(|body| live_access.guard(body)))
}

/// Determines the action that a refused request is about, for the log; returns it where the request itself names it.
async fn name_subject(
    app: &App,
    subject: &Subject,
    operation: Operation,
    segment: &str,
    request: Request<Incoming>,
) -> Option<String> {
    let named = match operation {
        Operation::GetAction => ActionRef::new(segment).ok().map(|action| action.to_string()),
        Operation::GetPack | Operation::UnpushPack => PackName::new(segment).ok().map(|pack| format!("{pack}.*")),
        Operation::CreateExecution => handlers::create::named_action(request).await.map(|action| action.to_string()),
        Operation::GetExecution
        | Operation::GetOutput
        | Operation::GetStdout
        | Operation::GetStderr
        | Operation::KillExecution => {
            let id = ExecutionId::new(segment).ok()?;
            subject.set(app.exec.view(&id).await.ok()??.action);
            None
        }
        _ => None,
    };
    named.inspect(|named| subject.set(named))
}

async fn dispatch(operation: Operation, call: Call) -> Result<Response<Body>, ApiError> {
    use handlers::{access, create, executions, instance, output, push, stream};
    use packs_schema::agent::execution::output::Stream;
    match operation {
        Operation::Health => Ok(instance::health(&call.app, Some(&call.caller))),
        Operation::OpenApi => Ok(openapi::response()),
        Operation::Info => instance::info(&call),
        Operation::Access => access::review(&call),
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
