//! Connects to a host with several addresses: staggered concurrent attempts (Happy Eyeballs, RFC 8305, section 5).
//!
//! An address that does not answer delays the others by 250 ms only. All attempts share the time limit of the caller.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::error::Kind;

/// Delay before the next attempt starts in parallel ("Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// Maximum number of addresses that are tried.
const MOST: usize = 16;

/// Returns the order in which addresses are tried: that of the resolver, with IPv4 and IPv6 alternating, so that a
/// family without a route delays the other by one attempt only.
pub(super) fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut order = Vec::with_capacity(first.len() + second.len());
    first.reverse();
    second.reverse();
    while let Some(address) = first.pop() {
        order.push(address);
        order.extend(second.pop());
    }
    second.reverse();
    order.extend(second);
    order.dedup();
    order.truncate(MOST);
    order
}

/// Returns the result of the first attempt that succeeds and drops the others. If all fail, returns the most specific
/// error.
pub(super) async fn first<T, A>(addresses: Vec<SocketAddr>, attempt: impl Fn(SocketAddr) -> A) -> Result<T, Kind>
where
    A: Future<Output = Result<T, Kind>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut worst: Option<Kind> = None;
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            running.push(attempt(address));
        }
        // After a failure the next attempt starts at once.
        let stagger = tokio::time::sleep(STAGGER);
        tokio::select! {
            biased;
            Some(ended) = running.next() => match ended {
                Ok(made) => return Ok(made),
                Err(kind) => worst = Some(match worst {
                    Some(before) if weight(&before) > weight(&kind) => before,
                    _ => kind,
                }),
            },
            () = stagger, if !is_last => {}
            else => {}
        }
        if is_last && running.is_empty() {
            let unresolved = || Kind::Unresolved(std::io::Error::other("the name has no address"));
            return Err(worst.unwrap_or_else(unresolved));
        }
    }
}

/// Ranks errors: an answer of a wrong server is more specific than no answer.
fn weight(kind: &Kind) -> u8 {
    match kind {
        Kind::TimedOut(..) | Kind::Connect(_) | Kind::Unresolved(_) => 0,
        Kind::ConnectionRefused | Kind::HandshakeBroken(_) | Kind::Broken(_) => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| address(text)).collect()
    }

    #[test]
    fn address_families_alternate_in_resolver_order() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let order = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(by_turns(given), order);
        let given = addresses(&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]);
        assert_eq!(by_turns(given.clone()), given);
        assert_eq!(by_turns(Vec::new()), Vec::new());
    }

    #[tokio::test]
    async fn an_unresponsive_address_does_not_block_a_good_one() {
        let good = address("127.0.0.1:3");
        let tried = Mutex::new(Vec::new());
        let attempt = |address: SocketAddr| async move {
            if address == good { Ok(address) } else { std::future::pending().await }
        };
        let all = addresses(&["127.0.0.1:1", "[::1]:2", "127.0.0.1:3"]);
        let noted = |address| {
            tried.lock().unwrap().push(address);
            attempt(address)
        };
        let made = tokio::time::timeout(Duration::from_secs(30), first(all.clone(), noted)).await;
        assert_eq!(made.expect("the good address is tried").unwrap(), good);
        assert_eq!(*tried.lock().unwrap(), all);
    }

    #[tokio::test]
    async fn the_most_specific_error_is_returned() {
        let attempt = |address: SocketAddr| async move {
            Err::<(), Kind>(match address.port() {
                1 => Kind::Expired,
                2 => Kind::ConnectionRefused,
                _ => Kind::Connect(std::io::Error::other("no route")),
            })
        };
        let error = first(addresses(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]), attempt).await.unwrap_err();
        assert!(matches!(error, Kind::Expired), "{error}");
        let error = first(addresses(&["127.0.0.1:3", "127.0.0.1:2", "127.0.0.1:3"]), attempt).await.unwrap_err();
        assert!(matches!(error, Kind::ConnectionRefused), "{error}");
        let error = first(Vec::new(), attempt).await.unwrap_err();
        assert!(matches!(error, Kind::Unresolved(_)), "{error}");
    }
}
