//! A checked definition is stored as JSON by the sync and used by the launcher: it must read back unchanged, and
//! validate as before.

use packs_schema::base::finding::{Finding, Severity};
use packs_schema::base::name::PackName;
use packs_schema::pack::action::{Action, ActionFile};
use packs_schema::pack::param::Schema;
use packs_schema::pack::param::check::check;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::draw;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn span() -> impl Strategy<Value = Value> {
    prop_oneof![(1_u64..86_400).prop_map(|s| json!(s)), (100_u64..86_400_000).prop_map(|ms| json!(format!("{ms}ms")))]
}

fn bolt() -> impl Strategy<Value = Value> {
    let limits = (4_u64 << 20..1 << 50, 10_u32..1_024_000, 1_u32..100_000, 16_u32..1_000_000);
    let limits = limits.prop_map(|(memory, cpu, pids, files)| {
        let cpu = format!("{}.{}%", cpu / 10, cpu % 10);
        json!({"memory": memory, "cpu": cpu, "pids": pids, "open_files": files})
    });
    let class = prop::sample::select(vec!["diagnostic", "remediation", "maintenance"]);
    let concurrency = (
        1_u32..1000,
        prop::option::of("[a-z][a-z0-9-]{0,8}"),
        prop::option::of(prop::sample::select(vec!["queue", "reject"])),
    );
    let concurrency = concurrency.prop_map(|(max, group, when)| json!({"max": max, "group": group, "when_busy": when}));
    let rate = (1_u32..100, span()).prop_map(|(max, per)| json!({"max": max, "per": per}));
    let output = (4096_u64..1 << 30).prop_map(|max| json!({"max": max}));
    let some = |value: BoxedStrategy<Value>| prop::option::of(value).prop_map(Value::from);
    let parts = (
        class,
        some(span().boxed()),
        some(limits.boxed()),
        some(concurrency.boxed()),
        some(rate.boxed()),
        some(output.boxed()),
        any::<(bool, bool)>(),
    );
    parts.prop_map(|(class, timeout, limits, concurrency, rate, output, (noop, new_privileges))| {
        json!({
            "class": class, "timeout": timeout, "limits": limits, "concurrency": concurrency, "rate": rate, "output": output,
            "noop": noop, "new_privileges": new_privileges, "run_as": noop.then_some("nobody"),
        })
    })
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn a_definition_reads_back_as_it_was(bolt in bolt(), schema in draw::schema(), default in draw::value(), flags: [bool; 4]) {
        let mut parameter = schema.clone();
        for (keyword, flag) in ["secret", "required", "immutable"].into_iter().zip(flags) {
            parameter.as_object_mut().unwrap().entry(keyword).or_insert(json!(flag));
        }
        let own: Schema = serde_json::from_value(schema.clone()).unwrap();
        if check(&own, &default).is_empty() && flags[3] {
            parameter["default"] = default.clone();
        }
        let file = json!({
            "name": "a", "runner_type": "local-shell-script", "entry_point": "x/a.sh", "description": " text ",
            "parameters": {"p": parameter, "q": {"type": "integer", "position": 3}}, "output_schema": {"type": "object", "properties": {"r": schema}},
            "tags": ["x", {"name": "a", "value": "b"}], "bolt": bolt,
        });
        let file: ActionFile = serde_json::from_value(file).unwrap();
        let (action, found) = file.check(&PackName::new("p").unwrap(), "a.yaml");
        // A random schema may allow no value, and a random default may be impossible to deliver.
        const IMPOSSIBLE: [&str; 4] = ["impossible", "default_does_not_fit", "default_not_deliverable", "template_default"];
        let impossible = |f: &Finding| f.severity == Severity::Error && IMPOSSIBLE.contains(&f.code.as_str());
        let Some(action) = action else {
            prop_assert!(found.iter().any(impossible), "{:?}", found);
            return Ok(());
        };
        let stored = serde_json::to_string(&action).unwrap();
        let read: Action = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(&read, &action, "{}", stored);
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        let (before, after) = (&action.parameters[&"p".parse().unwrap()], &read.parameters[&"p".parse().unwrap()]);
        prop_assert_eq!(check(before, &default), check(after, &default));
    }

    /// A schema written as YAML and as JSON is the same.
    #[test]
    fn yaml_and_json_parse_to_equal_schemas(schema in draw::schema()) {
        let yaml = serde_saphyr::to_string(&schema).unwrap();
        let from_yaml: Schema = packs_schema::base::document::yaml::parse(&yaml).unwrap();
        let from_json: Schema = serde_json::from_value(schema).unwrap();
        prop_assert_eq!(from_yaml, from_json, "{}", yaml);
    }
}

#[test]
fn spellings_of_a_schema() {
    for (text, same) in [
        ("{required: false}", "{}"),
        ("{default: null}", "{}"),
        ("{default: ~}", "{}"),
        ("{default: yes, type: boolean}", "{default: true, type: boolean}"),
        ("{default: \"yes\"}", "{default: 'yes'}"),
        ("{default: 0x1F}", "{default: 31}"),
    ] {
        let read =
            |text| packs_schema::base::document::yaml::parse::<Schema>(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let (a, b) = (read(text), read(same));
        assert_eq!((a.is_required(), &a.default, &a.types), (b.is_required(), &b.default, &b.types), "{text}");
    }
}

/// Duplicate keys are errors in YAML as in JSON: otherwise a second `secret: false` would override the first.
#[test]
fn duplicate_keys_in_yaml_are_refused() {
    for twice in [
        "name: a\nrunner_type: python-script\nname: b\n",
        "name: a\nrunner_type: python-script\nparameters:\n  p: {secret: true}\n  p: {}\n",
        "name: a\nrunner_type: python-script\nparameters:\n  p: {secret: true, secret: false}\n",
        "name: a\nrunner_type: python-script\nbolt: {noop: true, noop: false}\n",
    ] {
        assert!(packs_schema::base::document::yaml::parse::<ActionFile>(twice).is_err(), "{twice}");
    }
    for vague in ["{secret: null}", "{secret: 1}", "{immutable: ~}"] {
        assert!(packs_schema::base::document::yaml::parse::<Schema>(vague).is_err(), "{vague}");
    }
}

/// `(keys under bolt or beside it, code of the finding, place)`
#[test]
fn each_fault_of_an_action_has_its_finding() {
    let deep = json!({"type": "object", "properties": {"list": {"items": {"defautl": 1}}}});
    for (part, code, at) in [
        (json!({"bolt": {"timeout": "1ms"}}), "out_of_bounds", "bolt.timeout"),
        (json!({"bolt": {"timeout": "25h"}}), "out_of_bounds", "bolt.timeout"),
        (json!({"bolt": {"grace": "11m"}}), "out_of_bounds", "bolt.grace"),
        (json!({"bolt": {"start_within": "1ms"}}), "out_of_bounds", "bolt.start_within"),
        (json!({"bolt": {"limits": {"memory": "1MiB"}}}), "out_of_bounds", "bolt.limits.memory"),
        (json!({"bolt": {"limits": {"pids": 0}}}), "out_of_bounds", "bolt.limits.pids"),
        (json!({"bolt": {"limits": {"open_files": 3}}}), "out_of_bounds", "bolt.limits.open_files"),
        (json!({"bolt": {"limits": {"io_weight": 0}}}), "out_of_bounds", "bolt.limits.io_weight"),
        (json!({"bolt": {"limits": {"io_weight": 10_001}}}), "out_of_bounds", "bolt.limits.io_weight"),
        (json!({"bolt": {"concurrency": {"max": 0}}}), "out_of_bounds", "bolt.concurrency.max"),
        (json!({"bolt": {"rate": {"max": 0, "per": "1h"}}}), "out_of_bounds", "bolt.rate"),
        (json!({"bolt": {"output": {"max": "2GiB"}}}), "out_of_bounds", "bolt.output.max"),
        (json!({"name": "a b"}), "bad_name", "name"),
        (json!({"pack": "other"}), "other_pack", "pack"),
        (json!({"entry_point": "../a.py"}), "bad_entry_point", "entry_point"),
        (json!({"entry_point": ""}), "bad_entry_point", "entry_point"),
        (json!({"runner_type": "orquesta"}), "runner_not_supported", "runner_type"),
        (json!({"runner_type": "local-shell-cmd"}), "shell_template", "runner_type"),
        (json!({"runner_type": "perl"}), "unknown_runner", "runner_type"),
        (json!({"parametres": {}}), "unknown_key", "parametres"),
        (json!({"parameters": {"p": deep}}), "unknown_keyword", "parameters.p.properties.list.items.defautl"),
        (json!({"parameters": {"p-q": {}}}), "bad_parameter_name", "parameters.p-q"),
        (json!({"parameters": {"p": {}, "P": {}}}), "parameter_clash", "parameters.p"),
        (json!({"parameters": {"p": {"position": 1}, "q": {"position": 1}}}), "position_clash", "parameters.q"),
        (
            json!({"parameters": {"p": {"position": 1}, "q": {"position": 2}, "r": {"position": 4}}}),
            "position_gap",
            "parameters.r.position",
        ),
        (json!({"parameters": {"p": {"default": ["{{ x }}"]}}}), "template_default", "parameters.p"),
        (
            json!({"parameters": {"p": {"type": "integer", "default": "x"}}}),
            "default_does_not_fit",
            "parameters.p.default",
        ),
        (
            json!({"parameters": {"p": {"type": "array", "default": ["a", "b,c"]}}}),
            "default_not_deliverable",
            "parameters.p.default",
        ),
        (
            json!({"parameters": {"p": {"position": 0, "default": "-x"}}}),
            "default_not_deliverable",
            "parameters.p.default",
        ),
        (json!({"parameters": {"p": {"enum": []}}}), "empty_enum", "parameters.p.enum"),
        (
            json!({"parameters": {"p": {"type": "string", "enum": ["up", true]}}}),
            "enum_does_not_fit",
            "parameters.p.enum",
        ),
        (json!({"parameters": {"p": {"multipleOf": 0}}}), "impossible", "parameters.p.multipleOf"),
        (json!({"parameters": {"p": {"minimum": 2, "maximum": 1}}}), "impossible", "parameters.p"),
        (json!({"parameters": {"p": {"minLength": 2, "maxLength": 1}}}), "impossible", "parameters.p"),
        (
            json!({"parameters": {"p": {"patternProperties": {"[a-z]{1,255}x": {}}}}}),
            "heavy_pattern",
            "parameters.p.patternProperties[[a-z]{1,255}x]",
        ),
        (json!({"parameters": {"p": {"immutable": true}}}), "immutable_without_default", "parameters.p"),
        (json!({"parameters": {"p": {"secret": true, "position": 0}}}), "secret_position", "parameters.p"),
        (json!({"parameters": {"p": {"secret": true, "default": "x"}}}), "secret_default", "parameters.p"),
        (json!({"parameters": {"password": {}}}), "secret_unmarked", "parameters.password"),
        (
            json!({"parameters": {"p": {"properties": {"q": {"immutable": true}}}}}),
            "keyword_without_effect",
            "parameters.p",
        ),
        (json!({"parameters": {"p": {"type": "integer", "pattern": "x"}}}), "keyword_without_effect", "parameters.p"),
        (
            json!({"output_schema": {"type": "object", "properties": {"a": {"type": "any"}}}}),
            "bad_output_schema",
            "output_schema",
        ),
    ] {
        let mut file = json!({"name": "a", "runner_type": "python-script", "entry_point": "a.py", "bolt": {}});
        file["bolt"]["class"] = json!("diagnostic");
        for (key, value) in part.as_object().unwrap() {
            file[key] = value.clone();
        }
        let file: ActionFile = serde_json::from_value(file).unwrap_or_else(|e| panic!("{part}: {e}"));
        let (action, found) = file.check(&PackName::new("p").unwrap(), "a.yaml");
        let hit = found.iter().find(|f| f.code == code && f.at == format!("a.yaml: {at}"));
        let hit = hit.unwrap_or_else(|| panic!("{part}: {found:?}"));
        assert!(!hit.message.is_empty());
        assert_eq!(action.is_none(), found.iter().any(|f| f.severity == Severity::Error), "{part}");
    }
}

#[test]
fn a_file_of_faults_has_a_bounded_list() {
    let wrong: serde_json::Map<String, Value> = (0..5000).map(|i| (format!("k{i}"), json!(1))).collect();
    let mut file = json!({"name": "a", "runner_type": "python-script", "entry_point": "a.py"});
    file.as_object_mut().unwrap().extend(wrong);
    let file: ActionFile = serde_json::from_value(file).unwrap();
    let (action, found) = file.check(&PackName::new("p").unwrap(), "a.yaml");
    assert!(action.is_none() && found.len() == 101, "{}", found.len());
    assert!(found.last().unwrap().message.contains("more findings"));
}
