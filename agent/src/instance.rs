//! Who this instance is: what the configuration says, and what the sync was told by the metadata service, read from the store
//! whenever it is asked for.
//!
//! The identity is fixed once it is known. Nothing is asked here: the api must not depend on a service that may be away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use packs_schema::agent::config::{Config, InstanceConfig};
use packs_schema::agent::launch::Operation;
use packs_schema::agent::store;
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::{Facts, StoredFacts};

use crate::exec::Launcher;
use crate::registry::{RegistryError, read_json};

/// How often the store is looked at while nobody knows who this is.
const LOOK: Duration = Duration::from_millis(200);
/// After how many looks the sync is asked to try again; twice as many each time …
const LOOKS: u32 = 25;
/// … up to this.
const MOST_LOOKS: u32 = 300;

/// The instance that this process is the agent of.
#[derive(Debug)]
pub(crate) struct Instance {
    known: Known,
    id: InstanceId,
}

impl Instance {
    /// As soon as it is known who this is: at once where the configuration says it, else when the sync has learnt it.
    pub(crate) async fn learn(config: &Config, boot_id: &str, launcher: &Launcher) -> Instance {
        let known = Known::new(&config.instance, &config.paths.packs, boot_id);
        let mut looks = LOOKS;
        loop {
            for _ in 0..looks {
                if let Ok(Some(Facts { id, .. })) = known.facts() {
                    return Instance { known, id };
                }
                tokio::time::sleep(LOOK).await;
            }
            let damage = known.facts().err().map(|error| crate::log::chain(&error));
            tracing::warn!(damage, "not known yet who this instance is: the sync asks its metadata service again");
            // A launcher that is gone ends the process by other means.
            let _ = launcher.ask(Operation::Sync).await;
            looks = (looks * 2).min(MOST_LOOKS);
        }
    }

    /// Its identity.
    pub(crate) fn id(&self) -> &InstanceId {
        &self.id
    }

    /// All that is known of it now.
    pub(crate) fn facts(&self) -> Facts {
        let now = self.known.facts().unwrap_or_else(|error| {
            tracing::warn!(error = crate::log::chain(&error), "what the sync knows of this instance cannot be read");
            None
        });
        Facts { id: self.id.clone(), ..now.unwrap_or_else(|| Facts::of(self.id.clone())) }
    }
}

#[derive(Debug)]
struct Known {
    config: InstanceConfig,
    stored: PathBuf,
    boot_id: String,
}

impl Known {
    fn new(config: &InstanceConfig, packs: &Path, boot_id: &str) -> Known {
        Known { config: config.clone(), stored: packs.join(store::FACTS), boot_id: boot_id.to_owned() }
    }

    /// `None` while nobody has said who this is. A damaged record counts only where it would decide that.
    fn facts(&self) -> Result<Option<Facts>, RegistryError> {
        if !self.config.metadata {
            return Ok(self.config.facts(None));
        }
        let found = read_json::<StoredFacts>(&self.stored);
        match (found, self.config.facts(None)) {
            (Err(_), Some(written)) => Ok(Some(written)),
            (found, _) => {
                let found = found?.and_then(|found| found.of_boot(&self.boot_id));
                Ok(self.config.facts(found.as_ref()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_boot_left_does_not_count() {
        let store = tempfile::tempdir().unwrap();
        let config = InstanceConfig { metadata: true, zone: "written".into(), ..InstanceConfig::default() };
        let known = Known::new(&config, store.path(), "this");
        let write = |text: &str| std::fs::write(store.path().join(store::FACTS), text).unwrap();
        assert_eq!(known.facts().unwrap(), None);
        let text = r#"{"format":1,"boot":"this","id":"i-1","region":"r","zone":"z","tags":{"app":"web"}}"#;
        for other in [
            text.replace("this", "other"),
            text.replace(":1,", ":2,"),
            text.replace("i-1", "../i"),
            text[..20].to_owned(),
        ] {
            write(&other);
            assert!(!matches!(known.facts(), Ok(Some(_))), "{other}");
        }
        write(text);
        let facts = known.facts().unwrap().unwrap();
        assert_eq!(
            (facts.id.as_str(), facts.region.as_str(), facts.zone.as_str(), facts.app.as_str()),
            ("i-1", "r", "written", "web")
        );
        // One that was there when the identity was taken, and is gone.
        let instance = Instance { id: facts.id, known };
        write("");
        assert_eq!((instance.facts().id.as_str(), instance.facts().region.as_str()), ("i-1", ""));
    }
}
