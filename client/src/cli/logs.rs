//! `bolt logs`: an execution's output, whole or as it comes.

use std::io::{self, Write as _};
use std::pin::pin;

use clap::{Args, ValueEnum};
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::OutputChunk;
use packs_schema::base::quantity::format_bytes;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::find::{IdArg, find_one};
use super::select::SelectArgs;
use crate::connection::{Agent, chunk_bytes};
use crate::show::{self, Visible};
use crate::{errln, outln};

/// Print an execution's output.
#[derive(Debug, Args)]
pub(super) struct LogsCommand {
    /// Its id, or at least the last six characters of it.
    id: IdArg,
    /// Go on until it has ended.
    #[arg(short, long)]
    follow: bool,
    /// Only this stream. Without it, standard error goes to standard error.
    #[arg(long, value_enum)]
    stream: Option<StreamArg>,
    /// The bytes as they are. They can do to a terminal what the action, or who owns it, wants.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    select: SelectArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StreamArg {
    Stdout,
    Stderr,
}

/// Runs `bolt logs`. With `--json`, each chunk is one line.
pub(super) async fn run(command: LogsCommand, context: Context) -> Result<Exit, Failure> {
    let (instance, execution) = find_one(&context, &command.select, &command.id).await?;
    let agent = Agent::new(&instance, &context.identity()?);
    let mut printer =
        Printer { raw: command.raw, json: context.json, only: command.stream, streams: Default::default() };
    let mut output = agent.follow_output(&execution.id, command.follow);
    // Heard by ourselves, since a shell may have started us deaf to it. Once for all chunks: a signal that comes while one is
    // printed must not be lost.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let chunk = tokio::select! {
            biased;
            Ok(()) = &mut interrupted => return Ok(Exit::Interrupted),
            chunk = output.next() => chunk,
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|e| Failure { exit: Exit::Failed, ..Failure::from_instance(&e) })?;
        printer.print(&chunk).map_err(|e| Failure::new(Exit::Storage, format!("cannot print the output: {e}")))?;
    }
    printer.finish().map_err(|e| Failure::new(Exit::Storage, format!("cannot print the output: {e}")))?;
    Ok(Exit::Success)
}

struct Printer {
    raw: bool,
    json: bool,
    only: Option<StreamArg>,
    streams: [Visible; 2],
}

impl Printer {
    fn print(&mut self, chunk: &OutputChunk) -> io::Result<()> {
        let index = match (chunk.stream, self.only) {
            (Stream::Stdout, None | Some(StreamArg::Stdout)) => 0,
            (Stream::Stderr, None | Some(StreamArg::Stderr)) => 1,
            _ => return Ok(()),
        };
        if self.json {
            outln!("{}", show::json_line(chunk));
            return Ok(());
        }
        if let Some(dropped) = chunk.dropped_bytes {
            let held = self.streams[index].finish();
            self.write(index, held.as_bytes())?;
            errln!("[{} of its output were not kept]", format_bytes(dropped));
            return Ok(());
        }
        let bytes = chunk_bytes(chunk).unwrap_or_default();
        if self.raw {
            return self.write(index, &bytes);
        }
        let text = self.streams[index].push(&bytes);
        self.write(index, text.as_bytes())
    }

    fn finish(&mut self) -> io::Result<()> {
        for index in 0..self.streams.len() {
            let held = self.streams[index].finish();
            self.write(index, held.as_bytes())?;
        }
        Ok(())
    }

    /// A stream that was asked for alone goes to standard output.
    fn write(&self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let written = if index == 1 && self.only.is_none() {
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
}
