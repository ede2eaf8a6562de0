//! Messages of the REST interface, as clients read them from instances and instances from callers. The first byte chooses one.

use bolt_client::connection::{chunk_bytes, start_bytes};
use packs_schema::agent::rest::{
    AccessReview, ActionView, CreateExecution, Execution, Health, Info, KillRequest, OutputChunk, PackList, PackView, Page,
    Problem, Pushed, StateChange, StreamStart, Unpushed,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::repository;

const READERS: [fn(&[u8]); 15] = [
    read::<Execution>,
    read::<Page<Execution>>,
    read::<StateChange>,
    chunk,
    read::<Problem>,
    read::<Health>,
    read::<Info>,
    read::<PackList>,
    read::<PackView>,
    read::<Page<ActionView>>,
    read::<ActionView>,
    read::<AccessReview>,
    read::<Pushed>,
    read::<Unpushed>,
    requests,
];

pub(super) fn run(data: &[u8]) {
    let Some((choice, json)) = data.split_first() else { return };
    READERS[usize::from(*choice) % READERS.len()](json);
}

/// Asserts that a message reads back as the same text after it was written again.
fn read<T: Serialize + DeserializeOwned>(json: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(json) {
        let written = serde_json::to_vec(&message).expect("a message serialises");
        let again: T = serde_json::from_slice(&written).expect("what was written reads back");
        assert_eq!(serde_json::to_vec(&again).expect("a message serialises"), written);
    }
}

fn chunk(json: &[u8]) {
    read::<OutputChunk>(json);
    if let Ok(chunk) = serde_json::from_slice::<OutputChunk>(json)
        && let Some(bytes) = chunk_bytes(&chunk)
    {
        assert!(bytes.len() <= json.len(), "text of {} bytes holds {} bytes", json.len(), bytes.len());
    }
    if let Ok(start) = serde_json::from_slice::<StreamStart>(json)
        && let Some(bytes) = start_bytes(&start)
    {
        assert!(bytes.len() <= json.len());
    }
}

fn requests(json: &[u8]) {
    read::<CreateExecution>(json);
    read::<KillRequest>(json);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let execution = String::from_utf8(repository::read("tests/fixtures/records/execution.json")).expect("UTF-8");
    let messages = [
        (0, execution.clone()),
        (1, format!(r#"{{"items":[{execution}],"next":"n"}}"#)),
        (2, r#"{"cursor":"0190.7","execution":"01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa","action":"linux.x","state":"running","at_ms":5}"#.to_owned()),
        (3, r#"{"stream":"stdout","offset":0,"at_us":5,"base64":"/v8=","text":null}"#.to_owned()),
        (4, r#"{"type":"about:blank","title":"t","status":404,"detail":"d","code":"not_found","request_id":"r"}"#.to_owned()),
        (5, r#"{"ready":true,"reasons":[{"code":"c","message":"m"}],"version":"0.1.0"}"#.to_owned()),
        (14, r#"{"action":"linux.x","parameters":{"n":1},"noop":true,"note":"n","timeout_ms":5}"#.to_owned()),
    ];
    messages.map(|(choice, json): (u8, String)| [&[choice], json.as_bytes()].concat()).into()
}
