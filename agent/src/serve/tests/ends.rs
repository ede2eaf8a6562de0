//! Warnings before the agent's certificate chain, authorities and revocation lists end, and after it, as a load balancer and a monitor get them.

use std::time::Duration;

use packs_schema::agent::config::ClientAuthority;
use packs_schema::agent::rest::{Health, Reason};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, SerialNumber};

use super::*;

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// The certificate of an authority that began a year ago and has so much time left.
fn ending(left_s: i64) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(365);
    params.not_after = now + time::Duration::seconds(left_s);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

/// An empty revocation list that began 100 days ago and has so much time left.
fn list(issuer: &Authority, left_s: i64) -> String {
    let now = time::OffsetDateTime::now_utc();
    let params = CertificateRevocationListParams {
        this_update: now - time::Duration::days(100),
        next_update: now + time::Duration::seconds(left_s),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

/// Returns the health as soon as it has exactly these expiry codes among its problems and among its notes, and these words.
async fn wait_for(api: &Api, ann: &Identity, problems: &[&str], notes: &[&str], words: &str) -> Health {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let expiry = |code: &str| ["authority_", "certificate_", "crl_"].iter().any(|kind| code.starts_with(kind));
    loop {
        let answer = api.ask(Some(ann), "GET", "/v1/health", "").await.unwrap();
        let health: Health = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let codes = |list: &[Reason]| -> Vec<String> {
            list.iter().map(|reason| reason.code.clone()).filter(|code| expiry(code)).collect()
        };
        if codes(&health.reasons) == problems && codes(&health.notes) == notes && answer.contains(words) {
            return health;
        }
        assert!(tokio::time::Instant::now() < deadline, "{problems:?} {notes:?} {words:?}: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns the value of `bolt_ends_within_seconds` for a file; `None` if there is no warning.
async fn within(api: &Api, ann: &Identity, kind: &str, file: &str) -> Option<String> {
    let metrics = api.ask(Some(ann), "GET", "/v1/metrics", "").await.unwrap();
    let labels = format!("{{kind=\"{kind}\",name=\"{}\"}} ", api.dir.path().join(file).display());
    assert!(metrics.contains(&format!("bolt_ends_seconds{labels}")), "the end itself is always exported: {metrics}");
    let sample = format!("bolt_ends_within_seconds{labels}");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)).map(|value| value.trim().to_owned())
}

/// Replaces a file as a whole.
fn put(api: &Api, name: &str, text: &str) {
    let path = api.dir.path().join(name);
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

#[tokio::test]
async fn an_authority_is_warned_of_a_month_a_week_and_a_day_before_its_end_and_after_it() {
    let api = Api::start_changed(|config, _| {
        let file = config.tls.key.with_file_name("studio.pem");
        std::fs::write(&file, ending(31 * DAY_S)).unwrap();
        let principals = vec!["spiffe://x/studio/*".to_owned().try_into().unwrap()];
        config.tls.client_authorities = vec![ClientAuthority { file, principals }];
    })
    .await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    wait_for(&api, &ann, &[], &[], "").await;
    assert_eq!(within(&api, &ann, "authority", "studio.pem").await, None);
    for (left_s, problems, notes, seconds, words) in [
        (29 * DAY_S, &[][..], &["authority_expiring"][..], 30 * DAY_S, "first warning"),
        (6 * DAY_S, &["authority_expiring"], &[], 7 * DAY_S, "second warning"),
        (23 * HOUR_S, &["authority_expiring"], &[], DAY_S, "last warning"),
        (-HOUR_S, &["authority_expired"], &[], 0, "expired at"),
    ] {
        put(&api, "studio.pem", &ending(left_s));
        let health = wait_for(&api, &ann, problems, notes, words).await;
        assert!(health.ready, "callers of other authorities are answered: {health:?}");
        assert_eq!(within(&api, &ann, "authority", "studio.pem").await, Some(seconds.to_string()), "{words}");
    }
    put(&api, "studio.pem", &ending(365 * DAY_S));
    wait_for(&api, &ann, &[], &[], "").await;
    api.stop().await;
}

#[tokio::test]
async fn a_revocation_list_is_warned_of_before_its_end_until_the_next_one_comes() {
    let api = Api::start_changed(|config, issuer| {
        let path = config.tls.key.with_file_name("crl.pem");
        std::fs::write(&path, list(issuer, 6 * DAY_S)).unwrap();
        config.tls.crls = vec![path];
    })
    .await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |params| params.serial_number = Some(SerialNumber::from(7_u64)));
    wait_for(&api, &ann, &["crl_expiring"], &[], "fetch the next one").await;
    assert_eq!(within(&api, &ann, "crl", "crl.pem").await, Some((7 * DAY_S).to_string()));
    put(&api, "crl.pem", &list(&api.issuer, 300 * DAY_S));
    wait_for(&api, &ann, &[], &[], "").await;
    assert_eq!(within(&api, &ann, "crl", "crl.pem").await, None);
    api.stop().await;
}

#[tokio::test]
async fn an_authority_behind_the_agents_certificate_is_warned_of_before_its_end() {
    let api = Api::start_changed(|config, _| {
        let own = std::fs::read_to_string(&config.tls.certificate).unwrap();
        std::fs::write(&config.tls.certificate, own + &ending(6 * DAY_S)).unwrap();
    })
    .await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let health = wait_for(&api, &ann, &["certificate_expiring"], &[], "certificate 2, which expires at").await;
    assert!(health.ready, "{health:?}");
    assert_eq!(within(&api, &ann, "certificate", "server.pem (certificate 2)").await, Some((7 * DAY_S).to_string()));
    assert_eq!(within(&api, &ann, "certificate", "server.pem").await, None, "the agent's own ends much later");
    let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
    assert!(metrics.contains("bolt_health_problem{code=\"certificate_expiring\"} 1\n"), "{metrics}");
    api.stop().await;
}

#[tokio::test]
async fn the_metric_has_the_same_codes_as_health_those_of_the_sync_included() {
    let api = Api::start_changed(|config, _| {
        let file = config.tls.key.with_file_name("studio.pem");
        std::fs::write(&file, ending(-HOUR_S)).unwrap();
        let principals = vec!["spiffe://x/studio/*".to_owned().try_into().unwrap()];
        config.tls.client_authorities = vec![ClientAuthority { file, principals }];
    })
    .await;
    let ann = leaf(&api.issuer, &["spiffe://x/ann"], |_| {});
    let health = wait_for(&api, &ann, &["authority_expired"], &[], "never_synced").await;
    let metrics = api.ask(Some(&ann), "GET", "/v1/metrics", "").await.unwrap();
    let codes =
        metrics.lines().filter_map(|line| line.strip_prefix("bolt_health_problem{code=\"")?.strip_suffix("\"} 1"));
    let mut expected: Vec<&str> = health.reasons.iter().map(|reason| reason.code.as_str()).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    api.stop().await;
}
