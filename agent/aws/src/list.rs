//! Listing and removal of objects: for pruning of a repository, and for the record of runs. Agents need neither permission.

use std::borrow::Cow;

use aws_sdk_s3::types::EncodingType;

use crate::bucket::Bucket;
use crate::error::{BucketError, Problem};
use crate::percent;

/// Number of objects on a page, at most.
const PAGE: i32 = 1000;
/// Maximum number of pages of a listing; a page may hold few objects.
const MAX_PAGES: usize = 10_000;
/// Maximum number of objects of a listing.
const MAX_OBJECTS: usize = 1_000_000;
/// Maximum length of a key, in bytes: that of S3.
const MAX_KEY: usize = 1024;

/// An object of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Key without the prefix of the repository, such as `metadata/timestamp.json`.
    pub name: String,
    /// Length, in bytes.
    pub bytes: u64,
    /// Time of the last write by the bucket's clock, in milliseconds since 1970.
    pub modified_ms: u64,
}

impl Bucket {
    /// Lists all objects of the repository. A listing that does not end is an error.
    pub async fn list(&self) -> Result<Vec<ListedObject>, BucketError> {
        self.list_below("", usize::MAX).await
    }

    /// Lists the objects whose names begin with `start`, in the order of their names, at most `max` of them.
    pub async fn list_below(&self, start: &str, max: usize) -> Result<Vec<ListedObject>, BucketError> {
        let prefix = self.url.key("");
        let (mut listed, mut token) = (Vec::new(), None::<String>);
        let endless = |why: String| Err(self.failed("list", "", Problem::EndlessListing(why)));
        for _ in 0..MAX_PAGES {
            let request = self.client.list_objects_v2().bucket(self.url.bucket()).prefix(self.url.key(start));
            let left = i32::try_from(max - listed.len()).ok().filter(|left| *left < PAGE);
            // XML cannot hold the control characters that a hostile name may have.
            let request = request.set_max_keys(left).encoding_type(EncodingType::Url);
            let page = request.set_continuation_token(token.clone()).send().await;
            let page = page.map_err(|error| self.failed("list", "", Problem::of(error)))?;
            let is_encoded = page.encoding_type() == Some(&EncodingType::Url);
            for object in page.contents() {
                let key = object.key().and_then(|key| decoded(key, is_encoded));
                let Some(key) = key.filter(|key| key.len() <= MAX_KEY) else { continue };
                let Some(name) = key.strip_prefix(&prefix) else { continue };
                if !name.starts_with(start) || listed.len() == max {
                    continue;
                }
                let modified = object.last_modified().and_then(|at| at.to_millis().ok());
                listed.push(ListedObject {
                    name: name.to_owned(),
                    bytes: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    modified_ms: modified.and_then(|at| u64::try_from(at).ok()).unwrap_or(0),
                });
            }
            match page.next_continuation_token {
                next if next.is_none() || listed.len() == max => return Ok(listed),
                _ if listed.len() > MAX_OBJECTS => return endless(format!("more than {MAX_OBJECTS} objects")),
                next if next == token => return endless("the same page again".to_owned()),
                next => token = next,
            }
        }
        endless(format!("more than {MAX_PAGES} pages"))
    }

    /// Removes an object. Idempotent.
    pub async fn remove(&self, name: &str) -> Result<(), BucketError> {
        let request = self.client.delete_object().bucket(self.url.bucket()).key(self.url.key(name));
        match request.send().await.map_err(Problem::of) {
            Ok(_) | Err(Problem::Missing) => Ok(()),
            Err(problem) => Err(self.failed("remove", name, problem)),
        }
    }
}

/// Returns the key of a listing: encoded like a form, if the bucket says so.
fn decoded(key: &str, is_encoded: bool) -> Option<Cow<'_, str>> {
    if is_encoded { percent::decoded(&key.replace('+', " ")).map(Cow::Owned) } else { Some(Cow::Borrowed(key)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_if_the_bucket_says_that_they_are_encoded() {
        assert_eq!(decoded("a+b%2Bc%1B", true).as_deref(), Some("a b+c\u{1b}"));
        assert_eq!(decoded("a+b%2B", false).as_deref(), Some("a+b%2B"));
        assert_eq!(decoded("%ff", true), None);
    }
}
