//! Inventories from several sources, as a user of `bolt` meets them.

mod ec2;
mod gate;

use std::fs;
use std::path::{Path, PathBuf};

use bolt_tests::{Bolt, CommandOutput};
use serde_json::Value;

/// A directory with `client.toml`, a cache of its own, and programs and files for it.
struct Desk {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Desk {
    /// Writes `client.toml` with these tables.
    fn new(tables: &str) -> Desk {
        let desk = Desk { dir: tempfile::tempdir().unwrap(), variables: Vec::new() };
        desk.file("client.toml", tables);
        desk
    }

    /// Sets a variable for all commands; without a value, removes it.
    fn set(mut self, name: &str, value: &str) -> Desk {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a program.
    fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.file(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.feed("", arguments)
    }

    /// Runs a command with this text on standard input.
    fn feed(&self, stdin: &str, arguments: &[&str]) -> CommandOutput {
        let mut command = Bolt::new(&self.path().join("client.toml")).command(arguments);
        command.env("XDG_CACHE_HOME", self.path().join("cache")).env_remove("BOLT_INVENTORY");
        for (name, value) in &self.variables {
            match value.as_str() {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        let input = self.file("stdin", stdin);
        CommandOutput::from(command.stdin(fs::File::open(input).unwrap()).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let said = self.run(&[arguments, &["--json"]].concat());
        let value = serde_json::from_str(&said.stdout);
        (said.code, value.unwrap_or_else(|e| panic!("not JSON ({e}): {said:?}")))
    }

    /// Returns the ids that `bolt instances` lists.
    fn ids(&self, arguments: &[&str]) -> Vec<String> {
        let (code, value) = self.json(&[&["instances"], arguments].concat());
        assert_eq!(code, 0, "{value}");
        let all = value["instances"].as_array().unwrap();
        all.iter().map(|one| one["facts"]["id"].as_str().unwrap().to_owned()).collect()
    }
}

const FILE: &str = "[[instances]]\nid = \"i-1\"\naddress = \"10.0.0.1:8443\"\nregion = \"r1\"\n";

#[test]
fn several_sources_combine_and_one_that_fails_is_an_error_unless_partial_is_accepted() {
    let desk = Desk::new(
        r#"
[[inventory]]
kind = "file"
path = "hosts.toml"

[[inventory]]
kind = "exec"
name = "cmdb"
command = ["./cmdb", "two words"]
cache = "0s"

[[inventory]]
kind = "exec"
name = "broken"
command = ["./broken"]
"#,
    );
    desk.file("hosts.toml", FILE);
    desk.program(
        "cmdb",
        r#"test "$1" = 'two words' && echo '{"instances": [{"id": "i-2", "address": "h:1"}, {"id": "i-1", "zone": "z"}]}'"#,
    );
    desk.program("broken", "echo 'login expired' >&2; exit 4");
    let said = desk.run(&["instances"]);
    assert_eq!((said.code, said.stdout.as_str()), (5, ""), "{said:?}");
    let message =
        "bolt: the inventory is incomplete: broken: ended with status 4\n    login expired\n  hint: --partial";
    assert!(said.stderr.starts_with(message), "{said:?}");
    let said = desk.run(&["instances", "--partial"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("i-1  10.0.0.1:8443  r1      z") && said.stdout.contains("i-2"), "{said:?}");
    assert!(said.stderr.contains("missing in the inventory: broken: ended with status 4"), "{said:?}");
    let (_, value) = desk.json(&["instances", "--partial"]);
    assert_eq!(value["missing"][0]["source"], "broken", "{value}");
    // A run is no exception, and nothing is done.
    assert_eq!(desk.run(&["run", "probe.hello", "--everywhere"]).code, 5);
    // Mended, it needs no --partial; the sources are named with their place.
    desk.program("broken", "echo '{\"instances\": []}'");
    assert_eq!(desk.ids(&[]), ["i-1", "i-2"]);
    let shown = desk.run(&["config", "show"]).stdout;
    for row in ["inventory file", "inventory cmdb", "inventory broken", "client.toml:2", "client.toml:6"] {
        assert!(shown.contains(row), "{row}: {shown}");
    }
    assert!(!desk.run(&["config", "show"]).stderr.contains("missing: inventory"));
}

#[test]
fn sources_that_contradict_each_other_are_an_error_that_names_both() {
    let tables =
        "[[inventory]]\nkind = \"file\"\npath = \"a.toml\"\n[[inventory]]\nkind = \"file\"\npath = \"b.toml\"\n";
    let desk = Desk::new(tables);
    desk.file("a.toml", FILE);
    desk.file("b.toml", &FILE.replace("10.0.0.1", "10.0.0.2"));
    for arguments in [&["instances"][..], &["instances", "--partial"]] {
        let said = desk.run(arguments);
        let message = "i-1 has address \"10.0.0.1:8443\" in file 1 and \"10.0.0.2:8443\" in file 2";
        assert!(said.code == 5 && said.stderr.contains(message), "{said:?}");
    }
    desk.file("b.toml", &FILE.replace("i-1", "i-2"));
    let said = desk.run(&["instances"]);
    assert!(
        said.code == 0 && said.stderr.contains("2 instances have the address 10.0.0.1:8443 (i-1, i-2)"),
        "{said:?}"
    );
}

#[test]
fn an_answer_is_cached_for_seconds_and_refreshed_on_request() {
    let table = |argument: &str| {
        format!("[[inventory]]\nkind = \"exec\"\ncommand = [\"./count\", \"{argument}\"]\ncache = \"10m\"\n")
    };
    let desk = Desk::new(&table("a"));
    desk.program("count", r#"echo x >>count.log; echo '{"instances": [{"id": "i-1", "address": "h:1"}]}'"#);
    let asked = || fs::read_to_string(desk.path().join("count.log")).unwrap().lines().count();
    for (arguments, times) in [(&[][..], 1), (&[], 1), (&["--refresh"], 2), (&[], 2)] {
        assert_eq!(desk.ids(arguments), ["i-1"]);
        assert_eq!(asked(), times, "{arguments:?}");
    }
    desk.file("client.toml", &table("b"));
    assert_eq!(desk.ids(&[]), ["i-1"]);
    assert_eq!(asked(), 3, "another configuration has another cache");
    // Completion reads the cache, and does not run the program.
    let mut command = std::process::Command::new(bolt_client::local::binary("bolt").unwrap());
    command.args(["--", "bolt", "instances", "--on", "i"]).env("BOLT_COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", "3").env("BOLT_CLIENT_CONFIG", desk.path().join("client.toml"));
    // The AWS environment is part of the cache's key.
    command.envs(bolt_tests::bucket::credentials());
    let output = command.env("XDG_CACHE_HOME", desk.path().join("cache")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "i-1");
    assert_eq!(asked(), 3);
}

#[test]
fn the_schema_is_printed_as_it_is_published() {
    let said = Desk::new("").run(&["inventory", "schema"]);
    let published =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../client/inventory.schema.json")).unwrap();
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!((said.code, value(&said.stdout)), (0, value(&published)));
}

#[test]
fn a_hundred_thousand_instances_are_listed_within_bounds() {
    let desk = Desk::new("[[inventory]]\nkind = \"file\"\npath = \"hosts.json\"\n");
    let entry =
        |n: usize| format!("{{\"id\": \"i-{n}\", \"address\": \"h{n}.example:8443\", \"zone\": \"z{}\"}}", n % 3);
    let all: Vec<String> = (0..100_000).map(entry).collect();
    desk.file("hosts.json", &format!("{{\"instances\": [{}]}}", all.join(",")));
    assert_eq!(desk.ids(&["--on", "i-99999,i-7"]), ["i-7", "i-99999"]);
}

/// Ten instances in two regions.
fn ten() -> Desk {
    let desk = Desk::new("inventory = \"hosts.toml\"\n");
    let entry = |n: usize| {
        let (region, zone) = if n < 4 { ("r1", "r1a") } else { ("r2", ["r2a", "r2b"][n % 2]) };
        format!("[[instances]]\nid = \"i-{n}\"\naddress = \"h{n}:1\"\nregion = \"{region}\"\nzone = \"{zone}\"\n")
    };
    desk.file("hosts.toml", &(0..10).map(entry).collect::<String>());
    desk
}

#[test]
fn instances_are_chosen_by_standard_input_exclusion_and_sample() {
    let desk = ten();
    let said = desk.feed("i-7 i-1\n\n i-8*\n", &["instances", "--on", "-"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.stderr, "3 instances: 1 r1 (1 r1a), 2 r2 (1 r2a, 1 r2b)\n");
    for (stdin, message) in [
        ("", "standard input names no instance"),
        ("i-1\n-rf\n", "standard input, line 2: "),
        ("i-1\ni-99\n", "the inventory has no instance i-99"),
    ] {
        let said = desk.feed(stdin, &["run", "probe.hello", "--on", "-"]);
        assert!(said.code == 2 && said.stderr.contains(message), "{said:?}");
    }
    let said = desk.feed("i-1\n", &["run", "probe.hello", "--on", "-", "--params-file", "-"]);
    assert!(said.code == 2 && said.stderr.contains("both read standard input"), "{said:?}");
    assert_eq!(desk.ids(&["--region", "r1", "--exclude", "i-0,i-3"]), ["i-1", "i-2"]);
    let said = desk.run(&["instances", "--exclude", "i-77"]);
    assert!(said.code == 2 && said.stderr.contains("no instance i-77 (--exclude)"), "{said:?}");
    let said = desk.run(&["instances", "--exclude", "*"]);
    assert!(said.code == 2 && said.stderr.contains("none of the 10 instances"), "{said:?}");
    // The printed seed chooses the same sample again.
    let said = desk.run(&["instances", "--sample", "3", "--json"]);
    let seed = said.stderr.split_once("--seed ").unwrap().1.split(' ').next().unwrap();
    let value: Value = serde_json::from_str(&said.stdout).unwrap();
    let chosen: Vec<&str> =
        value["instances"].as_array().unwrap().iter().map(|one| one["facts"]["id"].as_str().unwrap()).collect();
    assert_eq!(chosen.len(), 3);
    assert_eq!(desk.ids(&["--sample", "3", "--seed", seed]), chosen);
    let counted: u64 = value["counts"].as_array().unwrap().iter().map(|one| one["instances"].as_u64().unwrap()).sum();
    assert_eq!(counted, 3, "{value}");
    for wrong in [&["--sample", "0"][..], &["--seed", "1"]] {
        assert_eq!(desk.run(&[&["instances"], wrong].concat()).code, 2, "{wrong:?}");
    }
    // Options that only reduce do not choose: nothing is run by mistake.
    for reducing in [&["--sample", "1"][..], &["--exclude", "i-1"]] {
        let said = desk.run(&[&["run", "probe.hello", "--yes"], reducing].concat());
        assert!(
            said.code == 2 && said.stderr.contains("needs to know which instances: the inventory has 10"),
            "{said:?}"
        );
    }
}
