//! The agent's own certificate: the instance that it names, its usage, and its expiry, with that of the authorities behind it in
//! the file, which callers need to verify it.

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

/// Maximum number of authorities behind the certificate whose ends are reported; rustls accepts six in a chain.
const MAX_ISSUERS: usize = 8;

/// Properties of the certificate.
#[derive(Debug, Clone)]
pub(super) struct OwnCertificate {
    pub(super) info: CertificateInfo,
    /// Authorities behind it in the file, with their numbers there: the first certificate of the file is number 1. When one of
    /// them has ended, callers refuse the certificate.
    pub(super) issuers: Vec<(usize, CertificateInfo)>,
    instances: Vec<String>,
}

impl OwnCertificate {
    /// Reads the certificates of a chain, of which the first is the agent's own.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<OwnCertificate> {
        let first = chain.first()?;
        let info = CertificateInfo::parse(first)?;
        let parsed = webpki::EndEntityCert::try_from(first).ok()?;
        let names = parsed.valid_uri_names().filter_map(|name| name.strip_prefix(INSTANCE_URI));
        let behind = chain.iter().enumerate().skip(1).take(MAX_ISSUERS);
        let issuers = behind.filter_map(|(index, issuer)| Some((index + 1, CertificateInfo::parse(issuer)?))).collect();
        Some(OwnCertificate { info, issuers, instances: names.map(str::to_owned).collect() })
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
        let problem = |of: &OwnCertificate| of.identity_problem(Some(instance)).or_else(|| of.validity_problem(now_s));
        problem(self).filter(|_| problem(current).is_none())
    }

    /// Describes why no caller accepts the certificate now; `None` when callers do. With its health code.
    pub(super) fn problems(&self, instance: Option<&InstanceId>, now_s: i64) -> [(&'static str, Option<String>); 2] {
        [(WRONG, self.identity_problem(instance)), (EXPIRED, self.validity_problem(now_s))]
    }

    /// Describes why the certificate, or an authority behind it, is not valid now; `None` when all are.
    fn validity_problem(&self, now_s: i64) -> Option<String> {
        let of_issuers = || {
            let mut all = self.issuers.iter();
            all.find_map(|(number, info)| Some(of_issuer(*number, &validity_problem(info, now_s)?)))
        };
        validity_problem(&self.info, now_s).or_else(of_issuers)
    }

    /// Describes the ends of the certificate and of the authorities behind it that come soon, with the nearest stage.
    pub(super) fn expiry_warning(&self, now_s: i64) -> Option<(Stage, String)> {
        let own = expiry_warning(&self.info, now_s);
        let of_issuers = self.issuers.iter().filter_map(|(number, info)| {
            let (stage, warning) = expiry_warning(info, now_s)?;
            Some((stage, of_issuer(*number, &warning)))
        });
        let (stages, warnings): (Vec<_>, Vec<_>) = own.into_iter().chain(of_issuers).unzip();
        Some((stages.into_iter().max()?, warnings.join("; it ")))
    }

    /// Updates health; changes are logged.
    pub(super) fn report(&self, health: &Health, path: &Path, instance: &InstanceId, now_s: i64) {
        let described = |problem: String| format!("the certificate {} {problem}", path.display());
        for (code, problem) in self.problems(Some(instance), now_s) {
            health.update(code, problem.map(described), true);
        }
        let stage = self.expiry_warning(now_s).map(|(stage, warning)| (stage, described(warning)));
        health.update_ending(EXPIRING, stage);
    }
}

/// Describes a problem of an authority behind the certificate, in a sentence whose subject is the certificate.
fn of_issuer(number: usize, problem: &str) -> String {
    format!("has an authority behind it in its file, certificate {number}, which {problem}")
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

    fn certificate(names: &[&str], validity: (i64, i64)) -> OwnCertificate {
        OwnCertificate::of(&[der(names, validity)]).unwrap()
    }

    fn der(names: &[&str], (not_before_s, not_after_s): (i64, i64)) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let uri = |name: &&str| rcgen::SanType::URI(format!("{INSTANCE_URI}{name}").try_into().unwrap());
        params.subject_alt_names = names.iter().map(uri).collect();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        (params.not_before, params.not_after) = (at(not_before_s), at(not_after_s));
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        made.der().clone()
    }

    fn id() -> InstanceId {
        InstanceId::new("i-1").unwrap()
    }

    fn codes(certificate: &OwnCertificate, now_s: i64) -> (Vec<&'static str>, bool) {
        let health = Health::default();
        health.set_ready(true);
        certificate.report(&health, Path::new("agent.pem"), &id(), now_s);
        (health.own_codes(), health.is_ready())
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
    fn an_authority_behind_the_certificate_is_reported_before_its_end_and_after_it() {
        let leaf = der(&["i-1"], (1000 * DAY, 1365 * DAY));
        let issuer = der(&[], (700 * DAY, 1106 * DAY));
        let chain = OwnCertificate::of(&[leaf.clone(), issuer.clone()]).unwrap();
        assert_eq!(codes(&chain, 1076 * DAY), (vec![], true), "30 days");
        assert_eq!(chain.expiry_warning(1077 * DAY).unwrap().0, Stage::Month);
        let (stage, warning) = chain.expiry_warning(1100 * DAY).unwrap();
        assert_eq!(stage, Stage::Week);
        assert!(warning.contains("certificate 2, which expires at 1973-01-11T00:00:00Z"), "{warning}");
        assert_eq!(codes(&chain, 1100 * DAY), (vec![EXPIRING], true), "six days");
        assert_eq!(chain.expiry_warning(1105 * DAY + 1).unwrap().0, Stage::Day);
        assert_eq!(codes(&chain, 1106 * DAY + 1), (vec![EXPIRED], false));
        let good = OwnCertificate::of(std::slice::from_ref(&leaf)).unwrap();
        assert!(chain.is_worse_than(&good, &id(), 1107 * DAY).unwrap().contains("certificate 2"));
        assert_eq!(chain.is_worse_than(&good, &id(), 1100 * DAY), None);
        // The nearest end of several counts, and all are named.
        let chain = OwnCertificate::of(&[leaf, issuer, der(&[], (700 * DAY, 1101 * DAY))]).unwrap();
        let (stage, warning) = chain.expiry_warning(1100 * DAY + 1).unwrap();
        assert!(
            stage == Stage::Day && warning.contains("certificate 2") && warning.contains("certificate 3"),
            "{warning}"
        );
    }

    #[test]
    fn a_long_file_is_reported_as_far_as_callers_accept_it() {
        let long = vec![der(&["i-1"], (1000 * DAY, 1365 * DAY)); 100];
        assert_eq!(OwnCertificate::of(&long).unwrap().issuers.len(), MAX_ISSUERS);
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
