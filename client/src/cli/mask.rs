//! `--mask`, which names secrets to mask in what instances send back about an earlier execution.
//!
//! An execution's output may repeat a secret that its caller gave. `bolt run` knows the values and masks them; `bolt logs` and
//! `bolt show` run later, and are given them again, in the files that they came from.

use std::path::PathBuf;

use clap::Args;
use packs_schema::agent::rest::MAX_BODY;

use super::failure::{Exit, Failure};
use crate::files;
pub(super) use crate::runner::{mask_error, mask_execution};
use crate::show::mask::{Mask, SHORTEST};

/// Secrets to mask.
#[derive(Debug, Args)]
pub(super) struct MaskArgs {
    /// Mask the content of this file in what is printed: a secret that was given as NAME=@FILE. Repeatable.
    #[arg(long, value_name = "FILE")]
    mask: Vec<PathBuf>,
}

impl MaskArgs {
    /// Reads the files. Fails if one holds a value that is too short to be masked.
    pub(super) fn read(&self) -> Result<Mask, Failure> {
        let mut secrets = Vec::new();
        for path in &self.mask {
            let text = files::read_text(path, MAX_BODY as u64)
                .map_err(|e| Failure::from_error(Exit::Usage, &e.named_by("--mask")))?;
            if text.trim().len() < SHORTEST {
                let path = crate::show::path(path);
                let problem =
                    format!("the value in {path} has fewer than {SHORTEST} bytes: it would be masked everywhere");
                return Err(Failure::new(Exit::Usage, problem));
            }
            secrets.push(text);
        }
        Ok(Mask::new(secrets.iter().map(String::as_str)))
    }
}
