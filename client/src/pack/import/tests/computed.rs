//! Python and scripts of StackStorm as they run: defaults made of others, the module of an action, and variables of the
//! server.

use super::executed::{execute, stderr, stdout, unless_skipped};
use super::stackstorm::{Pack, command, script};
use super::*;

fn python(name: &str, parameters: &str) -> String {
    format!("name: {name}\nrunner_type: python-script\nentry_point: {name}.py\nparameters:\n{parameters}")
}

fn run(pack: &Pack, action: &str, given: &[&str]) -> Option<(Option<i32>, String, String)> {
    let site = pack.temp.path().join("site.yaml");
    fs::write(&site, "region: south\n").unwrap();
    let outcome = unless_skipped(action, execute(&pack.temp.path().join("pack"), action, given, Some(&site)))?;
    Some((outcome.exit.exit_status, stdout(&outcome), stderr(&outcome)))
}

#[test]
fn a_default_is_computed_after_those_that_it_is_made_of() {
    let chain = "  a: {type: string, default: '{{b}}-x'}\n  b: {type: string, default: '{{config_context.region}}'}\n";
    let circle = "  a: {type: string, default: '{{b}}'}\n  b: {type: string, default: '{{a}}'}\n";
    let print = "class A:\n    def __init__(self, config=None, action_service=None):\n        pass\n    \
                 def run(self, a, b):\n        print(a, b)\n";
    let pack = Pack::new(&[
        ("actions/chain.yaml", &python("chain", chain)),
        ("actions/chain.py", print),
        ("actions/circle.yaml", &python("circle", circle)),
        ("actions/circle.py", print),
        ("actions/words.yaml", &script("words", &chain.replace("type: string,", "type: string, position: 0,"))),
        ("actions/words.sh", "#!/bin/sh\necho \"$@\"\n"),
    ]);
    pack.import().unwrap();
    let Some((status, printed, said)) = run(&pack, "chain", &[]) else { return };
    assert_eq!((status, printed.as_str()), (Some(0), "south-x south\n"), "{said}");
    let (_, printed, _) = run(&pack, "chain", &["b=north"]).unwrap();
    assert_eq!(printed, "north-x north\n");
    let (status, printed, said) = run(&pack, "circle", &[]).unwrap();
    assert_eq!((status, printed.as_str()), (Some(1), ""));
    assert!(said.contains("the defaults of a, b are made of one another"), "{said}");
    let (_, printed, said) = run(&pack, "words", &[]).unwrap();
    assert_eq!(printed, "south-x south\n", "{said}");
}

#[test]
fn a_computed_default_has_the_type_of_its_parameter() {
    let parameters = "  no: {type: string, default: 'false'}\n  ten: {type: integer, default: 10}\n  \
                      flag: {type: boolean, default: '{{no}}'}\n  text: {type: string, default: '{{ten}}'}\n  \
                      number: {type: integer, default: '1{{ten}}'}\n  list: {type: array, default: '[{{ten}}]'}\n  \
                      any: {default: '{{ten}}'}\n";
    let print = "import json\nclass A:\n    def __init__(self, config=None, action_service=None):\n        pass\n    \
                 def run(self, **given):\n        return given\n";
    let pack = Pack::new(&[("actions/x.yaml", &python("x", parameters)), ("actions/x.py", print)]);
    pack.import().unwrap();
    let executed = execute(&pack.temp.path().join("pack"), "x", &[], None);
    let Some(outcome) = unless_skipped("x", executed) else { return };
    let wanted = serde_json::json!({
        "no": "false", "ten": 10, "flag": false, "text": "10", "number": 110, "list": [10], "any": 10,
    });
    assert_eq!(outcome.exit.result.clone().map(serde_json::Value::Object), Some(wanted), "{}", stderr(&outcome));
    let (status, _, said) = run(&pack, "x", &["no=maybe"]).unwrap();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the default of flag is computed as 'maybe', which is no boolean"), "{said}");
}

#[test]
fn a_value_of_a_caller_is_no_option_by_way_of_a_default() {
    let parameters = "  a: {type: string}\n  b: {type: string, default: '{{a}}', position: 0}\n  \
                      c: {type: string, default: '-{{a}}', position: 1}\n";
    let pack = Pack::new(&[
        ("actions/x.yaml", &script("x", parameters)),
        ("actions/x.sh", "#!/bin/sh\nshift\nprintf '<%s>' \"$@\"\n"),
    ]);
    pack.import().unwrap();
    let Some((_, printed, _)) = run(&pack, "x", &["a=f"]) else { return };
    assert_eq!(printed, "<f><-f>", "the author begins the second one");
    let (status, printed, said) = run(&pack, "x", &["a=-rf"]).unwrap();
    assert_eq!((status, printed.as_str()), (Some(1), ""));
    assert!(said.contains("b must not start with '-'"), "{said}");
}

#[test]
fn the_module_of_an_action_is_found_by_its_name_and_takes_no_other_ones_place() {
    let base = "from st2common.runners.base_action import Action\n";
    let data = format!(
        "from __future__ import annotations\nimport pickle, sys\nfrom dataclasses import dataclass\n{base}\
         @dataclass\nclass Disk:\n    name: str\n\nclass A(Action):\n    def run(self):\n        \
         return [repr(pickle.loads(pickle.dumps(Disk('a')))), sys.modules[__name__].__name__]\n"
    );
    let json = format!("import json\n{base}class A(Action):\n    def run(self):\n        return json.loads('[1]')\n");
    let pack = Pack::new(&[
        ("actions/data.yaml", &python("data", "")),
        ("actions/data.py", &data),
        ("actions/json.yaml", &python("json", "")),
        ("actions/json.py", &json),
    ]);
    pack.import().unwrap();
    for (action, wanted) in [
        ("data", serde_json::json!({"result": ["Disk(name='a')", "data"]})),
        ("json", serde_json::json!({"result": [1]})),
    ] {
        let executed = execute(&pack.temp.path().join("pack"), action, &[], None);
        let Some(outcome) = unless_skipped(action, executed) else { return };
        let result = outcome.exit.result.clone().map(serde_json::Value::Object);
        assert_eq!(result, Some(wanted), "{}", stderr(&outcome));
    }
}

#[test]
fn what_needs_the_server_is_named_and_what_an_instance_knows_is_set() {
    let shown = "echo $ST2_ACTION_PACK_NAME ${#ST2_ACTION_EXECUTION_ID}";
    let pack = Pack::new(&[
        ("actions/url.yaml", &script("url", "  x: {type: string}\n")),
        ("actions/url.sh", "#!/bin/sh\n# ST2_API\ncurl -H \"X: $ST2_ACTION_AUTH_TOKEN\" x\n"),
        ("actions/cli.yaml", &command("cli", "'st2 run core.local cmd=date'", "")),
        ("actions/py.yaml", &python("py", "")),
        ("actions/py.py", "import os\nclass A:\n    def run(self):\n        return os.environ['ST2_ACTION_API_URL']\n"),
        ("actions/name.yaml", &script("name", "  x: {type: string}\n")),
        ("actions/name.sh", &format!("#!/bin/sh\n{shown}\n")),
        ("actions/cmd.yaml", &command("cmd", &format!("'{shown}'"), "")),
    ]);
    let report = pack.import().unwrap();
    let found = |name: &str| {
        let action = report.actions.iter().find(|action| action.name == name).unwrap();
        action.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (name, words) in [
        ("url", "actions/url.sh:3 needs ST2_ACTION_AUTH_TOKEN of StackStorm's server, which is not there"),
        ("cli", "cmd:1 needs the program st2 of StackStorm's server"),
        ("py", "actions/py.py:4 needs ST2_ACTION_API_URL of"),
    ] {
        assert!(found(name).contains(words), "{name}: {}", found(name));
    }
    for name in ["name", "cmd"] {
        assert!(!found(name).contains("server_variable"), "{name}: {}", found(name));
        let Some((_, printed, said)) = run(&pack, name, &[]) else { return };
        let length = printed.trim().strip_prefix("small ").unwrap_or_else(|| panic!("{name}: {printed} {said}"));
        assert_ne!(length, "0", "{name}");
    }
}

#[test]
fn an_action_that_is_disabled_by_a_word_stays_disabled() {
    let text = |word: &str| command("a", "date", "").replace("name: a\n", &format!("name: a\nenabled: {word}\n"));
    for word in ["'false'", "\"no\"", "off", "false"] {
        let pack = Pack::new(&[("actions/a.yaml", &text(word))]);
        pack.import().unwrap();
        let written = fs::read_to_string(pack.temp.path().join("pack/actions/a.yaml")).unwrap();
        assert!(written.contains("\nenabled: false\n"), "{word}: {written}");
    }
}
