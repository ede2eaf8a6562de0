//! Masks secrets in what instances send back, and `--mask`, which names them for an earlier execution.
//!
//! An execution's output may repeat a secret that its caller gave. `bolt run` knows the values and masks them; `bolt logs` and
//! `bolt show` run later, and are given them again, in the files that they came from.

use std::path::PathBuf;

use clap::Args;
use packs_schema::agent::rest::{Execution, MAX_BODY};

use super::failure::{Exit, Failure};
use crate::error::{Error, Kind};
use crate::files;
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

/// Masks secrets in what an instance sent back in a record: result, reasons, notes, and parameters, of which the agent masks
/// those that the action marks as secret.
pub(super) fn mask_execution(execution: &mut Execution, mask: &Mask) {
    execution.result = execution.result.as_ref().map(|result| mask.object(result));
    execution.parameters = execution.parameters.iter().map(|(name, value)| (name.clone(), mask.value(value))).collect();
    let Execution { reason, result_error, note, kill_note, .. } = execution;
    for text in [reason, result_error, note, kill_note].into_iter().flatten() {
        *text = mask.text(text);
    }
    if let Some(leftovers) = &mut execution.leftovers {
        leftovers.programs.iter_mut().for_each(|program| *program = mask.text(program));
    }
}

/// Masks secrets in an answer that is not an execution: an agent or a proxy may repeat parts of the request.
pub(super) fn mask_error(error: &mut Error, mask: &Mask) {
    match &mut error.kind {
        Kind::Problem(problem) => {
            problem.title = mask.text(&problem.title);
            problem.detail = mask.text(&problem.detail);
            problem.errors.iter_mut().for_each(|error| error.message = mask.text(&error.message));
        }
        Kind::Protocol(text) | Kind::Broken(text) | Kind::HandshakeBroken(text) => *text = mask.text(text),
        _ => {}
    }
}
