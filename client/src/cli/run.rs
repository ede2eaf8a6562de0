//! `bolt run`: runs an action on many instances.
//!
//! ```text
//!  select ─▶ the action's definition, kept or from an instance ─▶ bind all parameters ─▶ plan, and ask ─▶ run ─▶ report
//! ```
//!
//! Until the plan is confirmed, nothing but reads is sent.

mod args;
mod carry_out;
mod detach;
mod events;
mod failure;
mod input;
mod live;
mod output_dir;
mod params;
mod path;
mod plan;
mod progress;
mod recording;
mod report;
mod resume;

use std::path::Path;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::terminal;
use crate::definitions::Definitions;
use crate::fleet::Pause;
use crate::runner;

use carry_out::{Wanted, carry_out};
use input::Arguments;

pub(super) use args::RunCommand;
pub(super) use resume::{ResumeCommand, RetryCommand, resume, retry};

/// Runs `bolt run`.
pub(super) async fn run(command: RunCommand, context: Context) -> Result<Exit, Failure> {
    if command.select.select.reads_stdin() && command.params_file.as_deref() == Some(Path::new("-")) {
        return Err(Failure::new(Exit::Usage, "--on - and --params-file - both read standard input"));
    }
    command.view.check()?;
    if command.how.pause == Some(Pause::Confirm) && !terminal::can_ask() {
        return Err(Failure::new(Exit::Usage, "--pause ask needs a terminal").hint("give a time, such as --pause 5m"));
    }
    let targets = context.select_explicit("run", &command.select).await.map_err(|failure| match failure.hint {
        Some(hint) if command.how.at_once && command.select.is_empty() => {
            let hint = format!("{hint}; --at-once (--all) sets the order, not the instances");
            Failure { hint: Some(hint), ..failure }
        }
        _ => failure,
    })?;
    let identity = context.identity()?;
    let mut definitions = Definitions::open(context.config());
    let mut input =
        Arguments::new(&command.parameters, command.params_file.as_deref(), &command.how.check_param, !context.json)?;
    let mut prepared = runner::prepare(&command.order(), targets, &identity, &mut definitions, &mut input).await?;
    if command.how.detach {
        detach::check(&prepared.run.plan)?;
    }
    plan::confirm(&prepared, command.yes).await?;
    let files = command.view.files(&mut prepared.run)?;
    let job = recording::begin(prepared, &context, command.unrecorded).await?;
    if command.how.detach {
        return Ok(detach::start(job, &identity, &context).await);
    }
    carry_out(Wanted { job, files, view: &command.view }, &identity, &context, &mut definitions).await
}
