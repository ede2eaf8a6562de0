//! The output of all executions of a run: whole lines in the order of their arrival, each after its instance.
//!
//! ```text
//!  execution ─chunks─▶ reader (one for each, bounded) ─lines─┐
//!  execution ─chunks─▶ reader ─────────────────────────lines─┴▶ bounded channel ─▶ printer
//! ```

use std::sync::Arc;

use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{Execution, OutputChunk};
use packs_schema::base::name::RunId;
use packs_schema::base::quantity::format_bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::lines::LineBuffer;
use super::{LogsCommand, StreamArg, cannot_print, write};
use crate::cli::context::{Context, grouped, say_unanswered};
use crate::cli::failure::{Exit, Failure};
use crate::cli::of_run::{Discovery, for_each};
use crate::connection::{Agent, chunk_bytes};
use crate::error::Error;
use crate::inventory::Instance;
use crate::show;
use crate::show::mask::{Mask, MaskStream};
use crate::tls::Identity;
use crate::{errln, outln};

/// Maximum number of lines that wait for the printer: readers wait when it is slow.
const MAX_LINES: usize = 1024;

/// Item that a reader sends to the printer.
enum Piece {
    /// A line of a stream, without its line break.
    Line(Stream, Vec<u8>),
    /// This many bytes of its output were not kept.
    Gap(u64),
    /// A chunk, for programs.
    Json(String),
}

/// Prints the output of the run; with `--follow` until all have ended, and also of executions that start later.
pub(super) async fn print(run: &RunId, command: &LogsCommand, mask: &Mask, context: &Context) -> Result<Exit, Failure> {
    let (mut discovery, mut found) = Discovery::begin(context, &command.select, run).await?;
    found.sort_by(|(a, _), (b, _)| a.id().cmp(b.id()));
    let width = found.iter().map(|(instance, _)| instance.id().as_str().len()).max().unwrap_or(0);
    let parallel = command.parallel.min(crate::connection::max_open());
    if found.len() > parallel {
        errln!("reading from {parallel} of {} executions at once; the others follow when these end", found.len());
    }
    let (lines, mut printed) = mpsc::channel(MAX_LINES);
    let identity = discovery.identity();
    let (json, only, follow) = (context.json, command.output.stream, command.output.follow);
    let mask = Arc::new(mask.clone());
    let reading = for_each(&mut discovery, found, parallel, follow, |(instance, execution)| {
        let reader = Reader { instance, execution, json, only, mask: mask.clone(), lines: lines.clone() };
        reader.read(identity.clone(), follow)
    });
    let mut reading = Box::pin(reading);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let printer = Printer { raw: command.output.raw, only, width };
    let ends = loop {
        tokio::select! {
            biased;
            Ok(()) = &mut interrupted => return Ok(Exit::Interrupted),
            Some((instance, piece)) = printed.recv() => printer.print(&instance, piece)?,
            ends = &mut reading => break ends,
        }
    };
    while let Ok((instance, piece)) = printed.try_recv() {
        printer.print(&instance, piece)?;
    }
    drop(reading);
    let broken: Vec<Error> = ends.into_iter().filter_map(Result::err).collect();
    for line in grouped(&broken) {
        errln!("bolt: the output could not be read to its end: {line}");
    }
    let (_, asked) = discovery.without();
    let unanswered = discovery.into_failed();
    say_unanswered(&unanswered, asked);
    let all = broken.is_empty() && unanswered.is_empty();
    Ok(if all { Exit::Success } else { Exit::Failed })
}

/// Stream of an execution on its way to lines.
struct StreamLines<'a> {
    mask: MaskStream<'a>,
    buffer: LineBuffer,
}

/// Reads the output of one execution.
struct Reader {
    instance: Instance,
    execution: Execution,
    json: bool,
    only: Option<StreamArg>,
    mask: Arc<Mask>,
    lines: mpsc::Sender<(Instance, Piece)>,
}

impl Reader {
    async fn read(self, identity: Identity, follow: bool) -> Result<(), Error> {
        let agent = Agent::new(&self.instance, &identity);
        let mut output = agent.follow_output(&self.execution.id, follow);
        // Masked before lines are made: a value may span several of them.
        let new = || StreamLines { mask: self.mask.stream(), buffer: LineBuffer::default() };
        let mut streams = [new(), new()];
        let mut result = Ok(());
        while let Some(chunk) = output.next().await {
            match chunk {
                Ok(chunk) => self.take(&chunk, &mut streams).await,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        for (stream, lines) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut streams) {
            let rest = lines.mask.finish();
            self.give_lines(stream, lines.buffer.push(&rest).into_iter().chain(lines.buffer.finish())).await;
        }
        result
    }

    async fn take(&self, chunk: &OutputChunk, streams: &mut [StreamLines<'_>; 2]) {
        let stream = chunk.stream;
        if self.only.is_some_and(|only| only.stream() != stream) {
            return;
        }
        if self.json {
            let mut value = json!(chunk);
            value["instance"] = json!(self.instance.id());
            value["execution"] = json!(self.execution.id);
            return self.give(Piece::Json(show::json_line(&value))).await;
        }
        let StreamLines { mask, buffer } = &mut streams[usize::from(stream == Stream::Stderr)];
        if let Some(dropped) = chunk.dropped_bytes {
            let rest = mask.break_off();
            self.give_lines(stream, buffer.push(&rest).into_iter().chain(buffer.finish())).await;
            return self.give(Piece::Gap(dropped)).await;
        }
        let bytes = mask.push(&chunk_bytes(chunk).unwrap_or_default());
        self.give_lines(stream, buffer.push(&bytes).into_iter()).await;
    }

    async fn give_lines(&self, stream: Stream, lines: impl Iterator<Item = Vec<u8>>) {
        for line in lines {
            self.give(Piece::Line(stream, line)).await;
        }
    }

    async fn give(&self, piece: Piece) {
        // The printer goes only when the command ends.
        let _ = self.lines.send((self.instance.clone(), piece)).await;
    }
}

struct Printer {
    raw: bool,
    only: Option<StreamArg>,
    /// Width of the column of instances.
    width: usize,
}

impl Printer {
    fn print(&self, instance: &Instance, piece: Piece) -> Result<(), Failure> {
        let (id, width) = (instance.id().as_str(), self.width);
        match piece {
            Piece::Json(line) => outln!("{line}"),
            Piece::Gap(bytes) => errln!("{id:width$} | [{} of its output were not kept]", format_bytes(bytes)),
            Piece::Line(stream, line) => {
                let mut text = format!("{id:width$} | ").into_bytes();
                if self.raw {
                    text.extend_from_slice(&line);
                } else {
                    text.extend_from_slice(show::visible_bytes(&line).as_bytes());
                }
                text.push(b'\n');
                let to_stderr = stream == Stream::Stderr && self.only.is_none();
                write(to_stderr, &text).map_err(|e| cannot_print(&e))?;
            }
        }
        Ok(())
    }
}
