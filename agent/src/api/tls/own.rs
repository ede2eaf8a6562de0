//! The agent's own certificate: the instance that it names, its usage, and its expiry.

use std::path::Path;

use packs_schema::base::certificate::{CertificateInfo, INSTANCE_URI, SERVER_AUTH};
use packs_schema::base::name::InstanceId;
use rustls::pki_types::CertificateDer;

use crate::expiry::{Stage, rfc3339};
use crate::health::Health;

/// Health code of a certificate that names another instance, or is not for servers: no caller accepts it.
const WRONG: &str = "certificate_wrong";
/// Health code of a certificate that has expired, or is not valid yet.
const EXPIRED: &str = "certificate_expired";
/// Health code of a certificate that expires soon; a note a month before, see [`crate::expiry`].
const EXPIRING: &str = "certificate_expiring";

/// Properties of the certificate.
#[derive(Debug, Clone)]
pub(super) struct OwnCertificate {
    pub(super) info: CertificateInfo,
    instances: Vec<String>,
}

impl OwnCertificate {
    /// Reads the first certificate of a chain.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<OwnCertificate> {
        let first = chain.first()?;
        let info = CertificateInfo::parse(first)?;
        let parsed = webpki::EndEntityCert::try_from(first).ok()?;
        let names = parsed.valid_uri_names().filter_map(|name| name.strip_prefix(INSTANCE_URI));
        Some(OwnCertificate { info, instances: names.map(str::to_owned).collect() })
    }

    /// Describes why no caller of `instance` accepts the certificate at any time; `None` when callers do.
    fn identity_problem(&self, instance: Option<&InstanceId>) -> Option<String> {
        if !self.info.has_usage(SERVER_AUTH) {
            return Some("is not for servers: its extended key usage lacks serverAuth".to_owned());
        }
        let here = instance.map_or_else(String::new, |instance| format!(", and this is {instance}"));
        match &self.instances[..] {
            [one] if instance.is_none_or(|instance| one == instance.as_str()) => None,
            [] => Some(format!("names no instance{here}: issue one with `bolt pki issue instance`")),
            names => {
                let names: Vec<String> = names.iter().take(4).map(|name| format!("{name:?}")).collect();
                let names = names.join(" and ");
                Some(format!("names {names}{here}: issue one with `bolt pki issue instance`"))
            }
        }
    }

    /// Describes why a new certificate must not replace `current`: it cannot be used, and `current` can.
    pub(super) fn is_worse_than(&self, current: &OwnCertificate, instance: &InstanceId, now_s: i64) -> Option<String> {
        let problem =
            |of: &OwnCertificate| of.identity_problem(Some(instance)).or_else(|| validity_problem(&of.info, now_s));
        problem(self).filter(|_| problem(current).is_none())
    }

    /// Describes why no caller accepts the certificate now; `None` when callers do. With its health code.
    pub(super) fn problems(&self, instance: Option<&InstanceId>, now_s: i64) -> [(&'static str, Option<String>); 2] {
        [(WRONG, self.identity_problem(instance)), (EXPIRED, validity_problem(&self.info, now_s))]
    }

    /// Updates health; changes are logged.
    pub(super) fn report(&self, health: &Health, path: &Path, instance: &InstanceId, now_s: i64) {
        let described = |problem: String| format!("the certificate {} {problem}", path.display());
        for (code, problem) in self.problems(Some(instance), now_s) {
            health.update(code, problem.map(described), true);
        }
        let stage = expiry_warning(&self.info, now_s).map(|(stage, warning)| (stage, described(warning)));
        health.update_ending(EXPIRING, stage);
    }
}

/// Describes why a certificate is not valid now; `None` when it is.
pub(super) fn validity_problem(info: &CertificateInfo, now_s: i64) -> Option<String> {
    let CertificateInfo { not_before_s, not_after_s, .. } = *info;
    if now_s > not_after_s {
        return Some(format!("expired at {}: issue a new one", rfc3339(not_after_s)));
    }
    (now_s < not_before_s).then(|| format!("is not valid before {}: check the clock", rfc3339(not_before_s)))
}

/// Describes the end of a certificate that is valid and ends soon.
pub(super) fn expiry_warning(info: &CertificateInfo, now_s: i64) -> Option<(Stage, String)> {
    if validity_problem(info, now_s).is_some() {
        return None;
    }
    let stage = Stage::of(Some(info.not_before_s), info.not_after_s, now_s)?;
    Some((stage, format!("{}: issue a new one", stage.describe(info.not_after_s))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn certificate(names: &[&str], (not_before_s, not_after_s): (i64, i64)) -> OwnCertificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let uri = |name: &&str| rcgen::SanType::URI(format!("{INSTANCE_URI}{name}").try_into().unwrap());
        params.subject_alt_names = names.iter().map(uri).collect();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        (params.not_before, params.not_after) = (at(not_before_s), at(not_after_s));
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        OwnCertificate::of(&[made.der().clone()]).unwrap()
    }

    fn id() -> InstanceId {
        InstanceId::new("i-1").unwrap()
    }

    fn codes(certificate: &OwnCertificate, now_s: i64) -> (Vec<&'static str>, bool) {
        let health = Health::default();
        health.set_ready(true);
        certificate.report(&health, Path::new("agent.pem"), &id(), now_s);
        (health.codes(), health.is_ready())
    }

    #[test]
    fn a_certificate_that_callers_refuse_is_not_ready_and_one_that_expires_soon_is_degraded() {
        let year = (1000 * DAY, 1365 * DAY);
        let good = certificate(&["i-1"], year);
        assert_eq!(codes(&good, 1100 * DAY), (vec![], true));
        assert_eq!(codes(&good, 1358 * DAY), (vec![], true));
        assert_eq!(codes(&good, 1358 * DAY + 1), (vec![EXPIRING], true));
        assert_eq!(codes(&good, 1364 * DAY + 1), (vec![EXPIRING], true));
        assert_eq!(codes(&good, 1365 * DAY + 1), (vec![EXPIRED], false));
        assert_eq!(codes(&good, 999 * DAY), (vec![EXPIRED], false));
        let short = certificate(&["i-1"], (1000 * DAY, 1001 * DAY));
        assert_eq!(codes(&short, 1000 * DAY + 21 * 3600), (vec![], true), "a tenth of a day is left");
        assert_eq!(codes(&short, 1000 * DAY + 22 * 3600), (vec![EXPIRING], true));
        for names in [&[][..], &["i-2"], &["i-1", "i-2"]] {
            assert_eq!(codes(&certificate(names, year), 1100 * DAY), (vec![WRONG], false), "{names:?}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_used_does_not_replace_one_that_can() {
        let now_s = 1100 * DAY;
        let good = certificate(&["i-1"], (1000 * DAY, 1365 * DAY));
        let newer = certificate(&["i-1"], (1000 * DAY, 1366 * DAY));
        assert_eq!(newer.is_worse_than(&good, &id(), now_s), None);
        for bad in [
            certificate(&["i-1"], (1000 * DAY, 1050 * DAY)),
            certificate(&["i-1"], (1200 * DAY, 1365 * DAY)),
            certificate(&["i-2"], (1000 * DAY, 1365 * DAY)),
        ] {
            assert!(bad.is_worse_than(&good, &id(), now_s).is_some());
            assert_eq!(bad.is_worse_than(&bad, &id(), now_s), None, "both cannot be used");
        }
    }
}
