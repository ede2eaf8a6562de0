//! The bucket's clock: the `Date` header of its last answer, an unauthenticated hint.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

/// Records the `Date` of the last answer, whatever its status. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastDate(Arc<Mutex<Option<u64>>>);

impl LastDate {
    /// Returns the recorded time, in milliseconds since 1970.
    pub(crate) fn ms(&self) -> Option<u64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for LastDate {
    fn name(&self) -> &'static str {
        "LastDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(parse);
        if date.is_some() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        }
        Ok(())
    }
}

fn parse(date: &str) -> Option<u64> {
    let ms = DateTime::from_str(date, Format::HttpDate).ok()?.to_millis().ok()?;
    u64::try_from(ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_dates_are_parsed() {
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:02 GMT"), Some(2000));
        assert_eq!(["", "yesterday", "Wed, 31 Dec 1969 23:59:59 GMT"].map(parse), [None; 3]);
    }
}
