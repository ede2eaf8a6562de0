//! Door for the fuzz targets to the client of an instance: the bytes that an instance sends over an open connection.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::{io, time};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::CreateExecution;
use packs_schema::base::name::{ActionRef, ExecutionId, PackName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

use super::Agent;
use super::routes::{ExecutionQuery, OutputFrom, WaitQuery};
use super::wire::{AlertSlot, MAX_BUFFER, Wire, explain};
use crate::error::Error;
use crate::inventory::Instance;
use crate::tls::Identity;

/// Maximum number of lines or pieces that are read of a stream.
const MAX_ITEMS: usize = 1000;

/// Request that the bytes answer.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    /// `GET /v1/health`.
    Health,
    /// `GET /v1/packs/{pack}`.
    Pack,
    /// `GET /v1/actions`.
    Actions,
    /// `GET /v1/executions`.
    Executions,
    /// `POST /v1/executions`.
    Create,
    /// `GET /v1/executions/{id}`.
    Execution,
    /// `GET /v1/executions/{id}/output`.
    Output,
    /// `GET /v1/executions/{id}/stdout`.
    Stdout,
    /// `GET /v1/events`.
    Events,
    /// `GET /v1/metrics`.
    Metrics,
}

/// Clients of an instance that sends arbitrary bytes.
pub struct Answering {
    runtime: Runtime,
    instance: Instance,
    identity: Identity,
}

impl Answering {
    /// Prepares clients with this identity. The address of the instance is asked when a connection breaks: nothing must listen there.
    pub fn new(instance: Instance, identity: Identity) -> Answering {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Answering { runtime, instance, identity }
    }

    /// Sends a request, and reads what the instance sends as its answer. Returns what a user is shown of it, and the number of bytes of
    /// output that were taken from it.
    pub fn ask(&self, asked: Asked, bytes: &[u8]) -> Result<usize, Error> {
        self.runtime.block_on(async {
            let agent = Agent::new(&self.instance, &self.identity);
            let io = TokioIo::new(Canned { bytes: bytes.to_vec(), at: 0, is_asked: false, reader: None });
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_BUFFER)
                .handshake(io)
                .await
                .map_err(|error| agent.error(explain(&error)))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            agent.put_back(Wire::over(sender, driver, AlertSlot::default()));
            tokio::time::timeout(time::Duration::from_secs(5), request(&agent, asked)).await.expect("it ends in time")
        })
    }
}

async fn request(agent: &Agent, asked: Asked) -> Result<usize, Error> {
    let id = ExecutionId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa").expect("an id");
    match asked {
        Asked::Health => agent.health().await.map(|_| 0),
        Asked::Pack => agent.pack(&PackName::new("linux").expect("a name")).await.map(|_| 0),
        Asked::Actions => agent.actions().await.map(|_| 0),
        Asked::Executions => agent.executions(&ExecutionQuery::default()).await.map(|_| 0),
        Asked::Create => {
            let action = ActionRef::new("linux.true").expect("a name");
            let create = serde_json::json!({"action": action});
            let create: CreateExecution = serde_json::from_value(create).expect("a request");
            agent.create_with(&create, None, &WaitQuery { output: Some(100), ..WaitQuery::default() }).await.map(|_| 0)
        }
        Asked::Execution => agent.execution(&id, None).await.map(|_| 0),
        Asked::Output => {
            let mut lines = agent.output(&id, OutputFrom::default(), false).await?;
            let mut bytes = 0;
            for _ in 0..MAX_ITEMS {
                let Some(chunk) = lines.next().await else { break };
                bytes += super::chunk_bytes(&chunk?).map_or(0, |bytes| bytes.len());
            }
            Ok(bytes)
        }
        Asked::Stdout => {
            let stream = agent.stream(&id, Stream::Stdout, 0, false).await?;
            stream.collect(1 << 20).await.map(|(bytes, _)| bytes.len())
        }
        Asked::Events => {
            let (_, mut lines) = agent.events(None, false).await?;
            for _ in 0..MAX_ITEMS {
                let Some(change) = lines.next().await else { break };
                change?;
            }
            Ok(0)
        }
        Asked::Metrics => agent.metrics().await.map(|text| text.len()),
    }
}

/// Connection whose peer sends everything at once when it is asked.
struct Canned {
    bytes: Vec<u8>,
    at: usize,
    /// True once something was written.
    is_asked: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Canned {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.is_asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let left = &self.bytes[self.at..];
        let taken = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..taken]);
        self.at += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Canned {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
