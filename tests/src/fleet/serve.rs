//! Connections: TLS with the certificate of the instance that was addressed, then HTTP, with its fault where it has one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::instance::Instance;
use super::rest::{self, Reply};
use super::{Fault, Shared};

/// Serves one connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, tcp: TcpStream) {
    let index = tcp.local_addr().ok().and_then(Instance::index_of);
    let Some(index) = index.filter(|index| *index < shared.instances.len()) else { return };
    // Errors end the connection, which is all that there is to do.
    let _ = connection(&shared, index, tcp).await;
}

async fn connection(shared: &Arc<Shared>, index: usize, mut tcp: TcpStream) -> io::Result<()> {
    let instance = &shared.instances[index];
    instance.counts.connections.fetch_add(1, Ordering::Relaxed);
    tcp.set_nodelay(true)?;
    if resets(instance.fault) {
        // A socket that is closed like this sends a reset.
        tcp.set_zero_linger()?;
    }
    match instance.fault {
        Fault::ResetsAfterAccept => return Ok(()),
        Fault::ResetsInHandshake => return tcp.read(&mut [0; 1024]).await.map(|_| ()),
        Fault::SilentAfterAccept => return wait_for_end(&mut tcp).await,
        _ => {}
    }
    let mut tls = TlsAcceptor::from(shared.tls.config_of(instance)).accept(tcp).await?;
    instance.counts.handshakes.fetch_add(1, Ordering::Relaxed);
    if instance.fault == Fault::NotHttp {
        let _ = tls.read(&mut [0; 1024]).await?;
        tls.write_all(b"\x1b[2J SSH-2.0-OpenSSH_9.9\r\n\r\n").await?;
        return tls.shutdown().await;
    }
    let service = service_fn(async |request| {
        shared.instances[index].counts.requests.fetch_add(1, Ordering::Relaxed);
        match rest::answer(shared, index, request).await {
            Reply::Answer(response) => Ok(*response),
            Reply::Close => Err(io::Error::other("the fault of this instance")),
            Reply::Never => std::future::pending::<Result<_, io::Error>>().await,
        }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    served.map_err(io::Error::other)
}

/// True if the instance resets connections, rather than closing them in an orderly way.
fn resets(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::ResetsAfterAccept | Fault::ResetsInHandshake | Fault::ResetsAfterRequest | Fault::ResetsInAnswer
    )
}

/// Reads until the peer gives up.
async fn wait_for_end(tcp: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while tcp.read(&mut buffer).await? > 0 {}
    Ok(())
}
