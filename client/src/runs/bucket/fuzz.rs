//! Doors for the fuzz targets to the objects of a run in a bucket.

use packs_schema::base::name::RunId;

use super::objects::{self, Group, LeaseObject};

/// Reads a lease.
pub(in crate::runs) fn lease(run: &RunId, bytes: &[u8]) -> Result<(String, u128), String> {
    let lease = LeaseObject::parse("lease", run, bytes).map_err(|error| error.to_string())?;
    assert_eq!(LeaseObject::parse("lease", run, &lease.bytes()).expect("what was written reads back"), lease);
    Ok((lease.by(), lease.expiry().as_millis()))
}

/// Reads a group of entries.
pub(in crate::runs) fn group(run: &RunId, bytes: &[u8]) -> Result<usize, String> {
    if let Some((_, name)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once("name:")) {
        objects::number(name);
        objects::run_of_head(name);
        objects::plan(run, name);
    }
    let group = Group::parse("group", run, 1, bytes).map_err(|error| error.to_string())?;
    Group::parse("group", run, 1, &group.bytes()).expect("what was written reads back");
    Ok(group.entries.len())
}
