//! Open connections of callers, each with the certificates of its handshake: a connection is closed when these expire, or
//! when the authorities no longer accept them.
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

/// Reason for closing a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// A certificate of the caller's chain has expired.
    Expired,
    /// The authorities no longer accept the chain.
    Refused(String),
}

/// Certificate chain of a caller, its own certificate first.
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
    /// Time of the next check of the chain, in seconds since 1970: the next expiry of one of its certificates.
    check_after_s: i64,
    close: oneshot::Sender<Closed>,
}

/// Registration of an open connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    id: u64,
    closed: oneshot::Receiver<Closed>,
    all: Arc<Connections>,
}

impl Connections {
    /// Registers a connection that began at `now_s`.
    pub(crate) fn open(self: &Arc<Self>, chain: Chain, now_s: i64) -> Open {
        let (close, closed) = oneshot::channel();
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        let check_after_s = next_expiry(&chain, now_s);
        inner.open.insert(id, Entry { chain, check_after_s, close });
        Open { id, closed, all: self.clone() }
    }

    /// Closes connections with an expired certificate in their chain that `accepted` now refuses.
    pub(crate) fn close_expired(&self, now_s: i64, accepted: impl Fn(&Chain) -> Result<(), String>) {
        let due = |entry: &Entry| entry.check_after_s < now_s;
        self.close_unless(now_s, due, |chain| accepted(chain).map_err(|_| Closed::Expired));
    }

    /// Closes connections whose chain `accepted` refuses.
    pub(crate) fn close_refused(&self, now_s: i64, accepted: impl Fn(&Chain) -> Result<(), String>) {
        self.close_unless(now_s, |_| true, |chain| accepted(chain).map_err(Closed::Refused));
    }

    fn close_unless(&self, now_s: i64, due: impl Fn(&Entry) -> bool, verify: impl Fn(&Chain) -> Result<(), Closed>) {
        let mut inner = self.lock();
        let due: Vec<u64> = inner.open.iter().filter(|(_, entry)| due(entry)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(entry) = inner.open.get_mut(&id) else { continue };
            match verify(&entry.chain) {
                Ok(()) => entry.check_after_s = next_expiry(&entry.chain, now_s),
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
    /// Waits until the connection is to be closed; returns the reason.
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

/// Returns the next expiry of a certificate in the chain.
fn next_expiry(chain: &Chain, now_s: i64) -> i64 {
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

    /// Waits, with a deadline, for the reason for which the connection is closed.
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
        let verify = |chain: &Chain| if chain[0] == ours { Ok(()) } else { Err("no authority".to_owned()) };
        all.close_refused(0, verify);
        assert_eq!(closed_in_time(&mut goes).await, Closed::Refused("no authority".to_owned()));
        assert!(stays.closed.try_recv().is_err());
        drop(stays);
        assert!(all.lock().open.is_empty());
    }
}
