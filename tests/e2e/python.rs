//! The Python package, over real agents: its own tests in `client/python/tests`, with the library that this workspace builds.
//!
//! `.ci/run` installs mypy and sets `BOLT_TEST_MYPY_PYTHON`; without it the test of the types says that it was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use bolt_client::local::{AgentSpec, LocalAgent, binary};
use bolt_tests::{PackSource, World, skip, spec};

/// Python package as it is installed, and agents for it.
struct Site {
    world: World,
    other: World,
    _agents: Vec<LocalAgent>,
    package: tempfile::TempDir,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").join("client/python")
}

fn site() -> Site {
    build();
    let world = World::with_probe();
    world.publish(&PackSource::new("service", "1.0.0").action(
        "restart",
        "parameters: {name: {type: string, required: true}}\nbolt: {class: remediation}",
        "#!/bin/sh\necho '{\"restarted\": \"'\"$BOLT_PARAM_NAME\"'\", \"list\": [1, 2.5, null, true]}' >\"$BOLT_RESULT\"\n",
    ));
    world.publish(&PackSource::new("cassandra", "1.0.0").action("health", "bolt: {class: diagnostic}", "#!/bin/sh\n"));
    let agents: Vec<LocalAgent> = [("i-1", "a"), ("i-2", "a"), ("i-3", "b"), ("i-4", "b"), ("i-5", "c")]
        .into_iter()
        .map(|(id, zone)| world.start(&instance(id, zone)))
        .collect();
    world.bolt(&agents.iter().collect::<Vec<_>>());
    Site { world, other: World::empty(), _agents: agents, package: package() }
}

fn instance(id: &str, zone: &str) -> AgentSpec {
    let mut spec = spec(id);
    (spec.facts.region, spec.facts.zone) = ("r".to_owned(), zone.to_owned());
    spec.facts.app = if zone == "c" { "other" } else { "cassandra" }.to_owned();
    if zone == "c" {
        let reader = "[[grant]]\nprincipal = \"spiffe://bolt.local/operator\"\nverbs = [\"read\"]\nactions = [\"*\"]\n";
        spec.grants = Some(reader.to_owned());
    }
    spec
}

/// Builds the library with the features that the rest of the workspace has.
fn build() {
    let Some(cargo) = std::env::var_os("CARGO") else { return };
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--workspace", "--lib", "--tests", "--profile", profile])
        .env_remove("RUSTC_BOOTSTRAP");
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(status.success(), "the library cannot be built");
}

/// Lays out the package as `pip install` does.
fn package() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("bolt_fleet");
    std::fs::create_dir(&package).unwrap();
    for entry in std::fs::read_dir(source().join("bolt_fleet")).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), package.join(entry.file_name())).unwrap();
        }
    }
    let library = binary("libbolt_fleet_native.so").expect("it was built");
    std::os::unix::fs::symlink(library, package.join("_native.abi3.so")).unwrap();
    directory
}

/// Runs a file of tests. Returns what it printed if one failed.
fn run(site: &Site, tests: &str) -> Option<String> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-W", "error::ResourceWarning", "-X", "faulthandler", "-m", "unittest", "-v", tests]);
    command.current_dir(source().join("tests")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", site.package.path()).env("BOLT_TEST_PYTHON_SOURCE", source());
    command.env("BOLT_CLIENT_CONFIG", site.world.site.client_config()).env("BOLT_TEST_OTHER_CA", site.other.site.ca());
    let home = site.world.scratch(tests);
    command.env("XDG_STATE_HOME", home.join("state")).env("XDG_CACHE_HOME", home.join("cache"));
    let output = command.output().expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| format!("{tests}: {}\n{said}", output.status))
}

#[test]
fn the_package_runs_actions_on_real_agents() {
    let site = site();
    let files = ["test_fleet", "test_interrupts", "test_async", "test_papers"];
    let failed: Vec<String> = std::thread::scope(|scope| {
        let running = files.map(|tests| {
            scope.spawn({
                let site = &site;
                move || run(site, tests)
            })
        });
        running.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    if std::env::var_os("BOLT_TEST_MYPY_PYTHON").is_none() {
        skip(
            "python::the_package_runs_actions_on_real_agents (types)",
            "BOLT_TEST_MYPY_PYTHON names no Python with mypy",
        );
    }
}
