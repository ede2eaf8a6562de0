//! Everyday work of publishers and operators: configuration, certificates, grants, completion, and the journal with reasons.

use std::process::{Command, Output};

use bolt_client::local::binary;
use bolt_tests::{Bolt, CommandOutput, PackSource, World, spec};

use crate::calls::caller;

/// A `bolt` whose client.toml names the world's repository and keys.
fn configured(world: &World) -> Bolt {
    let bolt = world.bolt(&[]);
    let path = world.path().join("client.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[repository]\nurl = \"repo\"\nkeys = \"keys\"\n")).unwrap();
    bolt
}

fn done(said: CommandOutput) -> CommandOutput {
    assert_eq!(said.code, 0, "{said:?}");
    said
}

#[test]
fn a_publisher_s_day_without_repository_flags_from_publish_to_unpublish() {
    let world = World::empty();
    let bolt = configured(&world);
    let sources = world.scratch("sources");
    let publish = |version: &str, channel: &str, reason: &str| {
        let directory = PackSource::probe().version(version).write(&sources);
        let directory = directory.display().to_string();
        done(bolt.run(["repo", "publish", &directory, "--channel", channel, "--reason", reason]))
    };
    publish("1.0.0", "dev", "first version");
    let promote =
        |more: &[&str]| bolt.run([&["repo", "promote", "probe", "--from", "dev", "--to", "prod"], more].concat());
    done(promote(&["--reason", "soaked for a day", "--new-channel"]));
    let unrecorded = "the reason was not recorded: nothing changed";
    assert!(done(promote(&["--reason", "again"])).stderr.contains(unrecorded));
    assert!(publish("1.0.0", "dev", "again").stderr.contains(unrecorded));
    assert!(!done(promote(&[])).stderr.contains(unrecorded));
    let changed = PackSource::probe().version("1.1.0").action("new", "bolt: {class: remediation}", "#!/bin/sh\n");
    let directory = changed.write(&sources).display().to_string();
    done(bolt.run(["repo", "publish", &directory, "--channel", "dev"]));

    let log = done(bolt.run(["repo", "log"])).stdout;
    assert!(log.contains("reason: first version") && log.contains("reason: soaked for a day"), "{log}");
    let (code, status) = bolt.json(["repo", "status"]);
    assert_eq!((code, &status["verified"]), (0, &serde_json::json!(true)), "the keys' directory pins the root");

    let diff = done(bolt.run(["pack", "diff", "probe", "prod", "dev"])).stdout;
    for part in
        ["1.0.0 (channel prod) -> 1.1.0 (channel dev)", "action new added", "class: remediation", "+version: 1.1.0"]
    {
        assert!(diff.contains(part), "{part}: {diff}");
    }
    let stat = done(bolt.run(["pack", "diff", "probe", "1.0.0", &directory, "--stat"])).stdout;
    assert!(stat.contains("file actions/new.sh added") && !stat.contains("+version"), "{stat}");

    done(promote(&["--percent", "10"]));
    let during = done(bolt.run(["pack", "diff", "probe", "prod", "dev"]));
    assert!(during.stdout.contains("1.1.0 (channel prod) -> 1.1.0 (channel dev)"), "{during:?}");
    let rollout =
        "channel prod is in a rollout (1.1.0 10%, then 1.0.0): 1.1.0 was compared, and the other instances have 1.0.0";
    assert!(during.stdout.contains("no differences") && during.stderr.contains(rollout), "{during:?}");
    assert!(during.stderr.contains("`bolt pack diff probe 1.0.0 1.1.0`"), "{during:?}");

    let held = bolt.run(["repo", "unpublish", "probe", "1.0.0"]);
    assert!(held.code == 2 && held.stderr.contains("held by channel prod"), "{held:?}");
    done(promote(&[]));
    let gone = done(bolt.run(["repo", "unpublish", "probe", "1.0.0", "--reason", "deletes too much"]));
    assert!(gone.stdout.contains("no longer published") && gone.stderr.contains("bolt repo prune"), "{gone:?}");
    assert!(gone.stderr.contains("Z on, or later if the repository changes"), "{gone:?}");
    let pruned = done(bolt.run(["repo", "prune"])).stdout;
    assert!(pruned.contains("more files can be removed from 20"), "{pruned}");
    let changed = PackSource::probe().version("1.0.0").action("other", "bolt: {class: remediation}", "#!/bin/sh\n");
    let changed = changed.write(&sources).display().to_string();
    let removed = bolt.run(["repo", "publish", &changed, "--channel", "test"]);
    assert!(removed.code == 2 && removed.stderr.contains("never published again with other content"), "{removed:?}");
    let refused = bolt.run(["repo", "promote", "probe", "1.0.0", "--to", "test"]);
    assert!(refused.code == 2 && refused.stderr.contains("is not published"), "{refused:?}");
    let log = done(bolt.run(["repo", "log"])).stdout;
    assert!(log.lines().last().unwrap().contains("unpublish") && log.contains("reason: deletes too much"), "{log}");
}

/// No file may be larger than 128 KiB, so that the archive of the pack cannot be written.
#[test]
fn a_publication_that_no_build_could_save_is_refused_before_the_build() {
    let world = World::empty();
    let bolt = configured(&world);
    let sources = world.scratch("sources");
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:08x}", state >> 32)
    };
    let large: String = (0..100_000).map(|_| random()).collect();
    let source = |version: &str| {
        let pack = PackSource::probe().version(version).file("data.txt", &large, 0o644);
        pack.write(&sources).display().to_string()
    };
    let publish = |version: &str| {
        let whole = bolt.command(["repo", "publish", &source(version), "--channel", "dev"]);
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f 256; exec \"$0\" \"$@\""]).arg(whole.get_program()).args(whole.get_args());
        for (name, value) in whole.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        CommandOutput::from(limited.output().unwrap())
    };
    done(bolt.run(["repo", "publish", &source("1.1.0"), "--channel", "dev"]));
    let built = publish("1.2.0");
    assert!(![0, 2].contains(&built.code), "it is built, and cannot be: {built:?}");
    let lower = publish("1.0.0");
    assert!(lower.code == 2 && lower.stderr.contains("which is newer than 1.0.0"), "{lower:?}");

    let team = world.scratch("dba").display().to_string();
    done(bolt.run(["repo", "delegate", "dba", "probe", "--new-key", &team, "--plain-keys"]));
    let foreign = publish("1.2.0");
    assert!(foreign.stderr.contains("team-dba is signed with 1 of its keys"), "{foreign:?}");
}

#[test]
fn an_archive_that_was_replaced_in_the_repository_is_not_compared() {
    let world = World::empty();
    let bolt = configured(&world);
    let directory = PackSource::probe().write(&world.scratch("sources")).display().to_string();
    done(bolt.run(["repo", "publish", &directory, "--channel", "dev"]));
    let targets = std::fs::read_dir(world.site.repository().join("targets")).unwrap();
    let packs = targets.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().ends_with(".packs"));
    let archive = packs.unwrap().join("probe/1.0.0.tar.gz");
    let mut bytes = std::fs::read(&archive).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let refused = bolt.run(["pack", "diff", "probe", "dev", &directory]);
    assert!(refused.code == 5 && refused.stderr.contains("damaged or missing"), "{refused:?}");
}

#[test]
fn config_show_names_the_origin_of_each_value_and_what_is_missing() {
    let world = World::empty();
    let bolt = configured(&world);
    let show = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = bolt.command([&["config", "show"], arguments].concat());
        CommandOutput::from(command.envs(variables.iter().copied()).output().unwrap())
    };
    let text = done(show(&[("BOLT_CA", "/other/ca.pem"), ("BOLT_KEY_PASSPHRASE", "canary3b9f")], &[]));
    assert!(text.stdout.contains("$BOLT_CA") && text.stdout.contains("client.toml:1"), "{text:?}");
    assert!(
        text.stderr.contains("cannot open /other/ca.pem") && text.stderr.contains("BOLT_KEY_PASSPHRASE is set"),
        "{text:?}"
    );
    assert!(!format!("{text:?}").contains("canary3b9f"), "{text:?}");
    let json = done(show(&[("BOLT_JSON", "1")], &["--cert", "flag.pem"]));
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["settings"][0]["from"], "--cert", "{value}");
    let empty =
        Command::new(binary("bolt").unwrap()).args(["config", "show"]).env_clear().env("HOME", "/nonexistent").output();
    let empty = done(CommandOutput::from(empty.unwrap()));
    assert!(empty.stderr.contains("missing: client certificate") && empty.stderr.contains("BOLT_CERT"), "{empty:?}");
}

#[test]
fn a_repository_that_a_flag_names_is_not_used_with_the_keys_of_another() {
    let world = World::empty();
    let bolt = configured(&world);
    let other = world.path().join("other").display().to_string();
    let refused = bolt.run(["repo", "refresh", "--repo", &other]);
    assert!(
        refused.code == 2 && refused.stderr.contains("no directory of repository keys is configured"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("BOLT_REPO_KEYS"), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_by_request_and_its_renewal_are_accepted_by_an_agent() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let at = |path: &str| world.path().join(path).display().to_string();
    let principal = bolt_client::local::OPERATOR;
    done(bolt.run(["pki", "csr", "client", principal, "--out", &at("laptop")]));
    let request = at("laptop/operator.csr");
    let unconfirmed = bolt.run(["pki", "sign", &request, "--ca", &at("pki")]);
    assert!(unconfirmed.code == 2 && unconfirmed.stderr.contains("--name"), "{unconfirmed:?}");
    let other = bolt.run(["pki", "sign", &request, "--ca", &at("pki"), "--name", "spiffe://bolt.local/root"]);
    assert!(other.code == 2 && other.stderr.contains(principal), "{other:?}");
    done(bolt.run(["pki", "sign", &request, "--ca", &at("pki"), "--name", principal, "--days", "3"]));
    let (certificate, key) = (at("laptop/operator.pem"), at("laptop/operator.key"));
    let run = || bolt.run(["--cert", &certificate, "--key", &key, "instances", "--check"]);
    let soon = done(run());
    assert_eq!(soon.stderr.matches("expires soon").count(), 1, "{soon:?}");
    done(bolt.run(["pki", "renew", &certificate, "--ca", &at("pki/ca.pem"), "--days", "365"]));
    let renewed = done(run());
    assert!(!renewed.stderr.contains("expires soon"), "{renewed:?}");
    let shown = done(bolt.run(["pki", "show", &certificate])).stdout;
    assert!(shown.contains(principal) && shown.contains("clientAuth") && shown.contains("expires in 36"), "{shown}");
}

#[tokio::test]
async fn can_i_asks_the_instances_and_groups_their_answers() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let yes = done(bolt.run(["can-i", "run", "probe.hello"]));
    assert!(yes.stdout.contains("yes") && yes.stdout.contains("i-1") && yes.stdout.contains("1.0.0"), "{yes:?}");
    let absent = bolt.run(["can-i", "run", "nosuch.action"]);
    let is_told = absent.stdout.contains("no active version has this action") && !absent.stdout.contains("yes");
    assert!(absent.code == 4 && is_told, "{absent:?}");
    let guest = caller(&world, "guest");
    let (certificate, key) = (guest.certificate.display().to_string(), guest.key.display().to_string());
    let no = bolt.run(["--cert", &certificate, "--key", &key, "can-i", "run", "probe.hello"]);
    assert!(no.code == 4 && no.stdout.contains("no ") && no.stdout.contains("i-1"), "{no:?}");
}

/// Answers a completion of `words`, of which the last one is being typed.
fn complete(world: &World, words: &[&str]) -> Vec<String> {
    let client = world.site.client_config();
    let output = Command::new(binary("bolt").unwrap())
        .args(["--", "bolt"])
        .args(words)
        .env("BOLT_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_IFS", "\n")
        .env("BOLT_CLIENT_CONFIG", client)
        .env("XDG_CACHE_HOME", world.path().join("cache"))
        .output();
    let Output { stdout, .. } = output.unwrap();
    String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn shells_complete_actions_parameters_instances_states_and_channels() {
    let world = World::with_probe();
    let mut spec = spec("i-1");
    (spec.facts.region, spec.facts.zone) = ("us-east-1".to_owned(), "us-east-1a".to_owned());
    let agent = world.start(&spec);
    world.bolt(&[&agent]);
    assert!(complete(&world, &["run", "probe.h"]).contains(&"probe.hello".to_owned()));
    assert_eq!(complete(&world, &["run", "probe.typed", "co"]), ["count="]);
    assert_eq!(complete(&world, &["run", "probe.hello", "--on", "i"]), ["i-1"]);
    assert_eq!(complete(&world, &["ps", "--state", "succ"]), ["succeeded"]);
    assert_eq!(complete(&world, &["ps", "--zone", "us-"]), ["us-east-1a"]);
    assert_eq!(complete(&world, &["run", "probe.hello", "--region", "us-"]), ["us-east-1"]);
    assert_eq!(complete(&world, &["repo", "widen", "probe", "--channel", "p"]), ["prod"]);
    // From the cache, when no instance answers.
    drop(agent);
    assert!(complete(&world, &["run", "probe.f"]).contains(&"probe.fail".to_owned()));
    let cached = std::fs::read_dir(world.path().join("cache/bolt")).unwrap().count();
    assert_eq!(cached, 1);
}

#[test]
fn a_command_that_bolt_does_not_have_is_a_program_on_the_path() {
    let world = World::empty();
    let directory = world.scratch("programs");
    let program = directory.join("bolt-frobnicate");
    std::fs::write(&program, "#!/bin/sh\necho \"frobnicate: $*\"\nexit 9\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(binary("bolt").unwrap()).args(arguments).env("PATH", &directory).output();
        CommandOutput::from(output.unwrap())
    };
    let said = run(&["frobnicate", "--all", "x"]);
    assert_eq!((said.code, said.stdout.as_str()), (9, "frobnicate: --all x\n"), "{said:?}");
    let unknown = run(&["frobnicat"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("frobnicat"), "{unknown:?}");
    let below = run(&["repo", "frobnicate"]);
    assert!(below.code == 2 && below.stdout.is_empty(), "only commands of bolt itself: {below:?}");
}

#[test]
fn man_shows_the_page_of_a_command_also_without_a_man_program() {
    let world = World::empty();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary("bolt").unwrap());
        CommandOutput::from(command.args(arguments).env("PATH", world.scratch("empty")).output().unwrap())
    };
    let page = done(run(&["man", "repo", "promote"])).stdout;
    assert!(page.contains("--reason") && page.contains("Examples:"), "{page}");
    let unknown = run(&["man", "repo", "fly"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("no command fly"), "{unknown:?}");
}
