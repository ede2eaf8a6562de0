//! Asks all sources at once and combines their answers.
//!
//! ```text
//!  sources ──▶ cache, else fetch: at most MAX_AT_ONCE at once, each within MAX_TIME ──▶ combine ──▶ Gathered
//! ```
//!
//! A source that fails is an error, unless the user accepts a partial inventory: then what is missing is part of the result.
//! When every source fails, it is an error in any case.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use packs_schema::base::quantity::format_duration;

use super::Inventory;
use super::cache::Cache;
use super::combine::{CombineError, Combined, shared_addresses};
use super::source::{Fetched, Source, SourceError};

/// Maximum number of sources that are asked at once.
const MAX_AT_ONCE: usize = 16;
/// Maximum time of one source.
const MAX_TIME: Duration = Duration::from_secs(900);
/// Maximum number of sources.
const MAX_SOURCES: usize = 2000;
/// Maximum number of failures that an error lists.
const MAX_LISTED: usize = 10;

/// Options of [`gather`].
#[derive(Debug, Clone, Copy, Default)]
pub struct GatherOptions {
    /// Accept that sources fail.
    pub partial: bool,
    /// Use no cached answer.
    pub refresh: bool,
}

/// The inventory, and what is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gathered {
    /// The instances.
    pub inventory: Inventory,
    /// Sources that failed, and instances that cannot be used.
    pub missing: Vec<Missing>,
    /// Warnings: what is suspicious but no error.
    pub warnings: Vec<String>,
}

impl Gathered {
    /// Returns the result for an inventory that is complete.
    pub fn of(inventory: Inventory) -> Gathered {
        let warnings = shared_addresses(inventory.instances());
        Gathered { inventory, missing: Vec::new(), warnings }
    }
}

/// A source, or an instance of it, that is missing in the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Name of the source.
    pub source: String,
    /// The error.
    pub error: SourceError,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.error)
    }
}

/// Error returned when there is no inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// Sources failed.
    #[error("{}", describe(missing, *sources))]
    Failed {
        /// Failed sources, and instances that cannot be used.
        missing: Vec<Missing>,
        /// Number of sources.
        sources: usize,
    },
    /// The answers cannot be combined.
    #[error(transparent)]
    Combine(#[from] CombineError),
    /// There are too many sources.
    #[error("the inventory has {0} sources (each region of each account is one); the maximum is {MAX_SOURCES}")]
    TooManySources(usize),
}

impl GatherError {
    /// Returns advice what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            GatherError::Failed { missing, sources } => {
                let mut hints: Vec<&str> = Vec::new();
                for hint in missing.iter().filter_map(|one| one.error.hint.as_deref()) {
                    if !hints.contains(&hint) {
                        hints.push(hint);
                    }
                }
                hints.truncate(3);
                if *sources > 1 || missing.len() < *sources {
                    hints.push("--partial goes on without what failed");
                }
                (!hints.is_empty()).then(|| hints.join("; "))
            }
            GatherError::Combine(error) => Some(error.hint().to_owned()),
            GatherError::TooManySources(_) => None,
        }
    }
}

fn describe(missing: &[Missing], sources: usize) -> String {
    let mut text = match missing {
        [one] => return format!("the inventory is incomplete: {one}"),
        several => format!("the inventory is incomplete ({} problems in {sources} sources):", several.len()),
    };
    for one in missing.iter().take(MAX_LISTED) {
        text.push_str(&format!("\n  {one}"));
    }
    if missing.len() > MAX_LISTED {
        text.push_str(&format!("\n  and {} more", missing.len() - MAX_LISTED));
    }
    text
}

/// Asks all sources, and combines their answers.
pub async fn gather(sources: &[Arc<dyn Source>], options: GatherOptions) -> Result<Gathered, GatherError> {
    gather_with(sources, options, Cache::of_user().as_ref()).await
}

async fn gather_with(
    sources: &[Arc<dyn Source>],
    options: GatherOptions,
    cache: Option<&Cache>,
) -> Result<Gathered, GatherError> {
    if sources.len() > MAX_SOURCES {
        return Err(GatherError::TooManySources(sources.len()));
    }
    let mut answers: Vec<(usize, Result<Fetched, SourceError>)> = stream::iter(sources.iter().enumerate())
        .map(|(at, source)| async move { (at, ask(source, options.refresh, cache).await) })
        .buffer_unordered(MAX_AT_ONCE)
        .collect()
        .await;
    answers.sort_by_key(|(at, _)| *at);
    let (mut missing, mut combined, mut answered) = (Vec::new(), Combined::default(), 0);
    for (at, answer) in answers {
        let name = sources[at].name();
        let named = |error| Missing { source: name.to_owned(), error };
        match answer {
            Ok(Fetched { found, left_out }) => {
                answered += 1;
                missing.extend(left_out.into_iter().map(named));
                combined.add(name, found)?;
            }
            Err(error) => missing.push(named(error)),
        }
    }
    if !missing.is_empty() && (!options.partial || answered == 0) {
        return Err(GatherError::Failed { missing, sources: sources.len() });
    }
    let (instances, warnings) = combined.finish()?;
    Ok(Gathered { inventory: Inventory::of(instances), missing, warnings })
}

/// Returns the cached answer of a source, or asks it. An answer that leaves out instances is not cached.
async fn ask(source: &Arc<dyn Source>, refresh: bool, cache: Option<&Cache>) -> Result<Fetched, SourceError> {
    if let Some(cache) = cache.filter(|_| !refresh)
        && let Some(found) = cache.read(&**source, source.max_age())
    {
        return Ok(Fetched { found, left_out: Vec::new() });
    }
    let late = || Err(SourceError::new(format!("did not answer within {}", format_duration(MAX_TIME))));
    let fetched = tokio::time::timeout(MAX_TIME, source.fetch()).await.unwrap_or_else(|_| late())?;
    if let Some(cache) = cache.filter(|_| fetched.left_out.is_empty()) {
        cache.write(&**source, &fetched.found);
    }
    Ok(fetched)
}

/// Returns the instances that are known without asking: cached answers of at most this age, and files. For completion.
pub async fn cached(sources: &[Arc<dyn Source>], max_age: Duration) -> Inventory {
    let cache = Cache::of_user();
    let mut combined = Combined::default();
    for source in sources {
        let found = if source.is_local() {
            source.fetch().await.ok().map(|fetched| fetched.found)
        } else {
            cache.as_ref().and_then(|cache| cache.read(&**source, max_age))
        };
        let with_address = |one: &super::Found| one.address.is_some();
        let found = found.unwrap_or_default().into_iter().filter(with_address).collect();
        if combined.add(source.name(), found).is_err() {
            break;
        }
    }
    Inventory::of(combined.finish().map(|(instances, _)| instances).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::document::parse_json;
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A source with prepared answers.
    #[derive(Debug)]
    struct Prepared {
        name: &'static str,
        answer: Result<Fetched, SourceError>,
        max_age: Duration,
        asked: AtomicUsize,
    }

    #[async_trait::async_trait]
    impl Source for Prepared {
        fn name(&self) -> &str {
            self.name
        }
        fn cache_key(&self) -> String {
            self.name.to_owned()
        }
        fn max_age(&self) -> Duration {
            self.max_age
        }
        async fn fetch(&self) -> Result<Fetched, SourceError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.answer.clone()
        }
    }

    fn prepared(name: &'static str, answer: Result<Value, &str>) -> Prepared {
        let found = |entries: Value| parse_json(json!({ "instances": entries }).to_string().as_bytes()).unwrap();
        let answer = answer
            .map(|entries| Fetched { found: found(entries), left_out: Vec::new() })
            .map_err(|message| SourceError::new(message).hint("check it"));
        Prepared { name, answer, max_age: Duration::ZERO, asked: AtomicUsize::new(0) }
    }

    fn sources(all: Vec<Prepared>) -> Vec<Arc<dyn Source>> {
        all.into_iter().map(|one| Arc::new(one) as Arc<dyn Source>).collect()
    }

    const PARTIAL: GatherOptions = GatherOptions { partial: true, refresh: false };

    #[tokio::test]
    async fn a_source_that_fails_is_an_error_and_with_partial_it_is_missing() {
        let both = sources(vec![
            prepared("one", Ok(json!([{"id": "i-1", "address": "a:1"}]))),
            prepared("other", Err("access is denied")),
        ]);
        let error = gather_with(&both, GatherOptions::default(), None).await.unwrap_err();
        assert_eq!(error.to_string(), "the inventory is incomplete: other: access is denied");
        assert_eq!(error.hint().unwrap(), "check it; --partial goes on without what failed");
        let gathered = gather_with(&both, PARTIAL, None).await.unwrap();
        assert_eq!(gathered.inventory.instances().len(), 1);
        assert_eq!(gathered.missing[0].to_string(), "other: access is denied");
        // Nothing at all is never accepted.
        let none = sources(vec![prepared("one", Err("no")), prepared("other", Err("no"))]);
        let error = gather_with(&none, PARTIAL, None).await.unwrap_err().to_string();
        assert!(error.contains("2 problems in 2 sources") && error.contains("\n  other: no"), "{error}");
    }

    #[tokio::test]
    async fn an_instance_that_cannot_be_used_is_an_error_and_with_partial_it_is_missing() {
        let mut one = prepared("one", Ok(json!([{"id": "i-1", "address": "a:1"}])));
        one.answer.as_mut().unwrap().left_out.push(SourceError::new("i-2 has a tag with a control character"));
        one.max_age = Duration::from_secs(60);
        let all = sources(vec![one]);
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(&home.path().join("inventory"));
        let error = gather_with(&all, GatherOptions::default(), Some(&cache)).await.unwrap_err().to_string();
        assert!(error.contains("one: i-2 has a tag"), "{error}");
        assert_eq!(gather_with(&all, PARTIAL, Some(&cache)).await.unwrap().missing.len(), 1);
        // A cache of the partial answer would make the next inventory silently smaller.
        assert!(gather_with(&all, GatherOptions::default(), Some(&cache)).await.is_err());
    }

    #[tokio::test]
    async fn sources_are_asked_at_once_and_their_order_is_kept() {
        // Each waits until all of them are asked.
        let barrier = Arc::new(tokio::sync::Barrier::new(MAX_AT_ONCE));
        #[derive(Debug)]
        struct Waiting(String, Arc<tokio::sync::Barrier>, Vec<super::super::Found>);
        #[async_trait::async_trait]
        impl Source for Waiting {
            fn name(&self) -> &str {
                &self.0
            }
            fn cache_key(&self) -> String {
                self.0.clone()
            }
            fn max_age(&self) -> Duration {
                Duration::ZERO
            }
            async fn fetch(&self) -> Result<Fetched, SourceError> {
                self.1.wait().await;
                Ok(Fetched { found: self.2.clone(), left_out: Vec::new() })
            }
        }
        let entry = |n: usize| {
            let text = json!({"instances": [{"id": format!("i-{n}"), "address": format!("h{n}:1")}]}).to_string();
            parse_json(text.as_bytes()).unwrap()
        };
        let all: Vec<Arc<dyn Source>> = (0..MAX_AT_ONCE)
            .map(|n| Arc::new(Waiting(n.to_string(), Arc::clone(&barrier), entry(n))) as Arc<dyn Source>)
            .collect();
        let gathered = gather_with(&all, GatherOptions::default(), None).await.unwrap();
        let ids: Vec<String> = gathered.inventory.instances().iter().map(|i| i.id().to_string()).collect();
        assert_eq!(ids, (0..MAX_AT_ONCE).map(|n| format!("i-{n}")).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_cached_answer_is_used_until_refresh() {
        let one = Arc::new(Prepared {
            max_age: Duration::from_secs(60),
            ..prepared("one", Ok(json!([{"id": "i-1", "address": "a:1"}])))
        });
        let all: Vec<Arc<dyn Source>> = vec![one.clone()];
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(&home.path().join("inventory"));
        for (refresh, asked) in [(false, 1), (false, 1), (true, 2), (false, 2)] {
            let options = GatherOptions { refresh, partial: false };
            assert_eq!(gather_with(&all, options, Some(&cache)).await.unwrap().inventory.instances().len(), 1);
            assert_eq!(one.asked.load(Ordering::SeqCst), asked, "{refresh}");
        }
    }
}
