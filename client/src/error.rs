//! Errors of requests to an instance: one kind for each cause.

use std::io;
use std::time::Duration;

use packs_schema::agent::rest::{Code, Problem};
use packs_schema::base::name::InstanceId;
use packs_schema::base::quantity::format_duration;
use rustls::{AlertDescription, CertificateError};

use crate::mismatch::Mismatch;
use crate::phase::Phase;
use crate::show::visible;
use crate::tls::{NotForServers, WrongInstance};

/// Hint for a missing grant; a command replaces it by one that names the verbs it needs.
pub const GRANT_HINT: &str = "ask for a grant for this verb and action in the agent's grants.toml";

/// Error of a request to one instance.
#[derive(Debug, thiserror::Error)]
#[error("{instance} ({address}): {kind}")]
pub struct Error {
    /// Instance that the request was for.
    pub instance: InstanceId,
    /// Address at which it was contacted.
    pub address: String,
    /// Cause.
    pub kind: Kind,
}

/// Cause of an error.
#[derive(Debug, thiserror::Error)]
pub enum Kind {
    /// The host name cannot be resolved.
    #[error("the host name cannot be resolved: {0}")]
    Unresolved(io::Error),
    /// The address cannot be used on this host.
    #[error("its address cannot be used: {0}")]
    Address(String),
    /// Nothing listens at the address.
    #[error("connection refused: nothing listens at this address")]
    ConnectionRefused,
    /// A phase did not end within its time limit.
    #[error("timed out: {1}")]
    TimedOut(Phase, &'static str),
    /// The connection failed for another reason.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke during the TLS handshake: nothing was sent.
    #[error("the connection broke during the TLS handshake: {0}")]
    HandshakeBroken(String),
    /// The connection broke after the TLS handshake.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The execution was accepted, or may have been, and has not ended within the time for one instance.
    #[error("not known to have ended within {}, the time for one instance", format_duration(*.0))]
    TimeIsOver(Duration),
    /// The server's certificate was signed by an authority that is not in the CA file.
    #[error("its certificate was signed by an authority that is not in the configured CA file")]
    UnknownAuthority,
    /// The server's certificate has expired.
    #[error("its certificate has expired")]
    Expired,
    /// The server's certificate is not valid yet.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The server is another instance.
    #[error("reached {reached}, not {wanted}")]
    WrongInstance {
        /// Name in the server's certificate.
        reached: String,
        /// Instance that the request was for.
        wanted: InstanceId,
    },
    /// The server rejected the client certificate.
    #[error("it refused our certificate: {0}")]
    CertificateRefused(&'static str),
    /// TLS failed for another reason.
    #[error("TLS: {0}")]
    Tls(String),
    /// The agent refused the request with a problem document.
    #[error("{}", problem_line(.0))]
    Problem(Box<Problem>),
    /// The answer names another instance, or is about something that was not asked for.
    #[error("{0}; the answer is discarded")]
    WrongAnswer(#[from] Mismatch),
    /// The answer does not conform to the REST interface.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// Error of an earlier client, from the record of a run.
    #[error("{message}")]
    Recorded {
        /// Outcome, from [`OUTCOMES`].
        outcome: &'static str,
        /// The error.
        message: String,
    },
}

/// Outcomes of an instance on which no execution is known to have ended.
pub const OUTCOMES: [&str; 11] = [
    "unreachable",
    "unknown",
    "tls_failed",
    "wrong_instance",
    "unauthorized",
    "no_such_action",
    "invalid_parameters",
    "version_mismatch",
    "busy",
    "refused",
    "not_started",
];

impl Kind {
    /// Returns a stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Kind::Unresolved(_) => "unresolved",
            Kind::Address(_) => "unusable_address",
            Kind::ConnectionRefused => "connection_refused",
            Kind::TimedOut(..) => "timed_out",
            Kind::TimeIsOver(_) => "time_is_over",
            Kind::Connect(_) => "connect_failed",
            Kind::HandshakeBroken(_) | Kind::Broken(_) => "connection_broken",
            Kind::UnknownAuthority => "unknown_authority",
            Kind::Expired => "certificate_expired",
            Kind::NotYetValid => "certificate_not_yet_valid",
            Kind::WrongInstance { .. } => "reached_another_instance",
            Kind::CertificateRefused(_) => "our_certificate_refused",
            Kind::Tls(_) => "tls",
            Kind::Problem(problem) => problem.code.as_str(),
            Kind::WrongAnswer(_) => "wrong_answer",
            Kind::Protocol(_) => "protocol_error",
            Kind::Recorded { .. } => "recorded",
        }
    }

    /// Returns the phase in which the request failed; `None` where it is not known.
    pub fn phase(&self) -> Option<Phase> {
        Some(match self {
            Kind::Unresolved(_) | Kind::Address(_) => Phase::Resolve,
            Kind::ConnectionRefused | Kind::Connect(_) => Phase::Connect,
            Kind::TimedOut(phase, _) => *phase,
            Kind::HandshakeBroken(_)
            | Kind::UnknownAuthority
            | Kind::Expired
            | Kind::NotYetValid
            | Kind::WrongInstance { .. }
            | Kind::CertificateRefused(_)
            | Kind::Tls(_) => Phase::Tls,
            Kind::Broken(_) | Kind::WrongAnswer(_) | Kind::Protocol(_) | Kind::TimeIsOver(_) => Phase::Http,
            Kind::Problem(_) => Phase::Refused,
            Kind::Recorded { .. } => return None,
        })
    }

    /// Returns true if the request has certainly not been sent.
    pub(crate) fn nothing_was_sent(&self) -> bool {
        // In TLS 1.3 the server refuses our certificate after the handshake, and never reads the request then.
        matches!(self.phase(), Some(Phase::Resolve | Phase::Connect | Phase::Tls))
    }

    /// Returns an error that was recorded with its outcome. An outcome that this version does not know is `unreachable`.
    pub(crate) fn recorded(outcome: &str, message: &str) -> Kind {
        let outcome = OUTCOMES.into_iter().find(|known| *known == outcome).unwrap_or("unreachable");
        Kind::Recorded { outcome, message: message.to_owned() }
    }

    /// Returns the outcome of an instance whose request failed like this: one word of a closed list, for counts and programs.
    pub fn outcome(&self) -> &'static str {
        match self {
            Kind::Unresolved(_)
            | Kind::Address(_)
            | Kind::ConnectionRefused
            | Kind::TimedOut(..)
            | Kind::Connect(_)
            | Kind::HandshakeBroken(_)
            | Kind::Broken(_)
            | Kind::Protocol(_) => "unreachable",
            Kind::TimeIsOver(_) => "unknown",
            Kind::UnknownAuthority | Kind::Expired | Kind::NotYetValid | Kind::CertificateRefused(_) | Kind::Tls(_) => {
                "tls_failed"
            }
            Kind::WrongInstance { .. } | Kind::WrongAnswer(_) => "wrong_instance",
            Kind::Recorded { outcome, .. } => outcome,
            Kind::Problem(problem) => match problem.code {
                Code::Forbidden | Code::Unauthenticated | Code::PushNotAllowed => "unauthorized",
                Code::UnknownAction | Code::UnknownPack => "no_such_action",
                Code::InvalidParameters => "invalid_parameters",
                Code::VersionMismatch => "version_mismatch",
                Code::Busy
                | Code::RateExceeded
                | Code::QueueFull
                | Code::Unavailable
                | Code::OutOfResources
                | Code::InsufficientStorage
                | Code::AuditUnavailable => "busy",
                Code::WrongInstance => "wrong_instance",
                _ => "refused",
            },
        }
    }

    /// Returns what to do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Kind::Unresolved(_) | Kind::Address(_) => "check its address in the inventory",
            Kind::ConnectionRefused => "check that the agent is running on the host, and its port in the inventory",
            Kind::TimedOut(Phase::Resolve, _) => {
                "check the name service of this host, or give addresses in the inventory"
            }
            Kind::TimedOut(Phase::Tls | Phase::Http, _) => {
                "check that the agent answers on the host itself: the host may be overloaded, or something else listens there"
            }
            Kind::TimedOut(..) | Kind::Connect(_) => "check that the host is up and that no firewall blocks the port",
            Kind::HandshakeBroken(_) => {
                "check that an agent listens at this port, and no proxy or load balancer in between"
            }
            Kind::TimeIsOver(_) => "the execution may go on: `bolt wait` and `bolt show` of the run follow it",
            Kind::UnknownAuthority => "give the authority that signed the agents' certificates with --ca",
            Kind::Expired | Kind::NotYetValid => {
                "issue a new certificate for the instance, and check the clocks of both hosts"
            }
            Kind::WrongInstance { .. } => "its address may now belong to another instance: correct the inventory",
            Kind::CertificateRefused(_) => {
                "give a client certificate that is valid now and signed by the authority that the agent trusts, with --cert and --key"
            }
            Kind::WrongAnswer(_) => "do not trust this instance until it is clear what runs there",
            Kind::Problem(problem) => return problem_hint(problem.code),
            Kind::Broken(_) | Kind::Tls(_) | Kind::Protocol(_) | Kind::Recorded { .. } => return None,
        })
    }

    /// Returns true if the agent answered and refused the request.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Kind::Problem(_))
    }

    /// Returns true for an answer that an agent may also give after it has accepted the request.
    pub(crate) fn may_follow_acceptance(&self) -> bool {
        let Kind::Problem(problem) = self else { return false };
        match problem.code {
            Code::Internal | Code::StorageFailed | Code::OutOfResources => true,
            Code::Unknown => problem.status >= 500,
            _ => false,
        }
    }

    /// Returns true if the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            // The agent is starting or stopping.
            Kind::Problem(problem) => problem.code == Code::Unavailable,
            _ => matches!(
                self,
                Kind::ConnectionRefused
                    | Kind::TimedOut(..)
                    | Kind::Connect(_)
                    | Kind::HandshakeBroken(_)
                    | Kind::Broken(_)
                    | Kind::Unresolved(_)
            ),
        }
    }

    /// Returns the cause of an I/O error of a connection.
    pub(crate) fn from_io(error: io::Error) -> Kind {
        Kind::from_io_ref(&error)
    }

    /// Returns the cause of an I/O error that the caller keeps.
    pub(crate) fn from_io_ref(error: &io::Error) -> Kind {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Kind::from_tls(tls);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Kind::ConnectionRefused,
            io::ErrorKind::TimedOut => Kind::TimedOut(Phase::Http, "the operating system reported a time-out"),
            io::ErrorKind::UnexpectedEof => Kind::Broken("it closed the connection".to_owned()),
            _ => Kind::Broken(error.to_string()),
        }
    }

    /// Returns the same cause of a failed TLS handshake.
    pub(crate) fn during_handshake(self) -> Kind {
        match self {
            Kind::Broken(detail) => Kind::HandshakeBroken(detail),
            Kind::TimedOut(_, what) => Kind::TimedOut(Phase::Tls, what),
            // A reset, here: the kernel refused no connection.
            other => other,
        }
    }

    /// Returns the cause of an error of rustls.
    pub(crate) fn from_tls(error: &rustls::Error) -> Kind {
        match error {
            rustls::Error::InvalidCertificate(problem) => from_certificate(problem),
            rustls::Error::AlertReceived(alert) => from_alert(*alert),
            other => Kind::Tls(other.to_string()),
        }
    }
}

fn from_certificate(problem: &CertificateError) -> Kind {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Kind::UnknownAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Kind::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Kind::NotYetValid,
        CertificateError::Other(other) => {
            if let Some(wrong) = other.0.downcast_ref::<WrongInstance>() {
                return Kind::WrongInstance {
                    reached: wrong
                        .reached
                        .clone()
                        .unwrap_or_else(|| "a server whose certificate names no instance".to_owned()),
                    wanted: wrong.wanted.clone(),
                };
            }
            match other.0.downcast_ref::<NotForServers>() {
                Some(wrong) => Kind::Tls(wrong.to_string()),
                None => Kind::Tls(problem.to_string()),
            }
        }
        other => Kind::Tls(format!("its certificate is not acceptable: {other}")),
    }
}

fn from_alert(alert: AlertDescription) -> Kind {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            Kind::CertificateRefused("the server requires one and got none")
        }
        AlertDescription::UnknownCA => Kind::CertificateRefused("the server does not trust its authority"),
        AlertDescription::CertificateExpired => Kind::CertificateRefused("it has expired, or is not valid yet"),
        AlertDescription::CertificateRevoked => Kind::CertificateRefused("it was revoked"),
        AlertDescription::UnsupportedCertificate => {
            Kind::CertificateRefused("its extended key usage must include clientAuth")
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => Kind::CertificateRefused("the server does not accept it"),
        other => Kind::Tls(format!("the server ended the connection with the alert {other:?}")),
    }
}

fn problem_line(problem: &Problem) -> String {
    let mut line = format!("{} ({})", visible(&problem.detail), problem.code);
    for error in problem.errors.iter().take(100) {
        line.push_str(&format!("\n    {}", visible(&error.to_string())));
    }
    for finding in problem.findings.iter().take(100) {
        line.push_str(&format!("\n    {}", visible(&finding.to_string())));
    }
    line
}

fn problem_hint(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Forbidden => GRANT_HINT,
        Code::UnknownAction | Code::UnknownPack => "`bolt actions` lists what can be run, `bolt packs` what is active",
        Code::PushNotAllowed => {
            "publish the pack instead: `bolt repo publish`, for a channel that the instance follows"
        }
        Code::NotPushed => "`bolt packs` shows which versions were pushed",
        Code::TooManyPushed => "`bolt packs` shows which packs were pushed, `bolt pack unpush` removes one",
        Code::VersionMismatch => {
            "`bolt packs` lists the active versions; wait for the rollout, or run without @VERSION"
        }
        Code::ClassMismatch => {
            "`bolt actions <action>` shows its class: run it again, or only where it has the same class"
        }
        Code::InvalidPack => "`bolt pack lint` reports what is wrong with a pack",
        Code::Busy => "another execution of its concurrency group is running: `bolt ps` shows it",
        Code::RateExceeded | Code::QueueFull | Code::Unavailable => "try again later",
        Code::InvalidParameters => "`bolt actions <action>` shows what it takes",
        Code::OutputGone => "raise history.max_bytes or history.max_files of the agent to keep outputs longer",
        Code::InsufficientStorage | Code::AuditUnavailable => "free space on the instance's disk",
        Code::WrongInstance => "its address may now belong to another instance: correct the inventory",
        _ => return None,
    })
}
