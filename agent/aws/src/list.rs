//! Listing and removal of objects: for pruning of a repository, and for the record of runs. Agents need neither permission.

use crate::bucket::Bucket;
use crate::error::{BucketError, Problem};

/// Number of objects on a page, at most.
const PAGE: i32 = 1000;

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
    /// Lists all objects of the repository.
    pub async fn list(&self) -> Result<Vec<ListedObject>, BucketError> {
        self.list_below("", usize::MAX).await
    }

    /// Lists the objects whose names begin with `start`, in the order of their names, at most `max` of them.
    pub async fn list_below(&self, start: &str, max: usize) -> Result<Vec<ListedObject>, BucketError> {
        let prefix = self.url.key("");
        let mut listed = Vec::new();
        let mut token = None;
        loop {
            let request = self.client.list_objects_v2().bucket(self.url.bucket()).prefix(self.url.key(start));
            let left = i32::try_from(max - listed.len()).ok().filter(|left| *left < PAGE);
            let request = request.set_max_keys(left);
            let page = request.set_continuation_token(token).send().await;
            let page = page.map_err(|error| self.failed("list", "", Problem::of(error)))?;
            for object in page.contents() {
                let Some(name) = object.key().and_then(|key| key.strip_prefix(&prefix)) else { continue };
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
            token = page.next_continuation_token;
            if token.is_none() || listed.len() == max {
                return Ok(listed);
            }
        }
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
