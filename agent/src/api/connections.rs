//! Open connections of callers, each with the certificates that it began with: it is closed when these end, or when they
//! would not be accepted any more.
//!
//! ```text
//!  handshake ──▶ open(chain) ──▶ Open ─ dropped with the connection
//!  watcher, each second ──▶ close_expired       authorities changed ──▶ close_refused
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use packs_schema::base::certificate::CertificateInfo;
use rustls::pki_types::CertificateDer;
use tokio::sync::oneshot;

/// Why a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// A certificate of the caller's chain has ended.
    Expired,
    /// The authorities do not accept the chain any more.
    Refused(String),
}

/// A caller's certificates, own one first.
pub(crate) type Chain = Vec<CertificateDer<'static>>;

/// The open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    chain: Chain,
    /// When the chain has to be looked at again, in seconds since 1970: the next end of one of its certificates.
    ends_s: i64,
    close: oneshot::Sender<Closed>,
}

/// An open connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    id: u64,
    closed: oneshot::Receiver<Closed>,
    all: Arc<Connections>,
}

impl Connections {
    /// Takes note of a connection that began at `now_s`.
    pub(crate) fn open(self: &Arc<Self>, chain: Chain, now_s: i64) -> Open {
        let (close, closed) = oneshot::channel();
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        let ends_s = next_end(&chain, now_s);
        inner.open.insert(id, Entry { chain, ends_s, close });
        Open { id, closed, all: self.clone() }
    }

    /// Closes connections whose chain holds a certificate that has ended and that `accepted` now refuses.
    pub(crate) fn close_expired(&self, now_s: i64, accepted: impl Fn(&Chain) -> Result<(), String>) {
        let due = |entry: &Entry| entry.ends_s < now_s;
        self.close_unless(now_s, due, |chain| accepted(chain).map_err(|_| Closed::Expired));
    }

    /// Closes connections whose chain `accepted` refuses.
    pub(crate) fn close_refused(&self, now_s: i64, accepted: impl Fn(&Chain) -> Result<(), String>) {
        self.close_unless(now_s, |_| true, |chain| accepted(chain).map_err(Closed::Refused));
    }

    fn close_unless(&self, now_s: i64, due: impl Fn(&Entry) -> bool, judge: impl Fn(&Chain) -> Result<(), Closed>) {
        let mut inner = self.lock();
        let due: Vec<u64> = inner.open.iter().filter(|(_, entry)| due(entry)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(entry) = inner.open.get_mut(&id) else { continue };
            match judge(&entry.chain) {
                Ok(()) => entry.ends_s = next_end(&entry.chain, now_s),
                Err(why) => {
                    if let Some(entry) = inner.open.remove(&id) {
                        // Its task may have ended meanwhile.
                        let _ = entry.close.send(why);
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Ends when the connection is to be closed, with the reason.
    pub(crate) async fn closed(&mut self) -> Closed {
        match (&mut self.closed).await {
            Ok(why) => why,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.all.lock().open.remove(&self.id);
    }
}

/// The next end of a certificate in the chain.
fn next_end(chain: &Chain, now_s: i64) -> i64 {
    let ends = chain.iter().filter_map(|der| CertificateInfo::parse(der)).map(|info| info.not_after_s);
    ends.filter(|end| *end >= now_s).min().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    /// A certificate that ends at the beginning of `year`.
    fn certificate(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn seconds(year: i32) -> i64 {
        date_time_ymd(year, 1, 1).unix_timestamp()
    }

    /// Why the connection was closed, which must come within a deadline.
    async fn closed_in_time(open: &mut Open) -> Closed {
        let closed = tokio::time::timeout(std::time::Duration::from_secs(10), open.closed());
        closed.await.expect("the connection is closed")
    }

    #[tokio::test]
    async fn a_connection_ends_with_the_first_certificate_that_it_needs() {
        let all = Arc::new(Connections::default());
        let mut open = all.open(vec![certificate(2030), certificate(2040)], seconds(2025));
        let refuse = |_: &Chain| Err("expired".to_owned());
        all.close_expired(seconds(2030), refuse);
        assert!(open.closed.try_recv().is_err(), "the last second counts");
        // A certificate that is not needed ends: the next one is waited for.
        all.close_expired(seconds(2030) + 1, |_| Ok(()));
        all.close_expired(seconds(2039), refuse);
        assert!(open.closed.try_recv().is_err());
        all.close_expired(seconds(2040) + 1, refuse);
        assert_eq!(closed_in_time(&mut open).await, Closed::Expired);
    }

    #[tokio::test]
    async fn a_chain_that_is_refused_closes_its_connections_and_no_others() {
        let all = Arc::new(Connections::default());
        let (ours, theirs) = (certificate(2030), certificate(2030));
        let mut stays = all.open(vec![ours.clone()], 0);
        let mut goes = all.open(vec![theirs], 0);
        drop(all.open(vec![ours.clone()], 0));
        let judge = |chain: &Chain| if chain[0] == ours { Ok(()) } else { Err("no authority".to_owned()) };
        all.close_refused(0, judge);
        assert_eq!(closed_in_time(&mut goes).await, Closed::Refused("no authority".to_owned()));
        assert!(stays.closed.try_recv().is_err());
        drop(stays);
        assert!(all.lock().open.is_empty());
    }
}
