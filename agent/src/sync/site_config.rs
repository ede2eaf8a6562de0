//! Per-site configuration of a pack: `<pack_config>/<pack>.yaml`, checked against the active version's
//! `config.schema.yaml`, with its defaults, as `config.json` in the pack's directory; what is secret of it stands in
//! `config.secret.json`, which only the launcher, being root, need read.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use packs_schema::config::Config;
use packs_schema::contents::{CONFIG_SCHEMA_FILE, MAX_YAML};
use packs_schema::document::yaml;
use packs_schema::name::PackName;
use packs_schema::param::deliver::part_secrets;
use packs_schema::param::{Parameters, bind};
use packs_schema::store;
use serde_json::{Map, Value};

use super::error::{PackFailure, Step};
use super::store::Store;
use super::{check, disk};

/// The largest of the two files, in bytes: what the launcher reads.
const MAX_CONFIG: usize = 64 << 10;

/// Brings `config.json` up to date with the site's file and the active version in `directory`. When the file does not
/// fit, the old files stay.
pub(super) fn refresh(store: &Store, config: &Config, pack: &PackName, directory: &Path) -> Result<(), PackFailure> {
    let fail = |message: String| PackFailure::new(Step::Check, message);
    let schema = check::config_schema(directory).map_err(|e| fail(format!("{CONFIG_SCHEMA_FILE}: {e}")))?;
    let path = config.paths.pack_config.join(format!("{pack}.yaml"));
    let given = given(&path).map_err(PackFailure::file(Step::Check, "use", &path))?;
    let values = match &given {
        None if schema.is_empty() => None,
        _ => {
            let text = given.as_ref().map(|given| &given.bytes[..]);
            Some(values(&schema, text).map_err(|e| fail(format!("{}: {e}", path.display())))?)
        }
    };
    let (open, secret) = values.as_ref().map(|values| part_secrets(&schema, values)).unzip();
    // What has become secret leaves the open file before anything else happens.
    let secret = secret.filter(|secret| !secret.is_empty());
    if given.is_some_and(|given| given.everybody_reads)
        && secret.as_ref().is_some_and(|secret| !secret.values().all(Value::is_null))
    {
        let message = format!(
            "{} holds what config.schema.yaml calls secret, and everybody can read it: give it to the sync's group, mode 640",
            path.display()
        );
        return Err(fail(message));
    }
    let bytes = |part: Option<Map<String, Value>>| match part.map(|part| serde_json::to_vec(&part)).transpose() {
        Ok(Some(bytes)) if bytes.len() > MAX_CONFIG => {
            let length = bytes.len();
            Err(fail(format!("{} comes to {length} bytes; at most {MAX_CONFIG} are taken", path.display())))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(fail(error.to_string())),
    };
    // Neither is touched before both are known to fit.
    for (name, part, mode) in [(store::CONFIG, bytes(open)?, 0o644), (store::CONFIG_SECRETS, bytes(secret)?, 0o600)] {
        let target = store.pack(pack).join(name);
        match part {
            None => disk::remove_if_there(&target).map_err(PackFailure::file(Step::Check, "remove", &target))?,
            Some(bytes) => {
                write_if_changed(&target, &bytes, mode).map_err(PackFailure::file(Step::Check, "write", &target))?
            }
        }
    }
    Ok(())
}

/// The site's file, as it is.
struct Given {
    bytes: Vec<u8>,
    everybody_reads: bool,
}

/// Reads the site's file, which decides what actions do, perhaps as root: nobody but root and this account may change it.
fn given(path: &Path) -> io::Result<Option<Given>> {
    // What is no file must not be waited for.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if (owner != 0 && owner != geteuid().as_raw()) || mode & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "it must belong to root and not be writable by group or others; it has owner {owner}, mode {mode:o}"
        )));
    }
    let mut bytes = Vec::new();
    file.take(MAX_YAML + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_YAML {
        return Err(io::Error::other(format!("it is larger than {MAX_YAML} bytes")));
    }
    Ok(Some(Given { bytes, everybody_reads: mode & 0o004 != 0 }))
}

fn values(schema: &Parameters, given: Option<&[u8]>) -> Result<Map<String, Value>, String> {
    let given = match given {
        None => Map::new(),
        Some(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            match yaml::parse::<Value>(text).map_err(|e| e.without_values())? {
                Value::Object(map) => map,
                Value::Null => Map::new(),
                _ => return Err("it must be a map of names to values".to_owned()),
            }
        }
    };
    let bound = bind::bind_config(schema, &given).map_err(|errors| {
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
