//! Tests of execution records: format 1 remains readable, and states change only forward.

use std::path::Path;

use packs_schema::agent::execution::output::{Frame, HEADER, MAX_CHUNK, Stream, parse_tail_name, tail_name};
use packs_schema::agent::execution::{Exit, FORMAT, Spec, Started, State};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run-1").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Reads a fixture, writes it back unchanged, and reads it with a field of a newer writer.
fn reads_and_writes<T: Serialize + DeserializeOwned>(name: &str) -> T {
    let stored = fixture(name);
    let record: T = serde_json::from_value(stored.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(serde_json::to_value(&record).unwrap(), stored, "{name}");
    let mut newer = stored;
    newer["from_the_future"] = json!({"any": ["thing"]});
    serde_json::from_value(newer).unwrap_or_else(|e| panic!("{name} of a newer writer: {e}"))
}

#[test]
fn records_of_format_1_still_read() {
    assert_eq!(FORMAT, 1, "keep these fixtures, and add those of the new format beside them");
    let spec: Spec = reads_and_writes("spec.json");
    assert_eq!(
        (spec.action.as_str(), spec.timeout_ms, spec.has_secrets),
        ("cassandra.clear_snapshots", Some(60_000), true)
    );
    let least: Spec = reads_and_writes("spec-least.json");
    assert!(least.run.is_none() && least.noop);
    let started: Started = reads_and_writes("started.json");
    assert_eq!(started.unenforced.len(), 1);
    let exit: Exit = reads_and_writes("exit.json");
    assert_eq!((exit.state, exit.signal, exit.stdout.dropped_bytes), (State::TimedOut, Some(9), 1));
    let mut newer = fixture("exit.json");
    newer["usage"]["from_the_future"] = json!(1);
    assert!(serde_json::from_value::<Exit>(newer).is_ok());
}

#[test]
fn a_record_without_a_required_field_is_refused() {
    for key in fixture("exit.json").as_object().unwrap().keys() {
        let mut lacking = fixture("exit.json");
        lacking.as_object_mut().unwrap().remove(key);
        // An absent option is null; all other fields are required.
        let optional =
            ["reason", "exit_status", "signal", "leftovers", "result", "result_error"].contains(&key.as_str());
        assert_eq!(serde_json::from_value::<Exit>(lacking).is_ok(), optional, "{key}");
    }
}

/// All valid transitions of states.
#[test]
fn states_move_only_forward() {
    use State::*;
    for from in State::ALL {
        let next: Vec<State> = State::ALL.into_iter().filter(|to| from.may_become(*to)).collect();
        let wanted = match from {
            Queued => vec![Running, Killed, Error, Interrupted, Lost, Expired],
            Running => vec![Succeeded, Failed, TimedOut, Killed, OutOfMemory, Error, Interrupted, Lost],
            _ => vec![],
        };
        assert_eq!(next, wanted, "{from}");
        assert_eq!(from.is_terminal(), next.is_empty(), "exactly the terminal states never change: {from}");
        assert!(!from.may_become(from), "{from}");
        assert!(from.is_terminal() || next.iter().any(|to| to.is_terminal()), "{from} can end");
        assert_eq!(from.to_string().parse(), Ok(from));
        assert_eq!(serde_json::to_value(from).unwrap(), json!(from.as_str()));
    }
    assert!("gone".parse::<State>().unwrap_err().contains("out_of_memory"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any sequence of transitions ends an execution at most once, after at most two transitions.
    #[test]
    fn no_sequence_of_moves_ends_twice(moves in prop::collection::vec(prop::sample::select(State::ALL.to_vec()), 0..40)) {
        let (mut state, mut made, mut ended) = (State::Queued, 0, 0);
        for next in moves {
            if state.may_become(next) {
                prop_assert_eq!(ended, 0);
                (state, made, ended) = (next, made + 1, ended + usize::from(next.is_terminal()));
            }
        }
        prop_assert!(made <= 2 && ended <= 1);
    }

    #[test]
    fn a_frame_reads_back_or_is_refused(bytes in any::<[u8; HEADER]>(), tidy: bool) {
        let mut bytes = bytes;
        if tidy {
            // First bytes as a shim writes them; otherwise nearly all would be refused at once.
            bytes[0] = 1 + bytes[0] % 2;
            bytes[1..4].fill(0);
            bytes[6..8].fill(0);
        }
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert!((1..=MAX_CHUNK as u64).contains(&u64::from(frame.length)));
            prop_assert!(frame.offset.checked_add(u64::from(frame.length)).is_some());
            prop_assert_eq!(frame.encode(), bytes);
        }
    }

    #[test]
    fn tail_names_of_output_parse_back(n: u64, text in "tail\\.[0-9.+-]{0,6}|\\PC{0,12}") {
        for stream in Stream::ALL {
            prop_assert_eq!(parse_tail_name(&tail_name(stream, n)), Some((stream, n)));
        }
        if let Some((stream, n)) = parse_tail_name(&text) {
            prop_assert_eq!(tail_name(stream, n), text);
        }
    }
}
