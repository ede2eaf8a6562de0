//! Arbitrary bytes never cause a panic; accepted values read back; unknown ones are refused.

use std::time::Duration;

use packs_schema::agent::config::Config;
use packs_schema::agent::execution::{Exit, Spec, Started};
use packs_schema::agent::grants::{Grants, Verb};
use packs_schema::agent::launch::{Reply, Request, is_traceparent};
use packs_schema::agent::rest::{Code, CreateExecution, KillRequest, Problem};
use packs_schema::base::name::{ActionRef, InstanceId, PackName, Principal};
use packs_schema::base::quantity::{CpuShare, format_bytes, format_duration, parse_bytes, parse_duration};
use packs_schema::base::strict;
use packs_schema::delivery::channel::{Channel, channel_target, pack_target, parse_channel_target};
use packs_schema::delivery::facts::Facts;
use packs_schema::delivery::filter::Filter;
use packs_schema::pack::PackFile;
use packs_schema::pack::action::ActionFile;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::draw;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// All parsers of bytes or text from a peer or a file.
fn read_as_everything(bytes: &[u8]) {
    drop(strict::parse(bytes));
    drop(serde_json::from_slice::<Request>(bytes));
    drop(serde_json::from_slice::<Reply>(bytes));
    drop(serde_json::from_slice::<CreateExecution>(bytes));
    drop(serde_json::from_slice::<KillRequest>(bytes));
    drop(serde_json::from_slice::<Problem>(bytes));
    drop(serde_json::from_slice::<Spec>(bytes));
    drop(serde_json::from_slice::<Started>(bytes));
    drop(serde_json::from_slice::<Exit>(bytes));
    drop(serde_json::from_slice::<Channel>(bytes));
    if let Ok(file) = serde_json::from_slice::<ActionFile>(bytes) {
        file.check(&PackName::new("p").unwrap(), "a.yaml");
    }
    if let Ok(file) = serde_json::from_slice::<PackFile>(bytes) {
        file.check("pack.yaml");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let facts = Facts::of(InstanceId::new("i-1").unwrap());
    match Filter::new(text) {
        Ok(filter) => drop(filter.matches(&facts)),
        Err(error) => assert!(error.to_string().len() < 4000, "{error}"),
    }
    if let Ok(grants) = Grants::parse(text) {
        grants.allows_any(&Principal::new("a://b").unwrap(), Verb::Run);
    }
    drop(Config::parse(text));
    drop(parse_bytes(text));
    drop(CpuShare::parse(text));
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    drop(parse_channel_target(text));
    is_traceparent(text);
}

/// Tokens of the formats, so that random texts pass the first character.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "app",
        "region",
        "tags.",
        "tags.a",
        "==",
        "!=",
        "=~",
        "in",
        "[",
        "]",
        "(",
        ")",
        "!",
        "&&",
        "||",
        "\"",
        "'",
        "\"a\"",
        "'(('",
        ",",
        " ",
        "[[grant]]\n",
        "principal = ",
        "\"a://b/*\"",
        "verbs = [\"run\"]\n",
        "actions = [\"*.a*\"]\n",
        "[api]\n",
        "listen = \"::1:0\"\n",
        "{",
        "}",
        ":",
        "\"seq\"",
        "\"ask\"",
        "\"start\"",
        "\"kill\"",
        "\"name\"",
        "\"parameters\"",
        "1",
        "-",
        "18446744073709551615",
        "1e999",
        "ms",
        "KiB",
        "%",
        ".",
        "é",
        "\u{0}",
        "\\u0000",
        "\\ud800",
        "null",
        "true",
    ]);
    prop::collection::vec(word, 0..16).prop_map(|words| words.concat())
}

fn start() -> Value {
    json!({"seq": 7, "ask": {"start": {
        "execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "pack": "linux", "version": "1.0.0", "digest": "0".repeat(64),
        "action": "disk_usage", "parameters": {"top": 5}, "noop": false, "timeout_ms": null, "run": null, "traceparent": null,
    }}})
}

/// Replaces one part of a message or adds one key, anywhere.
fn spoilt(message: Value) -> impl Strategy<Value = Value> {
    (Just(message), any::<prop::sample::Index>(), draw::value(), any::<bool>()).prop_map(
        |(mut message, at, new, add)| {
            let mut places = vec![String::new()];
            collect("", &message, &mut places);
            let place = &places[at.index(places.len())];
            match message.pointer_mut(place) {
                Some(Value::Object(map)) if add => drop(map.insert("more".into(), new)),
                Some(part) => *part = new,
                None => {}
            }
            message
        },
    )
}

fn collect(at: &str, value: &Value, places: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            let at = format!("{at}/{key}");
            collect(&at, value, places);
            places.push(at);
        }
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn words_never_panic(text in words()) {
        read_as_everything(text.as_bytes());
    }

    #[test]
    fn values_never_panic(value in draw::value(), schema in draw::schema()) {
        read_as_everything(value.to_string().as_bytes());
        let file = json!({"name": "a", "runner_type": "python-script", "entry_point": "a.py", "parameters": {"p": schema}, "output_schema": value});
        read_as_everything(file.to_string().as_bytes());
    }

    /// A launch message with one changed part is refused or reads back; an extra key is refused, except among the
    /// parameters of the action.
    #[test]
    fn a_spoilt_request_is_refused_or_reads_back(message in spoilt(start())) {
        let text = message.to_string();
        let more = message.get("more").is_some() || message.pointer("/ask/more").is_some() || message.pointer("/ask/start/more").is_some();
        match serde_json::from_str::<Request>(&text) {
            Ok(request) => {
                prop_assert!(!more, "{}", text);
                let again: Request = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
                prop_assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&request).unwrap());
            }
            Err(error) => prop_assert!(error.to_string().len() < 1000),
        }
    }

    /// A reply of the launcher likewise; an unknown key or reason of a newer launcher is ignored.
    #[test]
    fn a_spoilt_reply_is_refused_or_reads_back(message in spoilt(json!({"seq": 1, "outcome": {"refused": {"code": "unknown_user", "message": "no"}}}))) {
        if let Ok(reply) = serde_json::from_value::<Reply>(message.clone()) {
            let again = serde_json::to_value(&reply).unwrap();
            prop_assert_eq!(serde_json::from_value::<Reply>(again.clone()).unwrap(), reply.clone());
            let newer = message.to_string().contains("\"more\"") || again.to_string().contains("\"other\"");
            prop_assert!(newer || again == message, "{}", message);
        }
    }

    #[test]
    fn durations_and_sizes_read_back(ms in 0..3_155_760_000_000_u64, bytes: u64, per_mille in 10..1_024_000_u32) {
        let duration = Duration::from_millis(ms);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        prop_assert_eq!(parse_bytes(&format!("{bytes}B")), Ok(bytes));
        prop_assert!(!format_bytes(bytes).is_empty());
        let share = CpuShare(per_mille);
        prop_assert_eq!(CpuShare::parse(&share.to_string()), Ok(share));
    }

    #[test]
    fn channel_targets_read_back(channel in "[a-z0-9][a-z0-9_-]{0,20}", pack in "[a-z0-9][a-z0-9_-]{0,20}", text in "channels/\\PC{0,20}") {
        let (channel, pack) = (channel.parse().unwrap(), PackName::new(pack).unwrap());
        prop_assert_eq!(parse_channel_target(&channel_target(&channel, &pack)), Some((channel, pack)));
        if let Some((channel, pack)) = parse_channel_target(&text) {
            prop_assert_eq!(channel_target(&channel, &pack), text);
        }
    }

    /// A valid name is safe in a path and in a log line, whatever it was parsed from.
    #[test]
    fn names_are_harmless(text in "\\PC{0,12}|[a-z./-]{0,8}") {
        for name in [
            PackName::new(text.as_str()).map(String::from), ActionRef::new(text.as_str()).map(String::from),
            InstanceId::new(text.as_str()).map(String::from),
        ].into_iter().flatten() {
            prop_assert!(!name.contains(['/', '\\', '\0', '\n', ' ']) && !name.starts_with(['-', '.']) && name.is_ascii());
        }
    }
}

#[test]
fn a_launch_message_with_more_or_less_is_refused() {
    let read = |value: &Value| serde_json::from_str::<Request>(&value.to_string());
    assert!(read(&start()).is_ok());
    for place in ["", "/ask/start"] {
        let mut more = start();
        more.pointer_mut(place).unwrap()["path"] = json!("/bin/sh");
        assert!(read(&more).is_err(), "{place}");
    }
    for key in ["execution", "pack", "version", "digest", "action", "parameters", "noop"] {
        let mut less = start();
        less["ask"]["start"].as_object_mut().unwrap().remove(key);
        assert!(read(&less).is_err(), "{key}");
    }
    for (place, value) in [
        ("/ask/start/pack", json!("../linux")),
        ("/ask/start/action", json!("a/b")),
        ("/ask/start/execution", json!("..")),
        ("/ask/start/digest", json!("0")),
        ("/ask/start/parameters", json!([])),
        ("/seq", json!(-1)),
        ("/ask", json!({"exec": {}})),
        ("/ask", json!({"kill": {"execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "signal": 9}})),
        ("/ask", json!({"sync": {}})),
    ] {
        let mut wrong = start();
        *wrong.pointer_mut(place).unwrap() = value;
        assert!(read(&wrong).is_err(), "{wrong}");
    }
    assert!(read(&json!({"seq": 1, "ask": "sync"})).is_ok());
    let twice = start().to_string().replace("\"top\":5", "\"top\":5,\"top\":6");
    assert!(serde_json::from_str::<Request>(&twice).is_err_and(|e| e.to_string().contains("duplicate key \"top\"")));
    let twice = start().to_string().replace("\"noop\":false", "\"noop\":false,\"noop\":true");
    assert!(serde_json::from_str::<Request>(&twice).is_err());
}

#[test]
fn only_a_traceparent_gets_through() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (text, passes) in [
        (good, true),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false),
        ("x\0LD_PRELOAD=/tmp/x.so", false),
        ("", false),
    ] {
        let mut message = start();
        message["ask"]["start"]["traceparent"] = json!(text);
        let request: Request = serde_json::from_value(message).unwrap();
        let packs_schema::agent::launch::Operation::Start(start) = request.operation else { panic!("it was a start") };
        assert_eq!(start.traceparent.as_deref(), passes.then_some(text), "{text:?}");
    }
    let mut without = start();
    without["ask"]["start"].as_object_mut().unwrap().remove("traceparent");
    assert!(serde_json::from_value::<Request>(without).is_ok());
}

#[test]
fn an_expression_is_shown_without_its_controls() {
    let said = Filter::new("app == \"x\" \u{1b}[2J\u{7} oops").unwrap_err().to_string();
    assert!(said.lines().count() == 3 && said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
}

#[test]
fn bodies_are_strict() {
    for wrong in [
        r#"{"action":"a.b","parametres":{}}"#,
        r#"{"action":"a.b","action":"c.d"}"#,
        r#"{"action":"a.b","parameters":{"x":1,"x":2}}"#,
        r#"{"action":"a.b","parameters":null}"#,
        r#"{"action":"a/b"}"#,
        r#"{"parameters":{}}"#,
        r#"[]"#,
    ] {
        assert!(serde_json::from_str::<CreateExecution>(wrong).is_err(), "{wrong}");
    }
    assert!(serde_json::from_str::<KillRequest>(r#"{"signal":9}"#).is_err());
    assert!(
        serde_json::from_str::<Channel>(
            r#"{"format":1,"serial":1,"pack":"a","rules":[{"version":"1.0.0","percent":101}]}"#
        )
        .is_err()
    );
    assert_eq!(pack_target(&"a".parse().unwrap(), &"1.0.0-rc.1".parse().unwrap()), "packs/a/1.0.0-rc.1.tar.gz");
}

/// A client reads a problem of a newer agent as a problem of unknown kind.
#[test]
fn a_code_of_the_future_is_unknown() {
    let mut problem = serde_json::to_value(Problem::new(Code::Busy, "x", "r-1")).unwrap();
    problem["code"] = json!("quantum_flux");
    problem["new"] = json!(1);
    let read: Problem = serde_json::from_value(problem).unwrap();
    assert_eq!(read.code, Code::Unknown);
    assert_eq!(serde_json::from_str::<Code>(&serde_json::to_string(&Code::Unknown).unwrap()).unwrap(), Code::Unknown);
}
