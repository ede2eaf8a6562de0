//! Python packs, end to end: published, installed by the sync's account from the site's wheels, run as the action's account.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::index::SlowIndex;
use bolt_tests::process::with_words;
use bolt_tests::{PackSource, World, skip, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::PackList;
use serde_json::json;

use crate::calls::until;

const WHEEL: &str = "
import sys, zipfile
directory, version = sys.argv[1:]
info = 'greet-%s.dist-info' % version
with zipfile.ZipFile('%s/greet-%s-py3-none-any.whl' % (directory, version), 'w') as wheel:
    wheel.writestr('greet.py', 'def main(): print(\"greetings from %s\")' % version)
    wheel.writestr(info + '/METADATA', 'Metadata-Version: 2.1\\nName: greet\\nVersion: %s\\n' % version)
    wheel.writestr(info + '/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + '/RECORD', '')
";
const SCRIPT: &str = "#!/usr/bin/env python3\nimport os, sys, greet\ngreet.main()\nprint(os.getuid(), sys.prefix)\n";

/// The pack `hello` that needs greet.
fn pack(version: &str, requirements: &str) -> PackSource {
    let yaml = "name: hello\ndescription: Greets.\nrunner_type: python-script\nentry_point: hello.py\nbolt: {class: diagnostic}\n";
    PackSource::new("hello", version)
        .file("actions/hello.yaml", yaml, 0o644)
        .file("actions/hello.py", SCRIPT, 0o755)
        .file("requirements.txt", requirements, 0o644)
}

/// A directory with greet 1.0 and 2.0; `None`, loudly, where the host's Python cannot make environments.
fn wheels(world: &World, test: &str) -> Option<PathBuf> {
    let probe = Command::new("/usr/bin/python3").args(["-I", "-c", packs_schema::agent::python::PROBE]).output();
    if !probe.is_ok_and(|probe| String::from_utf8_lossy(&probe.stdout).contains(".whl")) {
        skip(test, "/usr/bin/python3 cannot make virtual environments");
        return None;
    }
    let directory = world.scratch("wheels");
    for version in ["1.0", "2.0"] {
        let made = Command::new("/usr/bin/python3").args(["-c", WHEEL, directory.to_str().unwrap(), version]).status();
        assert!(made.unwrap().success());
    }
    Some(directory)
}

fn at(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn a_python_pack_is_installed_and_run_in_its_environment() {
    let world = World::empty();
    let Some(wheels) = wheels(&world, "a_python_pack_is_installed_and_run_in_its_environment") else { return };
    world.publish(&pack("1.0.0", "greet==1.0\n"));
    let agent = world.start(&spec("i-1").set("python", "wheels", at(&wheels)).set("python", "require_hashes", false));
    let operator = world.operator(&agent);
    until("the environment", async || version(&agent, "hello").as_deref() == Some("1.0.0")).await;
    let ran = operator.run("hello.hello", json!({})).await;
    let said = operator.stdout(&ran).await;
    assert_eq!(ran.state, State::Succeeded, "{ran:?}");
    assert!(said.starts_with("greetings from 1.0\n") && said.contains("/packs/.venvs/"), "{said}");

    // A version whose requirements cannot be had: the old one goes on, and pip's words are there to be read.
    world.publish(&pack("1.1.0", "greet==9.9\n"));
    operator.send(Call::post("/v1/packs/sync", "")).await;
    let failed = || agent.sync_status().is_some_and(|status| status.failed.iter().any(|(_, f)| !f.is_building()));
    until("its end", async || failed()).await;
    let packs: PackList = operator.send(Call::get("/v1/packs")).await.json();
    let failed = packs.items[0].failed.as_ref().unwrap();
    assert_eq!(failed.step, "environment");
    assert!(failed.message.contains("No matching distribution found for greet==9.9"), "{failed:?}");
    let ran = operator.run("hello.hello", json!({})).await;
    assert_eq!((ran.state, ran.version.to_string().as_str()), (State::Succeeded, "1.0.0"));

    world.publish(&pack("1.2.0", "greet==2.0\n"));
    operator.send(Call::post("/v1/packs/sync", "")).await;
    until("the environment", async || version(&agent, "hello").as_deref() == Some("1.2.0")).await;
    let ran = operator.run("hello.hello", json!({})).await;
    assert!(operator.stdout(&ran).await.starts_with("greetings from 2.0\n"), "{ran:?}");

    // The installed files match the manifest, and a later change is detected.
    let store = agent.directory().join("packs").display().to_string();
    let check = || world.bolt(&[&agent]).json(["pack", "check", "--packs", &store]);
    let (code, report) = check();
    assert_eq!((code, report["problems"].as_array().unwrap().len()), (0, 0), "{report}");
    let venvs = fs::read_dir(agent.directory().join("packs/.venvs")).unwrap().map(|entry| entry.unwrap().path());
    let current: serde_json::Value =
        serde_json::from_slice(&fs::read(agent.directory().join("packs/hello/current/.bolt/venv.json")).unwrap())
            .unwrap();
    let venv =
        venvs.filter(|path| path.is_dir()).find(|path| path.ends_with(current["venv"].as_str().unwrap())).unwrap();
    fs::remove_file(venv.join("bin/python")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", venv.join("bin/python")).unwrap();
    fs::write(venv.join("lib/sitecustomize.py"), "").unwrap();
    let (code, report) = check();
    let named = |end: &str| {
        let mut problems = report["problems"].as_array().unwrap().iter();
        problems.any(|problem| problem["file"].as_str().unwrap().ends_with(end))
    };
    assert!(code == 1 && named("bin/python") && named("lib/sitecustomize.py"), "{report}");
}

/// The active version of a pack.
fn version(agent: &LocalAgent, pack: &str) -> Option<String> {
    let link = fs::read_link(agent.directory().join("packs").join(pack).join("current")).ok()?;
    Some(link.to_string_lossy().rsplit_once('-')?.0.to_owned())
}

/// Python packs whose index answers late hold up no other pack, no withdrawal and no poll.
#[tokio::test]
async fn an_index_that_does_not_answer_holds_up_nothing_else() {
    let world = World::with_probe();
    let Some(wheels) = wheels(&world, "an_index_that_does_not_answer_holds_up_nothing_else") else { return };
    let index = SlowIndex::start(&wheels);
    world.publish(&pack("1.0.0", "greet==1.0\n"));
    let python = spec("i-1").set("python", "index", index.url()).set("python", "require_hashes", false);
    let mut agent = world.start(&python.set("repository", "poll", "1s"));
    let operator = world.operator(&agent);
    let bolt = world.bolt(&[&agent]);
    let waits = || agent.sync_status().is_some_and(|status| status.failed.iter().any(|(_, f)| f.is_building()));
    until("the build", async || waits() && index.asked() > 0).await;
    until("the other pack", async || version(&agent, "probe").is_some()).await;
    // The version is reported as being built, not as failed.
    let packs = bolt.run(["packs"]);
    assert!(packs.code == 0 && packs.stderr.contains("hello 1.0.0 is not active yet"), "{packs:?}");
    assert!(!bolt.run(["instances", "--check"]).stdout.contains("degraded"));

    // While it hangs, another version comes and is taken back again.
    world.publish(&PackSource::probe().version("1.1.0"));
    until("a version that is published meanwhile", async || version(&agent, "probe").as_deref() == Some("1.1.0")).await;
    let (repository, keys) = (at(&world.repository()), at(&world.site.keys()));
    let back = bolt.run(["repo", "rollback", "probe", "--channel", "prod", "--repo", &repository, "--keys", &keys]);
    assert_eq!(back.code, 0, "{back:?}");
    until("the withdrawal", async || version(&agent, "probe").as_deref() == Some("1.0.0")).await;
    assert!(waits() && version(&agent, "hello").is_none());
    assert_eq!(index.asked(), 1, "polls neither repeat nor cancel the build");

    // The build ends with the agent, and begins again with it.
    agent.terminate();
    let scratch = || {
        let names = fs::read_dir(agent.directory().join("packs/.venvs")).unwrap();
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with(".scratch-")).count()
    };
    assert_eq!(scratch(), 1);
    let building = agent.directory().display().to_string();
    until("the builder to end", async || with_words(std::slice::from_ref(&building)).is_empty()).await;
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    let failed =
        |agent: &LocalAgent| agent.sync_status().and_then(|status| Some(status.failed.first()?.1.message.clone()));
    until("the reason", async || failed(&agent).is_some_and(|said| said.contains("was ended before it was done")))
        .await;
    index.open();
    operator.send(Call::post("/v1/packs/sync", "")).await;
    until("the environment", async || version(&agent, "hello").as_deref() == Some("1.0.0")).await;
    let ran = operator.run("hello.hello", json!({})).await;
    assert!(operator.stdout(&ran).await.starts_with("greetings from 1.0\n"), "{ran:?}");
    until("nothing to wait for", async || agent.sync_status().is_some_and(|status| status.failed.is_empty())).await;
    assert!(
        !agent
            .directory()
            .join("packs/.venvs")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with(".scratch-") })
    );
}

#[test]
fn an_author_tests_in_the_same_environment() {
    let world = World::empty();
    let Some(wheels) = wheels(&world, "an_author_tests_in_the_same_environment") else { return };
    let directory = pack("1.0.0", "greet==1.0\n").write(&world.scratch("work"));
    let (directory, wheels) = (at(&directory), at(&wheels));
    let bolt = world.bolt(&[]);
    let said = bolt.run(["pack", "test", directory.as_str(), "hello", "--run-as-me", "--wheels", wheels.as_str()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with("greetings from 1.0\n") && said.stdout.contains("/packs/.venvs/"), "{said:?}");
    fs::write(Path::new(&directory).join("requirements.txt"), "greet==9.9\n").unwrap();
    let said = bolt.run(["pack", "test", directory.as_str(), "hello", "--run-as-me", "--wheels", wheels.as_str()]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("No matching distribution found for greet==9.9"), "{said:?}");
}
