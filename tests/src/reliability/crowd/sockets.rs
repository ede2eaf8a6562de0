//! Anonymous sockets, each from an address of its own in 127.0.0.0/8, opened again whenever the agent closes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Random;

/// Sockets that are being connected at the same time, at most.
const CONNECTING: usize = 64;
/// Between two bytes of one that trickles.
const TRICKLE: Duration = Duration::from_millis(100);
/// The pace is kept in steps of this.
const STEP: Duration = Duration::from_millis(5);

/// What an anonymous peer does with its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sends nothing.
    Silent,
    /// Sends half of a ClientHello.
    Half,
    /// Sends a ClientHello byte by byte.
    Trickle,
    /// Completes its handshake, without a certificate.
    Anonymous,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [Mode::Silent, Mode::Half, Mode::Trickle, Mode::Anonymous];

    /// Its name in the figures.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Silent => "silent",
            Mode::Half => "half a ClientHello",
            Mode::Trickle => "trickled ClientHello",
            Mode::Anonymous => "handshake without certificate",
        }
    }
}

/// What has been counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Sockets that were connected.
    pub(super) opened: AtomicU64,
    /// Sockets that are open.
    pub(super) open: AtomicU64,
    /// Attempts to connect that failed.
    pub(super) failed: AtomicU64,
}

/// The sockets of one mode, in a thread of their own. They are closed when this is dropped.
pub(super) struct Crowd {
    pub(super) counts: Arc<Counts>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    /// `count` sockets to `to`, of which at most `rate` are opened in a second.
    pub(super) fn start(to: SocketAddr, mode: Mode, (count, rate): (u64, u64), seed: u64) -> Crowd {
        let counts = Arc::<Counts>::default();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let counted = counts.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let work = hold(to, mode, (count, rate), seed, counted);
                tokio::select! {
                    () = work => {}
                    _ = stopped => {}
                }
            });
        });
        Crowd { counts, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn hold(to: SocketAddr, mode: Mode, (count, rate): (u64, u64), seed: u64, counts: Arc<Counts>) {
    let (pace, connecting) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(CONNECTING)));
    let config = Arc::new(crate::http::anonymous());
    let hello: Arc<[u8]> = client_hello(&config).into();
    let mut random = Random::new(seed);
    let mut tasks = JoinSet::new();
    for number in 0..count {
        // Spread over 127.64.0.0 to 127.191.255.255, all different: the callers have others.
        let address =
            0x7f40_0000 + u32::try_from(number).unwrap_or(0) * 1009 + u32::try_from(random.below(1000)).unwrap_or(0);
        let peer = Peer { from: Ipv4Addr::from(address), to, mode, config: config.clone(), hello: hello.clone() };
        let (pace, connecting, counts) = (pace.clone(), connecting.clone(), counts.clone());
        tasks.spawn(async move {
            loop {
                pace.acquire().await.expect("it is never closed").forget();
                let place = connecting.acquire().await.expect("it is never closed");
                let connected = peer.connect().await;
                drop(place);
                let Ok(stream) = connected else {
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                counts.opened.fetch_add(1, Ordering::Relaxed);
                counts.open.fetch_add(1, Ordering::Relaxed);
                // However the agent ends it, it is opened again.
                drop(peer.stay(stream).await);
                counts.open.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }
    let mut step = tokio::time::interval(STEP);
    let mut owed = 0;
    loop {
        step.tick().await;
        owed += rate * u64::try_from(STEP.as_micros()).unwrap_or(0);
        let due = usize::try_from(owed / 1_000_000).unwrap_or(0);
        owed %= 1_000_000;
        // What was not used is not saved up.
        pace.add_permits(due.saturating_sub(pace.available_permits()));
    }
}

/// One peer of the crowd.
struct Peer {
    from: Ipv4Addr,
    to: SocketAddr,
    mode: Mode,
    config: Arc<ClientConfig>,
    hello: Arc<[u8]>,
}

impl Peer {
    async fn connect(&self) -> std::io::Result<TcpStream> {
        connect_from(self.from, self.to).await
    }

    /// Does what the mode says until the agent closes the socket.
    async fn stay(&self, mut stream: TcpStream) -> std::io::Result<()> {
        match self.mode {
            Mode::Silent => {}
            Mode::Half => stream.write_all(&self.hello[..self.hello.len() / 2]).await?,
            Mode::Trickle => {
                let mut answer = [0];
                for byte in &self.hello[..] {
                    stream.write_all(&[*byte]).await?;
                    let closed = tokio::time::timeout(TRICKLE, stream.read(&mut answer)).await;
                    if closed.is_ok() {
                        return Ok(());
                    }
                }
            }
            Mode::Anonymous => {
                let name = ServerName::try_from("agent.invalid").expect("a valid name");
                let mut stream = tokio_rustls::TlsConnector::from(self.config.clone()).connect(name, stream).await?;
                while stream.read(&mut [0; 64]).await? > 0 {}
                return Ok(());
            }
        }
        while stream.read(&mut [0; 64]).await? > 0 {}
        Ok(())
    }
}

/// Connects from an address of this host.
pub(super) async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("agent.invalid").expect("a valid name");
    let mut connection = rustls::ClientConnection::new(config.clone(), name).expect("a connection");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("memory takes it");
    hello
}
