//! Identity and facts of this instance: from the configuration, and from what the sync got from the metadata service, read from
//! the store on each request.
//!
//! The id is fixed once it is known. The metadata service is never asked from here: the api must not depend on a service that
//! may be unavailable. Until the id is known the api does not listen (a health probe is refused), nothing is started, and the
//! launcher is asked for another sync after five seconds, then ten, up to a minute. If `[instance] id` is configured, the
//! api does not wait, and a missing or damaged record is not an error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use packs_schema::agent::config::{Config, InstanceConfig};
use packs_schema::agent::launch::Operation;
use packs_schema::agent::store;
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::{Facts, StoredFacts};

use crate::exec::Launcher;
use crate::registry::{RegistryError, read_json};

/// Interval of reads of the store while the id is unknown.
const READ_INTERVAL: Duration = Duration::from_millis(200);
/// Number of reads before the sync is asked to try again; doubled each time.
const MIN_READS: u32 = 25;
/// Maximum number of reads before the sync is asked again.
const MAX_READS: u32 = 300;

/// Instance that this process is the agent of.
#[derive(Debug)]
pub(crate) struct Instance {
    source: FactSource,
    id: InstanceId,
}

impl Instance {
    /// Waits until the id is known: at once if the configuration has it, else when the sync has got it.
    pub(crate) async fn learn(config: &Config, boot_id: &str, launcher: &Launcher) -> Instance {
        let source = FactSource::new(&config.instance, &config.paths.packs, boot_id);
        let mut reads = MIN_READS;
        loop {
            for _ in 0..reads {
                if let Ok(Some(Facts { id, .. })) = source.facts() {
                    return Instance { source, id };
                }
                tokio::time::sleep(READ_INTERVAL).await;
            }
            let damage = source.facts().err().map(|error| crate::log::chain(&error));
            tracing::warn!(
                damage,
                "the instance id is not known yet; asking the sync to query the metadata service again"
            );
            // The process ends by other means if the launcher has exited.
            let _ = launcher.ask(Operation::Sync).await;
            reads = (reads * 2).min(MAX_READS);
        }
    }

    /// Returns the instance id.
    pub(crate) fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Returns the facts for grants; `None` while those of the metadata service are not known in this boot.
    pub(crate) fn known_facts(&self) -> Option<Facts> {
        let found = self.source.found().unwrap_or_default();
        self.source.config.known_facts(found.as_ref()).map(|facts| Facts { id: self.id.clone(), ..facts })
    }

    /// Returns all facts that are known now, for display.
    pub(crate) fn facts(&self) -> Facts {
        let now = self.source.facts().unwrap_or_else(|error| {
            tracing::warn!(error = crate::log::chain(&error), "cannot read the facts that the sync stored");
            None
        });
        Facts { id: self.id.clone(), ..now.unwrap_or_else(|| Facts::of(self.id.clone())) }
    }
}

/// Configuration and store, from which facts are read.
#[derive(Debug)]
struct FactSource {
    config: InstanceConfig,
    stored: PathBuf,
    boot_id: String,
}

impl FactSource {
    fn new(config: &InstanceConfig, packs: &Path, boot_id: &str) -> FactSource {
        FactSource { config: config.clone(), stored: packs.join(store::FACTS), boot_id: boot_id.to_owned() }
    }

    /// Returns the facts; `None` while the id is unknown. A damaged record is an error only if the id depends on it.
    fn facts(&self) -> Result<Option<Facts>, RegistryError> {
        if !self.config.metadata {
            return Ok(self.config.facts(None));
        }
        match (self.found(), self.config.facts(None)) {
            (Err(_), Some(written)) => Ok(Some(written)),
            (found, _) => Ok(self.config.facts(found?.as_ref())),
        }
    }

    /// Returns what the sync got from the metadata service in this boot.
    fn found(&self) -> Result<Option<StoredFacts>, RegistryError> {
        Ok(read_json::<StoredFacts>(&self.stored)?.and_then(|found| found.of_boot(&self.boot_id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_another_boot_are_ignored() {
        let store = tempfile::tempdir().unwrap();
        let config = InstanceConfig { metadata: true, zone: "written".into(), ..InstanceConfig::default() };
        let source = FactSource::new(&config, store.path(), "this");
        let write = |text: &str| std::fs::write(store.path().join(store::FACTS), text).unwrap();
        assert_eq!(source.facts().unwrap(), None);
        let text = r#"{"format":1,"boot":"this","id":"i-1","region":"r","zone":"z","tags":{"app":"web"}}"#;
        for other in [
            text.replace("this", "other"),
            text.replace(":1,", ":2,"),
            text.replace("i-1", "../i"),
            text[..20].to_owned(),
        ] {
            write(&other);
            assert!(!matches!(source.facts(), Ok(Some(_))), "{other}");
        }
        write(text);
        let facts = source.facts().unwrap().unwrap();
        let instance = Instance { id: facts.id.clone(), source };
        assert_eq!(instance.known_facts(), Some(facts.clone()));
        assert_eq!(
            (facts.id.as_str(), facts.region.as_str(), facts.zone.as_str(), facts.app.as_str()),
            ("i-1", "r", "written", "web")
        );
        // The record existed when the id was learned, and is empty now.
        write("");
        assert_eq!((instance.facts().id.as_str(), instance.facts().region.as_str()), ("i-1", ""));
        assert_eq!(instance.known_facts(), None);
    }

    #[test]
    fn a_written_id_does_not_make_the_other_facts_known() {
        let store = tempfile::tempdir().unwrap();
        let id = "i-1".parse::<InstanceId>().unwrap();
        for (metadata, known) in [(true, false), (false, true)] {
            let config = InstanceConfig { id: Some(id.clone()), metadata, ..InstanceConfig::default() };
            let instance = Instance { id: id.clone(), source: FactSource::new(&config, store.path(), "this") };
            assert_eq!(instance.known_facts().is_some(), known, "an empty app would fit app != 'prod'");
        }
    }
}
