//! `bolt logs`: the output of an execution or of a run, whole or as it comes.

mod lines;
mod of_run;

use std::io::{self, Write as _};
use std::pin::pin;

use clap::{Args, ValueEnum};
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::OutputChunk;
use packs_schema::base::name::{ExecutionId, RunId};
use packs_schema::base::quantity::format_bytes;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::find::{IdArg, Which, find_one};
use super::mask::MaskArgs;
use super::numbers::whole;
use super::select::SelectArgs;
use crate::connection::{Agent, chunk_bytes};
use crate::show::mask::{Mask, MaskStream};
use crate::show::{self, Visible};
use crate::{errln, outln};

const EXAMPLES: &str = "\
Examples:
  bolt logs 6e1d4cf1b2aa             the whole output of one execution
  bolt logs -f 6e1d4cf1b2aa          follow it until it has ended
  bolt logs -f --run r-0193…         all of a run: `i-0abc | line`
  bolt logs --run r-0193… --stream stderr --on i-0abc,i-0def
  bolt logs 6e1d4cf1b2aa --mask token.txt   hide the secret that was given as token=@token.txt";

/// Print the output of an execution, or of all of a run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogsCommand {
    /// The execution: its id, or at least the last six characters of it; or a run (r-…).
    #[arg(value_name = "ID|RUN-ID", required_unless_present = "run", conflicts_with = "run")]
    which: Option<Which>,
    /// Print whole lines of all executions of this run as they arrive, each after its instance.
    #[arg(long, value_name = "RUN-ID")]
    run: Option<RunId>,
    #[command(flatten)]
    output: OutputArgs,
    /// With --run: read from at most this many executions at once; the others follow when these end.
    #[arg(long, value_name = "N", default_value = "256", allow_negative_numbers = true, value_parser = whole::<usize>(1..=10_000))]
    parallel: usize,
    #[command(flatten)]
    secrets: MaskArgs,
    #[command(flatten)]
    select: SelectArgs,
}

/// Parts of an output to print, and how.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Follow the output until the execution, or all of the run, have ended.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Print this stream only. Without it, standard error goes to standard error.
    #[arg(long, value_enum)]
    stream: Option<StreamArg>,
    /// Print the bytes as they are. Control characters in them can affect your terminal.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StreamArg {
    Stdout,
    Stderr,
}

impl StreamArg {
    fn stream(self) -> Stream {
        match self {
            StreamArg::Stdout => Stream::Stdout,
            StreamArg::Stderr => Stream::Stderr,
        }
    }
}

/// Runs `bolt logs`. With `--json`, each chunk is one line.
pub(super) async fn run(command: LogsCommand, context: Context) -> Result<Exit, Failure> {
    let mask = read_mask(&command.secrets, context.json)?;
    match Which::of(command.which.as_ref(), command.run.as_ref()) {
        Which::Execution(id) => one(&id, &command, &mask, &context).await,
        Which::Run(run) => of_run::print(&run, &command, &mask, &context).await,
    }
}

/// Reads the secrets to mask.
pub(super) fn read_mask(secrets: &MaskArgs, json: bool) -> Result<Mask, Failure> {
    let mask = secrets.read()?;
    if json && !mask.is_empty() {
        let problem = "--mask works on text, not on the chunks that --json prints, which may cut a secret in two";
        return Err(Failure::new(Exit::Usage, problem));
    }
    Ok(mask)
}

async fn one(id: &IdArg, command: &LogsCommand, mask: &Mask, context: &Context) -> Result<Exit, Failure> {
    let (instance, execution) = find_one(context, &command.select, id).await?;
    let agent = Agent::new(&instance, &context.identity()?);
    print(&agent, &execution.id, &command.output, Printer::new(&command.output, mask, context.json)).await
}

/// Prints the output of one execution.
pub(super) async fn print(
    agent: &Agent,
    id: &ExecutionId,
    args: &OutputArgs,
    mut printer: Printer<'_>,
) -> Result<Exit, Failure> {
    let mut output = agent.follow_output(id, args.follow);
    // A shell may have started this process with SIGINT ignored, so it is handled here. One listener for all chunks: a
    // signal that comes while one is printed must not be lost.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let chunk = tokio::select! {
            biased;
            Ok(()) = &mut interrupted => return Ok(Exit::Interrupted),
            chunk = output.next() => chunk,
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|e| Failure { exit: Exit::Failed, ..Failure::from_instance(&e) })?;
        printer.print(&chunk).map_err(|e| cannot_print(&e))?;
    }
    printer.finish().map_err(|e| cannot_print(&e))?;
    Ok(Exit::Success)
}

pub(super) fn cannot_print(error: &io::Error) -> Failure {
    Failure::new(Exit::Storage, format!("cannot print the output: {error}"))
}

/// Prints the chunks of one execution.
pub(super) struct Printer<'a> {
    raw: bool,
    json: bool,
    only: Option<StreamArg>,
    /// Mask secrets, before anything else: an escape in the middle of one would hide it from the mask.
    masks: [MaskStream<'a>; 2],
    streams: [Visible; 2],
}

impl<'a> Printer<'a> {
    pub(super) fn new(args: &OutputArgs, mask: &'a Mask, json: bool) -> Printer<'a> {
        let masks = [mask.stream(), mask.stream()];
        Printer { raw: args.raw, json, only: args.stream, masks, streams: Default::default() }
    }

    pub(super) fn print(&mut self, chunk: &OutputChunk) -> io::Result<()> {
        if self.only.is_some_and(|only| only.stream() != chunk.stream) {
            return Ok(());
        }
        if self.json {
            outln!("{}", show::json_line(chunk));
            return Ok(());
        }
        let index = usize::from(chunk.stream == Stream::Stderr);
        if let Some(dropped) = chunk.dropped_bytes {
            let bytes = self.masks[index].break_off();
            self.show(index, &bytes)?;
            let held = self.streams[index].finish();
            self.write(index, held.as_bytes())?;
            errln!("[{} of its output were not kept]", format_bytes(dropped));
            return Ok(());
        }
        let bytes = self.masks[index].push(&chunk_bytes(chunk).unwrap_or_default());
        self.show(index, &bytes)
    }

    fn show(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        if self.raw {
            return self.write(index, bytes);
        }
        let text = self.streams[index].push(bytes);
        self.write(index, text.as_bytes())
    }

    /// Prints what is held back of a stream, at its end.
    fn flush(&mut self, index: usize) -> io::Result<()> {
        let bytes = self.masks[index].finish();
        self.show(index, &bytes)?;
        let held = self.streams[index].finish();
        self.write(index, held.as_bytes())
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        for index in 0..self.streams.len() {
            self.flush(index)?;
        }
        Ok(())
    }

    fn write(&self, index: usize, bytes: &[u8]) -> io::Result<()> {
        write(index == 1 && self.only.is_none(), bytes)
    }
}

/// Writes to standard error, or to standard output: there goes also a stream that was asked for alone. Ends the process
/// quietly when the reader has gone.
fn write(to_stderr: bool, bytes: &[u8]) -> io::Result<()> {
    let written = if to_stderr {
        io::stderr().lock().write_all(bytes)
    } else {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(super::terminal::BROKEN_PIPE),
        other => other,
    }
}
