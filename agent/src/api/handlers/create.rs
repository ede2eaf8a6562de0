//! `POST /v1/executions`.
//!
//! ```text
//!  content type ─▶ body ─▶ instance ─▶ grant ─▶ action ─▶ parameters ─▶ their constraints ─▶ key ─▶ exec
//!    415            400     421         403      404, 409   422           403                  422    409, 429, 503, 507
//! ```
//!
//! Nothing about an action is revealed before a grant covers it.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::{HeaderMap, Request, Response};
use packs_schema::agent::rest::{CreateExecution, IDEMPOTENCY_KEY, MAX_NOTE};
use packs_schema::base::name::{ActionRef, IdempotencyKey};
use packs_schema::base::strict;
use packs_schema::pack::param::bind::{ParamError, bind};
use serde_json::Value;

use super::{Call, json, start, wait_for_end};
use crate::api::body::Body;
use crate::api::problem::ApiError;
use crate::api::request_body;
use crate::exec::{Order, check_class, check_version};
use crate::history::Key;
use crate::registry::ActiveAction;

/// Response header of a repeated request, which gets the execution of the first one.
const REPLAYED: &str = "idempotency-replayed";
/// W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

pub(in crate::api) async fn create(call: Call) -> Result<Response<Body>, ApiError> {
    let Call { app, caller, live_access, subject, query, headers, body, .. } = call;
    let (wait, output, class) = (query.wait()?, query.output()?, query.get("class")?);
    let key = idempotency_key(&headers)?;
    let (value, asked) = parse_body::<CreateExecution>(&headers, &request_body::read(body).await?)?;
    subject.set(&asked.action);
    if let Some(instance) = asked.instance.clone()
        && instance != *app.instance.id()
    {
        return Err(ApiError::WrongInstance { asked: instance, here: app.instance.id().clone() });
    }
    check_note(asked.note.as_deref())?;
    if !app.health.takes_executions() {
        return Err(ApiError::NotReady);
    }
    let active = app.registry.action(&asked.action)?;
    let active = covered(&caller, &asked.action, active)?;
    live_access.require(&asked.action);
    let action = &active.action;
    if !action.enabled {
        return Err(ApiError::ActionDisabled(asked.action));
    }
    let mut errors = refuse_options(&asked, &active);
    // The parameters of another version may differ: its version is the reason, or its class. `exec` checks both for the rest,
    // after replays.
    let refuse = |errors| {
        let checked = check_version(asked.version.as_ref(), &active).and_then(|()| check_class(class, &active));
        Err(checked.map_or_else(ApiError::from, |()| ApiError::InvalidParameters(errors)))
    };
    let bound = match bind(&action.parameters, &asked.parameters) {
        Ok(bound) if errors.is_empty() => bound,
        Ok(_) => return refuse(errors),
        Err(more) => {
            errors.extend(more);
            return refuse(errors);
        }
    };
    let permit = caller.may_run(&asked.action, action.class, bound.values()).map_err(|required| {
        let caller = caller.principal();
        ApiError::Forbidden(format!("no grant lets {caller} run {} with these parameters: {required}", asked.action))
    })?;
    let order = Order {
        version: asked.version,
        class,
        bound,
        noop: asked.noop,
        timeout_ms: asked.timeout_ms,
        note: asked.note,
        run: asked.run,
        key: key.map(|key| Key { key, fingerprint: app.fingerprints.of(&value) }),
        traceparent: traceparent(&headers),
        action: active,
    };
    let accepted = app.exec.submit(permit, order).await?;
    let mut execution = accepted.execution;
    if wait > Duration::ZERO && !execution.state.is_terminal() {
        match wait_for_end(&app, &execution.id, wait).await {
            Ok(Some(now)) => execution = now,
            Ok(None) => {}
            // The caller must learn that it is accepted; the next request reports the fault.
            Err(error) => {
                tracing::error!(execution = %execution.id, %error, "cannot read an execution that was accepted")
            }
        }
    }
    if let Some(limit) = output {
        // The grants may have changed during the wait.
        start::attach(&app, &live_access.caller(), &mut execution, limit).await;
    }
    let mut response = json(if execution.state.is_terminal() { 200 } else { 202 }, &execution);
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/executions/{}", execution.id)) {
        headers.insert(LOCATION, location);
    }
    if accepted.replayed {
        headers.insert(HeaderName::from_static(REPLAYED), HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Reads the action from a request that is refused for lack of any grant, for the response and the log.
pub(in crate::api) async fn named_action(request: Request<Incoming>) -> Option<ActionRef> {
    let (head, body) = request.into_parts();
    let bytes = request_body::read(body).await.ok()?;
    parse_body::<CreateExecution>(&head.headers, &bytes).ok().map(|(_, asked)| asked.action)
}

/// Returns the action if a grant covers it, for some values of its parameters. Only callers that a grant could cover learn that an
/// action does not exist.
fn covered(
    caller: &crate::access::Caller,
    name: &ActionRef,
    active: Option<Arc<ActiveAction>>,
) -> Result<Arc<ActiveAction>, ApiError> {
    match active {
        Some(active) if caller.covers(name, Some(active.action.class)) => Ok(active),
        None if caller.could_cover(name) => Err(ApiError::UnknownAction(name.clone())),
        _ => Err(ApiError::Forbidden(format!("no grant lets {} run {name}", caller.principal()))),
    }
}

/// Checks the options that the action does not accept, and reports them like invalid parameters.
fn refuse_options(asked: &CreateExecution, active: &ActiveAction) -> Vec<ParamError> {
    let error = |parameter: &str, message: String| ParamError {
        parameter: parameter.to_owned(),
        code: "invalid".to_owned(),
        message,
    };
    let mut errors = Vec::new();
    if asked.noop && !active.action.noop {
        errors.push(error("noop", "is not supported by this action, which would really run".to_owned()));
    }
    let most_ms = u64::try_from(active.action.timeout().as_millis()).unwrap_or(u64::MAX);
    if let Some(timeout_ms) = asked.timeout_ms
        && !(1..=most_ms).contains(&timeout_ms)
    {
        errors.push(error("timeout_ms", format!("must be from 1 to {most_ms}, the action's own time-out")));
    }
    errors
}

/// Parses a JSON body strictly: as a value, for its fingerprint, and as the expected type.
pub(in crate::api) fn parse_body<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<(Value, T), ApiError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::UnsupportedMediaType);
    }
    let value = strict::parse(bytes).map_err(|e| ApiError::InvalidBody(format!("the body is not valid JSON: {e}")))?;
    // The error names a field or a type; of the values at most the one that is wrong, which is never a parameter's.
    let typed = T::deserialize(&value)
        .map_err(|e| ApiError::InvalidBody(format!("the body does not match the schema: {e}")))?;
    Ok((value, typed))
}

pub(in crate::api) fn check_note(note: Option<&str>) -> Result<(), ApiError> {
    match note.map(|note| note.chars().count()) {
        Some(length) if length > MAX_NOTE => {
            Err(ApiError::InvalidBody(format!("note has {length} characters; at most {MAX_NOTE} are kept")))
        }
        _ => Ok(()),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let wrong = |message: String| ApiError::BadRequest(format!("header {IDEMPOTENCY_KEY}: {message}"));
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(wrong("is given more than once".to_owned()));
    }
    let Some(value) = first else { return Ok(None) };
    let text =
        value.to_str().map_err(|_| wrong("use 1 to 128 printable ASCII characters without spaces".to_owned()))?;
    IdempotencyKey::new(text).map(Some).map_err(|e| wrong(e.to_string()))
}

/// Returns the caller's trace context if it is well-formed (W3C Trace Context, version 00).
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |part: &str| part.bytes().any(|b| b != b'0');
    match parts[..] {
        ["00", trace, span, flags] if hex(trace, 32) && hex(span, 16) && hex(flags, 2) && set(trace) && set(span) => {
            Some(text.to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn bodies_are_json_without_duplicate_keys_or_unknown_fields() {
        let headers = with("content-type", "application/json; charset=utf-8");
        let parse = |text: &str| parse_body::<CreateExecution>(&headers, text.as_bytes()).map(|(_, body)| body);
        assert!(parse(r#"{"action":"linux.a","parameters":{"x":1}}"#).is_ok());
        for (text, said) in [
            (r#"{"action":"linux.a","action":"linux.b"}"#, "\"action\""),
            (r#"{"action":"linux.a","parameters":{"x":1,"x":2}}"#, "\"x\""),
            // An agent of an earlier version refuses `version` in the same way, rather than run another one.
            (r#"{"action":"linux.a","colour":1}"#, "colour"),
            (r#"{"action":"nodots"}"#, "action"),
            ("{}", "action"),
            ("not json", "JSON"),
            ("", "JSON"),
        ] {
            match parse(text).err() {
                Some(ApiError::InvalidBody(message)) => assert!(message.contains(said), "{message}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let plain = parse_body::<CreateExecution>(&with("content-type", "text/plain"), b"{}");
        assert!(matches!(plain.err(), Some(ApiError::UnsupportedMediaType)));
    }

    #[test]
    fn only_a_well_formed_trace_is_passed_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&with("traceparent", good)).as_deref(), Some(good));
        for wrong in [
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "x",
        ] {
            assert_eq!(traceparent(&with("traceparent", wrong)), None, "{wrong}");
        }
    }
}
