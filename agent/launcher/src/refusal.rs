//! Refusals: the error of every request that the launcher does not carry out.

use packs_schema::agent::launch::Refusal;

/// Error returned for a request that was refused; nothing was changed.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Refusal,
    pub(crate) message: String,
}

/// Returns a refusal.
pub(crate) fn refuse<T>(code: Refusal, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { code, message: message.into() })
}
