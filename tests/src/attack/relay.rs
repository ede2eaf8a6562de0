//! Relay from plain sockets to an agent, with a caller's certificate: a tool that cannot present one reaches the HTTP layer
//! behind mutual TLS through it.
//!
//! Buffers are small, so that a peer that reads slowly is felt by the agent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bolt_client::local::Caller;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Size of a socket's buffers, in bytes; the kernel doubles it.
const BUFFER: u32 = 4 << 10;
/// Maximum number of relayed connections.
const MAX_CONNECTIONS: u32 = 4096;

/// A relay in a thread of its own; ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    /// Relays to `agent` as `caller`.
    pub(super) fn start(agent: SocketAddr, caller: &Caller) -> Relay {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(async { listen() }).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let config = Arc::new(crate::http::of(caller));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(&listener, agent, &config) => {}
                    _ = stopped => {}
                }
            });
        });
        Relay { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the address of its plain side.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn small(socket: TcpSocket) -> std::io::Result<TcpSocket> {
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_recv_buffer_size(BUFFER)?;
    Ok(socket)
}

fn listen() -> std::io::Result<TcpListener> {
    let socket = small(TcpSocket::new_v4()?)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(MAX_CONNECTIONS)
}

async fn accept(listener: &TcpListener, agent: SocketAddr, config: &Arc<rustls::ClientConfig>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS as usize => {
                let Ok((plain, _)) = accepted else { continue };
                connections.spawn(relay(plain, agent, config.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays one connection until either side closes it.
async fn relay(mut plain: TcpStream, agent: SocketAddr, config: Arc<rustls::ClientConfig>) -> std::io::Result<()> {
    let stream = small(TcpSocket::new_v4()?)?.connect(agent).await?;
    let name = ServerName::try_from("agent.invalid").expect("a valid name");
    let mut secured = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
    tokio::io::copy_bidirectional(&mut plain, &mut secured).await.map(drop)
}
