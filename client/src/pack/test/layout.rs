//! The temporary directory: a store with one activated pack, an `agent.toml`, and one execution.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use packs_schema::agent::execution::{self, Spec};
use packs_schema::agent::launch::{Operation, Start};
use packs_schema::agent::store::{self, Manifest, StoredPack};
use packs_schema::base::name::{ExecutionId, Principal};
use packs_schema::pack::action::Action;
use packs_schema::pack::contents::CheckedPack;
use packs_schema::pack::site_config::SiteConfig;
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::super::{BuiltPack, extract};
use super::{TestError, TestOptions};

pub(super) struct Layout {
    temp: TempDir,
    id: ExecutionId,
    execution: PathBuf,
}

impl Layout {
    pub(super) fn make(
        built: &BuiltPack,
        checked: &CheckedPack,
        config: &SiteConfig,
        action: &Action,
        options: &TestOptions,
    ) -> Result<Layout, TestError> {
        let failed = TestError::io("lay out a temporary store");
        let made = || -> io::Result<Layout> {
            let temp = tempfile::Builder::new().prefix("bolt-test-").tempdir()?;
            // The action's account must get through to its script.
            fs::set_permissions(temp.path(), Permissions::from_mode(0o755))?;
            let id = ExecutionId::new(uuid::Uuid::now_v7().hyphenated().to_string()).map_err(io::Error::other)?;
            let execution = temp.path().join("state/exec").join(id.as_str());
            let layout = Layout { temp, id, execution };
            layout.store(built, checked, config)?;
            fs::write(layout.config(), layout.agent_toml(action, options))?;
            fs::set_permissions(layout.config(), Permissions::from_mode(0o644))?;
            layout.execution_directory(built, action, options)?;
            Ok(layout)
        };
        made().map_err(failed)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.temp.path().join("agent.toml")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.temp.path().join("launcher.log")
    }

    pub(super) fn packs(&self) -> PathBuf {
        self.temp.path().join("packs")
    }

    /// The pack's directory in its version.
    pub(super) fn version(&self, built: &BuiltPack) -> PathBuf {
        let name = store::version_directory(&built.pack.version, &built.digest);
        self.packs().join(built.pack.name.as_str()).join(name)
    }

    pub(super) fn execution(&self) -> &Path {
        &self.execution
    }

    /// Request to the launcher.
    pub(super) fn start(
        &self,
        built: &BuiltPack,
        action: &Action,
        given: &Map<String, Value>,
        noop: bool,
    ) -> Operation {
        Operation::Start(Box::new(Start {
            execution: self.id.clone(),
            pack: built.pack.name.clone(),
            version: built.pack.version.clone(),
            digest: built.digest.clone(),
            action: action.name.clone(),
            parameters: given.clone(),
            noop,
            timeout_ms: None,
            run: None,
            traceparent: None,
        }))
    }

    /// Writes the same files as the agent's sync.
    fn store(&self, built: &BuiltPack, checked: &CheckedPack, config: &SiteConfig) -> io::Result<()> {
        let pack = self.packs().join(built.pack.name.as_str());
        let version = self.version(built);
        let actions = version.join(store::META).join(store::ACTIONS);
        fs::create_dir_all(&version)?;
        extract::extract(&built.archive, &version)?;
        fs::create_dir_all(&actions)?;
        let meta = version.join(store::META);
        let stored =
            StoredPack { format: store::FORMAT, digest: built.digest.clone(), pack: built.pack.clone(), dev: None };
        fs::write(meta.join(store::PACK), serde_json::to_vec(&stored)?)?;
        let manifest = Manifest { format: store::FORMAT, files: Vec::new() };
        fs::write(meta.join(store::MANIFEST), serde_json::to_vec(&manifest)?)?;
        for action in &checked.actions {
            fs::write(actions.join(format!("{}.json", action.name)), serde_json::to_vec(action)?)?;
        }
        std::os::unix::fs::symlink(version.file_name().unwrap_or_default(), pack.join(store::CURRENT))?;
        fs::write(meta.join(store::CONFIG), serde_json::to_vec(config.public())?)?;
        protect(&self.packs())?;
        if !config.secrets().is_empty() {
            let mut file =
                File::options().write(true).create_new(true).mode(0o600).open(meta.join(store::CONFIG_SECRETS))?;
            file.write_all(&serde_json::to_vec(config.secrets())?)?;
        }
        Ok(())
    }

    fn agent_toml(&self, action: &Action, options: &TestOptions) -> String {
        let path = |name: &str| toml::Value::from(self.temp.path().join(name).display().to_string());
        let table = |entries: Vec<(&str, toml::Value)>| -> toml::Value {
            toml::Table::from_iter(entries.into_iter().map(|(key, value)| (key.to_owned(), value))).into()
        };
        let me = nix::unistd::geteuid();
        let as_me = options.run_as_me || !me.is_root();
        let mut map = toml::Table::new();
        if let Some(account) = action.run_as.as_ref().filter(|_| options.run_as_me) {
            map.insert(account.to_string(), me.to_string().into());
        }
        let mut config = toml::Table::new();
        config.insert("instance".into(), table(vec![("id", "pack-test".into())]));
        config.insert("api".into(), table(vec![("listen", "127.0.0.1:0".into())]));
        let tls = ["certificate", "key", "client_ca"].map(|key| (key, path("none.pem")));
        config.insert("tls".into(), table(tls.to_vec()));
        let paths = ["state", "packs", "runtime"].map(|key| (key, path(key)));
        config.insert("paths".into(), table(paths.to_vec()));
        let url = format!("file://{}", self.temp.path().join("none").display());
        let repository = vec![("url", url.into()), ("root", path("none.json")), ("channel", "test".into())];
        config.insert("repository".into(), table(repository));
        let mut execution = vec![("require_limits", options.require_limits.into())];
        if as_me {
            execution.push(("default_run_as", me.to_string().into()));
        }
        config.insert("execution".into(), table(execution));
        config.insert("users".into(), table(vec![("map", map.into())]));
        toml::to_string(&config).expect("a table serialises")
    }

    fn execution_directory(&self, built: &BuiltPack, action: &Action, options: &TestOptions) -> io::Result<()> {
        for directory in [self.temp.path().join("state"), self.temp.path().join("state/exec"), self.execution.clone()] {
            fs::create_dir(&directory)?;
            fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let spec = Spec {
            format: execution::FORMAT,
            id: self.id.clone(),
            action: action.reference(),
            version: built.pack.version.clone(),
            digest: built.digest.clone(),
            dev: None,
            parameters: Map::new(),
            has_secrets: false,
            noop: options.noop,
            timeout_ms: None,
            principal: Principal::new("bolt://local/pack-test").map_err(io::Error::other)?,
            note: None,
            run: None,
            idempotency_key: None,
            fingerprint: None,
            traceparent: None,
            created_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            created_boottime_ms: None,
            start_within_ms: 60_000,
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        };
        fs::write(self.execution.join(execution::file::SPEC), serde_json::to_vec(&spec)?)
    }
}

/// No umask of the author's may make the store other than an agent's.
fn protect(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            protect(&path)?;
        } else {
            let run = fs::metadata(&path)?.permissions().mode() & 0o100 != 0;
            fs::set_permissions(&path, Permissions::from_mode(if run { 0o755 } else { 0o644 }))?;
        }
    }
    Ok(())
}
