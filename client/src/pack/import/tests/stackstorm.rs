//! Secrets, lists, directories and variables of StackStorm's actions: small packs, each for one shape.

use super::executed::{execute, stderr, stdout, unless_skipped};
use super::*;
use crate::pack::test::TestOutcome;

/// A pack with a configuration of which `token` is secret.
pub(super) struct Pack {
    pub(super) temp: tempfile::TempDir,
}

impl Pack {
    pub(super) fn new(files: &[(&str, &str)]) -> Pack {
        let pack = Pack { temp: tempfile::tempdir().unwrap() };
        let config = "region: {type: string}\n_hosts: {type: array}\ntoken: {type: string, secret: true}\n";
        pack.write("pack.yaml", "name: small\nversion: 1.0.0\n");
        pack.write("config.schema.yaml", config);
        // The pack has one action that runs, whatever becomes of the others.
        pack.write("actions/zzz.yaml", &command("zzz", "'true'", ""));
        for (path, text) in files {
            pack.write(path, text);
        }
        pack
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.temp.path().join("source").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    pub(super) fn import(&self) -> Result<Report, ImportError> {
        import(&self.at(""), &self.temp.path().join("pack"))
    }

    fn run(&self, action: &str, given: &[&str]) -> Option<TestOutcome> {
        let site = self.temp.path().join("site.yaml");
        fs::write(&site, "region: south\n_hosts: [a b, c]\n".replace("_hosts", "c__hosts")).unwrap();
        unless_skipped(action, execute(&self.temp.path().join("pack"), action, given, Some(&site)))
    }
}

pub(super) fn command(name: &str, cmd: &str, rest: &str) -> String {
    format!(
        "name: {name}\nrunner_type: local-shell-cmd\nparameters:\n  cmd: {{default: {cmd}, immutable: true}}\n{rest}"
    )
}

pub(super) fn script(name: &str, rest: &str) -> String {
    format!("name: {name}\nrunner_type: local-shell-script\nentry_point: {name}.sh\nparameters:\n{rest}")
}

/// Returns the codes and messages that block an action.
fn blocks(report: &Report, name: &str) -> String {
    let action = report.actions.iter().find(|action| action.name == name).unwrap();
    let blocking = action.findings.iter().filter(|finding| finding.effect == Effect::Blocks);
    blocking.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_secret_of_the_configuration_never_becomes_a_word_or_a_variable() {
    let secret = "{{config_context.token}}";
    let by_default = format!("  x: {{type: string, default: '{secret}'}}\n");
    let env = format!("  env: {{default: {{T: '{secret}'}}}}\n");
    let pack = Pack::new(&[
        ("actions/direct.yaml", &command("direct", &format!("'login {secret}'"), "")),
        ("actions/default.yaml", &command("default", "'login {{x}}'", &by_default)),
        ("actions/in_env.yaml", &command("in_env", "'login'", &env)),
        (
            "actions/of_caller.yaml",
            &command("of_caller", "'login'", "  env: {default: {T: '{{p}}'}}\n  p: {secret: true}\n"),
        ),
        ("actions/argument.yaml", &script("argument", &by_default)),
        ("actions/argument.sh", "#!/bin/sh\n"),
        ("actions/script_env.yaml", &script("script_env", &env)),
        ("actions/script_env.sh", "#!/bin/sh\n"),
        ("actions/py.yaml", &format!("name: py\nrunner_type: python-script\nentry_point: py.py\nparameters:\n{env}")),
        ("actions/py.py", "class A:\n    def run(self):\n        pass\n"),
    ]);
    let report = pack.import().unwrap();
    for (name, words) in [
        (
            "direct",
            "actions/direct.yaml:4: the command takes the secret config_context.token as text, which /proc shows",
        ),
        ("default", "the secret config_context.token"),
        ("in_env", "env T, \"{{config_context.token}}\", cannot be computed here (the secret config_context.token)"),
        ("of_caller", "takes the secret p as text"),
        ("argument", "takes the secret config_context.token as an argument"),
        ("script_env", "(the secret config_context.token)"),
        ("py", "(the secret config_context.token)"),
    ] {
        assert!(blocks(&report, name).contains(words), "{name}: {}", blocks(&report, name));
        assert!(!pack.temp.path().join(format!("pack/actions/{name}.yaml")).exists(), "{name}");
    }
}

#[test]
fn a_value_that_the_site_does_not_set_ends_the_command() {
    let config = "unset: {type: string}\n_hosts: {type: array}\n";
    let pack = Pack::new(&[
        ("config.schema.yaml", config),
        ("actions/a.yaml", &command("a", "'echo {{config_context.unset}}/*'", "")),
        ("actions/b.yaml", &command("b", "'echo {{config_context.unset | default(7)}}'", "")),
        ("actions/c.yaml", &command("c", "\"printf '<%s>' {{config_context._hosts | join(' ')}}\"", "")),
    ]);
    pack.import().unwrap();
    fs::write(pack.temp.path().join("pack/config.schema.yaml"), "unset: {type: string}\nregion: {}\nc__hosts: {}\n")
        .unwrap();
    let Some(outcome) = pack.run("a", &[]) else { return };
    assert_eq!((outcome.exit.exit_status, stdout(&outcome).as_str()), (Some(64), ""));
    assert_eq!(stderr(&outcome), "the site configuration of the pack must set unset\n");
    assert_eq!(stdout(&pack.run("b", &[]).unwrap()), "7\n");
    assert_eq!(stdout(&pack.run("c", &[]).unwrap()), "<a b><c>", "a name that Bolt changed");
}

#[test]
fn each_item_of_a_joined_list_is_one_word() {
    let list = "  items: {type: array, required: true}\n";
    let pack = Pack::new(&[("actions/a.yaml", &command("a", "\"printf '<%s>' {{items | join(' ')}} end\"", list))]);
    let report = pack.import().unwrap();
    let action = report.actions.iter().find(|action| action.name == "a").unwrap();
    assert!(action.findings.iter().any(|f| f.message.contains("each item of items is one word")), "{action:?}");
    let Some(outcome) = pack.run("a", &["items=a b,$(id),*,`id`,;id"]) else { return };
    assert_eq!(stdout(&outcome), "<a b><$(id)><*><`id`><;id><end>", "{}", stderr(&outcome));
    assert_eq!(stdout(&pack.run("a", &["items=[]"]).unwrap()), "<end>");
    assert_eq!(pack.run("a", &["items=a,-rf"]).unwrap().exit.exit_status, Some(64));
}

#[test]
fn directories_and_variables_with_jinja_are_computed() {
    let rest = "  cwd: {default: '/{{name}}'}\n  env: {default: {PLACE: '{{config_context.region}}-{{name}}', ON: '{{flag}}'}}\n  \
                name: {type: string, required: true}\n  flag: {type: boolean, default: true}\n";
    let program = "pwd; echo \"$PLACE $ON\"";
    let pack = Pack::new(&[
        ("actions/cmd.yaml", &command("cmd", &format!("'{program}'"), rest)),
        ("actions/file.yaml", &script("file", rest)),
        ("actions/file.sh", &format!("#!/bin/sh\n{program}\n")),
    ]);
    pack.import().unwrap();
    for action in ["cmd", "file"] {
        let Some(outcome) = pack.run(action, &["name=usr"]) else { return };
        assert_eq!(stdout(&outcome), "/usr\nsouth-usr True\n", "{action}: {}", stderr(&outcome));
        let hostile = pack.run(action, &["name=$(id)"]).unwrap();
        assert_ne!(hostile.exit.exit_status, Some(0));
        assert_eq!(stdout(&hostile), "", "{action} ran elsewhere");
        assert!(stderr(&hostile).contains("$(id)"), "{action}: {}", stderr(&hostile));
    }
}

#[test]
fn a_command_never_runs_in_a_directory_that_a_missing_value_left() {
    let rest = "  cwd: {default: '/usr/{{name}}'}\n  name: {type: string}\n";
    let relative = "  cwd: {default: '{{name}}'}\n  name: {type: string}\n";
    let pack = Pack::new(&[
        ("actions/cmd.yaml", &command("cmd", "pwd", rest)),
        ("actions/file.yaml", &script("file", rest)),
        ("actions/file.sh", "#!/bin/sh\npwd\n"),
        ("actions/cmd_relative.yaml", &command("cmd_relative", "pwd", relative)),
        ("actions/file_relative.yaml", &script("file_relative", relative)),
        ("actions/file_relative.sh", "#!/bin/sh\npwd\n"),
    ]);
    pack.import().unwrap();
    for (action, given, words) in [
        ("cmd", &[][..], "the working directory needs one"),
        ("file", &[][..], "a value that the working directory needs is missing"),
        ("cmd_relative", &["name=usr"][..], "the working directory must begin with '/': usr"),
        ("file_relative", &["name=usr"][..], "the working directory must begin with '/': usr"),
    ] {
        let Some(outcome) = pack.run(action, given) else { return };
        assert_eq!(stdout(&outcome), "", "{action}");
        assert!(stderr(&outcome).contains(words), "{action}: {}", stderr(&outcome));
        assert_ne!(outcome.exit.exit_status, Some(0), "{action}");
    }
}

#[test]
fn what_is_not_carried_is_named() {
    let pack = Pack::new(&[
        ("actions/a.yaml", &command("a", "pwd", "  cwd: {default: '/{{x | regex_replace(1, 2)}}'}\n  x: {}\n")),
        ("actions/b.yaml", &command("b", "pwd", "  env: {default: {X: '{{st2kv.system.x}}'}}\n")),
        ("actions/c.yaml", &command("c", "pwd", "  env: {default: '{{x}}'}\n  x: {}\n")),
        ("actions/d.yaml", &command("d", "pwd", "  env: {default: {LD_PRELOAD: x, A: b}}\n")),
        ("actions/f.yaml", &command("f", "ls", "  env: {default: {PATH: '{{x}}:/bin'}}\n  x: {}\n")),
        ("actions/g.yaml", &script("g", "  env: {default: {GIT_SSH_COMMAND: '{{x}}'}}\n  x: {}\n")),
        ("actions/g.sh", "#!/bin/sh\n"),
        ("actions/e.yaml", &script("e", "  cwd: {default: '{{action_context.user}}'}\n")),
        ("actions/e.sh", "#!/bin/sh\n"),
    ]);
    let report = pack.import().unwrap();
    for (name, words) in [
        (
            "a",
            "actions/a.yaml:5: cwd, \"/{{x | regex_replace(1, 2)}}\", cannot be computed here (the filter regex_replace)",
        ),
        ("b", "(st2kv.system.x is in StackStorm's datastore, which Bolt does not have); set it in the script"),
        ("c", "env is no map of names and values"),
        ("e", "(action_context is StackStorm's own, which Bolt does not have)"),
        ("f", "env PATH, \"{{x}}:/bin\", would let callers choose what the action runs"),
        ("g", "env GIT_SSH_COMMAND, \"{{x}}\", would let callers choose what the action runs"),
    ] {
        assert!(blocks(&report, name).contains(words), "{name}: {}", blocks(&report, name));
    }
    let action = report.actions.iter().find(|action| action.name == "d").unwrap();
    let said = action.deciding().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(said.contains("the variable \"LD_PRELOAD\" is not set"), "{said}");
}

/// Codes of the findings about an action.
fn codes(report: &Report, name: &str) -> Vec<&'static str> {
    let action = report.actions.iter().find(|action| action.name == name).unwrap();
    action.findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn an_action_that_runs_what_lies_in_a_directory_of_the_caller_is_disabled() {
    let chosen = "  cwd: {default: '{{x}}'}\n  x: {}\n";
    let pack = Pack::new(&[
        ("actions/a.yaml", &command("a", "./run.sh", chosen)),
        ("actions/b.yaml", &command("b", "bash run.sh", "  cwd: {}\n")),
        ("actions/c.yaml", &script("c", chosen)),
        ("actions/c.sh", "#!/bin/sh\nmake install\n"),
        ("actions/d.yaml", &command("d", "ls -l", chosen)),
        ("actions/e.yaml", &command("e", "/opt/run.sh ./file", chosen)),
        ("actions/f.yaml", &command("f", "./run.sh", "  cwd: {default: /opt}\n")),
        ("actions/g.yaml", &script("g", "  cwd: {}\n")),
        ("actions/g.sh", "#!/bin/sh\nls ./data | sort\n"),
    ]);
    let report = pack.import().unwrap();
    for (name, disabled) in
        [("a", true), ("b", true), ("c", true), ("d", false), ("e", false), ("f", false), ("g", false)]
    {
        assert_eq!(codes(&report, name).contains(&"any_command"), disabled, "{name}: {:?}", codes(&report, name));
    }
}

#[test]
fn scripts_that_make_code_of_values_are_named_and_disabled_if_a_value_is_a_command() {
    let python = |name: &str, parameter: &str| {
        format!(
            "name: {name}\nrunner_type: python-script\nentry_point: {name}.py\nparameters: {{{parameter}: {{type: string}}}}\n"
        )
    };
    let class = |line: &str| format!("import os, subprocess\nclass A:\n    def run(self, **given):\n        {line}\n");
    let pack = Pack::new(&[
        ("actions/a.yaml", &script("a", "  x: {type: string}\n")),
        ("actions/a.sh", "#!/bin/sh\neval \"echo $1\"\n"),
        ("actions/b.yaml", &script("b", "  cmd: {type: string}\n")),
        ("actions/b.sh", "#!/bin/sh\nsh -c \"$1\"\n"),
        ("actions/c.yaml", &python("c", "x")),
        ("actions/c.py", &class("os.system('ls ' + given['x'])")),
        ("actions/d.yaml", &python("d", "command")),
        ("actions/d.py", &format!("import shapes_run\n{}", class("shapes_run.run(given['command'])"))),
        ("actions/lib/shapes_run.py", "import subprocess\ndef run(x):\n    subprocess.call(x, shell=True)\n"),
        ("actions/e.yaml", &python("e", "command")),
        ("actions/e.py", &class("subprocess.call(['ls', given['command']])")),
        ("actions/f.yaml", &script("f", "  cmd: {type: string, enum: [ls, pwd]}\n")),
        ("actions/f.sh", "#!/bin/sh\nsh -c \"$1\"\n"),
    ]);
    let report = pack.import().unwrap();
    for (name, named, disabled) in [
        ("a", true, false),
        ("b", true, true),
        ("c", true, false),
        ("d", true, true),
        ("e", false, false),
        ("f", true, false),
    ] {
        let codes = codes(&report, name);
        assert_eq!(codes.contains(&"shell_code"), named, "{name}: {codes:?}");
        assert_eq!(codes.contains(&"any_command"), disabled, "{name}: {codes:?}");
    }
}

#[test]
fn a_positional_argument_of_a_caller_is_no_option() {
    let rest =
        "  x: {type: string, position: 0, default: -a}\n  y: {position: 1, enum: [-b, c]}\n  z: {type: string}\n";
    let pack =
        Pack::new(&[("actions/a.yaml", &script("a", rest)), ("actions/a.sh", "#!/bin/sh\nprintf '<%s>' \"$@\"\n")]);
    pack.import().unwrap();
    let Some(outcome) = pack.run("a", &["y=-b", "z=1"]) else { return };
    assert_eq!(stdout(&outcome), "<--z=1><-a><-b>", "{}", stderr(&outcome));
    let outcome = pack.run("a", &["x=-oProxyCommand=id", "z=1"]).unwrap();
    assert_eq!((outcome.exit.exit_status, stdout(&outcome).as_str()), (Some(1), ""));
    assert!(stderr(&outcome).contains("x must not start with '-'"), "{}", stderr(&outcome));
}

#[test]
fn a_secret_by_its_name_that_is_not_declared_is_named() {
    let action = |name: &str, parameter: &str| script(name, &format!("  {parameter}\n"));
    let pack = Pack::new(&[
        ("actions/a.yaml", &action("a", "password: {type: string}")),
        ("actions/a.sh", "#!/bin/sh\n"),
        ("actions/b.yaml", &action("b", "auth_token: ")),
        ("actions/b.sh", "#!/bin/sh\n"),
        ("actions/c.yaml", &action("c", "token_count: {type: integer}")),
        ("actions/c.sh", "#!/bin/sh\n"),
    ]);
    let report = pack.import().unwrap();
    for (name, named) in [("a", true), ("b", true), ("c", false)] {
        assert_eq!(codes(&report, name).contains(&"undeclared_secret"), named, "{name}: {:?}", codes(&report, name));
    }
}

#[test]
fn metadata_that_is_not_as_it_should_be_is_named() {
    let parameters =
        "  a: {}\n  b: {type: string, enum: }\n  c: {type: string, secret: 'y'}\n  d: {type: string}\n  e:\n";
    let pack = Pack::new(&[("actions/a.yaml", &script("a", parameters)), ("actions/a.sh", "#!/bin/sh\n")]);
    let report = pack.import().unwrap();
    let action = report.actions.iter().find(|action| action.name == "a").unwrap();
    let said = |words: &str| action.findings.iter().filter(|finding| finding.message.contains(words)).count();
    assert_eq!(said("has no type; any value is accepted"), 2, "{action:?}");
    assert_eq!(said("the key enum of b is empty"), 1, "{action:?}");
    assert_eq!(said("secret of c is \"y\"; it is true in Bolt"), 1, "{action:?}");
    assert_eq!(said("the script takes the secret c as an argument"), 1, "{action:?}");
    assert_eq!(said("of d"), 0, "{action:?}");
}

#[test]
fn values_of_the_older_configuration_are_defaults_and_its_secrets_are_dropped() {
    let action = "from st2common.runners.base_action import Action\nimport json\n\
                  class Show(Action):\n    def run(self):\n        print(json.dumps(self.config, sort_keys=True))\n";
    let pack = Pack::new(&[
        ("actions/show.yaml", "name: show\nrunner_type: python-script\nentry_point: show.py\n"),
        ("actions/show.py", action),
        (
            "config.yaml",
            "---\nregion: north\nport: 8080\nratio: 0.5\nloud: false\nhosts: [a, b]\nempty: ''\nunset:\n\
             api_token: canary-1\nDbPassword: canary-2\nsecret_key:\ndb: {host: h, password: canary-3}\napi-key: canary-4\n\
             accounts: [{user: u, pwd: canary-5}]\nproxy: 'http://u:canary-6@h:1/'\nkey: '-----BEGIN PRIVATE KEY-----canary-7'\n",
        ),
    ]);
    fs::remove_file(pack.at("config.schema.yaml")).unwrap();
    let report = pack.import().unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == "old_config"), "{report:?}");
    let schema = fs::read_to_string(pack.temp.path().join("pack/config.schema.yaml")).unwrap();
    assert!(!schema.contains("canary"), "{schema}");
    assert_eq!(schema.matches("secret: true").count(), 8, "{schema}");
    assert!(!pack.temp.path().join("pack/config.yaml").exists(), "its values would travel to every instance");
    let run = |site: &str| {
        let file = pack.temp.path().join("site.yaml");
        fs::write(&file, site).unwrap();
        let executed = execute(&pack.temp.path().join("pack"), "show", &[], Some(&file));
        unless_skipped("show", executed).map(|outcome| stdout(&outcome))
    };
    let Some(by_default) = run("{}\n") else { return };
    let defaults = r#"{"hosts": ["a", "b"], "loud": false, "port": 8080, "ratio": 0.5, "region": "north"}"#;
    assert_eq!(by_default.trim(), defaults);
    let set = run("region: south\napi_token: t0p\nunset: [1]\nempty: x\n").unwrap();
    assert!(set.contains(r#""region": "south""#) && set.contains(r#""port": 8080"#), "{set}");
    assert!(set.contains(r#""api_token": "t0p""#) && set.contains(r#""unset": [1]"#), "{set}");
}

#[test]
fn secrets_that_a_configuration_does_not_declare_are_named() {
    let text = "password: {type: string}\napi-key: {}\ndb: {type: object, properties: {db_pass: {type: string}}}\n\
                token: {type: string, secret: true}\nmode: {type: string, enum: [token]}\nuse_token: {type: boolean}\n";
    let report = Pack::new(&[("config.schema.yaml", text)]).import().unwrap();
    let named: Vec<String> =
        report.findings.iter().filter(|one| one.code == "undeclared_secret").map(ToString::to_string).collect();
    let all = named.join("; ");
    assert_eq!(named.len(), 3, "{all}");
    for words in ["config.schema.yaml:1: password is not declared a secret", "api-key is not", "db_pass is not"] {
        assert!(all.contains(words), "{words}: {all}");
    }
}

#[test]
fn positions_and_defaults_that_published_packs_have_are_accepted_with_a_finding() {
    let parameters = "  a: {type: string, position: 1, required: true}\n  b: {type: integer, position: 3, default: '7'}\n  \
                      c: {type: boolean, position: 2, default: 'True'}\n  d: {type: [string, 'null']}\n  e: {type: integer, default: x}\n";
    let pack = Pack::new(&[
        ("actions/a.yaml", &script("a", parameters)),
        ("actions/a.sh", "#!/bin/sh\nprintf '<%s>' \"$@\"\n"),
    ]);
    let report = pack.import().unwrap();
    let found = codes(&report, "a");
    for code in ["positions", "default_converted", "default_dropped"] {
        assert!(found.contains(&code), "{code}: {found:?}");
    }
    let Some(outcome) = pack.run("a", &["a=x"]) else { return };
    assert_eq!(stdout(&outcome), "<x><1><7>", "{}", stderr(&outcome));
}
