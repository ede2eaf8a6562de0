//! A temporary site: authority, repository and agents in one directory.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use bolt_client::connection::Agent;
use bolt_client::inventory::Inventory;
use bolt_client::local::{AgentSpec, LocalAgent, Published, Site};
use bolt_client::tls::Identity;
use packs_schema::agent::rest::CreateExecution;
use packs_schema::base::name::{ActionRef, ChannelName, InstanceId};
use packs_schema::delivery::facts::Facts;

use crate::{Bolt, Bucket, PackSource};

/// Fleet of one test. Stops everything it started when dropped.
#[derive(Debug)]
pub struct World {
    /// Authority and repository.
    pub site: Site,
    bucket: Option<Bucket>,
    directory: tempfile::TempDir,
}

impl World {
    /// Creates an authority and an empty repository.
    pub fn empty() -> World {
        binaries();
        let directory = tempfile::Builder::new().prefix("bolt-test-").tempdir().expect("a temporary directory");
        let site = Site::create(directory.path()).expect("the site can be laid out");
        site.write_client([]).expect("the client's files can be written");
        World { site, bucket: None, directory }
    }

    /// Creates an authority and an empty repository in a bucket.
    pub fn with_bucket() -> World {
        let mut world = World::empty();
        let bucket = Bucket::start();
        bucket.mirror(&world.site.repository(), "bolt");
        world.bucket = Some(bucket);
        world
    }

    /// Returns the bucket of a world that has one.
    pub fn bucket(&self) -> &Bucket {
        self.bucket.as_ref().expect("the world has a bucket")
    }

    /// Returns the repository's location, as `--repo` takes it.
    pub fn repository(&self) -> PathBuf {
        match &self.bucket {
            None => self.site.repository(),
            Some(bucket) => bucket.location("bolt").into(),
        }
    }

    /// Creates an authority and a repository with the probe pack in channel `prod`.
    pub fn with_probe() -> World {
        let world = World::empty();
        world.publish(&PackSource::probe());
        world
    }

    /// Returns the directory of the site.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Publishes a pack to `prod`.
    pub fn publish(&self, pack: &PackSource) -> Published {
        let sources = self.path().join("sources");
        self.publish_directory(&pack.write(&sources))
    }

    /// Publishes the pack in a directory to `prod`; to a bucket with the `bolt` command, as a user would.
    pub fn publish_directory(&self, directory: &Path) -> Published {
        if self.bucket.is_none() {
            return self.site.publish(directory, &prod()).expect("the pack can be published");
        }
        let bolt = Bolt::new(&self.site.client_config());
        let (directory, keys) = (directory.as_os_str().to_owned(), self.site.keys().into_os_string());
        let mut arguments = ["repo", "publish"].map(OsString::from).to_vec();
        arguments.extend([directory, "--repo".into(), self.repository().into(), "--keys".into(), keys]);
        arguments.extend(["--channel".into(), prod().as_str().into()]);
        let (code, said) = bolt.json(arguments);
        assert_eq!(code, 0, "{said}");
        serde_json::from_value(said).expect("it says what was published")
    }

    /// Publishes a pack of 50 MB of incompressible data to `prod`.
    pub fn publish_large(&self) -> Published {
        let pack = PackSource::new("large", "1.0.0").action("nothing", "bolt: {class: diagnostic}", "#!/bin/true\n");
        let directory = pack.write(&self.scratch("sources"));
        let mut noise = Vec::new();
        let random = std::fs::File::open("/dev/urandom").expect("there is randomness");
        random.take(50 << 20).read_to_end(&mut noise).expect("it can be read");
        std::fs::write(directory.join("noise.bin"), noise).expect("the pack can be written");
        self.publish_directory(&directory)
    }

    /// Starts an agent with default settings, called `i-1`.
    pub fn agent(&self) -> LocalAgent {
        self.start(&spec("i-1"))
    }

    /// Starts an agent.
    pub fn start(&self, spec: &AgentSpec) -> LocalAgent {
        let followed = |bucket: &Bucket| bucket.follow(spec.clone(), "bolt");
        let spec = self.bucket.as_ref().map_or_else(|| spec.clone(), followed);
        LocalAgent::start(&self.site, &spec).unwrap_or_else(|e| panic!("{}", chain(&e)))
    }

    /// Returns the operator's `bolt` command with these agents in its inventory.
    pub fn bolt(&self, agents: &[&LocalAgent]) -> Bolt {
        Bolt::new(&self.site.write_client(agents.iter().copied()).expect("the client's files can be written"))
    }

    /// Returns the client library's handle for an agent, with the operator's identity; not connected yet.
    pub fn client(&self, agent: &LocalAgent) -> Agent {
        self.bolt(&[agent]);
        let inventory = Inventory::load(&self.path().join("inventory.toml")).expect("the inventory reads");
        let operator = self.site.operator();
        let identity =
            Identity::load(&operator.certificate, &operator.key, &self.site.ca()).expect("the identity reads");
        Agent::new(&inventory.instances()[0], &identity)
    }

    /// Keeps the directory for inspection, and returns its path.
    pub fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    /// Creates an empty file that executions of any account may append to.
    pub fn ledger(&self) -> std::io::Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.scratch("ledger").join("lines");
        std::fs::write(&path, "")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        Ok(path)
    }

    /// Creates an empty directory that other accounts can read.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).expect("the directory can be made");
        path
    }
}

/// Returns the settings of an agent that follows `prod`. `BOLT_TEST_CGROUP` names a cgroup below which it gets its own: tests that run in
/// a cgroup v2 group cannot create groups with limits below it.
pub fn spec(id: &str) -> AgentSpec {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let spec = AgentSpec::new(Facts::of(InstanceId::new(id).expect("a valid id")));
    match std::env::var("BOLT_TEST_CGROUP") {
        Ok(parent) => {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            spec.set("execution", "cgroup", format!("{parent}/{}-{number}", std::process::id()))
        }
        Err(_) => spec,
    }
}

fn prod() -> ChannelName {
    ChannelName::new("prod").expect("a valid name")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    text
}

/// Returns a request that runs `action` without parameters.
pub fn order(action: &str) -> CreateExecution {
    CreateExecution {
        action: ActionRef::new(action).expect("an action"),
        version: None,
        parameters: serde_json::Map::new(),
        noop: false,
        instance: None,
        run: None,
        timeout_ms: None,
        note: None,
    }
}

/// Returns true if the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Returns true if limits can be enforced here: as root, with a memory and a pids controller.
pub fn limits_available() -> bool {
    let controllers = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    is_root() && ["memory", "pids"].iter().all(|name| controllers.lines().any(|line| line.starts_with(name)))
}

/// Reports that a test could not run here, bypassing the test runner's capture.
pub fn skip(test: &str, why: &str) {
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {why}"));
}

/// Set when the binaries of this source are built.
static BUILT: OnceLock<()> = OnceLock::new();

/// Builds the binaries of this source: cargo does not build those of other packages for a test.
pub fn binaries() {
    BUILT.get_or_init(|| build(if cfg!(debug_assertions) { "dev" } else { "release" }, &["--tests"]));
}

/// Builds the binaries of this source as optimised as benchmarks are and without features that only tests need, for the rest of
/// this process. The profile `bench` has the output directory of `release`.
pub fn bench_binaries() {
    BUILT.get_or_init(|| build("bench", &[]));
}

/// Builds the binaries with a profile, and the targets that these options of cargo select.
fn build(profile: &str, options: &[&str]) {
    let Some(cargo) = std::env::var_os("CARGO") else { return };
    let mut command = Command::new(cargo);
    // Selects the whole workspace, and with `--tests` the features that `cargo test --workspace` selects: others would compile
    // everything again.
    command.args(["build", "--quiet", "--workspace", "--bins"]).args(options).args(["--profile", profile]);
    // `.ci/tests` sets it for the test runner alone. Build scripts read it: artefacts compiled with it would replace, under the
    // same names, those that the documentation tests are linked with.
    command.env_remove("RUSTC_BOOTSTRAP");
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be run");
    assert!(status.success(), "the binaries cannot be built");
}

/// Returns the peak memory of the agent's first sync in kB, from its own log line.
pub fn sync_peak_kb(agent: &LocalAgent) -> Option<u64> {
    let log = std::fs::read_to_string(agent.log()).ok()?;
    log.lines().find_map(|line| line.split_once("peak_kb=")?.1.split_whitespace().next()?.parse().ok())
}
