//! Tests of delivery to a script. The rules are StackStorm's (its documentation: "Converting Existing Scripts into
//! Actions", positional parameters serialization); `deliver` lists the differences.

use packs_schema::pack::deliver::{Delivery, deliver};
use packs_schema::pack::param::Parameters;
use packs_schema::pack::param::bind::{bind, bind_config};
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value, json};

fn delivered(schema: Value, given: Value) -> Delivery {
    let parameters: Parameters = serde_json::from_value(schema).unwrap();
    let given: Map<String, Value> = serde_json::from_value(given).unwrap();
    deliver(&parameters, &bind(&parameters, &given).unwrap(), &SiteConfig::default())
}

fn map(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

#[test]
fn arguments_are_those_of_stackstorm() {
    let three = json!({"key1": {"type": "string"}, "key2": {"type": "string"}, "key3": {"type": "string"}});
    let placed = json!({
        "first": {"type": "string", "position": 1},
        "second": {"type": "string", "position": 2},
        "third": {"type": "string", "position": 3},
    });
    let one = |schema: Value| json!({"p": schema});
    for (rule, schema, given, arguments) in [
        (
            "named: script.sh --key1=value1 --key2=value2",
            three.clone(),
            json!({"key1": "value1", "key2": "value2"}),
            vec!["--key1=value1", "--key2=value2"],
        ),
        ("named without a value, or with an empty one: left out", three, json!({"key1": "", "key3": null}), vec![]),
        (
            "positional: ordered by position, whatever it starts at",
            placed.clone(),
            json!({"third": "c", "first": "a", "second": "b"}),
            vec!["a", "b", "c"],
        ),
        (
            "no value for the second: script.sh value1 \"\" value3",
            placed.clone(),
            json!({"first": "value1", "third": "value3"}),
            vec!["value1", "", "value3"],
        ),
        ("no value for the last: an empty string as well", placed, json!({"first": "a"}), vec!["a", "", ""]),
        (
            "string as it is",
            one(json!({"position": 0})),
            json!({"p": "a b $(c) 'd' \"e\"\n"}),
            vec!["a b $(c) 'd' \"e\"\n"],
        ),
        ("integer as a string", one(json!({"position": 0})), json!({"p": u64::MAX}), vec!["18446744073709551615"]),
        ("float as a string", one(json!({"position": 0})), json!({"p": 1.5}), vec!["1.5"]),
        ("boolean true is 1", one(json!({"position": 0})), json!({"p": true}), vec!["1"]),
        ("boolean false is 0", one(json!({"position": 0})), json!({"p": false}), vec!["0"]),
        ("array joined by commas", one(json!({"position": 0})), json!({"p": ["foo", "bar", 3]}), vec!["foo,bar,3"]),
        ("empty array is empty", one(json!({"position": 0})), json!({"p": []}), vec![""]),
        ("object as JSON", one(json!({"position": 0})), json!({"p": {"a": [1, "x"]}}), vec!["{\"a\":[1,\"x\"]}"]),
        ("empty object is empty", one(json!({"position": 0})), json!({"p": {}}), vec![""]),
        ("null is empty", one(json!({"type": ["null", "string"], "position": 0})), json!({"p": null}), vec![""]),
        ("a default counts as given", one(json!({"position": 0, "default": 30})), json!({}), vec!["30"]),
        ("named true is a flag", one(json!({})), json!({"p": true}), vec!["--p"]),
        ("named false is nothing", one(json!({})), json!({"p": false}), vec![]),
        // Differences from StackStorm, whose forms here are useless to a script or allow injection.
        ("named array joined by commas", one(json!({})), json!({"p": ["a", "b"]}), vec!["--p=a,b"]),
        ("array that holds arrays as JSON", one(json!({"position": 0})), json!({"p": [["a"], 1]}), vec!["[[\"a\"],1]"]),
        ("positions first", json!({"a": {}, "z": {"position": 9}}), json!({"a": 1, "z": 2}), vec!["2", "--a=1"]),
        ("a secret is no argument", one(json!({"secret": true, "position": 0})), json!({"p": "x"}), vec![]),
        (
            "nor is what holds one",
            one(json!({"properties": {"k": {"secret": true}}})),
            json!({"p": {"k": "x", "open": "y"}}),
            vec![],
        ),
    ] {
        assert_eq!(delivered(schema, given).arguments, arguments, "{rule}");
    }
}

#[test]
fn environment_and_standard_input() {
    let schema = json!({
        "keyspace": {"type": "string"}, "flag": {}, "list": {}, "map": {}, "absent": {}, "token": {"secret": true},
    });
    let given = json!({"keyspace": "a b", "flag": false, "list": [1, "x"], "map": {"a": 1}, "token": "canary"});
    let delivery = delivered(schema, given.clone());
    let environment: Vec<(&str, &str)> = delivery.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let wanted = [
        ("BOLT_PARAM_FLAG", "false"),
        ("BOLT_PARAM_KEYSPACE", "a b"),
        ("BOLT_PARAM_LIST", "1,x"),
        ("BOLT_PARAM_MAP", "{\"a\":1}"),
    ];
    assert_eq!(environment, wanted);
    assert!(delivery.stdin.ends_with(b"}\n"));
    assert_eq!(serde_json::from_slice::<Value>(&delivery.stdin).unwrap(), given);
    assert!(!format!("{delivery:?}").contains("canary"));
}

#[test]
fn public_configuration_is_in_the_environment_and_standard_input_has_parameters_only() {
    let parameters: Parameters = serde_json::from_value(json!({"p": {}})).unwrap();
    let bound = bind(&parameters, &map(json!({"p": 1}))).unwrap();
    let public =
        json!({"dir": "/data", "on": true, "none": null, "list": ["a", 1], "split": ["a,b"], "deep": {"k": []}});
    let delivery = deliver(&parameters, &bound, &SiteConfig::new(map(public.clone()), Map::new()));
    assert_eq!(delivery.stdin, b"{\"p\":1}\n");
    let environment: Vec<(&str, &str)> = delivery.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let whole = public.to_string();
    let wanted = [
        ("BOLT_CONFIG", whole.as_str()),
        ("BOLT_CONFIG_DIR", "/data"),
        ("BOLT_CONFIG_LIST", "a,1"),
        ("BOLT_CONFIG_NONE", ""),
        ("BOLT_CONFIG_ON", "true"),
        ("BOLT_PARAM_P", "1"),
    ];
    assert_eq!(environment, wanted);
}

#[test]
fn configuration_with_a_secret_is_delivered_on_standard_input_only() {
    let parameters: Parameters = serde_json::from_value(json!({"p": {}})).unwrap();
    let bound = bind(&parameters, &map(json!({"p": 1}))).unwrap();
    // `pin` became a secret, and the file of public values was not replaced yet.
    let config = SiteConfig::new(map(json!({"dir": "/data", "pin": "canary"})), map(json!({"pin": "canary"})));
    let delivery = deliver(&parameters, &bound, &config);
    let stdin: Value = serde_json::from_slice(&delivery.stdin).unwrap();
    assert_eq!(stdin, json!({"p": 1, "bolt_config": {"dir": "/data", "pin": "canary"}}));
    assert!(!format!("{:?} {:?} {config:?}", delivery.environment, delivery.arguments).contains("canary"));
}

#[test]
fn a_site_configuration_is_read_with_defaults_and_split_by_its_schema() {
    let schema: Parameters = serde_json::from_value(json!({
        "dir": {"default": "/data"}, "port": {"type": "integer"}, "auth": {"properties": {"pin": {"secret": true}}},
    }))
    .unwrap();
    let config = SiteConfig::read(&schema, b"port: 9042\nauth: {pin: canary}\n").unwrap();
    assert_eq!(Value::from(config.public().clone()), json!({"dir": "/data", "port": 9042}));
    assert_eq!(Value::from(config.secrets().clone()), json!({"auth": {"pin": "canary"}}));
    assert_eq!(SiteConfig::read(&schema, b"").unwrap().public().len(), 1);
    for (text, wanted) in [
        (&b"prot: 1\n"[..], "prot is not in config.schema.yaml, which has auth, dir, port"),
        (b"port: canary\n", "port must be an integer"),
        (b"- canary\n", "it must be a map of names to values"),
        (b"\xff\n", "it is not UTF-8"),
    ] {
        let error = SiteConfig::read(&schema, text).unwrap_err();
        assert!(error.starts_with(wanted) && !error.contains("canary"), "{error}");
    }
}

/// A script splits a list at its commas: the result must be the items that were checked.
#[test]
fn a_list_with_ambiguous_items_does_not_bind() {
    let schema = json!({
        "paths": {"type": "array", "items": {"type": "string", "pattern": "^/data/[a-z0-9/,._\n-]*$|^$|^-"}, "position": 0},
        "named": {"type": "array"},
        "secret": {"type": "array", "secret": true},
    });
    let parameters: Parameters = serde_json::from_value(schema.clone()).unwrap();
    for (given, parameter, code, says) in [
        (json!({"paths": ["/data/a,/etc"]}), "paths[0]", "ambiguous_item", "must not contain a comma"),
        (json!({"paths": ["/data/a", "/data/b\n/etc"]}), "paths[1]", "ambiguous_item", "must not contain a line break"),
        (json!({"paths": ["/data/a", ""]}), "paths[1]", "ambiguous_item", "must not be empty"),
        (json!({"paths": [""]}), "paths[0]", "ambiguous_item", "must not be empty"),
        (json!({"paths": ["/data/a", "-rf"]}), "paths", "positional_dash", "must not start with '-'"),
        (json!({"named": ["a", null]}), "named[1]", "ambiguous_item", "must not be empty"),
        (json!({"named": [1, "2,3"]}), "named[1]", "ambiguous_item", "must not contain a comma"),
        (json!({"named": ["a\u{0}b"]}), "named", "nul", "NUL"),
    ] {
        let given: Map<String, Value> = serde_json::from_value(given).unwrap();
        let errors = bind(&parameters, &given).unwrap_err();
        let error = &errors[0];
        assert_eq!((error.parameter.as_str(), error.code.as_str(), errors.len()), (parameter, code, 1), "{given:?}");
        assert!(error.message.contains(says), "{error}");
        // Configuration may contain commas, because it is always available as JSON.
        let configured = bind_config(&parameters, &given);
        assert_eq!(configured.is_ok(), code == "ambiguous_item", "{given:?}");
    }
    // Standard input and JSON keep every item separate.
    let items = json!(["a,b", "", "c\nd"]);
    let got = delivered(schema, json!({"secret": items, "named": [["a,b"], {"k": ","}]}));
    assert_eq!(got.arguments, ["", "--named=[[\"a,b\"],{\"k\":\",\"}]"]);
    assert_eq!(serde_json::from_slice::<Value>(&got.stdin).unwrap()["secret"], items);
}

/// A value stays one argument, whatever it contains: no shell is involved.
#[test]
fn a_text_with_quotes_equals_signs_and_line_breaks_is_one_argument() {
    let text = "a=b 'c' \"d\"\n$(e),--f=g";
    let got = delivered(
        json!({"p": {"type": "string"}, "q": {"type": "string", "position": 0}}),
        json!({"p": text, "q": text}),
    );
    assert_eq!(got.arguments, [text.to_owned(), format!("--p={text}")]);
    assert_eq!(
        got.environment,
        [("BOLT_PARAM_P".to_owned(), text.to_owned()), ("BOLT_PARAM_Q".to_owned(), text.to_owned())]
    );
}
