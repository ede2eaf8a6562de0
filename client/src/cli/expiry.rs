//! Warns before the client's certificate or its authority expires.

use std::sync::Once;
use std::time::Duration;

use jiff::Timestamp;

use crate::errln;
use crate::show;
use crate::tls::Identity;

/// Time before the end of validity in which commands warn.
const WARN_WITHIN: Duration = Duration::from_secs(7 * 86_400);

/// Warns on standard error, once per command, when a certificate of `identity` expires within seven days.
pub(super) fn warn(identity: &Identity) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        for line in warnings(identity, Timestamp::now()) {
            errln!("bolt: {line}");
        }
    });
}

fn warnings(identity: &Identity, now: Timestamp) -> Vec<String> {
    let soon = now.saturating_add(WARN_WITHIN).unwrap_or(Timestamp::MAX);
    let ending = identity.expiries().iter().filter(|expiry| expiry.at < soon);
    let line = |expiry: &crate::tls::Expiry| {
        let path = show::path(&expiry.path);
        let (verb, when) = if expiry.at < now { ("expired", "") } else { ("expires", " soon") };
        format!(
            "warning: {} ({path}) {verb}{when}, at {} ({}): renew it with `bolt pki renew {path} --ca <DIR>`, or ask whoever issued it",
            expiry.what,
            expiry.at,
            until(expiry.at, now)
        )
    };
    ending.map(line).collect()
}

/// Describes the time until `at`: "expires in 12 days", "expired 3 hours ago".
pub(super) fn remaining(at: Timestamp) -> String {
    let now = Timestamp::now();
    let verb = if at < now { "expired" } else { "expires" };
    format!("{verb} {}", until(at, now))
}

/// Describes the distance between two times in one unit.
fn until(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second() - now.as_second();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds.abs() >= *unit).unwrap_or((1, "second"));
    let count = seconds.abs() / unit;
    let plural = if count == 1 { "" } else { "s" };
    if seconds < 0 { format!("{count} {name}{plural} ago") } else { format!("in {count} {name}{plural}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, Validity};
    use packs_schema::base::name::Principal;

    /// The warnings of an identity whose certificate and authority last for so many days.
    fn warned(certificate: u32, authority: u32) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create_with("test", Validity::days(authority)).unwrap();
        ca.write(dir.path()).unwrap();
        let principal = Principal::new("spiffe://a/me").unwrap();
        let issued = ca.issue_client(&principal, Validity::days(certificate)).unwrap();
        let (certificate, key) = issued.write(dir.path(), "me").unwrap();
        let identity = Identity::load(&certificate, &key, &dir.path().join("ca.pem")).unwrap();
        warnings(&identity, Timestamp::now())
    }

    #[test]
    fn a_certificate_or_an_authority_that_ends_within_a_week_is_warned_of() {
        assert_eq!(warned(8, 9), [""; 0]);
        let lines = warned(6, 9);
        assert!(lines.len() == 1 && lines[0].contains("me.pem") && lines[0].contains("expires soon"), "{lines:?}");
        assert!(lines[0].contains(" days)") && lines[0].contains("bolt pki renew"), "{lines:?}");
        let lines = warned(5, 6);
        assert!(lines.len() == 2 && lines[1].contains("ca.pem") && lines[1].contains("authority"), "{lines:?}");
    }

    #[test]
    fn distances_are_in_one_unit() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let shown = |seconds: i64| until(at(seconds + 1_000_000), at(1_000_000));
        assert_eq!((shown(86_400 * 3 + 5), shown(-7200)), ("in 3 days".to_owned(), "2 hours ago".to_owned()));
        assert_eq!((shown(60), shown(0)), ("in 1 minute".to_owned(), "in 0 seconds".to_owned()));
    }
}
