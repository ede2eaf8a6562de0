//! The demo's six agents: two regions, three zones, each with a Cassandra that has stale snapshots.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use packs_schema::base::name::{ChannelName, InstanceId, Principal};
use packs_schema::delivery::facts::Facts;

use super::interrupt::Interrupt;
use super::packs;
use super::say::say;
use crate::failure::{Exit, Failure};
use crate::local::{AgentSpec, Caller, LocalAgent, LocalError, Site};
use crate::pki::Validity;

/// Instance id, region, zone.
const INSTANCES: [(&str, &str, &str); 6] = [
    ("i-0a11", "us-east-1", "us-east-1a"),
    ("i-0a12", "us-east-1", "us-east-1a"),
    ("i-0b21", "us-east-1", "us-east-1b"),
    ("i-0b22", "us-east-1", "us-east-1b"),
    ("i-0c31", "eu-west-1", "eu-west-1a"),
    ("i-0c32", "eu-west-1", "eu-west-1a"),
];

/// Snapshots of each instance: keyspace, table, tag, age in days, bytes.
const SNAPSHOTS: [(&str, &str, &str, u64, usize); 4] = [
    ("users", "profiles-5f1c", "before-upgrade", 41, 300_000),
    ("users", "sessions-77ab", "before-upgrade", 41, 120_000),
    ("billing", "invoices-03de", "nightly-1", 12, 200_000),
    ("billing", "invoices-03de", "nightly-2", 1, 210_000),
];

/// Logs of each instance: name, age in days, bytes.
const LOGS: [(&str, u64, usize); 3] =
    [("app/requests.log.2", 60, 400_000), ("app/requests.log.1", 30, 300_000), ("app/requests.log", 0, 50_000)];

/// The running fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    /// Its directory.
    pub(super) site: Site,
    /// Its agents.
    pub(super) agents: Vec<LocalAgent>,
    /// The configuration of the operator's client.
    pub(super) client: PathBuf,
    /// A caller without a grant.
    pub(super) guest: Caller,
}

/// Lays out, publishes, starts, and waits until each agent has synced.
pub(super) fn start(directory: &Path, interrupt: &Interrupt) -> Result<Fleet, Failure> {
    say(&format!("Laying out a fleet in {}", directory.display()));
    let site = Site::create(directory).map_err(failure)?;
    say("  a certificate authority, and a TUF repository with keys for its four roles");
    let sources = directory.join("packs");
    let prod = ChannelName::new("prod").expect("a valid name");
    for name in packs::unpack(&sources)? {
        interrupt.check()?;
        let published = site.publish(&sources.join(&name), &prod).map_err(failure)?;
        say(&format!("  built, signed and published {name} {} ({})", published.version, published.digest.short()));
    }
    let guest = Principal::new("spiffe://bolt.local/guest").expect("a valid principal");
    let guest = site.caller("guest", &guest, Validity::days(1)).map_err(failure)?;
    say("Starting six agents, each with its launcher, on loopback addresses");
    let mut agents = Vec::new();
    for (index, (id, region, zone)) in INSTANCES.into_iter().enumerate() {
        let mut agent = LocalAgent::prepare(&site, &spec(&site, index, id, region, zone)?).map_err(failure)?;
        agent.launch().map_err(failure)?;
        agents.push(agent);
    }
    for agent in &mut agents {
        interrupt.check()?;
        agent.wait_ready().map_err(failure)?;
        let facts = agent.facts();
        say(&format!("  {} {:<10} {:<18} listening, synced, packs active", facts.id, facts.zone, agent.address()));
    }
    let client = site.write_client(&agents).map_err(failure)?;
    add_repository(&client)?;
    Ok(Fleet { site, agents, client, guest })
}

/// Adds the repository and its keys to `client.toml`, so that `bolt repo` needs no flags.
fn add_repository(client: &Path) -> Result<(), Failure> {
    let table = "\n[repository]\nurl = \"repo\"\nkeys = \"keys\"\n";
    let appended =
        fs::OpenOptions::new().append(true).open(client).and_then(|mut file| file.write_all(table.as_bytes()));
    appended.map_err(|e| Failure::new(Exit::Storage, format!("cannot write {}: {e}", client.display())))
}

impl Fleet {
    /// Leaves the agents running; gives the launchers' process ids.
    pub(super) fn detach(self) -> Vec<u32> {
        self.agents.into_iter().filter_map(LocalAgent::detach).collect()
    }

    /// Ends the agents, all at once, and everything that they run.
    pub(super) fn stop(self) {
        std::thread::scope(|scope| {
            for agent in self.agents {
                scope.spawn(move || drop(agent));
            }
        });
    }
}

fn spec(site: &Site, index: usize, id: &str, region: &str, zone: &str) -> Result<AgentSpec, Failure> {
    let id = InstanceId::new(id).expect("a valid id");
    let data = site.agent_directory(&id).join("cassandra/data");
    make_snapshots(site, &data)
        .map_err(|e| Failure::new(Exit::Storage, format!("cannot write snapshots to {}: {e}", data.display())))?;
    let logs = site.agent_directory(&id).join("logs");
    make_logs(site, &logs)
        .map_err(|e| Failure::new(Exit::Storage, format!("cannot write logs to {}: {e}", logs.display())))?;
    let mut facts = Facts::of(id);
    facts.region = region.to_owned();
    facts.zone = zone.to_owned();
    facts.app = "cassandra".to_owned();
    facts.cluster = "users-main".to_owned();
    let mut spec = AgentSpec::new(facts);
    spec.address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(index + 1).expect("six agents")));
    spec.pack_config = confined(&data, &logs);
    // Actions that would run as root run here as the account of all actions: this is a real host.
    if let Some(accounts) = site.accounts() {
        let account = toml::Value::from(accounts.action.to_string());
        let map = ["root", "cassandra"].map(|name| (name.to_owned(), account.clone()));
        spec = spec.set("users", "map", toml::Table::from_iter(map));
    }
    Ok(spec)
}

/// The site configuration of the demo's packs: everything that an action may change is in the demo's directory.
fn confined(data: &Path, logs: &Path) -> Vec<(String, String)> {
    let list = |path: &Path| format!("[{:?}]", path.display().to_string());
    vec![
        // Whatever Cassandra this host has is not the demo's.
        ("cassandra".to_owned(), format!("data_directories: {}\nnodetool: /nonexistent/nodetool\n", list(data))),
        ("linux".to_owned(), format!("log_directories: {}\nrestart_allow: []\n", list(logs))),
    ]
}

/// Writes logs, as old as they should be, for `linux.free_disk_space`.
fn make_logs(site: &Site, logs: &Path) -> std::io::Result<()> {
    for (name, days, bytes) in LOGS {
        let path = logs.join(name);
        fs::create_dir_all(path.parent().unwrap_or(logs))?;
        fs::write(&path, vec![b'.'; bytes])?;
        fs::File::open(&path)?.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400))?;
    }
    match site.accounts() {
        Some(accounts) => give(logs, accounts.action),
        None => Ok(()),
    }
}

/// Writes the snapshots, as old as they should be, for the account that clears them.
fn make_snapshots(site: &Site, data: &Path) -> std::io::Result<()> {
    for (keyspace, table, tag, days, bytes) in SNAPSHOTS {
        let snapshot = data.join(keyspace).join(table).join("snapshots").join(tag);
        fs::create_dir_all(&snapshot)?;
        fs::write(data.join(keyspace).join(table).join("nb-1-big-Data.db"), vec![7; 1000])?;
        let file = snapshot.join("nb-1-big-Data.db");
        fs::write(&file, vec![7; bytes])?;
        let then = SystemTime::now() - Duration::from_secs(days * 86_400);
        for path in [&file, &snapshot] {
            fs::File::open(path)?.set_modified(then)?;
        }
    }
    match site.accounts() {
        Some(accounts) => give(data, accounts.action),
        None => Ok(()),
    }
}

/// Gives a tree to an account, what is inside first: a directory that the account has already is not entered.
fn give(path: &Path, account: u32) -> std::io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), account)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(account), Some(account))
}

fn failure(error: LocalError) -> Failure {
    Failure::from_error(Exit::Failed, &error)
}
