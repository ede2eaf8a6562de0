//! Anonymous sockets from many addresses of 127.0.0.0/8, opened again whenever the agent closes them.

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

use super::Plan;
use crate::Random;

/// Maximum number of sockets being connected at the same time.
const CONNECTING: usize = 64;
/// Pause between two bytes of a trickled ClientHello.
const TRICKLE: Duration = Duration::from_millis(100);
/// Maximum number of source addresses.
pub(super) const ADDRESSES: u64 = 1 << 23;
/// Interval at which the rate limit is applied.
const STEP: Duration = Duration::from_millis(5);

/// Behaviour of an anonymous peer.
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
    /// All modes.
    pub const ALL: [Mode; 4] = [Mode::Silent, Mode::Half, Mode::Trickle, Mode::Anonymous];

    /// Name of the mode in the printed figures.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Silent => "silent",
            Mode::Half => "half a ClientHello",
            Mode::Trickle => "trickled ClientHello",
            Mode::Anonymous => "handshake without certificate",
        }
    }
}

/// Counters of the crowd.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Sockets connected so far.
    pub(super) opened: AtomicU64,
    /// Sockets open now.
    pub(super) open: AtomicU64,
    /// Attempts to connect that failed.
    pub(super) failed: AtomicU64,
}

/// Sockets of one mode, in a thread of their own; closed when dropped.
pub(super) struct Crowd {
    pub(super) counts: Arc<Counts>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    /// Keeps the planned number of sockets open to `to`.
    pub(super) fn start(to: SocketAddr, mode: Mode, plan: Plan) -> Crowd {
        let counts = Arc::<Counts>::default();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let counted = counts.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let work = hold(to, mode, plan, counted);
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

async fn hold(to: SocketAddr, mode: Mode, plan: Plan, counts: Arc<Counts>) {
    let (pace, connecting) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(CONNECTING)));
    let config = Arc::new(crate::http::anonymous());
    let hello: Arc<[u8]> = client_hello(&config).into();
    let mut tasks = JoinSet::new();
    for number in 0..plan.sockets {
        let peer = Peer { mode, config: config.clone(), hello: hello.clone() };
        let (pace, connecting, counts) = (pace.clone(), connecting.clone(), counts.clone());
        tasks.spawn(async move {
            let mut random = Random::new(plan.seed ^ (number << 32));
            loop {
                pace.acquire().await.expect("it is never closed").forget();
                let place = connecting.acquire().await.expect("it is never closed");
                let connected = connect_from(address(plan.addresses, &mut random), to).await;
                drop(place);
                let Ok(stream) = connected else {
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                counts.opened.fetch_add(1, Ordering::Relaxed);
                counts.open.fetch_add(1, Ordering::Relaxed);
                // Reopens the socket whatever way the agent closed it.
                drop(peer.stay(stream).await);
                counts.open.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }
    let mut step = tokio::time::interval(STEP);
    step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut owed = 0;
    loop {
        step.tick().await;
        owed += plan.rate * u64::try_from(STEP.as_micros()).unwrap_or(0);
        let due = usize::try_from(owed / 1_000_000).unwrap_or(0);
        owed %= 1_000_000;
        // Unused permits do not accumulate.
        pace.add_permits(due.saturating_sub(pace.available_permits()));
    }
}

/// Peer of the crowd.
struct Peer {
    mode: Mode,
    config: Arc<ClientConfig>,
    hello: Arc<[u8]>,
}

impl Peer {
    /// Behaves as the mode says until the agent closes the socket.
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

/// Returns one of `count` addresses from 127.64.0.0 to 127.191.255.255; callers use others.
fn address(count: u64, random: &mut Random) -> Ipv4Addr {
    let count = count.clamp(1, ADDRESSES);
    let offset = random.below(count) * (ADDRESSES / count);
    Ipv4Addr::from(0x7f40_0000 + u32::try_from(offset).unwrap_or(0))
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
