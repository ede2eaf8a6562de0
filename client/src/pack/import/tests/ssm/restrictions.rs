//! Restrictions of parameters, by the types that they are declared for.

use packs_schema::base::document::yaml;

use super::*;

#[test]
fn values_of_numbers_are_numbers_and_maps_have_no_restrictions_of_text() {
    let temp = tempfile::tempdir().unwrap();
    let document = json!({
        "schemaVersion": "2.2",
        "parameters": {
            "Number": {"type": "Integer", "allowedValues": ["5", "6", 7], "default": "5"},
            "Flag": {"type": "Boolean", "allowedValues": ["true", "false"], "default": true},
            "Map": {"type": "StringMap", "default": {"a": "b"}, "allowedPattern": "^x$", "maxChars": 3},
            "Maps": {"type": "MapList", "default": [{"a": "b"}], "maxChars": 3, "maxItems": 2},
            "Texts": {"type": "StringList", "default": ["x"], "allowedPattern": "^x$"},
        },
        "mainSteps": [{"action": "aws:runShellScript", "name": "s", "inputs": {"runCommand": ["echo {{ Number }} {{ Map }}"]}}],
    });
    fs::write(temp.path().join("s.json"), document.to_string()).unwrap();
    let report = import(&temp.path().join("s.json"), &temp.path().join("pack")).unwrap();
    let found = report.actions[0].findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(found.contains("Map holds maps, whose text is not restricted here: maxLength, pattern"), "{found}");
    assert!(found.contains("Maps holds maps, whose text is not restricted here: maxLength"), "{found}");
    assert!(!found.contains("Texts") && !found.contains("default_dropped"), "{found}");
    let action: Value = yaml::parse(&fs::read_to_string(temp.path().join("pack/actions/s.yaml")).unwrap()).unwrap();
    let parameters = &action["parameters"];
    assert_eq!(parameters["Number"], json!({"type": "integer", "enum": [5, 6, 7], "default": 5}));
    assert_eq!(parameters["Flag"], json!({"type": "boolean", "enum": [true, false], "default": true}));
    assert_eq!(parameters["Map"], json!({"type": "object", "default": {"a": "b"}}));
    assert_eq!(
        parameters["Maps"],
        json!({"type": "array", "items": {"type": "object"}, "maxItems": 2, "default": [{"a": "b"}]})
    );
    assert_eq!(parameters["Texts"]["items"], json!({"type": "string", "pattern": "^x$"}));
}
