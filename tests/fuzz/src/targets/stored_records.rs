//! Records between our own processes, and of the sync between polls: what one of them wrote reads back, whatever else is in the
//! file is refused. The first byte chooses the record.

use packs_schema::agent::push::{PushOutcome, PushRequest};
use packs_schema::agent::rest::{ApiProcess, Enforcement, SyncEnd, SyncStatus};
use packs_schema::agent::store::{Manifest, PushOverlay, StoredPack, StoredVenv, VenvLink};
use packs_schema::delivery::facts::StoredFacts;
use packs_schema::delivery::marks::Marks;
use serde::Serialize;
use serde::de::DeserializeOwned;

const READERS: [fn(&[u8]); 12] = [
    marks,
    read::<StoredFacts>,
    read::<SyncStatus>,
    read::<PushOverlay>,
    read::<Manifest>,
    read::<StoredPack>,
    read::<StoredVenv>,
    read::<VenvLink>,
    read::<PushRequest>,
    read::<PushOutcome>,
    read::<SyncEnd>,
    runtime,
];

pub(super) fn run(data: &[u8]) {
    let Some((choice, json)) = data.split_first() else { return };
    READERS[usize::from(*choice) % READERS.len()](json);
}

fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<T>(json) {
        let written = serde_json::to_vec(&record).expect("a record serialises");
        assert_eq!(serde_json::from_slice::<T>(&written).expect("what was written reads back"), record);
    }
}

fn runtime(json: &[u8]) {
    read::<ApiProcess>(json);
    read::<Enforcement>(json);
}

/// Marks never fall: of two states the later is accepted after the earlier, or refused, and neither lowers a mark.
fn marks(json: &[u8]) {
    let [old, new] = crate::parts(json);
    let Ok(old) = Marks::read(old) else { return };
    assert_eq!(Marks::read(&old.to_bytes()).expect("what was written reads back"), old);
    let Ok(new) = Marks::read(new) else { return };
    let highest = old.clone().highest(&new);
    for role in ["root", "timestamp", "snapshot", "targets", "team"] {
        assert_eq!(highest.version(role), old.version(role).max(new.version(role)));
    }
    if let Ok(advanced) = old.advance(&new) {
        assert!(advanced.version("root") >= old.version("root"), "the root's version fell");
        if new.version("root") == old.version("root") {
            for role in ["timestamp", "snapshot", "targets"] {
                assert!(advanced.version(role) >= old.version(role), "{role} fell without a newer root");
            }
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let digest = "a".repeat(64);
    let mark = |version| {
        format!(
            r#"{{"format":1,"roles":{{"root":{{"version":{version},"keys":["k"]}},"targets":{{"version":3,"keys":["t"]}},
            "team":{{"version":2,"keys":["x"]}}}},"channels":{{"stable/linux":{{"version":4,"keys":["t"]}}}}}}"#
        )
    };
    let records = [
        (0, format!("{}\0{}", mark(1), mark(2))),
        // Older by one: the root, then another role.
        (0, format!("{}\0{}", mark(2), mark(1))),
        (0, format!("{}\0{}", mark(1), mark(1).replace("\"version\":3", "\"version\":2"))),
        (1, r#"{"format":1,"boot":"b","id":"i-1","region":"r","zone":"z","tags":{"a":"b"}}"#.to_owned()),
        (3, format!(r#"{{"format":1,"active":{{"directory":"1.0.0-aaaaaaaaaaaa","digest":"{digest}","size_bytes":1,"until_ms":2,
            "until_boot_ms":3,"boot":"b"}},"beneath":"x","ended":[]}}"#)),
        (4, format!(r#"{{"format":1,"files":[{{"path":"pack.yaml","sha256":"{digest}","size_bytes":3,"executable":false}}]}}"#)),
        (7, format!(r#"{{"format":1,"venv":"{digest}"}}"#)),
        (8, format!(r#"{{"format":1,"id":"01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa","by":"spiffe://x/ann","at_ms":1,"pack":"linux",
            "ask":{{"install":{{"version":"1.0.0","digest":"{digest}","size_bytes":9,"ttl_ms":5}}}}}}"#)),
        (9, r#"{"format":1,"id":"01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa","result":{"refused":{"code":"not_found","message":"m","findings":[]}}}"#.to_owned()),
        (11, r#"{"state":"running","warnings":["w"],"shared_account":"nobody"}"#.to_owned()),
    ];
    records.map(|(choice, json): (u8, String)| [&[choice], json.as_bytes()].concat()).into()
}
