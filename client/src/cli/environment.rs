//! Checks the `BOLT_…` variables before a command runs: a misspelt one is a setting that has no effect.

use std::ffi::OsString;

use packs_schema::base::environment::{Owner, find_unknown};

use super::failure::{Exit, Failure};
use crate::errln;

/// Refuses a name that is nearly that of a variable which `bolt` reads, and warns of others that nothing reads.
pub(super) fn check(names: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    for one in find_unknown(names.iter().map(String::as_str)) {
        match one.meant {
            Some((meant, Owner::Client)) => {
                let problem = format!("environment variable {} is set, and bolt reads none of that name", one.name);
                return Err(
                    Failure::new(Exit::Usage, problem).hint(format!("did you mean {meant}? Otherwise unset it"))
                );
            }
            Some((meant, _)) => {
                errln!("bolt: environment variable {} has no effect; did you mean {meant}?", one.name);
            }
            None => errln!("bolt: environment variable {} has no effect", one.name),
        }
    }
    Ok(())
}
