//! Sources of instances: files, programs, EC2 and Spinnaker.
//!
//! A source is the smallest part that can fail alone: one file, one program, one region of one account, one application.
//! It returns all of its instances or an error; it never returns fewer instances without saying so.

#[cfg(feature = "s3")]
pub mod ec2;
pub mod exec;
pub mod file;
#[cfg(feature = "s3")]
mod one_or_many;
#[cfg(feature = "s3")]
pub mod spinnaker;

use std::time::Duration;

use async_trait::async_trait;

use super::entry::Found;

/// Error of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// Description of the problem, without the name of the source.
    pub message: String,
    /// Advice what to do about it.
    pub hint: Option<String>,
}

impl SourceError {
    /// Creates an error without advice.
    pub fn new(message: impl Into<String>) -> SourceError {
        SourceError { message: message.into(), hint: None }
    }

    /// Adds advice what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> SourceError {
        self.hint = Some(hint.into());
        self
    }
}

/// Answer of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Instances, with different ids.
    pub found: Vec<Found>,
    /// Instances that cannot be used, each with the reason; an error unless the user accepts partial inventories.
    pub left_out: Vec<SourceError>,
}

/// A part of the inventory that is fetched by itself.
#[async_trait]
pub trait Source: std::fmt::Debug + Send + Sync {
    /// Returns the name for messages: kind, account and region, or program.
    fn name(&self) -> &str;

    /// Returns the text that identifies what is fetched: two sources with the same key have the same instances. Only its
    /// hash is stored.
    fn cache_key(&self) -> String;

    /// Returns the age up to which a cached answer is used; zero if answers are not cached.
    fn max_age(&self) -> Duration;

    /// True if the answer costs no more than reading a file: completion in a shell asks only such sources.
    fn is_local(&self) -> bool {
        false
    }

    /// Fetches all instances of this source.
    async fn fetch(&self) -> Result<Fetched, SourceError>;
}

/// Returns the messages of an error and its sources, joined by colons.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        next = inner.source();
    }
    text
}
