//! Imported packs on agents: actions whose callers give a command are refused until a person has enabled them, and wheels
//! take the place of addresses in `requirements.txt`.

use std::fs;
use std::path::Path;
use std::process::Command;

use bolt_client::pack::import;
use bolt_tests::http::Call;
use bolt_tests::{World, skip, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, PackList, Page};
use serde_json::json;

use crate::calls::{refused, until};

#[tokio::test]
async fn an_imported_action_of_any_command_is_refused() {
    let world = World::empty();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ssm/shapes");
    let pack = world.scratch("imported").join("shapes");
    import::import(&source, &pack).expect("the documents can be imported");
    world.publish_directory(&pack);
    let agent = world.agent();
    let operator = world.operator(&agent);
    for (action, parameters) in [
        ("any", json!({"commands": "echo hurt"})),
        ("any_old", json!({})),
        ("any_program", json!({"Tool": "/bin/echo"})),
        ("starts", json!({"Name": "/bin/echo"})),
    ] {
        let action = format!("shapes.{action}");
        refused(&operator.submit(&action, parameters).await, Code::ActionDisabled, &action);
    }
    let all: Page<Execution> = operator.send(Call::get("/v1/executions")).await.json();
    assert!(all.items.is_empty(), "something ran: {all:?}");
}

/// Source of a StackStorm pack whose requirement is an address, and the wheels that a person built of it.
fn addressed(world: &World) -> (std::path::PathBuf, std::path::PathBuf) {
    let (source, wheels) = (world.scratch("addressed"), world.scratch("built"));
    fs::create_dir_all(source.join("actions")).expect("a directory");
    let program = "import greet\nfrom st2common.runners.base_action import Action\n\n\
                   class Hello(Action):\n    def run(self):\n        return {'said': greet.words()}\n";
    for (file, text) in [
        ("pack.yaml", "name: addressed\nversion: 1.0.0\n"),
        ("actions/hello.yaml", "name: hello\nrunner_type: python-script\nentry_point: hello.py\n"),
        ("actions/hello.py", program),
        ("requirements.txt", "-e git+https://git.example/a/greet@stackstorm#egg=greet\n"),
    ] {
        fs::write(source.join(file), text).expect("a file of the source");
    }
    build_wheel(&wheels, "greet", "import phrase\ndef words(): return phrase.TEXT", "Requires-Dist: phrase>=1");
    build_wheel(&wheels, "phrase", "TEXT = 'from these wheels'", "Summary: words");
    (source, wheels)
}

/// Makes `NAME-1.0-py3-none-any.whl` of a module.
fn build_wheel(directory: &Path, name: &str, module: &str, header: &str) {
    const BUILD: &str = "
import sys, zipfile
directory, name, module, header = sys.argv[1:]
info = name + '-1.0.dist-info'
with zipfile.ZipFile('%s/%s-1.0-py3-none-any.whl' % (directory, name), 'w', zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr(name + '.py', module + '\\n')
    wheel.writestr(info + '/METADATA', 'Metadata-Version: 2.1\\nName: %s\\nVersion: 1.0\\n%s\\n' % (name, header))
    wheel.writestr(info + '/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + '/RECORD', '')
";
    let words = [directory.to_str().expect("a path"), name, module, header];
    let built = Command::new("/usr/bin/python3").args(["-I", "-c", BUILD]).args(words).status();
    assert!(built.expect("python3").success());
}

/// An agent that requires hashes, as one does by default, installs what the import pinned, and nothing else of that name.
#[tokio::test]
async fn an_imported_pack_with_wheels_is_installed_by_an_agent_that_requires_hashes() {
    const TEST: &str = "an_imported_pack_with_wheels_is_installed_by_an_agent_that_requires_hashes";
    let world = World::empty();
    let probe = Command::new("/usr/bin/python3").args(["-I", "-c", packs_schema::agent::python::PROBE]).output();
    if !probe.is_ok_and(|probe| String::from_utf8_lossy(&probe.stdout).contains(".whl")) {
        return skip(TEST, "/usr/bin/python3 cannot make virtual environments");
    }
    let (source, wheels) = addressed(&world);
    let pack = world.scratch("made").join("addressed");
    let bolt = world.bolt(&[]);
    let words = |path: &Path| path.to_str().expect("a path").to_owned();
    let import = bolt.run(["pack", "import", &words(&source), "--to", &words(&pack), "--wheels", &words(&wheels)]);
    assert!(import.code == 0 && import.stdout.contains("made safer"), "{import:?}");
    assert!(import.stdout.contains("became greet==1.0 with the hash of greet-1.0-py3-none-any.whl"), "{import:?}");
    world.publish_directory(&pack);

    // A site whose directory has another wheel of that name and version does not run it.
    let others = world.scratch("others");
    build_wheel(&others, "greet", "def words(): return 'of another one'", "Summary: another one");
    build_wheel(&others, "phrase", "TEXT = ''", "Summary: another one");
    let fooled = world.start(&spec("i-2").set("python", "wheels", words(&others)));
    let refused = || fooled.sync_status().is_some_and(|status| status.failed.iter().any(|(_, f)| !f.is_building()));
    until("the refusal", async || refused()).await;
    let operator = world.operator(&fooled);
    let packs: PackList = operator.send(Call::get("/v1/packs")).await.json();
    let failed = packs.items[0].failed.as_ref().expect("the pack failed");
    assert!(failed.message.contains("DO NOT MATCH THE HASHES"), "{failed:?}");

    let agent = world.start(&spec("i-1").set("python", "wheels", words(&wheels)));
    let operator = world.operator(&agent);
    let active = || fs::read_link(agent.directory().join("packs/addressed/current")).is_ok();
    until("the environment", async || active()).await;
    let ran = operator.run("addressed.hello", json!({})).await;
    assert_eq!(ran.state, State::Succeeded, "{ran:?}");
    assert_eq!(json!(ran.result), json!({"said": "from these wheels"}), "{ran:?}");
}
