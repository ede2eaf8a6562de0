//! Masks secrets in what instances send back: in records, errors and outputs.

use packs_schema::agent::rest::Execution;

use crate::error::{Error, Kind};
use crate::fleet::{Ending, Report};
use crate::show::Mask;

/// Masks secrets in what an instance sent back in a record: result, reasons, notes, and parameters, of which the agent masks
/// those that the action marks as secret.
pub fn mask_execution(execution: &mut Execution, mask: &Mask) {
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
pub fn mask_error(error: &mut Error, mask: &Mask) {
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

/// Masks secrets in all that instances sent back.
pub fn mask_report(report: &mut Report, mask: &Mask) {
    if mask.is_empty() {
        return;
    }
    report.endings.iter_mut().for_each(|ending| mask_ending(ending, mask));
}

/// Masks secrets in all that one instance sent back.
pub fn mask_ending(ending: &mut Ending, mask: &Mask) {
    if mask.is_empty() {
        return;
    }
    match ending {
        Ending::Ended(execution, output) => {
            for bytes in [&mut output.stdout, &mut output.stderr] {
                let mut stream = mask.stream();
                let mut masked = stream.push(bytes);
                masked.extend(if output.truncated { stream.break_off() } else { stream.finish() });
                *bytes = masked;
            }
            mask_execution(execution, mask);
        }
        Ending::Unreachable { error, .. } | Ending::Refused(error) => mask_error(error, mask),
        Ending::NotStarted => {}
    }
}
