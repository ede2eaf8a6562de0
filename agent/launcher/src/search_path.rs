//! The `PATH` of every process that the launcher starts.

/// Directories in which programs are searched.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
