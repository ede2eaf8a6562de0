//! The JSON Schemas for editors are up to date, accept what the parser accepts, and refuse what it refuses.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use packs_schema::base::finding::Severity;
use packs_schema::base::name::PackName;
use packs_schema::pack::PackFile;
use packs_schema::pack::action::ActionFile;
use packs_schema::pack::schemas;
use serde_json::{Value, json};

const REFRESH: &str = "BOLT_BLESS=1 cargo test -p packs-schema --features schemas --test formats schemas";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn validators() -> (Validator, Validator) {
    let validator = |schema: schemars::Schema| jsonschema::validator_for(schema.as_value()).unwrap();
    (validator(schemas::pack_file()), validator(schemas::action_file()))
}

#[test]
fn the_committed_schemas_are_current() {
    for (name, wanted) in schemas::files() {
        let path = root().join("schemas").join(name);
        if std::env::var_os("BOLT_BLESS").is_some() {
            std::fs::create_dir_all(root().join("schemas")).unwrap();
            std::fs::write(&path, &wanted).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        // Compared as values: the order of keys depends on features of other crates in the build.
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        assert!(
            value(&committed) == value(&wanted),
            "schemas/{name} is not what the types say; refresh it with\n  {REFRESH}"
        );
    }
}

/// Returns all packs of the corpus and the examples.
fn packs() -> Vec<PathBuf> {
    let mut packs = Vec::new();
    for parent in ["tests/corpus", "examples"] {
        let Ok(entries) = std::fs::read_dir(root().join(parent)) else { continue };
        packs.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("pack.yaml").is_file()));
    }
    assert!(!packs.is_empty());
    packs
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    packs_schema::base::document::yaml::parse(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_json_schemas_accept_what_the_parser_accepts() {
    let (pack_schema, action_schema) = validators();
    let fits = |schema: &Validator, path: &Path| {
        let errors: Vec<String> =
            schema.iter_errors(&yaml(path)).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    };
    for pack in packs() {
        let (checked, found) = yaml::<PackFile>(&pack.join("pack.yaml")).check("pack.yaml");
        assert!(checked.is_some(), "{found:?}");
        fits(&pack_schema, &pack.join("pack.yaml"));
        for entry in std::fs::read_dir(pack.join("actions")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                let _: ActionFile = yaml(&path);
                fits(&action_schema, &path);
            }
        }
    }
}

fn action(with: &Value) -> Value {
    let mut action =
        json!({"name": "a", "runner_type": "python-script", "entry_point": "a.py", "bolt": {"class": "diagnostic"}});
    for (key, value) in with.as_object().unwrap() {
        action[key] = value.clone();
    }
    action
}

/// `(part of an action file, valid)`: schema, parser and check agree.
#[test]
fn json_schema_and_parser_agree() {
    let (_, schema) = validators();
    for (part, right) in [
        (json!({}), true),
        (
            json!({"bolt": {"class": "diagnostic", "timeout": "10m", "limits": {"memory": "256MiB", "cpu": "50%", "pids": 64}}}),
            true,
        ),
        (json!({"bolt": {"class": "diagnostic", "timeout": 90, "limits": {"memory": 268_435_456, "cpu": 1.5}}}), true),
        (
            json!({"bolt": {"class": "maintenance", "concurrency": {"max": 1, "group": "disk", "when_busy": "reject"}, "rate": {"max": 3, "per": "1h30m"}}}),
            true,
        ),
        (json!({"bolt": {"class": "diagnostic", "tiemout": "10m"}}), false),
        (json!({"bolt": {"class": "diagnostic", "limits": {"io_weight": 10}}}), true),
        (json!({"bolt": {"class": "diagnostic", "limits": {"io_weight": "low"}}}), false),
        (json!({"bolt": {"class": "diagnostic", "limits": {"disk": "1GiB"}}}), false),
        (json!({"bolt": {"class": "diagnostic", "timeout": "ten minutes"}}), false),
        (json!({"bolt": {"class": "diagnostic", "limits": {"memory": "1.5GiB"}}}), false),
        (json!({"bolt": {"class": "cure"}}), false),
        (json!({"bolt": {"class": "diagnostic", "concurrency": {}}}), false),
        (json!({"parametres": {}}), false),
        (
            json!({"parameters": {"p": {"type": "string", "minLength": 1, "title": "P", "secret": true, "required": true}}}),
            true,
        ),
        (json!({"parameters": {"p": {"type": ["string", "null"], "default": null}}}), true),
        (json!({"parameters": {"p": {"items": {"type": "integer"}, "additionalItems": false}}}), true),
        (json!({"parameters": {"p": {"items": [{}, {"required": ["a"]}], "additionalProperties": {}}}}), true),
        (json!({"parameters": {"p": {"type": "any"}}}), false),
        (json!({"parameters": {"p": {"minimun": 1}}}), false),
        (json!({"parameters": {"p": {"minimum": "1"}}}), false),
        (json!({"parameters": {"p": {"items": {"requried": true}}}}), false),
        (json!({"parameters": {"p": {"properties": {"q": {"position": -1}}}}}), false),
        (
            json!({"description": null, "parameters": {"p": null, "q": {"uniqueItems": null, "properties": {"r": null}}}, "tags": null}),
            true,
        ),
        (json!({"parameters": null, "enabled": null, "output_schema": null}), true),
        (json!({"bolt": {"class": "diagnostic", "noop": null, "lint": {"allow": null}}}), true),
        (json!({"name": null}), false),
        (json!({"parameters": {"p": {"secret": null}}}), false),
        (json!({"parameters": {"p": {"immutable": null}}}), false),
        (json!({"bolt": {"class": "diagnostic", "rate": {"max": null, "per": "1m"}}}), false),
        (json!({"tags": [{"name": "team", "value": "dba"}, "disk"], "notify": {"on-success": {}}}), true),
    ] {
        let file = action(&part);
        assert_eq!(schema.is_valid(&file), right, "the schema on {part}");
        let parsed = serde_json::from_value::<ActionFile>(file);
        let read = parsed.is_ok_and(|file| {
            let (_, found) = file.check(&PackName::new("p").unwrap(), "a.yaml");
            found.iter().all(|f| f.severity < Severity::Error)
        });
        assert_eq!(read, right, "the parser on {part}");
    }
}

/// A stored definition fits its schema in openapi.json, also flattened into its view.
#[test]
fn views_fit_their_own_schemas() {
    let file: ActionFile =
        serde_json::from_value(action(&json!({"parameters": {"p": {"type": "integer", "items": [{}]}}}))).unwrap();
    let action = file.check(&PackName::new("p").unwrap(), "a.yaml").0.unwrap();
    let view = packs_schema::agent::rest::ActionView {
        dev: None,
        version: "1.2.3".parse().unwrap(),
        digest: "0".repeat(64).parse().unwrap(),
        action: action.clone(),
    };
    let schema = schemars::schema_for!(packs_schema::pack::action::Action);
    assert!(jsonschema::is_valid(schema.as_value(), &serde_json::to_value(&action).unwrap()));
    let schema = schemars::schema_for!(packs_schema::agent::rest::ActionView);
    let value = serde_json::to_value(&view).unwrap();
    assert!(jsonschema::is_valid(schema.as_value(), &value), "{schema:?}");
    assert_eq!(serde_json::from_value::<packs_schema::agent::rest::ActionView>(value).unwrap(), view);
}
