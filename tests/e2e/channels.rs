//! A pack on its way through the stages, by the real command and over real agents: published, tested, given to some, to all, and
//! taken back. Where the repository is does not matter to the story.

use std::path::Path;

use bolt_client::local::LocalAgent;
use bolt_tests::{Bolt, CommandOutput, PackSource, World, spec};
use packs_schema::base::name::{InstanceId, PackName};
use packs_schema::delivery::cohort::cohort_of;

use crate::calls::until;

/// A fleet and the repository that it follows.
pub(crate) struct Stages<'a> {
    pub(crate) world: &'a World,
    pub(crate) test: Vec<LocalAgent>,
    pub(crate) prod: Vec<LocalAgent>,
    /// Value of `--repo`.
    pub(crate) repository: String,
    pub(crate) bolt: Bolt,
}

impl<'a> Stages<'a> {
    /// Two agents of `test` and six of `prod`, which follow the world's own repository.
    pub(crate) fn new(world: &'a World) -> Stages<'a> {
        let start = |id: String, channel: &str| {
            world.start(&spec(&id).set("repository", "poll", "1s").set("repository", "channel", channel))
        };
        let test: Vec<LocalAgent> = (1..=2).map(|n| start(format!("t-{n}"), "test")).collect();
        let prod: Vec<LocalAgent> = (1..=6).map(|n| start(format!("p-{n}"), "prod")).collect();
        let bolt = world.bolt(&test.iter().chain(&prod).collect::<Vec<_>>());
        let repository = world.repository().display().to_string();
        Stages { world, test, prod, repository, bolt }
    }

    fn try_repo(&self, command: &[&str]) -> CommandOutput {
        let keys = self.world.site.keys().display().to_string();
        self.bolt.run([&["repo"], command, &["--repo", &self.repository, "--keys", &keys]].concat())
    }

    fn repo(&self, command: &[&str]) -> CommandOutput {
        let said = self.try_repo(command);
        assert_eq!(said.code, 0, "{command:?}: {said:?}");
        said
    }

    fn publish(&self, version: &str, channel: &str) {
        let pack = PackSource::probe().version(version).write(&self.world.scratch("sources"));
        self.repo(&["publish", &pack.display().to_string(), "--channel", channel]);
    }

    /// Replaces the archive of a published version, as an attacker with access to the repository could.
    fn spoil(&self, version: &str) {
        let (bad, end) = (b"not what was signed".to_vec(), format!(".packs/probe/{version}.tar.gz"));
        if self.world.site.repository().display().to_string() == self.repository {
            let packs = |entry: std::fs::DirEntry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let archive = entry.path().join(format!("probe/{version}.tar.gz"));
                (name.ends_with(".packs") && archive.exists()).then_some(archive)
            };
            let targets = std::fs::read_dir(self.world.site.repository().join("targets")).unwrap();
            let archive = targets.map(Result::unwrap).find_map(packs).expect("it is published");
            std::fs::write(archive, bad).unwrap();
            return;
        }
        let bucket = self.world.bucket();
        let key = bucket.keys("bolt/targets/").into_iter().find(|key| key.ends_with(&end)).expect("it is published");
        bucket.put(&key, bad);
    }

    /// Waits until these agents, and no others of theirs, have `version`.
    async fn have(&self, agents: &[&LocalAgent], version: &str) {
        for agent in agents {
            let what = format!("{version} on {}", agent.directory().display());
            until(&what, async || active(agent.directory()).as_deref() == Some(version)).await;
        }
    }

    /// Waits until each agent has begun a poll after now and ended it: what it does not have then does not come by itself.
    async fn all_have_looked(&self) {
        let ended =
            |agent: &LocalAgent| std::fs::read_to_string(agent.directory().join("run/sync.json")).unwrap_or_default();
        // The first poll to end may have begun before. All of them poll at the same time, and are waited for together.
        for _ in 0..2 {
            let agents = self.test.iter().chain(&self.prod);
            let before: Vec<(&LocalAgent, String)> = agents.map(|agent| (agent, ended(agent))).collect();
            for (agent, before) in before {
                until("a poll", async || ended(agent) != before).await;
            }
        }
    }
}

/// Returns the active version of the probe pack, from the store.
fn active(agent: &Path) -> Option<String> {
    let link = std::fs::read_link(agent.join("packs/probe/current")).ok()?;
    Some(link.to_string_lossy().rsplit_once('-')?.0.to_owned())
}

/// The story.
pub(crate) async fn from_stage_to_stage_and_back(stages: &Stages<'_>) {
    let (test, prod): (Vec<_>, Vec<_>) = (stages.test.iter().collect(), stages.prod.iter().collect());
    let (probe, percent) = (PackName::new("probe").unwrap(), 50);
    let id = |agent: &LocalAgent| InstanceId::new(agent.directory().file_name().unwrap().to_str().unwrap()).unwrap();
    let (early, late): (Vec<_>, Vec<_>) = prod.iter().partition(|agent| cohort_of(&id(agent), &probe) < percent);
    assert!(!early.is_empty() && !late.is_empty(), "the ids must fall on both sides");

    stages.publish("1.0.0", "test");
    stages.repo(&["promote", "probe", "--from", "test", "--to", "prod", "--new-channel"]);
    stages.have(&prod, "1.0.0").await;

    stages.publish("1.1.0", "test");
    stages.have(&test, "1.1.0").await;
    stages.all_have_looked().await;
    stages.have(&prod, "1.0.0").await;

    stages.repo(&["promote", "probe", "1.1.0", "--from", "test", "--to", "prod", "--percent", "50"]);
    stages.have(&early, "1.1.0").await;
    stages.all_have_looked().await;
    stages.have(&late, "1.0.0").await;
    let reached = stages.bolt.json(["repo", "status", "--repo", &stages.repository, "--reached"]);
    assert_eq!(reached.0, 0, "{}", reached.1);
    let prod_reached = reached.1["reached"].as_array().unwrap().iter().find(|r| r["channel"] == "prod").unwrap();
    assert_eq!(prod_reached["reached"].as_array().unwrap().len(), prod.len(), "{prod_reached}");

    stages.repo(&["pause", "probe", "--channel", "prod"]);
    stages.repo(&["widen", "probe", "--channel", "prod", "--percent", "100"]);
    stages.all_have_looked().await;
    stages.have(&late, "1.0.0").await;
    stages.repo(&["resume", "probe", "--channel", "prod"]);
    stages.have(&prod, "1.1.0").await;

    // A version whose archive is not what was signed goes no further.
    stages.publish("1.2.0", "lab");
    stages.spoil("1.2.0");
    for to in ["test", "prod"] {
        let said = stages.try_repo(&["promote", "probe", "--from", "lab", "--to", to]);
        assert!(said.code == 5 && said.stderr.contains("the archive of probe 1.2.0"), "{said:?}");
        assert!(said.stderr.contains("publish the same pack again from its commit"), "{said:?}");
    }
    let status = stages.bolt.run(["repo", "status", "--repo", &stages.repository]);
    assert!(status.code == 1 && status.stderr.contains("the archive of probe 1.2.0 is unusable: it has"), "{status:?}");
    assert!(status.stderr.contains("instances of lab cannot take it"), "{status:?}");
    assert!(status.stderr.contains("`bolt repo rollback probe --channel lab`"), "{status:?}");
    stages.have(&[&test[..], &prod[..]].concat(), "1.1.0").await;

    stages.repo(&["rollback", "probe", "--channel", "prod"]);
    stages.have(&prod, "1.0.0").await;
    stages.have(&test, "1.1.0").await;
    // The same version again, for some instances; then rolled back, also on instances that did not get it again.
    stages.repo(&["promote", "probe", "--from", "test", "--to", "prod", "--percent", "50", "--again"]);
    stages.have(&early, "1.1.0").await;
    stages.repo(&["rollback", "probe", "--channel", "prod"]);
    stages.have(&prod, "1.0.0").await;

    let log = stages.bolt.run(["repo", "log", "--repo", &stages.repository, "--channel", "prod"]);
    let changes: Vec<&str> = log.stdout.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let wanted = ["promote", "promote", "pause", "widen", "resume", "rollback", "promote", "rollback"];
    assert_eq!(changes, wanted, "{log:?}");
    assert!(log.stdout.contains("prod: 1.1.0 50%, then 1.0.0 -> 1.1.0 50% PAUSED, then 1.0.0"), "{}", log.stdout);
}

/// A version that went to all is taken back, and the one before was for one of them only: the other has none then.
#[tokio::test]
async fn who_never_had_a_version_before_has_none_after_a_rollback() {
    let world = World::empty();
    let agents = ["p-1", "p-2"].map(|id| world.start(&spec(id).set("repository", "poll", "1s")));
    let bolt = world.bolt(&agents.iter().collect::<Vec<_>>());
    let (repository, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    let repo = |command: &[&str]| {
        let said = bolt.run([&["repo"], command, &["--repo", &repository, "--keys", &keys]].concat());
        assert_eq!(said.code, 0, "{command:?}: {said:?}");
    };
    let have = async |wanted: [Option<&str>; 2]| {
        for (agent, wanted) in agents.iter().zip(wanted) {
            until(&format!("{wanted:?}"), async || active(agent.directory()).as_deref() == wanted).await;
        }
    };
    let pack =
        |version: &str| PackSource::probe().version(version).write(&world.scratch("sources")).display().to_string();
    repo(&["publish", &pack("1.0.0"), "--channel", "prod", "--where", "id == \"p-1\""]);
    have([Some("1.0.0"), None]).await;
    repo(&["publish", &pack("1.1.0"), "--channel", "prod"]);
    have([Some("1.1.0"), Some("1.1.0")]).await;
    repo(&["rollback", "probe", "--channel", "prod"]);
    have([Some("1.0.0"), None]).await;
    let (code, reached) = bolt.json(["repo", "status", "--repo", &repository, "--reached"]);
    assert_eq!((code, &reached["reached"][0]["reached"]), (0, &serde_json::json!(["p-1"])), "{reached}");
    let said = bolt.run(["run", "probe.hello", "--where", "id == \"p-2\""]);
    assert!(said.code != 0 && said.stderr.contains("probe.hello"), "{said:?}");
}

/// Withdraws the first version of a channel: instances lose the pack, and later take a newer version.
#[tokio::test]
async fn a_first_version_is_withdrawn_to_nothing() {
    let world = World::empty();
    let agent = world.start(&spec("i-1").set("repository", "poll", "1s"));
    let bolt = world.bolt(&[&agent]);
    let (repository, keys) = (world.repository().display().to_string(), world.site.keys().display().to_string());
    let repo = |command: &[&str]| bolt.run([&["repo"], command, &["--repo", &repository, "--keys", &keys]].concat());
    let good = |command: &[&str]| {
        let said = repo(command);
        assert_eq!(said.code, 0, "{command:?}: {said:?}");
        said.stdout
    };
    let pack =
        |version: &str| PackSource::probe().version(version).write(&world.scratch("sources")).display().to_string();
    let has = async |wanted: Option<&str>| {
        until(&format!("{wanted:?}"), async || active(agent.directory()).as_deref() == wanted).await;
    };
    let actions = || bolt.run(["actions"]).stdout;
    good(&["publish", &pack("1.0.0"), "--channel", "prod"]);
    has(Some("1.0.0")).await;
    until("its actions", async || actions().contains("probe.hello")).await;

    let first = repo(&["rollback", "probe", "--channel", "prod"]);
    assert!(first.code == 2 && first.stderr.contains("--to nothing"), "{first:?}");
    let said = good(&["rollback", "probe", "--channel", "prod", "--to", "nothing"]);
    assert_eq!(said.trim(), "prod: probe  1.0.0 -> nothing");
    has(None).await;
    until("no actions", async || !actions().contains("probe.hello")).await;
    let ran = bolt.run(["run", "probe.hello", "--on", "i-1"]);
    assert!(ran.code != 0, "{ran:?}");
    let packs = bolt.run(["packs"]);
    println!("packs: {packs:?}");
    assert!(packs.code == 0 && !packs.stdout.contains("1.0.0"), "{packs:?}");
    assert!(packs.stderr.contains("every version was withdrawn there (`bolt repo status` shows it)"), "{packs:?}");
    let health = bolt.run(["instances", "--check"]);
    assert!(!health.stdout.contains("degraded"), "{health:?}");

    let status = good(&["status", "--reached"]);
    assert!(
        status.contains("channel    prod: probe nothing, every version was withdrawn  withdrawn: 1.0.0"),
        "{status}"
    );
    assert!(status.contains("reached    prod: probe  1 of 1: i-1"), "{status}");
    assert!(good(&["log", "--channel", "prod"]).contains("prod: 1.0.0 -> nothing"));
    assert!(good(&["rollback", "probe", "--channel", "prod", "--to", "nothing"]).contains("nothing  (as before)"));
    let widen = repo(&["widen", "probe", "--channel", "prod", "--percent", "50"]);
    assert!(widen.code == 2 && widen.stderr.contains("holds nothing of probe"), "{widen:?}");

    good(&["publish", &pack("1.1.0"), "--channel", "prod"]);
    has(Some("1.1.0")).await;
    until("its actions", async || actions().contains("probe.hello")).await;
}

/// A repository that was restored from an older copy: agents hold what it does not have.
#[tokio::test]
async fn an_agent_with_a_version_that_the_repository_does_not_have_is_named() {
    let world = World::empty();
    world.publish(&PackSource::new("other", "1.0.0").action("nothing", "", "#!/bin/true\n"));
    let old = world.scratch("old").join("repository");
    let copy = |from: &Path, to: &Path| {
        let said = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(said.success());
    };
    copy(&world.site.repository(), &old);
    world.publish(&PackSource::probe());
    let agent = world.start(&spec("i-1").set("repository", "poll", "1h"));
    let bolt = world.bolt(&[&agent]);
    until("probe", async || active(agent.directory()).is_some()).await;
    let status = |repository: &Path| bolt.run(["repo", "status", "--reached", "--repo", repository.to_str().unwrap()]);
    let now = status(&world.site.repository());
    assert!(now.code == 0 && !now.stdout.contains("unknown"), "{now:?}");
    let then = status(&old);
    assert!(then.code == 1, "{then:?}");
    assert!(then.stdout.contains("unknown    i-1: has probe 1.0.0, which the repository does not have"), "{then:?}");
}

#[tokio::test]
async fn a_version_goes_through_the_stages_and_back() {
    let world = World::empty();
    from_stage_to_stage_and_back(&Stages::new(&world)).await;
}

#[tokio::test]
async fn a_version_goes_through_the_stages_of_a_bucket_and_back() {
    let world = World::with_bucket();
    from_stage_to_stage_and_back(&Stages::new(&world)).await;
}

#[tokio::test]
async fn a_team_with_its_own_key_and_a_root_with_others() {
    let world = World::empty();
    world.publish(&PackSource::probe());
    let agent = world.start(&spec("i-1").set("repository", "poll", "1s"));
    let bolt = world.bolt(&[&agent]);
    let (repository, keys) = (world.site.repository().display().to_string(), world.site.keys().display().to_string());
    let at = |name: &str| world.path().join(name).display().to_string();
    let repo = |command: &[&str], keys: &str| {
        bolt.run([&["repo"], command, &["--repo", &repository, "--keys", keys]].concat())
    };
    let good = |said: CommandOutput| assert_eq!(said.code, 0, "{said:?}");
    good(repo(&["delegate", "dba", "probe", "--new-key", &at("dba"), "--plain-keys"], &keys));
    for name in ["snapshot.pem", "timestamp.pem"] {
        std::fs::copy(world.site.keys().join(name), world.path().join("dba").join(name)).unwrap();
    }
    let pack =
        |version: &str| PackSource::probe().version(version).write(&world.scratch("sources")).display().to_string();
    good(repo(&["publish", &pack("1.1.0"), "--team", "dba", "--channel", "prod"], &at("dba")));
    until("the team's version", async || active(agent.directory()).as_deref() == Some("1.1.0")).await;
    // Not with the targets' key, and not for others.
    let said = repo(&["publish", &pack("1.2.0"), "--channel", "prod"], &keys);
    assert!(said.code == 2 && said.stderr.contains("team-dba is signed with"), "{said:?}");
    // Other keys for all roles, as after a theft; the agent follows from the root that it was given.
    let all = ["root", "targets", "snapshot", "timestamp"].map(|role| ["--replace", role]).concat();
    let directory = at("new");
    let new = [&["rotate-root", "--new-keys", &directory, "--plain-keys"], &all[..]].concat();
    good(repo(&new, &keys));
    for name in ["snapshot.pem", "timestamp.pem"] {
        std::fs::copy(world.path().join("new").join(name), world.path().join("dba").join(name)).unwrap();
    }
    good(repo(&["publish", &pack("1.2.0"), "--team", "dba", "--channel", "prod"], &at("dba")));
    until("a version under the new root", async || active(agent.directory()).as_deref() == Some("1.2.0")).await;
    let said = repo(&["refresh"], &keys);
    assert!(said.code == 2 && said.stderr.contains("may not sign"), "the old keys are of no use: {said:?}");
    good(repo(&["undelegate", "dba"], &at("new")));
    good(repo(&["rollback", "probe", "--channel", "prod"], &at("new")));
    until("what was before", async || active(agent.directory()).as_deref() == Some("1.1.0")).await;
}

#[test]
fn keys_with_a_passphrase() {
    let world = World::empty();
    let bolt = world.bolt(&[]);
    let at = |name: &str| world.path().join(name).display().to_string();
    let canary = "canary horse battery";
    let run = |passphrase: Option<&str>, arguments: &[&str]| {
        let mut command = bolt.command(arguments);
        command.env_remove("BOLT_KEY_PASSPHRASE");
        command.envs(passphrase.map(|passphrase| ("BOLT_KEY_PASSPHRASE", passphrase)));
        CommandOutput::from(command.output().unwrap())
    };
    let (repo, keys) = (at("locked"), at("locked-keys"));
    let init = ["repo", "init", &repo, "--keys", &keys];
    let refused = run(None, &init);
    assert!(refused.code == 2 && refused.stderr.contains("--plain-keys"), "{refused:?}");
    let short = run(Some("short"), &init);
    assert!(short.code == 2 && short.stderr.contains("at least 8"), "{short:?}");
    assert_eq!(run(Some(canary), &init).code, 0);
    let pack = PackSource::probe().write(&world.scratch("sources")).display().to_string();
    let publish = ["repo", "publish", &pack, "--repo", &repo, "--keys", &keys, "--channel", "dev"];
    for (passphrase, code, words) in
        [(None, 2, "is encrypted"), (Some("wrong horse"), 2, "does not open"), (Some(canary), 0, "")]
    {
        let said = run(passphrase, &publish);
        assert!(said.code == code && said.stderr.contains(words), "{said:?}");
        assert!(!format!("{said:?}").contains("horse"), "{said:?}");
    }
    let file = world.path().join("passphrase");
    std::fs::write(&file, format!("{canary}\n")).unwrap();
    let shown = file.display().to_string();
    let from_file = [&publish[..], &["--passphrase-file", &shown]].concat();
    assert_eq!(run(None, &from_file).code, 5, "others can read it");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(run(None, &from_file).code, 0);
}
