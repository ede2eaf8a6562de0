//! Chooses a version for each need of a pack, and for what the chosen wheels need, so that pip finds hashes for all.
//!
//! pip wants hashes of everything as soon as one requirement has some, also of what requirements need in turn. So the
//! choice is complete, or names what is missing. Conditions on versions are those that pip checks again when it installs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use packs_schema::pack::contents::{MAX_REQUIREMENTS, REQUIREMENTS_FILE};

use super::dependency::{Dependency, Needed, normalized};
use super::metadata::FileName;
use super::version::{Version, meets};
use super::{ImportError, Wheel, Wheels, wheel_error};

/// Maximum number of distributions that are chosen.
const MAX_PINS: usize = MAX_REQUIREMENTS;
/// Maximum number of requirements that an attempt follows.
const MAX_FOLLOWED: usize = 50_000;
/// Maximum number of attempts, each with more conditions than the one before.
const MAX_ATTEMPTS: usize = 50;

/// Distribution that a pack needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) struct Need {
    pub(in crate::pack::import) dependency: Dependency,
    /// Place that names it: `requirements.txt:3`.
    pub(in crate::pack::import) named_by: String,
    /// True if it came from an address, so that the name alone says which wheel is meant.
    pub(in crate::pack::import) exactly_one: bool,
}

/// Version of a distribution, and the wheels that it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) struct Pin {
    /// Name, as the wheel writes it.
    pub(in crate::pack::import) name: String,
    pub(in crate::pack::import) version: String,
    /// File names and SHA-256 digests.
    pub(in crate::pack::import) files: Vec<(String, String)>,
    /// Conditions on the environment, of which one must hold; `None` if it is always needed.
    pub(in crate::pack::import) markers: Option<BTreeSet<String>>,
}

/// Pins by normalised name, or what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pack::import) enum Chosen {
    Complete(BTreeMap<String, Pin>),
    Missing(Vec<String>),
}

/// Chooses wheels for all `needs`, and for what they need in turn, but for what is `given` by normalised name.
pub(in crate::pack::import) fn choose(
    wheels: &Wheels,
    needs: &[Need],
    given: &BTreeSet<String>,
) -> Result<Chosen, ImportError> {
    let mut choice = Choice { wheels, given, read: BTreeMap::new(), conditions: BTreeMap::new() };
    for _ in 0..MAX_ATTEMPTS {
        if let Some(chosen) = choice.attempt(needs)? {
            return Ok(chosen);
        }
    }
    Ok(Chosen::Missing(vec!["versions that fit together".to_owned()]))
}

struct Choice<'a> {
    wheels: &'a Wheels,
    given: &'a BTreeSet<String>,
    /// Wheels that were read, by file name.
    read: BTreeMap<String, Wheel>,
    /// Conditions on each distribution, of all attempts.
    conditions: BTreeMap<String, BTreeSet<String>>,
}

impl Pin {
    /// Adds the condition under which something needs it.
    fn needed_if(&mut self, marker: Option<&str>) {
        // A marker about an extra has no meaning in a list.
        match (&mut self.markers, marker.filter(|marker| !marker.contains("extra"))) {
            (Some(markers), Some(marker)) => drop(markers.insert(marker.to_owned())),
            (markers, _) => *markers = None,
        }
    }
}

impl Choice<'_> {
    /// Follows all needs; `None` if a condition came up that a choice before it does not meet.
    fn attempt(&mut self, needs: &[Need]) -> Result<Option<Chosen>, ImportError> {
        let mut waiting: VecDeque<(Dependency, String)> = VecDeque::new();
        let (mut pins, mut missing) = (BTreeMap::<String, Pin>::new(), Vec::new());
        let mut extras: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let exact: BTreeSet<String> =
            needs.iter().filter(|need| need.exactly_one).map(|need| normalized(&need.dependency.name)).collect();
        for need in needs {
            let name = normalized(&need.dependency.name);
            self.conditions.entry(name).or_default().insert(need.dependency.versions.clone());
            waiting.push_back((need.dependency.clone(), need.named_by.clone()));
        }
        let mut followed = 0;
        while let Some((need, named_by)) = waiting.pop_front() {
            followed += 1;
            if pins.len() > MAX_PINS || followed > MAX_FOLLOWED {
                return Ok(Some(Chosen::Missing(vec![format!("room: more than {MAX_PINS} distributions")])));
            }
            let name = normalized(&need.name);
            if self.given.contains(&name) {
                continue;
            }
            if need.from_address {
                missing.push(format!("{} of {named_by}, which takes it from an address", need.name));
                continue;
            }
            let conditions = self.conditions.entry(name.clone()).or_default();
            let is_new = conditions.insert(need.versions.clone());
            if let Some(pin) = pins.get(&name).filter(|pin| is_new && !meets(&pin.version, &need.versions)) {
                let told = format!("{} {}: {named_by} needs {}", pin.name, pin.version, need.versions);
                // Another version may meet all conditions that are known now.
                if self.candidates(&name).is_empty() {
                    return Ok(Some(Chosen::Missing(vec![told])));
                }
                return Ok(None);
            }
            let wanted = extras.entry(name.clone()).or_default();
            let known = wanted.len();
            wanted.extend(need.extras.iter().cloned());
            let markers = match pins.get_mut(&name) {
                Some(pin) => {
                    pin.needed_if(need.marker.as_deref());
                    if wanted.len() == known {
                        continue;
                    }
                    pin.markers.clone()
                }
                None => Some(BTreeSet::new()),
            };
            let wanted = wanted.clone();
            let Some(mut pin) = self.pin(&name, exact.contains(&name))? else {
                missing.push(self.told(&need, &name, &named_by));
                continue;
            };
            for required in self.requires(&pin) {
                let of = format!("{} {}", pin.name, pin.version);
                match required.is_needed(&wanted) {
                    Needed::Never => {}
                    // pip built or fetched a wheel where the condition holds.
                    Needed::Perhaps if self.wheels.files(&normalized(&required.name)).is_empty() => {}
                    Needed::Perhaps | Needed::Always => waiting.push_back((required, of)),
                }
            }
            pin.markers = markers;
            pin.needed_if(need.marker.as_deref());
            pins.insert(name, pin);
        }
        missing.sort();
        missing.dedup();
        Ok(Some(if missing.is_empty() { Chosen::Complete(pins) } else { Chosen::Missing(missing) }))
    }

    /// Returns the files for Python 3 of the versions that meet all conditions, by version.
    fn candidates(&self, name: &str) -> Vec<&(String, FileName)> {
        let conditions = self.conditions.get(name);
        let fits = |file: &&(String, FileName)| {
            file.1.is_for_python3() && conditions.into_iter().flatten().all(|one| meets(&file.1.version, one))
        };
        let mut files: Vec<&(String, FileName)> = self.wheels.files(name).iter().filter(fits).collect();
        files.sort_by_key(|(_, parsed)| Version::parse(&parsed.version));
        files
    }

    /// Reads the wheels of the highest version; of a distribution from an address there must be one version.
    fn pin(&mut self, name: &str, exactly_one: bool) -> Result<Option<Pin>, ImportError> {
        let all = self.wheels.files(name);
        if let (Some((file, _)), true) = (all.first(), all.iter().all(|(_, parsed)| !parsed.is_for_python3())) {
            // The error names it.
            self.wheels.read(file)?;
        }
        let files: Vec<(String, FileName)> = self.candidates(name).into_iter().cloned().collect();
        let Some((_, highest)) = files.last() else { return Ok(None) };
        if let (true, Some(problem)) = (exactly_one, ambiguity(&files)) {
            return Err(wheel_error(&self.wheels.path.join(&files[0].0), problem));
        }
        let version = highest.version.clone();
        let mut pin = Pin { name: String::new(), version, files: Vec::new(), markers: None };
        for (file, _) in files.iter().filter(|(_, parsed)| parsed.version == pin.version) {
            if !self.read.contains_key(file) {
                self.read.insert(file.clone(), self.wheels.read(file)?);
            }
            let wheel = &self.read[file];
            pin.name.clone_from(&wheel.metadata.name);
            pin.files.push((file.clone(), wheel.sha256.clone()));
        }
        Ok(Some(pin))
    }

    /// Returns the requirements of all wheels of a pin.
    fn requires(&self, pin: &Pin) -> Vec<Dependency> {
        let wheels = pin.files.iter().filter_map(|(file, _)| self.read.get(file));
        let mut all: Vec<Dependency> = Vec::new();
        for required in wheels.flat_map(|wheel| &wheel.metadata.requires) {
            if !all.contains(required) {
                all.push(required.clone());
            }
        }
        all
    }

    fn told(&self, need: &Dependency, name: &str, named_by: &str) -> String {
        let there: BTreeSet<&str> = self.wheels.files(name).iter().map(|(_, parsed)| parsed.version.as_str()).collect();
        let there = match (there.is_empty(), self.wheels.misnamed.first()) {
            (true, None) => String::new(),
            (true, Some(file)) => format!("; {file} has no name of a wheel"),
            (false, _) => format!("; there is {}", there.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let of_pack = named_by.starts_with(REQUIREMENTS_FILE) && need.marker.is_some();
        let condition = if of_pack { "; if no instance needs it, remove the line" } else { "" };
        format!("{}{} ({named_by}{there}{condition})", need.name, need.versions)
    }
}

/// Says why it is not clear which of these wheels an address means.
fn ambiguity(files: &[(String, FileName)]) -> Option<String> {
    let (first, rest) = files.split_first()?;
    if let Some((_, other)) = rest.iter().find(|(_, other)| other.version != first.1.version) {
        let (one, other) = (&first.1.version, &other.version);
        return Some(format!(
            "versions {one} and {other} of it are there, and an address names none; leave one of them there"
        ));
    }
    // Wheels for several Pythons or platforms are several files of one build.
    let twin =
        |(at, (_, one)): (usize, &(String, FileName))| files[..at].iter().find(|(_, other)| other.tags == one.tags);
    let (twin, _) = files.iter().enumerate().find_map(twin)?;
    Some(format!(
        "two wheels are that version of it, {twin} and another; leave the one there that was built from the address"
    ))
}
