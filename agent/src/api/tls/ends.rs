//! Ends of certificates, authorities and revocation lists: health and metrics.

use packs_schema::base::certificate::CertificateInfo;
use rustls::pki_types::CertificateDer;

use super::Own;
use super::crls::Crl;
use super::kept::Kept;
use super::own::OwnCertificate;
use crate::expiry::{End, Stage};
use crate::health::Health;

/// Health code of an authority of callers that ends soon.
const AUTHORITY_EXPIRING: &str = "authority_expiring";
/// Health code of an authority of callers that has ended.
const AUTHORITY_EXPIRED: &str = "authority_expired";
/// Health code of a revocation list that ends soon.
const CRL_EXPIRING: &str = "crl_expiring";
/// Health code of a revocation list that has ended.
const CRL_EXPIRED: &str = "crl_expired";

/// Returns the ends of everything that is in effect.
pub(super) fn all(
    own: &Kept<Own>,
    authorities: &[Kept<Vec<CertificateDer<'static>>>],
    crls: &[Kept<Vec<Crl>>],
) -> Vec<End> {
    fn name<T>(kept: &Kept<T>) -> String {
        kept.paths().next().map_or_else(String::new, |path| path.display().to_string())
    }
    // The agent's own certificate is the first end.
    let OwnCertificate { info, issuers, .. } = &own.get().certificate;
    let mut ends = vec![certificate("certificate", name(own), info)];
    for (number, info) in issuers {
        ends.push(certificate("certificate", format!("{} (certificate {number})", name(own)), info));
    }
    for kept in authorities {
        let infos = kept.get().iter().filter_map(|certificate| CertificateInfo::parse(certificate));
        ends.extend(infos.map(|info| certificate("authority", name(kept), &info)));
    }
    for kept in crls {
        ends.extend(kept.get().iter().map(|crl| End {
            kind: "crl",
            name: name(kept),
            begin_s: Some(crl.info.this_update_s),
            end_s: crl.info.next_update_s,
        }));
    }
    ends
}

fn certificate(kind: &'static str, name: String, info: &CertificateInfo) -> End {
    End { kind, name, begin_s: Some(info.not_before_s), end_s: info.not_after_s }
}

/// Updates health for authorities and lists; changes are logged.
pub(super) fn report(ends: &[End], health: &Health, now_s: i64) {
    for (kind, what, expiring, expired, next) in [
        ("authority", "an authority in", AUTHORITY_EXPIRING, AUTHORITY_EXPIRED, "give the agent its successor"),
        ("crl", "the revocation list", CRL_EXPIRING, CRL_EXPIRED, "fetch the next one"),
    ] {
        let found = ends.iter().filter(|end| end.kind == kind);
        let found: Vec<(Stage, String)> = found
            .filter_map(|end| {
                let stage = end.stage(now_s)?;
                Some((stage, format!("{what} {} {}: {next}", end.name, stage.describe(end.end_s))))
            })
            .collect();
        let (ended, soon): (Vec<_>, Vec<_>) = found.into_iter().partition(|(stage, _)| *stage == Stage::Ended);
        let join = |found: Vec<(Stage, String)>| {
            let stage = found.iter().map(|(stage, _)| *stage).max()?;
            let messages: Vec<String> = found.into_iter().map(|(_, message)| message).collect();
            Some((stage, messages.join("; ")))
        };
        health.update(expired, join(ended).map(|(_, message)| message), false);
        health.update_ending(expiring, join(soon));
    }
}
