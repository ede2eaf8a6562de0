//! Records of an execution's directory, which the api's account can write and a crash can cut: `spec`, `started`, `exit`.

use packs_schema::agent::execution::{Exit, Spec, Started, State, read_record};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::repository;

/// Maximum length of a description or error, in bytes, beyond what it quotes.
const MAX_TEXT: usize = 1024;

pub(super) fn run(data: &[u8]) {
    read::<Spec>(data);
    read::<Started>(data);
    let Some(exit) = read::<Exit>(data) else { return };
    for state in [State::Succeeded, State::Failed, State::TimedOut, State::Killed, State::Lost] {
        if let Some(text) = exit.leftovers.as_ref().and_then(|leftovers| leftovers.describe(state)) {
            assert!(text.len() <= data.len() + MAX_TEXT, "a description of {} bytes", text.len());
        }
    }
}

/// Reads a record; what is written again reads back as the same.
fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    match read_record::<T>(data) {
        Ok(record) => {
            let written = serde_json::to_vec(&record).expect("a record serialises");
            assert_eq!(read_record::<T>(&written).expect("what was written reads back"), record);
            Some(record)
        }
        Err(error) => {
            assert!(error.to_string().len() <= MAX_TEXT + data.len());
            None
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = ["spec", "started", "exit"]
        .into_iter()
        .flat_map(|name| {
            let old = repository::read(&format!("tests/fixtures/execution-format-1/{name}"));
            [old, repository::read(&format!("tests/fixtures/records/{name}.json"))]
        })
        .collect();
    let later = |seed: &Vec<u8>| String::from_utf8_lossy(seed).replace("\"format\":1", "\"format\":3").into_bytes();
    seeds.extend(seeds.iter().map(later).collect::<Vec<_>>());
    seeds
}
