//! Names of the key files in a keys directory.

use std::path::{Path, PathBuf};

use tough::schema::RoleType;

/// Maximum number of keys of a role.
pub(super) const MAX_KEYS: u8 = 16;

/// Returns the file of a role's nth key, counted from 1.
pub(super) fn path(directory: &Path, role: &str, n: u8) -> PathBuf {
    directory.join(if n == 1 { format!("{role}.pem") } else { format!("{role}-{n}.pem") })
}

/// Returns the file that names the same key in a key service.
pub(super) fn service_path(directory: &Path, role: &str, n: u8) -> PathBuf {
    path(directory, role, n).with_extension("kms")
}

/// Returns the file of a new key: that of a key service, when it exists already.
pub(super) fn planned_path(directory: &Path, role: &str, n: u8) -> PathBuf {
    let service = service_path(directory, role, n);
    if service.exists() { service } else { path(directory, role, n) }
}

/// Returns the name of a role's key files.
pub(super) fn name(role: RoleType) -> String {
    role.to_string()
}
