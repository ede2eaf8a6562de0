//! Reason that a publisher gives for a change.

use std::str::FromStr;

/// Reason of a change, as the journal keeps it: one line of at most 500 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeReason(String);

/// Error returned for a text that is not a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write one line of 1 to {} characters, without control characters", ChangeReason::MAX)]
pub struct ChangeReasonError;

impl ChangeReason {
    /// Maximum length, in characters.
    pub const MAX: usize = 500;

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChangeReason {
    type Err = ChangeReasonError;
    fn from_str(text: &str) -> Result<ChangeReason, ChangeReasonError> {
        let text = text.trim();
        let fits = (1..=ChangeReason::MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if fits { Ok(ChangeReason(text.to_owned())) } else { Err(ChangeReasonError) }
    }
}
