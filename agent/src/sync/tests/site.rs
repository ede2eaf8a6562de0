//! A site's configuration of a pack: what fits is in force, and what does not fit changes nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::archive::{file, pack};
use super::{Bench, tree};

const SCHEMA: &str = "\
data: {type: string, required: true, pattern: '^/'}
count: {type: integer, minimum: 1, maximum: 9, default: 3}
mode: {type: string, enum: [fast, safe], default: safe}
nodes: {type: array, items: {type: object, properties: {port: {type: integer}}, additionalProperties: false}}
token: {type: string, secret: true}
";

/// demo 1.0.0 with a schema, configured.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.offer("demo", "1.0.0", &[pack("demo", "1.0.0"), vec![file("config.schema.yaml", SCHEMA)]].concat());
    bench.repository.publish();
    write(&bench, "data: /srv\ntoken: canary-of-the-old\n", 0o640);
    bench.poll().unwrap();
    assert!(bench.status().failed.is_empty(), "{:?}", bench.status());
    bench
}

fn write(bench: &Bench, text: impl AsRef<[u8]>, mode: u32) {
    let path = bench.temp.path().join("etc/demo.yaml");
    let _ = fs::remove_file(&path);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
}

/// Both files of the active version, and the same in the place where earlier launchers look for them.
fn in_force(bench: &Bench) -> (String, String) {
    let read = |directory: &str, name: &str| fs::read_to_string(bench.store().join(directory).join(name)).unwrap();
    let files = |directory| (read(directory, "config.json"), read(directory, "config.secret.json"));
    assert_eq!(files("demo/current/.bolt"), files("demo"));
    files("demo")
}

fn refused(bench: &Bench, words: &str) {
    let before = in_force(bench);
    bench.poll().unwrap();
    let status = bench.status();
    let failed = &status.failed.first().unwrap_or_else(|| panic!("it was taken: {words}")).1;
    assert_eq!((failed.step.as_str(), bench.current("demo").as_deref()), ("configure", Some("1.0.0")));
    assert!(failed.message.contains(words), "{:?} does not say {words:?}", failed.message);
    assert!(failed.message.contains("demo.yaml") && !failed.message.contains(char::is_control), "{failed:?}");
    assert!(!failed.message.contains("canary"), "{failed:?}");
    assert!(failed.message.ends_with("; the previous configuration remains in effect"), "{failed:?}");
    assert_eq!(in_force(bench), before, "{words}");
}

#[test]
fn each_thing_that_does_not_fit_is_named_and_the_old_stays_in_force() {
    let bench = bench();
    for (text, words) in [
        ("count: 4\n", "data must be given"),
        ("data: srv\n", "data must"),
        ("data: [/srv]\n", "data must be a string"),
        ("data: /srv\ncount: many\n", "count must be an integer"),
        ("data: /srv\ncount: 10\n", "count must be at most 9"),
        ("data: /srv\nmode: quick\n", "mode must be one of"),
        ("data: /srv\nnodes: [{port: x}]\n", "port"),
        ("data: /srv\nnodes: [{prot: 1}]\n", "prot"),
        ("data: /srv\ntoken: [canary]\n", "token must be a string"),
        ("data: /srv\ndatum: canary\n", "datum is not in config.schema.yaml, which has"),
        ("data: /srv\ndata: /srv\n", "line 2, column 1: duplicate key \"data\", first in line 1"),
        ("data: /srv\ncount: 012\n", "line 2, column 8: count: a number that begins with 0"),
        ("data: /srv\ntoken: !vault |\n  $ANSIBLE_VAULT;canary\n", "line 2, column 8: token: a tag"),
        // Passwords that YAML takes for something of its own.
        ("data: /srv\ntoken: !canary\n", "line 2, column 8: token: a tag"),
        ("data: /srv\ntoken: *canary\n", "not YAML"),
        ("data: /srv\ntoken: %canary\n", "not YAML"),
        ("data: /srv\ntoken: \"canary\n", "not YAML"),
        ("data: /srv\ntoken: canary: x\n", "not YAML"),
        ("data: /srv\ntoken: [canary\n", "not YAML"),
        ("data: [\n", "line "),
        ("- data\n", "it must be a map of names to values"),
        ("data\n", "it must be a map of names to values"),
        ("data: &a /srv\ntoken: !!binary canary\n", ""),
    ] {
        write(&bench, text, 0o640);
        refused(&bench, words);
    }
    write(&bench, b"data: /srv\xff\n", 0o640);
    refused(&bench, "it is not UTF-8");
    write(&bench, format!("data: /srv\n# {}\n", "x".repeat(300 << 10)), 0o640);
    refused(&bench, "larger than");
    // Only the secret part is too large: the open part is not touched either.
    write(&bench, format!("data: /other\ntoken: {}\n", "x".repeat(70 << 10)), 0o640);
    refused(&bench, "at most 65536 are allowed");
}

#[test]
fn a_file_that_others_could_change_or_read_is_not_used() {
    let bench = bench();
    for mode in [0o662, 0o626, 0o646] {
        write(&bench, "data: /other\n", mode);
        refused(&bench, "must belong to root and not be writable by group or others");
    }
    write(&bench, "data: /other\ntoken: canary\n", 0o644);
    refused(&bench, "all users can read it");
    let path = bench.temp.path().join("etc/demo.yaml");
    if nix::unistd::geteuid().is_root() {
        write(&bench, "data: /other\n", 0o640);
        std::os::unix::fs::chown(&path, Some(64199), None).unwrap();
        refused(&bench, "owner 64199");
    }
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    refused(&bench, "it is not a regular file");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&bench, "it is not a regular file");
}

#[test]
fn a_new_version_is_configured_by_its_own_schema() {
    let mut bench = bench();
    let schema = SCHEMA.replace("count:", "amount:");
    bench.offer("demo", "1.1.0", &[pack("demo", "1.1.0"), vec![file("config.schema.yaml", schema)]].concat());
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
    assert!(in_force(&bench).0.contains("\"amount\":3"), "{:?}", in_force(&bench));
}

#[test]
fn a_version_whose_configuration_does_not_fit_is_not_activated() {
    let mut bench = bench();
    let before = (tree(&bench.store().join("demo")), in_force(&bench));
    let schema = format!("{SCHEMA}owner: {{type: string, required: true}}\n");
    bench.offer("demo", "1.1.0", &[pack("demo", "1.1.0"), vec![file("config.schema.yaml", schema)]].concat());
    bench.repository.publish();
    let failed = bench.expect_failure("configure", "demo.yaml: owner must be given");
    assert_eq!(failed.version.map(|v| v.to_string()).as_deref(), Some("1.1.0"));
    assert!(!failed.message.contains("in effect"), "it is not about the active version: {}", failed.message);
    bench.idle();
    assert_eq!((tree(&bench.store().join("demo")), in_force(&bench)), before);
    // Another wrong file is tried at once; a right one is activated at once.
    write(&bench, "data: /srv\nowner: [me]\n", 0o640);
    bench.due().unwrap();
    let failed = bench.status().failed[0].1.clone();
    assert!(failed.message.contains("owner must be a string") && failed.attempts == 2, "{failed:?}");
    write(&bench, "data: /srv\nowner: me\n", 0o640);
    bench.due().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"), "{:?}", bench.status());
    let active = fs::read_to_string(bench.store().join("demo/current/.bolt/config.json")).unwrap();
    assert!(active.contains("\"owner\":\"me\""), "{active}");
    assert!(!bench.store().join("demo/current/.bolt/config.secret.json").exists());
}

/// A sync that ends between the move of a version and the change of `current`.
#[test]
fn each_version_keeps_the_configuration_that_was_checked_against_its_schema() {
    let mut bench = bench();
    let before = in_force(&bench);
    let schema = SCHEMA.replace("count:", "amount:");
    bench.offer("demo", "1.1.0", &[pack("demo", "1.1.0"), vec![file("config.schema.yaml", schema)]].concat());
    bench.repository.publish();
    let in_the_way = bench.store().join("demo/.current.new");
    fs::create_dir(&in_the_way).unwrap();
    bench.poll().unwrap();
    assert_eq!(bench.status().failed[0].1.step, "activate");
    let moved = bench.store().join("demo");
    let moved = fs::read_dir(moved).unwrap().map(|entry| entry.unwrap().path());
    let moved = moved.into_iter().find(|path| path.display().to_string().contains("/1.1.0-")).unwrap();
    assert!(fs::read_to_string(moved.join(".bolt/config.json")).unwrap().contains("\"amount\":3"));
    assert_eq!(in_force(&bench), before);
    fs::remove_dir(&in_the_way).unwrap();
    write(&bench, "data: /later\namount: 4\n", 0o640);
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"), "{:?}", bench.status());
    let open = fs::read_to_string(moved.join(".bolt/config.json")).unwrap();
    assert!(open.contains("\"amount\":4") && !moved.join(".bolt/config.secret.json").exists(), "{open}");
}

#[test]
fn site_configuration_is_checked_and_written_with_defaults() {
    let mut bench = Bench::new();
    let schema = "data: {type: string, required: true}\nkeep: {type: integer, default: 3}\n";
    let items = [pack("demo", "1.0.0"), vec![file("config.schema.yaml", schema)]].concat();
    bench.offer("demo", "1.0.0", &items);
    bench.repository.publish();
    let (site, written) = (bench.temp.path().join("etc/demo.yaml"), bench.store().join("demo/config.json"));
    bench.poll().unwrap();
    assert_eq!(bench.current("demo"), None, "it would run unconfigured");
    let failed = &bench.status().failed[0].1;
    assert!(failed.step == "configure" && failed.message.contains("data must be given"), "{failed:?}");
    fs::write(&site, "data: /srv\n").unwrap();
    bench.poll().unwrap();
    assert!(bench.status().failed.is_empty());
    assert_eq!(fs::read_to_string(&written).unwrap(), "{\"data\":\"/srv\",\"keep\":3}");
    assert_eq!(fs::metadata(&written).unwrap().mode() & 0o777, 0o644);
    for wrong in ["data: [1]\n", "data: /x\nother: 1\n", "data: /x\ndata: /y\n", "- a\n", "data: ["] {
        fs::write(&site, wrong).unwrap();
        bench.poll().unwrap();
        assert_eq!(bench.status().failed.len(), 1, "{wrong}");
        assert_eq!(fs::read_to_string(&written).unwrap(), "{\"data\":\"/srv\",\"keep\":3}", "{wrong}");
    }
}

#[test]
fn secret_configuration_is_for_its_owner_and_not_in_messages() {
    let mut bench = Bench::new();
    let schema = "token: {type: string, secret: true}\nwhere: {type: string, default: here}\n";
    let items = [pack("demo", "1.0.0"), vec![file("config.schema.yaml", schema)]];
    bench.offer("demo", "1.0.0", &items.concat());
    bench.repository.publish();
    let site = bench.temp.path().join("etc/demo.yaml");
    fs::write(&site, "token: canary\n").unwrap();
    bench.poll().unwrap();
    let failed = &bench.status().failed[0].1;
    assert!(failed.message.contains("all users can read it") && !failed.message.contains("canary"), "{failed:?}");
    fs::set_permissions(&site, fs::Permissions::from_mode(0o640)).unwrap();
    bench.poll().unwrap();
    let (open, secret) = (bench.store().join("demo/config.json"), bench.store().join("demo/config.secret.json"));
    assert_eq!(fs::read_to_string(&open).unwrap(), "{\"where\":\"here\"}");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "{\"token\":\"canary\"}");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&site, "token: [canary]\n").unwrap();
    bench.poll().unwrap();
    assert!(!format!("{:?}", bench.status()).contains("canary"));
    fs::write(&site, "where: there\n").unwrap();
    bench.poll().unwrap();
    assert!(!secret.exists() && fs::read_to_string(&open).unwrap().contains("there"));
}
