//! A pack's author at work: scaffold, lint, test, build, publish, and an agent that runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bolt_tests::{Bolt, CommandOutput, World, limits_available, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use serde_json::json;

struct Author {
    world: World,
    bolt: Bolt,
    pack: PathBuf,
}

impl Author {
    /// Creates an author with a new pack called demo.
    fn new() -> Author {
        let world = World::empty();
        let bolt = world.bolt(&[]);
        let pack = world.scratch("work").join("demo");
        let author = Author { world, bolt, pack };
        let said = author.run(&["pack", "new", "demo", "--dir", author.at()]);
        assert_eq!((said.code, said.stdout.trim()), (0, author.at()), "{said:?}");
        author
    }

    fn at(&self) -> &str {
        self.pack.to_str().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.bolt.run(arguments)
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = self.pack.join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Adds an action to the pack.
    fn action(&self, name: &str, more: &str, script: &str) {
        let yaml =
            format!("name: {name}\ndescription: x\nrunner_type: local-shell-script\nentry_point: {name}.sh\n{more}\n");
        self.write(&format!("actions/{name}.yaml"), &yaml, 0o644);
        self.write(&format!("actions/{name}.sh"), script, 0o755);
    }
}

/// Ended with `code`, saying each of `words` in a line that begins as ours do.
fn refused(said: &CommandOutput, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word) || said.stdout.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!said.stderr.contains("panicked"), "{said:?}");
}

#[tokio::test]
async fn from_nothing_to_an_action_that_an_agent_runs() {
    let author = Author::new();
    let pack = author.at();
    refused(&author.run(&["pack", "lint", pack]), 0, &["0 errors, 0 warnings"]);
    let tested = author.run(&["pack", "test", pack, "uptime", "--run-as-me"]);
    refused(&tested, 0, &["load", "succeeded after", "exit status 0"]);
    let build = |name: &str| {
        let file = author.world.scratch("out").join(name);
        let said = author.run(&["pack", "build", pack, "-o", file.to_str().unwrap()]);
        assert_eq!(said.code, 0, "{said:?}");
        (fs::read(&file).unwrap(), file)
    };
    let (first, archive) = build("first.tar.gz");
    fs::File::options()
        .write(true)
        .open(author.pack.join("pack.yaml"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(first, build("second.tar.gz").0, "the same files give the same bytes");

    let (repo, keys) = (author.world.site.repository(), author.world.site.keys());
    let (repo, keys) = (repo.to_str().unwrap(), keys.to_str().unwrap());
    let published = author.run(&[
        "repo",
        "publish",
        archive.to_str().unwrap(),
        "--repo",
        repo,
        "--keys",
        keys,
        "--channel",
        "prod",
    ]);
    refused(&published, 0, &["demo 0.1.0  sha256:", "in prod"]);
    let status = author.run(&["repo", "status", "--repo", repo]);
    refused(&status, 0, &["timestamp  version 2", "pack       demo 0.1.0", "channel    prod: demo 0.1.0  100%"]);
    let agent = author.world.agent();
    let ran = author.world.operator(&agent).run("demo.uptime", json!({})).await;
    assert_eq!(ran.state, State::Succeeded, "{ran:?}");
    assert!(author.world.operator(&agent).stdout(&ran).await.contains("load"));
}

#[test]
fn what_is_wrong_with_a_pack_is_said_by_file_and_line() {
    let author = Author::new();
    let pack = author.at();
    refused(&author.run(&["pack", "new", "demo", "--dir", pack]), 2, &["exists already"]);
    refused(&author.run(&["pack", "lint", "/nonexistent"]), 5, &["cannot read /nonexistent: No such file"]);
    author.write("actions/bad.yaml", "name: bad\nname: twice\n", 0o644);
    for command in ["lint", "build"] {
        let said = author.run(&["pack", command, pack]);
        refused(&said, 1, &["actions/bad.yaml: line 2, column 1: "]);
    }
    refused(&author.run(&["pack", "test", pack, "uptime"]), 1, &["actions/bad.yaml: line 2, column 1: "]);
    author.action("bad", "parameters: {n: {type: wat}}", "#!/bin/sh\n");
    refused(&author.run(&["pack", "lint", pack]), 1, &["line 5", "\"wat\" is not a type", "1 error, 0 warnings"]);
    author.action("bad", "", "#!/bin/sh\n");
    fs::remove_file(author.pack.join("actions/bad.sh")).unwrap();
    refused(&author.run(&["pack", "lint", pack]), 1, &["actions/bad.sh is not in the pack"]);
}

#[test]
fn what_is_wrong_with_a_repository_is_said() {
    let author = Author::new();
    let (repo, keys) = (author.world.site.repository(), author.world.site.keys());
    let publish = |repo: &Path, keys: &Path| {
        let (repo, keys) = (repo.to_str().unwrap(), keys.to_str().unwrap());
        author.run(&["repo", "publish", author.at(), "--repo", repo, "--keys", keys, "--channel", "dev"])
    };
    refused(&publish(&author.pack, &keys), 2, &["is not a repository", "bolt repo init"]);
    refused(
        &publish(&repo, Path::new("/nonexistent")),
        2,
        &["no trusted root is pinned in /nonexistent", "bolt repo trust"],
    );
    let other = World::empty();
    refused(
        &publish(&repo, &other.site.keys()),
        5,
        &["cannot verify", "the trusted root must be one of this repository"],
    );
    let (root, others) = (keys.join("root.json"), other.site.keys());
    let said = author.run(&[
        "repo",
        "publish",
        author.at(),
        "--repo",
        repo.to_str().unwrap(),
        "--keys",
        others.to_str().unwrap(),
        "--root",
        root.to_str().unwrap(),
        "--channel",
        "dev",
    ]);
    refused(&said, 2, &["may not sign for this repository", "bolt repo init"]);
    fs::set_permissions(keys.join("targets.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    refused(&publish(&repo, &keys), 5, &["can be read by others", "chmod 600"]);
    fs::set_permissions(keys.join("targets.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let lock = fs::File::create(repo.join(".lock")).unwrap();
    lock.lock().unwrap();
    refused(&publish(&repo, &keys), 5, &["another publisher is changing"]);
    drop(lock);
    refused(&publish(&repo, &keys), 0, &["in dev"]);
    let timestamp = repo.join("metadata/timestamp.json");
    let text = fs::read_to_string(&timestamp).unwrap();
    fs::write(&timestamp, text.replace("\"version\":2", "\"version\":9")).unwrap();
    let said = publish(&repo, &keys);
    refused(&said, 5, &["cannot verify the repository's metadata", "threshold", "hint: nothing was changed"]);
    assert_eq!(said.stderr.matches("threshold").count(), 1, "{said:?}");
    assert_eq!(said.stderr.lines().count(), 2, "one line of what is wrong, and one of what to do: {said:?}");
}

#[test]
fn a_test_has_the_configuration_that_an_agent_would_have() {
    let author = Author::new();
    author.write("config.schema.yaml", "color: {type: string, default: red}\n", 0o644);
    author.action("show", "bolt: {class: diagnostic}", "#!/bin/sh\necho \"$BOLT_CONFIG\"\n");
    let site = author.world.scratch("etc").join("demo.yaml");
    let test =
        || author.run(&["pack", "test", author.at(), "show", "--run-as-me", "--site-config", site.to_str().unwrap()]);
    refused(&test(), 2, &["demo.yaml", "No such file"]);
    fs::write(&site, "colour: blue\n").unwrap();
    refused(&test(), 2, &["colour is not in config.schema.yaml, which has color"]);
    fs::write(&site, "color: blue\n").unwrap();
    refused(&test(), 0, &["blue"]);
}

#[test]
fn a_test_within_limits() {
    if !limits_available() {
        return skip("a_test_within_limits", "it needs root and the memory and pids controllers");
    }
    let author = Author::new();
    author.action(
        "hog",
        "bolt: {class: diagnostic, limits: {memory: 16MiB}}",
        "#!/bin/sh\nhead -c 200000000 /dev/zero | tail\n",
    );
    refused(&author.run(&["pack", "test", author.at(), "hog", "--run-as-me", "--limits"]), 1, &["out_of_memory"]);
}

#[test]
fn an_interrupted_test_leaves_no_process() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let author = Author::new();
        let mark = author.world.scratch("mark").join("pid");
        fs::set_permissions(mark.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        let script = format!("#!/bin/sh\nsetsid sleep 600 &\necho $! $$ > {}\nwait\n", mark.display());
        author.action("long", "bolt: {class: diagnostic, timeout: 5m, grace: 200ms}", &script);
        let mut command = author.bolt.command(["pack", "test", author.at(), "long", "--run-as-me"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pids = wait_for(|| fs::read_to_string(&mark).ok().filter(|text| text.ends_with('\n')));
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let said = CommandOutput::from(child.wait_with_output().unwrap());
        refused(&said, 130, &["killed after"]);
        for pid in pids.split_whitespace() {
            assert!(!Path::new("/proc").join(pid).exists(), "{pid} is left after {signal}");
        }
    }
}

fn wait_for<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not come within 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_was_given_and_what_fits_is_said() {
    let author = Author::new();
    let percent = "from 0 to 100, such as 25 or 25%";
    let channel = ["--repo", "/r", "--keys", "/k"];
    for given in ["200", "200%", "1.5", "-5", "ten"] {
        for command in [
            &["repo", "widen", "demo", "--channel", "prod", "--percent", given][..],
            &["repo", "promote", "demo", "--from", "a", "--to", "b", "--percent", given],
            &["repo", "publish", "/p", "--channel", "prod", "--percent", given],
        ] {
            let said = author.run(&[command, &channel].concat());
            refused(&said, 2, &[&format!("'{given}'"), "--percent", percent]);
        }
    }
    for (command, option, range) in [
        (&["ps", "--limit", "0"][..], "--limit", "from 1 to 100000"),
        (&["pki", "init", "--ca", "/c", "--days", "0"], "--days", "from 1 to 36500"),
        (&["run", "a.b", "--parallel", "-1"], "--parallel", "from 1 to 10000"),
        (&["run", "a.b", "--canary", "x"], "--canary", "use a whole number, such as 5"),
        (&["repo", "init", "/r", "--keys", "/k", "--root-keys", "17"], "--root-keys", "from 1 to 16"),
    ] {
        refused(&author.run(command), 2, &[option, range]);
    }
    // Both ways to write it reach the repository, which is none.
    for given in ["10", "10%"] {
        let said =
            author.run(&[&["repo", "widen", "demo", "--channel", "prod", "--percent", given][..], &channel].concat());
        refused(&said, 2, &["/r is not a repository"]);
    }
    let file = author.pack.join("pack.yaml").display().to_string();
    for command in ["lint", "build"] {
        refused(&author.run(&["pack", command, &file]), 2, &["pack.yaml is not a directory", "the one with pack.yaml"]);
    }
    refused(
        &author.run(&["pack", "check", "--packs", "/nonexistent/packs"]),
        2,
        &["/nonexistent/packs does not exist", "--packs DIR"],
    );
    let pushed = author.run(&["--inventory", "/nonexistent/fleet.toml", "pack", "push", author.at(), "--to", "i-1"]);
    assert!(
        pushed.code != 0 && !pushed.stderr.contains("pushing") && pushed.stderr.contains("fleet.toml"),
        "{pushed:?}"
    );
    // An error is one line, whatever a path contains.
    for command in [
        &["repo", "status", "--repo", "/no\nway"][..],
        &["repo", "widen", "demo", "--channel", "prod", "--percent", "5", "--repo", "/no\nway", "--keys", "/k\ney"],
        &["repo", "publish", "/no\nway", "--channel", "prod", "--repo", "/no\nway", "--keys", "/k\ney"],
        &["pack", "lint", "/no\nway"],
        &["pack", "check", "--packs", "/no\nway"],
    ] {
        let said = author.run(command);
        assert!(said.stderr.contains("\\n") && !said.stderr.contains("no\nway"), "{said:?}");
    }
}
