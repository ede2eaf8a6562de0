//! `bolt run`: runs an action on many instances.
//!
//! ```text
//!  select ─▶ the action's definition, kept or from an instance ─▶ bind all parameters ─▶ plan, and ask ─▶ run ─▶ report
//! ```
//!
//! Until the plan is confirmed, nothing but reads is sent.

mod args;
mod carry_out;
mod check;
mod definition;
mod detach;
mod params;
mod path;
mod prepare;
mod progress;
mod recording;
mod report;
mod resume;

use std::path::Path;

use packs_schema::agent::rest::ActionView;
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;

use super::context::Context;
use super::failure::{Exit, Failure};
use crate::definitions::Definitions;
use crate::fleet::{self, Earlier, Plan, Request, Run};
use crate::show::Mask;

use carry_out::{Wanted, carry_out};

pub(super) use args::RunCommand;
pub(super) use resume::{ResumeCommand, RetryCommand, resume, retry};

/// Maximum number of bytes of each output stream that is fetched from each instance.
const OUTPUT_LIMIT: usize = 256 << 10;
/// The same for runs on more than a thousand instances.
const OUTPUT_LIMIT_MANY: usize = 8 << 10;

/// Runs `bolt run`.
pub(super) async fn run(command: RunCommand, context: Context) -> Result<Exit, Failure> {
    if command.select.select.reads_stdin() && command.params_file.as_deref() == Some(Path::new("-")) {
        return Err(Failure::new(Exit::Usage, "--on - and --params-file - both read standard input"));
    }
    let targets = context.select_explicit("run", &command.select).await.map_err(|failure| match failure.hint {
        Some(hint) if command.how.at_once && command.select.is_empty() => {
            let hint = format!("{hint}; --at-once (--all) sets the order, not the instances");
            Failure { hint: Some(hint), ..failure }
        }
        _ => failure,
    })?;
    prepare::check_canary(command.how.canary, targets.len())?;
    let identity = context.identity()?;
    let mut definitions = Definitions::open(context.config());
    let (ActionView { action, .. }, parameters) =
        definition::find(&command, &targets, &identity, &mut definitions, context.json).await?;
    let mask = Mask::of_parameters(&action.parameters, &parameters);
    let facts: Vec<&Facts> = targets.iter().map(|target| &target.facts).collect();
    let plan = Plan::new(&facts, &command.how.strategy(prepare::changes(&command, &action)));
    if command.how.detach {
        detach::check(&plan)?;
    }
    let check = check::prepare(&command.how, &targets, &identity).await?;
    prepare::confirm(&command, &action, &plan, &targets).await?;
    let request = Request {
        action: command.action.action.clone(),
        version: command.action.version.clone(),
        // A run that was not confirmed must not change an instance that has another version.
        class: (action.class == Class::Diagnostic && !command.noop).then_some(action.class),
        parameters,
        noop: command.noop,
        timeout_ms: command.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        note: command.note.clone(),
        output_limit: if targets.len() > 1000 { OUTPUT_LIMIT_MANY } else { OUTPUT_LIMIT },
    };
    let run = Run { id: command.run_id.clone().unwrap_or_else(fleet::new_run_id), request, targets, plan, check };
    let recorder = recording::begin(&run, &action, command.unrecorded).await?;
    if command.how.detach {
        return Ok(detach::start(&run, &identity, &context, &mask, recorder).await);
    }
    let is_diagnostic = action.class == Class::Diagnostic;
    let (earlier, view) = (Earlier::default(), &command.view);
    let wanted = Wanted { run: &run, earlier, is_diagnostic, mask: &mask, view, recorder };
    carry_out(wanted, &identity, &context, &mut definitions).await
}
