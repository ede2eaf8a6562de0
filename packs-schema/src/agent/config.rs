//! `agent.toml`, read by launcher, api and sync. An unknown key is an error.

mod address;
mod api;
mod audit;
mod error;
mod instance;
mod python;
mod repository;
mod tls;
mod total;
mod uid_range;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use api::ApiConfig;
pub use audit::AuditConfig;
pub use error::ConfigError;
pub use instance::{FromTags, InstanceConfig};
pub use python::PythonConfig;
pub use repository::RepositoryConfig;
pub use tls::{ClientAuthority, ExpiredCrl, TlsConfig};
pub use total::{Percent, Portion, TotalConfig};
pub use uid_range::{UidRange, UidRangeError};

use crate::base::name::UserName;
use crate::base::pem;
use crate::base::quantity::{Bytes, Span};

/// The file `agent.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Identity and facts of the instance.
    #[serde(default)]
    pub instance: InstanceConfig,
    /// REST interface.
    pub api: ApiConfig,
    /// Certificates of the REST interface.
    pub tls: TlsConfig,
    /// Directories and files.
    #[serde(default)]
    pub paths: Paths,
    /// Repository of packs.
    pub repository: RepositoryConfig,
    /// Execution of actions.
    #[serde(default)]
    pub execution: ExecutionConfig,
    /// Accounts.
    #[serde(default)]
    pub users: Users,
    /// History.
    #[serde(default)]
    pub history: HistoryConfig,
    /// Audit log.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Virtual environments of packs.
    #[serde(default)]
    pub python: PythonConfig,
    /// Pushed packs, which are not signed.
    #[serde(default)]
    pub dev: DevConfig,
}

/// `[paths]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// State directory: executions and history; owned by the api's account.
    pub state: PathBuf,
    /// Store of activated packs; owned by the sync's account.
    pub packs: PathBuf,
    /// Run-time directory, which need not survive a reboot; owned by the launcher's account. The socket of local access is in it.
    pub runtime: PathBuf,
    /// File of grants.
    pub grants: PathBuf,
    /// Directory of site configurations, `<pack>.yaml`.
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
    /// Returns the directory in which the api leaves pushed packs for the sync.
    pub fn inbox(&self) -> PathBuf {
        self.packs.join(crate::agent::push::INBOX)
    }

    /// Returns the socket of local access.
    pub fn local_socket(&self) -> PathBuf {
        self.runtime.join(crate::agent::launch::LOCAL_SOCKET)
    }

    /// Returns the directory of the audit log.
    pub fn audit(&self) -> PathBuf {
        self.state.join("audit")
    }

    /// Returns the directory of executions.
    pub fn executions(&self) -> PathBuf {
        self.state.join("exec")
    }
}

/// `[execution]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutionConfig {
    /// Refuse executions whose limits cannot be enforced on this host.
    pub require_limits: bool,
    /// Maximum number of concurrent executions.
    pub max_running: u32,
    /// Maximum number of queued executions.
    pub max_queued: u32,
    /// Maximum number of concurrent executions that the launcher allows, independent of the api; absent: twice
    /// `max_running`.
    pub max_shims: Option<u32>,
    /// Shared account of actions that name none; absent: each execution gets an account of its own from `uid_range`.
    pub default_run_as: Option<UserName>,
    /// User and group ids for executions with an account of their own.
    pub uid_range: UidRange,
    /// Parent cgroup of executions, relative to each hierarchy's mount point; absent: the launcher's own.
    pub cgroup: Option<String>,
    /// Limits of all executions together.
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
    /// Returns the maximum number of concurrent executions that the launcher allows.
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

/// `[users]`. Without root all accounts are the current user.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Users {
    /// Account of the api; a name or a number, never root.
    pub api: UserName,
    /// Account of the sync; a name or a number, never root.
    pub sync: UserName,
    /// Maps names of accounts in packs to local accounts.
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
    /// Retention time of executions.
    pub keep: Span,
    /// Maximum size of outputs and database, in bytes; never more than a tenth of the file system.
    pub max_bytes: Bytes,
    /// Maximum number of files and directories (inodes) of outputs; never more than a tenth of the file system's.
    pub max_files: u64,
}

impl Default for HistoryConfig {
    fn default() -> HistoryConfig {
        HistoryConfig { keep: Span(Duration::from_secs(180 * 86_400)), max_bytes: Bytes(2 << 30), max_files: 50_000 }
    }
}

/// `[dev]`: pushed packs. Not for instances that must run signed code only: a caller who may push, or an attacker who
/// controls the api, can run code as the accounts that are allowed here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevConfig {
    /// Allow pushed packs.
    pub push: bool,
    /// Default time to live of a pushed pack.
    pub ttl: Span,
    /// Maximum time to live of a pushed pack.
    pub max_ttl: Span,
    /// Maximum number of pushed packs.
    pub max_packs: u32,
    /// Maximum unpacked size of all pushed packs together, in bytes.
    pub max_bytes: Bytes,
    /// Accounts that pushed actions may name; actions that name none run as `execution.default_run_as`, or as an
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
            ("audit.journal_socket", &config.audit.journal_socket),
            ("tls.certificate", &config.tls.certificate),
            ("tls.key", &config.tls.key),
            ("paths.state", &config.paths.state),
            ("paths.packs", &config.paths.packs),
            ("paths.runtime", &config.paths.runtime),
            ("paths.grants", &config.paths.grants),
            ("paths.pack_config", &config.paths.pack_config),
            ("repository.root", &config.repository.root),
        ];
        for (key, path) in paths.into_iter().chain(config.tls.caller_files()) {
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
            ("audit.max_files", config.audit.max_files == 0),
            ("audit.max_refusal_files", config.audit.max_refusal_files == 0),
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
            ("audit.file_bytes", config.audit.file_bytes.0, AuditConfig::MIN_FILE_BYTES),
            ("execution.total.memory", config.execution.total.memory.bytes(u64::MAX), 16 << 20),
        ] {
            if bytes < least {
                problems.push(ConfigError::TooSmall(key, least));
            }
        }
        if config.audit.file_bytes.0 > AuditConfig::MAX_FILE_BYTES {
            problems.push(ConfigError::TooLarge("audit.file_bytes", AuditConfig::MAX_FILE_BYTES));
        }
        for (key, given, most) in [
            ("api.max_connections", config.api.max_connections, ApiConfig::MAX_CONNECTIONS),
            ("audit.max_files", config.audit.max_files as usize, AuditConfig::MAX_FILES),
            ("audit.max_refusal_files", config.audit.max_refusal_files as usize, AuditConfig::MAX_FILES),
        ] {
            if given > most {
                problems.push(ConfigError::AtMost { key, given, most });
            }
        }
        problems.extend(config.api.check().err());
        problems.extend(config.instance.check().err());
        problems.extend(config.execution.check().err());
        problems.extend(config.python.check().err());
        if let Some(cgroup) = config.execution.cgroup.as_ref().filter(|c| !is_below(c)) {
            problems.push(ConfigError::Cgroup(cgroup.clone()));
        }
        problems.extend(config.repository.check().err());
        problems.extend(config.tls.check().err());
        problems
    }
}

fn is_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}
