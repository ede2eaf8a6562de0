//! `POST /v1/packs/push` and `POST /v1/packs/{pack}/unpush`.
//!
//! ```text
//!  [dev] push ─▶ content type ─▶ query ─▶ grant on <pack>.* ─▶ time ─▶ size ─▶ body to disk, hashed ─▶ sync
//!   403           415             400      403                  422     413     413, 507                403 … 507
//! ```
//!
//! The archive is never held in memory, and its content is not examined here.

use std::io::{self, Write};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use packs_schema::agent::audit::{Entry, Outcome};
use packs_schema::agent::push::{FORMAT, PushOperation, PushRequest, PushResult};
use packs_schema::agent::rest::{ARCHIVE_TYPE, BYTES_TYPE, Code, Pushed, Unpushed};
use packs_schema::base::name::{Digest, PackName, PackVersion, Principal};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{Call, json};
use crate::access::Caller;
use crate::api::App;
use crate::api::body::Body;
use crate::api::problem::ApiError;
use crate::api::pushes::Ticket;
use crate::clock;

/// Time limit for the next chunk of an archive.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit for a whole archive.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a refused archive that are read and discarded, so that its sender reads the refusal before the connection ends.
const DISCARDED: u64 = 8 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Parsed query.
struct Asked {
    pack: PackName,
    version: PackVersion,
    digest: Option<Digest>,
    ttl: Duration,
}

fn refuse(code: Code, message: impl Into<String>) -> ApiError {
    ApiError::Push { code, message: message.into(), findings: Vec::new() }
}

pub(in crate::api) async fn push(mut call: Call) -> Result<Response<Body>, ApiError> {
    match take(&mut call).await {
        Ok(response) => Ok(response),
        Err(error) => {
            discard_body(&mut call.body).await;
            Err(error)
        }
    }
}

async fn take(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let asked = check(call)?;
    let Call { app, caller, body, .. } = call;
    let Ok(_slot) = app.pushes.uploads.try_acquire() else {
        return Err(refuse(Code::QueueFull, "other archives are being received: push again later"));
    };
    let mut ticket = begin(app)?;
    let (digest, size_bytes) =
        timeout(ARCHIVE_TIMEOUT, receive(body, &ticket, app.pushes.max_archive)).await.unwrap_or_else(|_| {
            Err(ApiError::BadRequest(format!("the archive did not arrive within {} s", ARCHIVE_TIMEOUT.as_secs())))
        })?;
    if let Some(wanted) = asked.digest.as_ref().filter(|wanted| **wanted != digest) {
        let message = format!("the archive that arrived has the digest {digest}, not {wanted}: push again");
        return Err(refuse(Code::InvalidPack, message));
    }
    let Asked { pack, version, ttl, .. } = asked;
    tracing::info!(principal = %caller.principal(), %pack, %version, digest = digest.short(), size_bytes, "pushed archive received");
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let ask = PushOperation::Install { version: version.clone(), digest: digest.clone(), size_bytes, ttl_ms };
    let unknown = Pushed { pack: pack.clone(), version, digest, dev: None, signed: None, warning: None };
    match outcome(app, caller, &mut ticket, pack, ask).await? {
        None => Ok(json(202, &unknown)),
        Some(PushResult::Installed(pushed)) => Ok(json(200, &pushed)),
        Some(other) => Err(unexpected(other)),
    }
}

pub(in crate::api) async fn unpush(call: &Call) -> Result<Response<Body>, ApiError> {
    let Call { app, caller, segment, .. } = call;
    check_enabled(app)?;
    let pack = PackName::new(segment.as_str()).map_err(|e| ApiError::BadRequest(e.to_string()))?;
    call.subject.set(format_args!("{pack}.*"));
    check_grant(caller, &pack)?;
    tracing::info!(principal = %caller.principal(), %pack, "unpush requested");
    let mut ticket = begin(app)?;
    match outcome(app, caller, &mut ticket, pack.clone(), PushOperation::Remove).await? {
        None => Ok(json(202, &Unpushed { pack, done: false, version: None })),
        Some(PushResult::Removed { version }) => Ok(json(200, &Unpushed { pack, done: true, version })),
        Some(other) => Err(unexpected(other)),
    }
}

/// Checks everything that can be checked before the body is read.
fn check(call: &Call) -> Result<Asked, ApiError> {
    let Call { app, caller, query, headers, body, .. } = call;
    check_enabled(app)?;
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if ![ARCHIVE_TYPE, BYTES_TYPE].iter().any(|taken| essence.eq_ignore_ascii_case(taken)) {
        return Err(ApiError::NotAnArchive);
    }
    let asked = Asked {
        pack: query.required("pack")?,
        version: query.required("version")?,
        digest: query.get("digest")?,
        ttl: query.duration("ttl")?.unwrap_or_else(|| app.pushes.dev.ttl.0.min(app.pushes.dev.max_ttl.0)),
    };
    call.subject.set(format_args!("{}.*", asked.pack));
    check_grant(caller, &asked.pack)?;
    let most = app.pushes.dev.max_ttl.0;
    if asked.ttl > most || asked.ttl < Duration::from_millis(1) {
        let most = packs_schema::base::quantity::format_duration(most);
        return Err(refuse(Code::TtlTooLong, format!("a pushed pack stays at most {most} here (dev.max_ttl)")));
    }
    if !app.health.is_ready() {
        return Err(ApiError::NotReady);
    }
    match body.size_hint().exact() {
        Some(length) if length > app.pushes.max_archive => Err(too_large(app.pushes.max_archive)),
        _ => Ok(asked),
    }
}

fn check_enabled(app: &App) -> Result<(), ApiError> {
    if app.pushes.dev.push {
        return Ok(());
    }
    let message =
        "this instance does not allow pushed packs: publish it, or set push = true under [dev] in its agent.toml";
    Err(refuse(Code::PushNotAllowed, message))
}

fn check_grant(caller: &Caller, pack: &PackName) -> Result<(), ApiError> {
    if caller.covers_pack(pack) {
        return Ok(());
    }
    let who = caller.principal();
    Err(ApiError::Forbidden(format!(
        "no grant lets {who} push {pack}: pushing needs the verb push on {pack}.*, without a limit to classes"
    )))
}

fn too_large(most: u64) -> ApiError {
    refuse(Code::BodyTooLarge, format!("the archive is larger than the {most} bytes that may be pushed here"))
}

fn begin(app: &App) -> Result<Ticket<'_>, ApiError> {
    app.pushes.begin().ok_or_else(|| refuse(Code::QueueFull, "too many pushes wait for the sync: push again later"))
}

/// Writes the body to the disk as it arrives; returns its digest and length.
async fn receive(body: &mut Incoming, ticket: &Ticket<'_>, most: u64) -> Result<(Digest, u64), ApiError> {
    let mut file = ticket.archive().map_err(disk)?;
    let (mut hash, mut length) = (Sha256::new(), 0_u64);
    loop {
        let piece = timeout(CHUNK_TIMEOUT, body.frame()).await.map_err(|_| {
            ApiError::BadRequest(format!("no byte of the archive arrived for {} s", CHUNK_TIMEOUT.as_secs()))
        })?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|e| ApiError::BadRequest(format!("the archive cannot be read: {e}")))?;
        let Ok(data) = piece.into_data() else { continue };
        length = length.saturating_add(data.len() as u64);
        if length > most {
            return Err(too_large(most));
        }
        hash.update(&data);
        file.write_all(&data).map_err(disk)?;
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((Digest::new(digest).expect("SHA-256 has 64 hexadecimal digits"), length))
}

async fn discard_body(body: &mut Incoming) {
    let discarding = async {
        let mut discarded = 0;
        while discarded < DISCARDED
            && let Some(Ok(piece)) = body.frame().await
        {
            discarded += piece.data_ref().map_or(0, |data| data.len() as u64);
        }
    };
    // The rest of the body is of no interest.
    let _ = timeout(DISCARD_TIMEOUT, discarding).await;
}

/// Passes the request to the sync. `None`: it has not answered within the time limit.
async fn outcome(
    app: &App,
    caller: &Caller,
    ticket: &mut Ticket<'_>,
    pack: PackName,
    operation: PushOperation,
) -> Result<Option<PushResult>, ApiError> {
    let (by, at_ms) = (caller.principal().clone(), clock::now_ms());
    let begun = audit_entry(&by, at_ms, &pack, &operation);
    app.audit.record(begun.clone()).await?;
    let request = PushRequest { format: FORMAT, id: ticket.id.clone(), by, at_ms, pack, operation };
    let result = ticket.ask(app, &request).await;
    record_outcome(app, begun, &result).await;
    match result.map_err(disk)? {
        Some(PushResult::Refused { code, message, findings }) => Err(ApiError::Push { code, message, findings }),
        other => Ok(other),
    }
}

/// Makes the entry of a push, or of its removal, that is about to be passed to the sync.
fn audit_entry(by: &Principal, at_ms: u64, pack: &PackName, operation: &PushOperation) -> Entry {
    let entry = |verb| Entry::new(at_ms, verb, Outcome::Accepted).by(by.as_str());
    let entry = match operation {
        PushOperation::Install { version, digest, .. } => {
            Entry { version: Some(version.to_string()), digest: Some(digest.to_string()), ..entry("push") }
        }
        PushOperation::Remove => entry("unpush"),
    };
    Entry { action: Some(format!("{pack}.*")), ..entry }
}

/// Records how a push ended. It has been recorded that it began: where this fails, the end is not known.
async fn record_outcome(app: &App, begun: Entry, result: &io::Result<Option<PushResult>>) {
    let (outcome, code) = match result {
        Ok(Some(PushResult::Refused { code, .. })) => (Outcome::Failed, Some(code.to_string())),
        Ok(Some(_)) => (Outcome::Done, None),
        Ok(None) => (Outcome::Unknown, None),
        Err(_) => (Outcome::Failed, None),
    };
    let entry = Entry { at_ms: clock::now_ms(), outcome, code, ..begun };
    if let Err(error) = app.audit.record(entry).await {
        tracing::warn!(%error, "the outcome of a push is not in the audit log");
    }
}

fn unexpected(result: PushResult) -> ApiError {
    tracing::error!(?result, "the sync answered another question");
    refuse(Code::Internal, "the sync answered another question than was asked")
}

fn disk(error: io::Error) -> ApiError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            refuse(Code::InsufficientStorage, "the disk of the store of packs is full: free space and push again")
        }
        _ => {
            tracing::error!(%error, "the inbox of pushed packs cannot be used");
            refuse(Code::Internal, "the inbox of pushed packs cannot be used; the agent's log says why")
        }
    }
}
