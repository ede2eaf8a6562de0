//! Objects of a bucket with all their versions, and S3's conditional requests.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput, StreamingBlob,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::Shared;

/// Maximum number of objects on one page of a listing.
const PAGE: usize = 100;
/// Size of one chunk of an answer, in bytes.
const PIECE: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Versions of each key, the newest last; `None` marks a removal.
    by_key: BTreeMap<String, Vec<Option<Version>>>,
}

#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) content: Bytes,
    etag: String,
    modified: SystemTime,
}

impl Objects {
    pub(super) fn current(&self, key: &str) -> Option<&Version> {
        self.by_key.get(key)?.last()?.as_ref()
    }

    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        let there = self.by_key.keys().filter(|key| key.starts_with(prefix) && self.current(key).is_some());
        there.cloned().collect()
    }

    pub(super) fn versions(&self, key: &str) -> usize {
        self.by_key.get(key).map_or(0, Vec::len)
    }

    pub(super) fn put(&mut self, key: &str, content: Bytes, modified: SystemTime) -> String {
        let mut hash = DefaultHasher::new();
        content.hash(&mut hash);
        let etag = format!("{:016x}{:08x}", hash.finish(), content.len());
        let version = Version { content, etag: etag.clone(), modified };
        self.by_key.entry(key.to_owned()).or_default().push(Some(version));
        etag
    }

    /// Backdates every object by `by`.
    pub(super) fn age(&mut self, by: Duration) {
        for version in self.by_key.values_mut().flatten().flatten() {
            version.modified -= by;
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.by_key.entry(key.to_owned()).or_default().push(None);
    }
}

/// Implementation of s3s' service trait.
pub(super) struct Service {
    pub(super) bucket: String,
    pub(super) shared: Arc<Shared>,
}

impl Service {
    fn there(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket, "The specified bucket does not exist")) }
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(named) => named.value() == etag,
    }
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        self.there(&input.bucket)?;
        let found = self.objects().current(&input.key).cloned();
        let Version { content, etag, modified } =
            found.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))?;
        if input.if_match.is_some_and(|condition| !names(&condition, &etag)) {
            return Err(s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold"));
        }
        if input.if_none_match.is_some_and(|condition| names(&condition, &etag)) {
            return Err(s3_error!(NotModified));
        }
        let whole = content.len() as u64;
        let (content, range) = match input.range {
            None => (content, None),
            Some(range) => {
                let part = range.check(whole).map_err(|_| s3_error!(InvalidRange, "The range is not satisfiable"))?;
                let said = format!("bytes {}-{}/{whole}", part.start, part.end - 1);
                (content.slice(part.start as usize..part.end as usize), Some(said))
            }
        };
        let length = content.len() as i64;
        let pieces: Vec<Bytes> =
            (0..content.len()).step_by(PIECE).map(|at| content.slice(at..content.len().min(at + PIECE))).collect();
        let body = StreamingBlob::wrap(stream::iter(pieces.into_iter().map(Ok::<Bytes, std::io::Error>)));
        Ok(S3Response::new(GetObjectOutput {
            body: Some(body),
            content_length: Some(length),
            content_range: range,
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(modified.into()),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        self.there(&input.bucket)?;
        let found = self.objects().current(&input.key).cloned();
        let Version { content, etag, .. } = found.ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(content.len() as i64),
            e_tag: Some(ETag::Strong(etag)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.there(&input.bucket)?;
        let mut content = Vec::new();
        if let Some(mut body) = input.body {
            while let Some(piece) = body.next().await {
                content.extend_from_slice(&piece.map_err(|e| S3Error::with_source(S3ErrorCode::InternalError, e))?);
            }
        }
        let mut objects = self.objects();
        let etag = objects.current(&input.key).map(|version| version.etag.clone());
        let failed = || s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold");
        if let (Some(condition), Some(etag)) = (&input.if_none_match, &etag)
            && names(condition, etag)
        {
            return Err(failed());
        }
        match (&input.if_match, &etag) {
            (Some(_), None) => return Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
            (Some(condition), Some(etag)) if !names(condition, etag) => return Err(failed()),
            _ => {}
        }
        let ahead = self.shared.clock_ahead_s.load(Ordering::SeqCst);
        let shift = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        let modified = if ahead < 0 { now - shift } else { now + shift };
        let etag = objects.put(&input.key, content.into(), modified);
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..PutObjectOutput::default() }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.there(&input.bucket)?;
        self.objects().remove(&input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        self.there(&input.bucket)?;
        if self.shared.denies_listings.load(Ordering::SeqCst) {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        let most = input.max_keys.and_then(|most| usize::try_from(most).ok()).unwrap_or(PAGE).min(PAGE);
        let objects = self.objects();
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let keys = objects.keys(input.prefix.as_deref().unwrap_or_default());
        let mut left = keys.into_iter().filter(|key| *key > after);
        let page: Vec<String> = left.by_ref().take(most).collect();
        let more = left.next().is_some();
        let listed = page.iter().map(|key| Object {
            key: Some(key.clone()),
            size: objects.current(key).map(|version| version.content.len() as i64),
            last_modified: objects.current(key).map(|version| version.modified.into()),
            ..Object::default()
        });
        Ok(S3Response::new(ListObjectsV2Output {
            contents: Some(listed.collect()),
            is_truncated: Some(more),
            key_count: i32::try_from(page.len()).ok(),
            next_continuation_token: if more { page.last().cloned() } else { None },
            ..ListObjectsV2Output::default()
        }))
    }
}
