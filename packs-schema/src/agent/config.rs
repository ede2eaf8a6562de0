//! `agent.toml`, which launcher, api and sync all read. An unknown key is an error.

mod error;
mod instance;
mod python;
mod repository;
mod total;
mod uid_range;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use error::ConfigError;
pub use instance::{FromTags, InstanceConfig};
pub use python::PythonConfig;
pub use repository::RepositoryConfig;
pub use total::{Percent, Portion, TotalConfig};
pub use uid_range::{UidRange, UidRangeError};

use crate::base::name::UserName;
use crate::base::pem;
use crate::base::quantity::{Bytes, Span};

/// The file `agent.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this instance is.
    #[serde(default)]
    pub instance: InstanceConfig,
    /// Where the REST interface listens.
    pub api: ApiConfig,
    /// Certificates of the REST interface.
    pub tls: TlsConfig,
    /// Where things are.
    #[serde(default)]
    pub paths: Paths,
    /// Where packs come from.
    pub repository: RepositoryConfig,
    /// How actions are run.
    #[serde(default)]
    pub execution: ExecutionConfig,
    /// The accounts.
    #[serde(default)]
    pub users: Users,
    /// What is remembered.
    #[serde(default)]
    pub history: HistoryConfig,
    /// Virtual environments of packs.
    #[serde(default)]
    pub python: PythonConfig,
    /// Packs that are pushed onto this instance, without a signature.
    #[serde(default)]
    pub dev: DevConfig,
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Address and port of the REST interface; port 0 takes a free one, which is written to `api.address` in the state directory.
    pub listen: SocketAddr,
    /// Address and port of a plain HTTP listener that answers `GET /v1/health` and nothing else, for load balancers.
    #[serde(default)]
    pub health_listen: Option<SocketAddr>,
    /// Maximum number of connections at once. Up to 64 callers more wait for a place, for 30 s; handshakes are bounded apart.
    #[serde(default = "max_connections")]
    pub max_connections: usize,
    /// The most memory of the api's process, where the launcher has cgroups of its own for it; under systemd the unit's
    /// `MemoryMax` holds for launcher, shims, api and sync together.
    #[serde(default = "api_memory")]
    pub memory: Bytes,
}

fn api_memory() -> Bytes {
    Bytes(128 << 20)
}

fn max_connections() -> usize {
    1024
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain of this instance, PEM; it names the instance id (`bolt://instance/<id>`).
    pub certificate: PathBuf,
    /// Its key, PEM (PKCS #8, SEC 1 or PKCS #1, not encrypted); no others may read it.
    pub key: PathBuf,
    /// The authorities of callers, PEM.
    pub client_ca: PathBuf,
}

/// `[paths]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Executions and history; owned by the api's account.
    pub state: PathBuf,
    /// Activated packs; owned by the sync's account.
    pub packs: PathBuf,
    /// What need not outlive a reboot; owned by the launcher.
    pub runtime: PathBuf,
    /// Who may do what.
    pub grants: PathBuf,
    /// Per-site configuration of packs, `<pack>.yaml`.
    pub pack_config: PathBuf,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            state: "/var/lib/bolt".into(),
            packs: "/opt/bolt/packs".into(),
            runtime: "/run/bolt".into(),
            grants: "/etc/bolt/grants.toml".into(),
            pack_config: "/etc/bolt/packs".into(),
        }
    }
}

impl Paths {
    /// The directory in which the api leaves pushed packs for the sync.
    pub fn inbox(&self) -> PathBuf {
        self.packs.join(crate::agent::push::INBOX)
    }

    /// The directory of executions that are not archived.
    pub fn executions(&self) -> PathBuf {
        self.state.join("exec")
    }
}

/// `[execution]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutionConfig {
    /// Refuse to run what cannot be capped as its action says.
    pub require_limits: bool,
    /// The most executions that run at once.
    pub max_running: u32,
    /// The most that wait.
    pub max_queued: u32,
    /// The most executions that the launcher lets run at once, whatever the api asks for; absent: twice `max_running`.
    pub max_shims: Option<u32>,
    /// The account of actions that name none, which all of them then share; absent: each execution gets one of its own
    /// from `uid_range`.
    pub default_run_as: Option<UserName>,
    /// The user and group ids of executions that have an account of their own.
    pub uid_range: UidRange,
    /// The cgroup below which executions are put, relative to each hierarchy's mount; absent: the launcher's own.
    pub cgroup: Option<String>,
    /// What all executions together may take.
    pub total: TotalConfig,
}

impl Default for ExecutionConfig {
    fn default() -> ExecutionConfig {
        ExecutionConfig {
            require_limits: true,
            max_running: 8,
            max_queued: 64,
            max_shims: None,
            default_run_as: None,
            uid_range: UidRange::default(),
            cgroup: None,
            total: TotalConfig::default(),
        }
    }
}

impl ExecutionConfig {
    /// The most executions that the launcher lets run at once.
    pub fn max_shims(&self) -> u32 {
        self.max_shims.unwrap_or_else(|| self.max_running.saturating_mul(2))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let most = self.max_shims();
        if most < self.max_running {
            return Err(ConfigError::MaxShims { max_shims: most, max_running: self.max_running });
        }
        if self.uid_range.count() < most {
            return Err(ConfigError::UidRangeTooSmall { range: self.uid_range, needed: most });
        }
        Ok(())
    }
}

/// `[users]`. Without root all of them are the current user.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// The account of the api; a name or a number, never root.
    pub api: UserName,
    /// The account of the sync; a name or a number, never root.
    pub sync: UserName,
    /// What packs call an account, and what it is called here.
    pub map: BTreeMap<UserName, UserName>,
}

impl Default for Users {
    fn default() -> Users {
        let name = |text| UserName::new(text).expect("a valid name");
        Users { api: name("bolt"), sync: name("bolt-sync"), map: BTreeMap::new() }
    }
}

/// `[history]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// How long executions are remembered.
    pub keep: Span,
    /// The most that outputs and the database may take, in bytes; never more than a tenth of the file system.
    pub max_bytes: Bytes,
    /// The most files and directories (inodes) that outputs may take; never more than a tenth of the file system's.
    pub max_files: u64,
}

impl Default for HistoryConfig {
    fn default() -> HistoryConfig {
        HistoryConfig { keep: Span(Duration::from_secs(180 * 86_400)), max_bytes: Bytes(2 << 30), max_files: 50_000 }
    }
}

/// `[dev]`: packs that are pushed onto this instance. Not for instances that must only run what was signed: whoever may
/// push, and whoever takes over the api, runs code of their own as the accounts that are allowed here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevConfig {
    /// Take pushed packs at all.
    pub push: bool,
    /// How long a pushed pack stays when its caller does not say.
    pub ttl: Span,
    /// How long it may stay.
    pub max_ttl: Span,
    /// The most packs that are pushed at once.
    pub max_packs: u32,
    /// The most bytes that pushed packs have together, unpacked.
    pub max_bytes: Bytes,
    /// The accounts that pushed actions may name; those that name none run as `execution.default_run_as`, or as an
    /// account of their own.
    pub run_as: Vec<UserName>,
}

impl Default for DevConfig {
    fn default() -> DevConfig {
        DevConfig {
            push: false,
            ttl: Span(Duration::from_secs(2 * 3600)),
            max_ttl: Span(Duration::from_secs(24 * 3600)),
            max_packs: 4,
            max_bytes: Bytes(256 << 20),
            run_as: Vec::new(),
        }
    }
}

impl Config {
    /// Parses the text of `agent.toml`.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let config = Config::parse_unchecked(text)?;
        match config.problems().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(config),
        }
    }

    /// Parses the text, whatever [`Config::problems`] says of the values: for reports of everything that is wrong.
    pub fn parse_unchecked(text: &str) -> Result<Config, ConfigError> {
        Ok(crate::base::document::toml::parse(text)?)
    }

    /// Returns everything that is wrong with the values.
    pub fn problems(&self) -> Vec<ConfigError> {
        let config = self;
        let mut problems = Vec::new();
        let paths: [(&'static str, &Path); 9] = [
            ("tls.certificate", &config.tls.certificate),
            ("tls.key", &config.tls.key),
            ("tls.client_ca", &config.tls.client_ca),
            ("paths.state", &config.paths.state),
            ("paths.packs", &config.paths.packs),
            ("paths.runtime", &config.paths.runtime),
            ("paths.grants", &config.paths.grants),
            ("paths.pack_config", &config.paths.pack_config),
            ("repository.root", &config.repository.root),
        ];
        for (key, path) in paths {
            if pem::is_pem_content(path) {
                problems.push(ConfigError::Content(key));
            } else if !path.is_absolute() {
                problems.push(ConfigError::Relative { key, path: path.to_owned() });
            }
        }
        for (key, zero) in [
            ("execution.max_running", config.execution.max_running == 0),
            ("execution.max_queued", config.execution.max_queued == 0),
            ("api.max_connections", config.api.max_connections == 0),
            ("execution.total.pids", config.execution.total.pids == 0),
            ("repository.max_pack", config.repository.max_pack.0 == 0),
            ("history.max_bytes", config.history.max_bytes.0 == 0),
            ("history.max_files", config.history.max_files == 0),
            ("dev.max_packs", config.dev.max_packs == 0),
            ("dev.max_bytes", config.dev.max_bytes.0 == 0),
        ] {
            if zero {
                problems.push(ConfigError::Zero(key));
            }
        }
        for (key, span) in [
            ("repository.poll", config.repository.poll),
            ("repository.timeout", config.repository.timeout),
            ("history.keep", config.history.keep),
            ("dev.ttl", config.dev.ttl),
            ("dev.max_ttl", config.dev.max_ttl),
        ] {
            if span.0.is_zero() {
                problems.push(ConfigError::NoTime(key));
            }
        }
        for (key, bytes, least) in [
            ("api.memory", config.api.memory.0, 16 << 20),
            ("execution.total.memory", config.execution.total.memory.bytes(u64::MAX), 16 << 20),
        ] {
            if bytes < least {
                problems.push(ConfigError::TooSmall(key, least));
            }
        }
        problems.extend(config.instance.check().err());
        problems.extend(config.execution.check().err());
        problems.extend(config.python.check().err());
        if let Some(cgroup) = config.execution.cgroup.as_ref().filter(|c| !is_below(c)) {
            problems.push(ConfigError::Cgroup(cgroup.clone()));
        }
        problems.extend(config.repository.check().err());
        problems
    }
}

fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}
