//! Connection to an instance: TCP with `TCP_NODELAY`, TLS that verifies the instance, HTTP/1.1.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{CONNECT_TIMEOUT, pace, race};
use crate::error::Kind;
use crate::inventory::{Address, Instance};
use crate::phase::Phase;
use crate::tls::Identity;

/// Maximum number of bytes that are read ahead on a connection.
pub(super) const MAX_BUFFER: usize = 64 << 10;

/// Connection that carries one request at a time. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    alert: AlertSlot,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Wire {
    /// Returns a connection that was made by other means, for the fuzz targets.
    #[cfg(feature = "fuzzing")]
    pub(super) fn over(sender: SendRequest<Full<Bytes>>, driver: JoinHandle<()>, alert: AlertSlot) -> Wire {
        Wire { sender, driver, alert }
    }

    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Kind> {
        if let Err(e) = self.sender.ready().await {
            return Err(self.broken(&e));
        }
        self.sender.send_request(request).await.map_err(|e| self.broken(&e))
    }

    /// Returns true while the connection can carry another request.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.driver.is_finished()
    }

    /// Returns the cause of a failed request. A TLS alert of the server is more specific than hyper's error.
    pub(super) fn broken(&self, error: &hyper::Error) -> Kind {
        if let Some(kind) = self.alert.take() {
            return kind;
        }
        explain(error)
    }
}

/// Returns the cause of an error of hyper.
pub(super) fn explain(error: &hyper::Error) -> Kind {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Kind::from_io_ref(io);
        }
        source = inner.source();
    }
    if error.is_parse() {
        return Kind::Protocol(format!("the answer is not HTTP: {error}"));
    }
    Kind::Broken("it closed the connection".to_owned())
}

/// Connects to `instance` within [`CONNECT_TIMEOUT`], which begins when a place is free (see [`pace`]). A task of its own, on
/// any thread of the runtime: a caller that talks to many instances in one task does not do all handshakes on one core.
pub(super) async fn dial(instance: &Instance, identity: &Identity) -> Result<Wire, Kind> {
    let (instance, identity) = (instance.clone(), identity.clone());
    let mut dialling = AbortOnDrop(tokio::spawn(async move {
        let _place = pace::place().await;
        let reached = Reached::default();
        match tokio::time::timeout(CONNECT_TIMEOUT, dial_now(&instance, &identity, &reached)).await {
            Ok(result) => result,
            Err(_) => Err(reached.timed_out()),
        }
    }));
    match (&mut dialling.0).await {
        Ok(result) => result,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(Kind::Broken("this program is ending".to_owned())),
    }
}

/// Task that ends when its caller no longer waits for it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Phases that the attempts of a dial have reached.
#[derive(Debug, Default)]
struct Reached {
    is_resolved: AtomicBool,
    is_connected: AtomicBool,
}

impl Reached {
    /// Returns the error of a dial that has taken [`CONNECT_TIMEOUT`].
    fn timed_out(&self) -> Kind {
        match (self.is_resolved.load(Relaxed), self.is_connected.load(Relaxed)) {
            (false, _) => Kind::TimedOut(Phase::Resolve, "no answer from the name service within 5s"),
            (true, false) => Kind::TimedOut(Phase::Connect, "no TCP connection within 5s"),
            (true, true) => Kind::TimedOut(Phase::Tls, "TCP connected, but no TLS handshake within 5s"),
        }
    }
}

async fn dial_now(instance: &Instance, identity: &Identity, reached: &Reached) -> Result<Wire, Kind> {
    let connector = TlsConnector::from(identity.config_for(instance.id()));
    let addresses = race::by_turns(resolve(&instance.address).await?);
    reached.is_resolved.store(true, Relaxed);
    // The handshake is part of the attempt: an address that accepts connections and sends nothing counts as unresponsive.
    let tls = race::first(addresses, |address| shake_hands(&connector, address, reached)).await?;
    let alert = AlertSlot::default();
    http(Watched { inner: tls, alert: alert.clone() }, alert).await
}

/// Speaks HTTP over a connection that is secured.
pub(super) async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    alert: AlertSlot,
) -> Result<Wire, Kind> {
    let handshake = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|e| explain(&e))?;
    let driver = tokio::spawn(async move {
        // A failure is reported by the request that it fails; the end of an idle connection needs no report.
        let _ = connection.await;
    });
    Ok(Wire { sender, driver, alert })
}

/// Connects to one address and completes the TLS handshake.
async fn shake_hands(
    connector: &TlsConnector,
    address: SocketAddr,
    reached: &Reached,
) -> Result<TlsStream<TcpStream>, Kind> {
    let tcp = TcpStream::connect(address).await.map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused => Kind::ConnectionRefused,
        _ => Kind::Connect(e),
    })?;
    reached.is_connected.store(true, Relaxed);
    let _ = tcp.set_nodelay(true);
    // The verifier checks the instance id; rustls demands a name as well, which is not used.
    let connected = connector.connect(ServerName::IpAddress(address.ip().into()), tcp).await;
    connected.map_err(|e| Kind::from_io(e).during_handshake())
}

/// Returns the addresses of the host in resolver order.
async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, Kind> {
    let port = address.port();
    if let Some((ip, zone)) = address.zoned() {
        return Ok(vec![SocketAddrV6::new(ip, port, 0, interface(zone)?).into()]);
    }
    match address.host().parse() {
        Ok(std::net::IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
            let message = format!("a link-local address needs its zone: write [{ip}%eth0]:{port}, with the interface");
            Err(Kind::Address(message))
        }
        Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
        Err(_) => Ok(tokio::net::lookup_host((address.host(), port)).await.map_err(Kind::Unresolved)?.collect()),
    }
}

/// Returns the index of the network interface that a zone names, by name or number (RFC 4007, section 11).
fn interface(zone: &str) -> Result<u32, Kind> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    nix::net::if_::if_nametoindex(zone)
        .map_err(|_| Kind::Address(format!("this host has no network interface {zone}, which its zone names")))
}

/// TLS alert with which the server closed the connection, if it did.
#[derive(Debug, Clone, Default)]
pub(super) struct AlertSlot(Arc<Mutex<Option<Kind>>>);

impl AlertSlot {
    fn note(&self, error: &io::Error) {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            *self.0.lock().expect("no code panics while it holds this") = Some(Kind::from_tls(tls));
        }
    }

    fn take(&self) -> Option<Kind> {
        self.0.lock().expect("no code panics while it holds this").take()
    }
}

/// TLS stream that remembers the server's alert. In TLS 1.3 a server verifies the client certificate after the client has
/// completed its handshake: the alert arrives in place of the first answer, and possibly after a write has failed.
struct Watched {
    inner: TlsStream<TcpStream>,
    alert: AlertSlot,
}

impl Watched {
    fn note_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.alert.note(error);
            let mut space = [0; 1024];
            if let Poll::Ready(Err(waiting)) = Pin::new(&mut self.inner).poll_read(cx, &mut ReadBuf::new(&mut space)) {
                self.alert.note(&waiting);
            }
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if let Err(error) = &result {
            self.alert.note(error);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note_write(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.note_write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
