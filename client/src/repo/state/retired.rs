//! Retired versions: no channel holds them, and agents do not download their metadata.
//!
//! ```text
//!  targets (or a team's role)          packs/demo/1.9.0.tar.gz, channels/prod/demo.json …    what agents need
//!     └── log/retired-000001.json      packs/demo/1.0.0.tar.gz … 1.8.0                       what only publishers read
//! ```
//!
//! An agent downloads the metadata of every role, so they would grow with each version that was ever published. When more than
//! [`MAX_LISTED`] versions of an owner are held by no channel, the oldest of them move to an index: a target of the owner's own,
//! signed like every other, which agents never fetch. They stay published: a promotion or a rollback that needs one of them lists
//! it again in the same change.
//!
//! The newest 16 of an owner's versions that no channel holds stay listed. Earlier publishers do not see retired versions. Roles per
//! pack were not chosen instead: each costs a line in the snapshot and one in the targets, which together are about as long as what
//! an agent downloads of the pack now, and a request for each pack when an instance is new.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use packs_schema::base::name::PackVersion;
use packs_schema::delivery::channel::{Channel, pack_target, parse_channel_target, parse_pack_target};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tough::TargetName;
use tough::schema::Target;

use super::super::RepoError;
use super::super::owner::Owner;
use super::State;

/// Version of index files that this code reads and writes.
const FORMAT: u32 = 1;
/// Maximum number of listed versions of an owner that no channel holds.
const MAX_LISTED: usize = 64;
/// Number of such versions that stay listed after the oldest were retired.
const KEPT_LISTED: usize = 16;
/// Maximum number of versions in an index file.
const MAX_ENTRIES: usize = 512;
/// Maximum size of an index file that is read, in bytes.
const MAX_READ: u64 = 1 << 20;
/// Key in the metadata of a channel file's target with the versions that the channel holds.
const HELD: &str = "versions";

/// Retired versions of an owner: numbered index files, and in each the targets by name.
#[derive(Debug, Clone, Default)]
pub(in crate::repo) struct Retired {
    parts: BTreeMap<u32, BTreeMap<String, Target>>,
}

/// Index file.
#[derive(Serialize, Deserialize)]
struct Index {
    format: u32,
    targets: BTreeMap<String, Target>,
}

impl Retired {
    pub(in crate::repo) fn get(&self, name: &str) -> Option<&Target> {
        self.parts.values().find_map(|part| part.get(name))
    }

    /// Returns names and targets, in no particular order.
    pub(in crate::repo) fn iter(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.parts.values().flatten().map(|(name, target)| (name.as_str(), target))
    }
}

fn index_name(owner: &Owner, number: u32) -> String {
    match owner {
        Owner::Top => format!("log/retired-{number:06}.json"),
        Owner::Team(_) => format!("log/{}/retired-{number:06}.json", owner.role()),
    }
}

/// True for the name of an index file of any owner.
pub(in crate::repo) fn is_index(name: &str) -> bool {
    name.starts_with("log/") && name.rsplit('/').next().is_some_and(|file| file.starts_with("retired-"))
}

/// Returns the number of an index file of `owner`.
fn parse_index_name(owner: &Owner, name: &str) -> Option<u32> {
    let number = name.strip_suffix(".json")?.rsplit_once("retired-")?.1.parse().ok()?;
    (index_name(owner, number) == name).then_some(number)
}

/// Records in a channel file's target which versions the channel holds, so that the file need not be read to find out.
pub(in crate::repo) fn note_held(custom: &mut HashMap<String, Value>, channel: &Channel) {
    let versions: Vec<&PackVersion> =
        channel.rules.iter().filter(|rule| !rule.is_nothing()).map(|rule| &rule.version).collect();
    custom.insert(HELD.to_owned(), json!(versions));
}

impl<T> State<T> {
    /// Reads the index files of every owner.
    pub(in crate::repo) async fn load_retired(&mut self) -> Result<(), RepoError> {
        for owner in self.owners() {
            let listed = self.listed(&owner).into_iter().flat_map(|targets| targets.targets.keys());
            let numbers: Vec<u32> = listed.filter_map(|name| parse_index_name(&owner, name.raw())).collect();
            let mut retired = Retired::default();
            for number in numbers {
                let name = index_name(&owner, number);
                let wrong = |problem: String| RepoError::Unreadable { name: name.clone(), problem };
                let bytes = self.bytes(&name, MAX_READ).await?.unwrap_or_default();
                let index: Index = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
                if index.format != FORMAT {
                    return Err(wrong(format!(
                        "format {} is not one that this version reads, which is {FORMAT}",
                        index.format
                    )));
                }
                retired.parts.insert(number, index.targets);
            }
            if !retired.parts.is_empty() {
                self.retired.insert(owner, retired);
            }
        }
        Ok(())
    }

    /// Lists retired versions of `owner` again, as `which` chooses.
    pub(in crate::repo) fn restore(&mut self, owner: &Owner, which: impl Fn(&str) -> bool) -> Result<(), RepoError> {
        let restored = self.take_retired(owner, which)?;
        if restored.is_empty() {
            return Ok(());
        }
        for (name, target) in restored {
            let name = super::target_name(&name)?;
            self.listed_mut(owner)?.targets.entry(name).or_insert(target);
        }
        self.touch(owner);
        Ok(())
    }

    /// Removes retired versions from the index of `owner`, as `which` chooses, and returns them.
    pub(in crate::repo) fn take_retired(
        &mut self,
        owner: &Owner,
        which: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Target>, RepoError> {
        let mut taken = BTreeMap::new();
        let mut changed = Vec::new();
        let Some(retired) = self.retired.get_mut(owner) else { return Ok(taken) };
        for (number, part) in &mut retired.parts {
            let before = part.len();
            taken.extend(part.extract_if(.., |name, _| which(name)));
            if part.len() != before {
                changed.push(*number);
            }
        }
        for number in changed {
            self.write_index(owner, number)?;
        }
        Ok(taken)
    }

    /// Writes the index file `number` of `owner` from memory.
    fn write_index(&mut self, owner: &Owner, number: u32) -> Result<(), RepoError> {
        let name = index_name(owner, number);
        let targets =
            self.retired.get(owner).and_then(|retired| retired.parts.get(&number)).cloned().unwrap_or_default();
        if targets.is_empty() {
            if let Some(retired) = self.retired.get_mut(owner) {
                retired.parts.remove(&number);
            }
            return self.unset(owner, &name);
        }
        let bytes = serde_json::to_vec(&Index { format: FORMAT, targets }).expect("an index serialises");
        self.set(owner, &name, bytes, HashMap::new())
    }

    /// Retires the oldest versions of `owner` that no channel holds, when there are many.
    pub(in crate::repo) async fn retire(&mut self, owner: &Owner) -> Result<(), RepoError> {
        let names = |state: &State<T>| -> Vec<String> {
            let listed = state.listed(owner).into_iter().flat_map(|targets| targets.targets.keys());
            listed.map(|name| name.raw().to_owned()).collect()
        };
        let packs: Vec<_> = names(self).iter().filter_map(|name| parse_pack_target(name)).collect();
        let different: BTreeSet<_> = packs.iter().map(|(pack, _)| pack).collect();
        // Of each pack some channel holds a version, or it does not matter.
        if packs.len().saturating_sub(different.len()) <= MAX_LISTED {
            return Ok(());
        }
        let held = self.held_by(owner).await?;
        let mut idle: Vec<(u64, PackVersion, String)> = packs
            .into_iter()
            .map(|(pack, version)| (pack_target(&pack, &version), version))
            .filter(|(name, _)| !held.contains(name))
            .map(|(name, version)| (self.find(&name).map_or(0, |(_, target)| published_at_ms(target)), version, name))
            .collect();
        if idle.len() <= MAX_LISTED {
            return Ok(());
        }
        idle.sort();
        idle.truncate(idle.len() - KEPT_LISTED);
        self.touch(owner);
        let mut written = BTreeSet::new();
        for (_, _, name) in idle {
            let target = self.listed_mut(owner)?.targets.remove(&super::target_name(&name)?);
            let Some(target) = target else { continue };
            let retired = self.retired.entry(owner.clone()).or_default();
            let last = retired
                .parts
                .last_key_value()
                .map_or(1, |(number, part)| number + u32::from(part.len() >= MAX_ENTRIES));
            retired.parts.entry(last).or_default().insert(name, target);
            written.insert(last);
        }
        for number in written {
            self.write_index(owner, number)?;
        }
        Ok(())
    }

    /// Returns the targets of the versions that some channel of `owner` holds.
    ///
    /// Channel files that an earlier version wrote are read once; from then on their targets record it.
    pub(in crate::repo) async fn held_by(&mut self, owner: &Owner) -> Result<BTreeSet<String>, RepoError> {
        let listed = self.listed(owner).into_iter().flat_map(|targets| &targets.targets);
        let channels: Vec<(TargetName, Option<Vec<PackVersion>>)> = listed
            .filter(|(name, _)| parse_channel_target(name.raw()).is_some())
            .map(|(name, target)| {
                let held = target.custom.get(HELD).cloned();
                (name.clone(), held.and_then(|held| serde_json::from_value(held).ok()))
            })
            .collect();
        let mut held = BTreeSet::new();
        for (name, known) in channels {
            let Some((channel, pack)) = parse_channel_target(name.raw()) else { continue };
            let versions = match known {
                Some(versions) => versions,
                None => {
                    let Some(file) = self.channel(&channel, &pack).await? else { continue };
                    if let Some(target) = self.listed_mut(owner)?.targets.get_mut(&name) {
                        note_held(&mut target.custom, &file);
                    }
                    file.rules.into_iter().filter(|rule| !rule.is_nothing()).map(|rule| rule.version).collect()
                }
            };
            held.extend(versions.iter().map(|version| pack_target(&pack, version)));
        }
        Ok(held)
    }
}

pub(in crate::repo) fn published_at_ms(target: &Target) -> u64 {
    target.custom.get("published_at_ms").and_then(Value::as_u64).unwrap_or(0)
}
