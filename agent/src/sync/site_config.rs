//! Per-site configuration of a pack: `<pack_config>/<pack>.yaml`, checked against the active version's
//! `config.schema.yaml`, with its defaults, as `config.json` in the pack's directory; what is secret of it stands in
//! `config.secret.json`, which only the launcher, being root, need read.

use std::path::Path;

use packs_schema::config::Config;
use packs_schema::contents::{CONFIG_SCHEMA_FILE, MAX_YAML};
use packs_schema::name::PackName;
use packs_schema::param::deliver::part_secrets;
use packs_schema::param::{Parameters, bind};
use packs_schema::store;
use serde_json::{Map, Value};

use super::error::{PackFailure, Step};
use super::store::Store;
use super::{check, disk, yaml};

/// The largest of the two files, in bytes: what the launcher reads.
const MAX_CONFIG: usize = 64 << 10;

/// Brings `config.json` up to date with the site's file and the active version in `directory`. When the file does not
/// fit, the old files stay.
pub(super) fn refresh(store: &Store, config: &Config, pack: &PackName, directory: &Path) -> Result<(), PackFailure> {
    let fail = |message: String| PackFailure::new(Step::Check, message);
    let schema = check::config_schema(directory).map_err(|e| fail(format!("{CONFIG_SCHEMA_FILE}: {e}")))?;
    let path = config.paths.pack_config.join(format!("{pack}.yaml"));
    let given = disk::read_if_there(&path, MAX_YAML).map_err(PackFailure::file(Step::Check, "read", &path))?;
    let values = match &given {
        None if schema.is_empty() => None,
        _ => Some(values(&schema, given.as_deref()).map_err(|e| fail(format!("{}: {e}", path.display())))?),
    };
    let (open, secret) = values.as_ref().map(|values| part_secrets(&schema, values)).unzip();
    // What has become secret leaves the open file before anything else happens.
    let secret = secret.filter(|secret| !secret.is_empty());
    for (name, part, mode) in [(store::CONFIG, open, 0o644), (store::CONFIG_SECRETS, secret, 0o600)] {
        let target = store.pack(pack).join(name);
        let Some(part) = part else {
            disk::remove_if_there(&target).map_err(PackFailure::file(Step::Check, "remove", &target))?;
            continue;
        };
        let bytes = serde_json::to_vec(&part).map_err(|e| fail(e.to_string()))?;
        if bytes.len() > MAX_CONFIG {
            let message = format!("{} comes to {} bytes; at most {MAX_CONFIG} are taken", path.display(), bytes.len());
            return Err(fail(message));
        }
        write_if_changed(&target, &bytes, mode).map_err(PackFailure::file(Step::Check, "write", &target))?;
    }
    Ok(())
}

fn values(schema: &Parameters, given: Option<&[u8]>) -> Result<Map<String, Value>, String> {
    let given = match given {
        None => Map::new(),
        Some(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            match yaml::parse::<Value>(text)? {
                Value::Object(map) => map,
                Value::Null => Map::new(),
                _ => return Err("it must be a map of names to values".to_owned()),
            }
        }
    };
    let bound = bind::bind(schema, &given).map_err(|errors| {
        // The messages say what would be right, never what was given: a configuration may hold secrets.
        let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ").replace('\n', " ");
        said.replace("is not a parameter of this action: the action takes", "is not in config.schema.yaml, which has")
    })?;
    Ok(bound.values().clone())
}

fn write_if_changed(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let same_mode = path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o777 == mode);
    if same_mode && std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    disk::replace(path, bytes, mode)
}
