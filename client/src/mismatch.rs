//! Error of an answer that is not about the peer or not about the request.

use packs_schema::base::name::InstanceId;

/// Error returned when an answer names another instance, or is about something that was not asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The answer names another instance than the certificate.
    #[error("its certificate is that of {peer}, but it answers as {claimed}")]
    Instance {
        /// Instance in the certificate.
        peer: InstanceId,
        /// Instance in the answer.
        claimed: InstanceId,
    },
    /// The answer is about something else.
    #[error("it was asked about {what} {asked} and answers about {given}")]
    Subject {
        /// Kind of thing: `execution`, `action`.
        what: &'static str,
        /// Name in the request.
        asked: String,
        /// Name in the answer.
        given: String,
    },
    /// The answer lists the same thing twice.
    #[error("it lists {what} {name} twice")]
    Twice {
        /// Kind of thing.
        what: &'static str,
        /// Name that is listed twice.
        name: String,
    },
}
