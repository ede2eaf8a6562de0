//! Mutual TLS 1.3: the server's certificate, the callers' authorities with their revocation lists, and the principal of a caller.
//!
//! ```text
//!  certificate + key ─▶ Kept ─┐
//!  client_ca ─────────▶ Kept ─┤
//!  client_authority … ▶ Kept ─┼─▶ InEffect: one configuration, replaced as a whole ─▶ open connections are verified again
//!  crls … ────────────▶ Kept ─┘
//! ```
//!
//! The files are checked for changes at each connection, and each second by the watcher; changed files take effect at once.
//! They are compared by `stat`, through links, and not watched by inotify: what makes a path lead to other content may happen in
//! any directory on the way (a link such as Kubernetes' `..data`, a mount), and owners and modes of all these directories are
//! checked each second in any case. A file that cannot be used leaves its last valid content in effect, and the agent degraded.
//! Files that could never be used since the start leave no
//! configuration: they are read again each second, and the interface answers no caller until they can be. Certificate and key are
//! one unit; of the other files each is its own, so that a damaged authority does not keep a revocation
//! from taking effect. Sessions are never resumed: a resumed session would skip the check of the certificate.

mod callers;
mod check;
mod crls;
mod ends;
mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod kept;
mod own;
mod revocation;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use packs_schema::agent::config::TlsConfig;
use packs_schema::base::name::{InstanceId, Principal};
use packs_schema::base::trust::Purpose;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::sync::watch;

use super::connections::{Chain, Connections, Open};
use crate::expiry::End;
use crate::health::Health;
use callers::{Authority, CallerVerifier};
pub(crate) use check::check;
use crls::Crl;
pub(crate) use files::TlsError;
use kept::Kept;
use own::OwnCertificate;

/// Health code while files cannot be used.
const BROKEN: &str = "tls_invalid";

/// Files of TLS, and the configuration built from them.
pub(crate) struct Tls {
    files: TlsConfig,
    provider: Arc<CryptoProvider>,
    health: Arc<Health>,
    /// `None` until the files could be used for the first time.
    state: Mutex<Option<InEffect>>,
    usable: watch::Sender<bool>,
    connections: Arc<Connections>,
    /// Known later than the certificates where the metadata service is asked for it.
    instance: OnceLock<InstanceId>,
}

/// Verifier of callers that a handshake uses, and when it began.
pub(crate) struct Verifying {
    callers: Arc<CallerVerifier>,
    /// In seconds since 1970.
    since_s: i64,
}

#[cfg(test)]
impl Verifying {
    /// Returns when the handshake began, in seconds since 1970.
    pub(crate) fn since_s(&self) -> i64 {
        self.since_s
    }
}

/// Certificate and key of the agent.
struct Own {
    key: Arc<CertifiedKey>,
    certificate: OwnCertificate,
}

struct InEffect {
    own: Kept<Own>,
    /// `client_ca`, then each `client_authority`.
    authorities: Vec<Kept<Vec<CertificateDer<'static>>>>,
    crls: Vec<Kept<Vec<Crl>>>,
    callers: Arc<CallerVerifier>,
    /// Files of lists that no authority of their name signed, since the authorities changed.
    unverified: Vec<PathBuf>,
    config: Arc<ServerConfig>,
    /// Time until which all lists are valid, in seconds since 1970; connections are verified again when it has passed.
    crls_valid_until_s: i64,
}

/// Caller of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its principal, or the reason why it has none.
    pub(crate) principal: Result<Principal, String>,
    /// Name of the authority that vouches for it, for people.
    pub(crate) authority: Option<String>,
}

impl Tls {
    /// Reads the files. While they cannot be used, there is no configuration ([`Tls::is_usable`]), and health says why.
    pub(crate) fn load(files: &TlsConfig, health: Arc<Health>) -> Tls {
        let tls = Tls {
            files: files.clone(),
            provider: Arc::new(provider()),
            health,
            state: Mutex::new(None),
            usable: watch::Sender::new(false),
            connections: Arc::default(),
            instance: OnceLock::new(),
        };
        tls.load_again(&mut tls.lock());
        tls
    }

    /// True once the files could be used: from then on there is a configuration.
    pub(crate) fn is_usable(&self) -> bool {
        self.lock().is_some()
    }

    /// Waits until the files can be used.
    pub(crate) async fn usable(&self) {
        // Never an error: this has the sender.
        let _ = self.usable.subscribe().wait_for(|usable| *usable).await;
    }

    /// Reads the files, unless they could be used before.
    fn load_again(&self, state: &mut Option<InEffect>) {
        if state.is_some() {
            return;
        }
        match InEffect::load(&self.files, &self.provider) {
            Ok(loaded) => {
                *state = Some(loaded);
                self.usable.send_replace(true);
            }
            Err(error) => self.health.update(BROKEN, Some(crate::log::chain(&error)), false),
        }
    }

    /// Requires the agent's certificate to name this instance from now on.
    pub(crate) fn serve_as(&self, instance: &InstanceId) {
        // The identity never changes while the agent runs.
        let _ = self.instance.set(instance.clone());
        self.check_for_changes(now_s());
    }

    /// Returns the configuration for a new connection, and what [`Tls::open`] takes for it; `None` while the files cannot be used.
    pub(crate) fn current(&self) -> Option<(Arc<ServerConfig>, Verifying)> {
        let since_s = now_s();
        let (config, callers) = self.refresh(false, since_s)?;
        Some((config, Verifying { callers, since_s }))
    }

    /// Checks for changes of the files, for certificates that end, and for connections that must end with one.
    pub(crate) fn check_for_changes(&self, now_s: i64) {
        self.refresh(true, now_s);
        let (callers, crl_expired) = {
            let mut state = self.lock();
            let Some(state) = &mut *state else { return };
            if let Some(instance) = self.instance.get() {
                state.own.get().certificate.report(&self.health, &self.files.certificate, instance, now_s);
            }
            ends::report(&state.ends(), &self.health, now_s);
            let crl_expired = state.crls_valid_until_s < now_s;
            if crl_expired {
                state.crls_valid_until_s = next_crl_expiry(&state.crls, now_s);
            }
            (state.callers.clone(), crl_expired)
        };
        self.connections.close_expired(now_s, |chain| verify(&callers, chain, now_s));
        if crl_expired {
            self.connections.close_refused(now_s, |chain| verify(&callers, chain, now_s));
        }
    }

    /// Registers a caller's new connection, whose chain was verified in its handshake, and identifies the caller. Returns the
    /// reason when the authorities have changed since and no longer accept it.
    pub(crate) fn open(&self, chain: Chain, verified: &Verifying) -> Result<(Open, Peer), String> {
        // Registered first, so that no change of the authorities is missed. A certificate that has expired since the beginning
        // of the handshake is due at once.
        let open = self.connections.open(chain.clone(), verified.since_s);
        let callers = self.lock().as_ref().map(|state| state.callers.clone()).ok_or("there are no authorities")?;
        let known = if Arc::ptr_eq(&callers, &verified.callers) { callers.identify_verified(&chain) } else { None };
        let principal = match known {
            Some(principal) => principal,
            None => callers.identify(&chain, unix_time(now_s())).map_err(|e| e.to_string())?,
        };
        Ok((open, Peer { principal, authority: callers.authority_of(&chain) }))
    }

    /// Returns the ends of the agent's certificate, of the authorities and of the revocation lists.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.lock().as_ref().map(InEffect::ends).unwrap_or_default()
    }

    /// Returns the files whose present content is not in effect.
    pub(crate) fn invalid_files(&self) -> Vec<PathBuf> {
        let never_used = || {
            let callers = self.files.caller_files().map(|(_, path)| path);
            [&*self.files.certificate].into_iter().chain(callers).map(Path::to_owned).collect()
        };
        self.lock().as_ref().map_or_else(never_used, InEffect::invalid_files)
    }

    fn refresh(&self, owners: bool, now_s: i64) -> Option<(Arc<ServerConfig>, Arc<CallerVerifier>)> {
        let mut state = self.lock();
        if owners {
            self.load_again(&mut state);
        }
        let state = state.as_mut()?;
        let own = state.own.refresh(owners, |current| {
            let read = Own::read(&self.files, &self.provider)?;
            let worse = |instance| read.certificate.is_worse_than(&current.certificate, instance, now_s);
            match self.instance.get().and_then(worse) {
                Some(why) => Err(TlsError::Worse(self.files.certificate.clone(), why)),
                None => Ok(read),
            }
        });
        let callers = state.refresh_callers(owners, &self.files, &self.provider);
        if own || callers {
            match state.compose(&self.files, &self.provider, now_s) {
                Ok(()) => {}
                // Each part was checked when it was read.
                Err(error) => tracing::error!(error = crate::log::chain(&error), "cannot use the certificates"),
            }
        }
        self.health.update(BROKEN, state.problem(), false);
        if callers {
            let callers = state.callers.clone();
            self.connections.close_refused(now_s, |chain| verify(&callers, chain, now_s));
        }
        Some((state.config.clone(), state.callers.clone()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<InEffect>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Own {
    fn read(files: &TlsConfig, provider: &CryptoProvider) -> Result<Own, TlsError> {
        let key = files::own(files, provider)?;
        let damaged = || TlsError::Certificate(files.certificate.clone(), "it is damaged".to_owned());
        let certificate = OwnCertificate::of(&key.cert).ok_or_else(damaged)?;
        Ok(Own { key, certificate })
    }
}

impl InEffect {
    fn load(files: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<InEffect, TlsError> {
        let of_own = vec![(files.certificate.clone(), None), (files.key.clone(), Some(Purpose::Secret))];
        let own = Kept::load(of_own, || Own::read(files, provider))?;
        let anchor = |path: &PathBuf| vec![(path.clone(), Some(Purpose::Anchor))];
        let mut authorities = Vec::new();
        let paths = files.client_ca.iter().chain(files.client_authorities.iter().map(|confined| &confined.file));
        for path in paths {
            authorities.push(Kept::load(anchor(path), || files::authorities(path))?);
        }
        let anchors = anchors(&authorities);
        let read = |path| Kept::load(anchor(path), || crls::read(path, &anchors, provider));
        let crls = files.crls.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        drop(anchors);
        let (callers, _) = verifier(&authorities, &crls, files, provider)?;
        let config = server_config(own.get(), callers.clone(), files, provider)?;
        let crls_valid_until_s = next_crl_expiry(&crls, now_s());
        Ok(InEffect { own, authorities, crls, callers, unverified: Vec::new(), config, crls_valid_until_s })
    }

    /// Reads changed files that decide which callers are accepted; returns true if any changed.
    fn refresh_callers(&mut self, owners: bool, files: &TlsConfig, provider: &CryptoProvider) -> bool {
        let mut changed = false;
        for authority in &mut self.authorities {
            let path = authority.paths().next().cloned().unwrap_or_default();
            changed |= authority.refresh(owners, |_| files::authorities(&path));
        }
        // The lists after the authorities that signed them. One that was refused may be of an authority that has changed since.
        let anchors = anchors(&self.authorities);
        for (crl, path) in self.crls.iter_mut().zip(&files.crls) {
            if changed {
                crl.read_again();
            }
            changed |= crl.refresh(owners, |current| {
                let read = crls::read(path, &anchors, provider)?;
                match crls::find_older(&read, current, &anchors, provider) {
                    None => Ok(read),
                    Some(why) => Err(TlsError::Crl(path.clone(), why)),
                }
            });
        }
        changed
    }

    /// Builds the configuration of what is valid.
    fn compose(&mut self, files: &TlsConfig, provider: &Arc<CryptoProvider>, now_s: i64) -> Result<(), TlsError> {
        let (callers, unverified) = verifier(&self.authorities, &self.crls, files, provider)?;
        self.config = server_config(self.own.get(), callers.clone(), files, provider)?;
        self.callers = callers;
        self.unverified = unverified;
        self.crls_valid_until_s = next_crl_expiry(&self.crls, now_s);
        Ok(())
    }

    /// Describes everything whose present content is not in effect.
    fn problem(&self) -> Option<String> {
        let kept = [self.own.problem()].into_iter().chain(self.authorities.iter().map(Kept::problem));
        let kept = kept.chain(self.crls.iter().map(Kept::problem)).flatten();
        let kept = kept.map(|problem| format!("{problem}; its previous content remains in effect"));
        let unverified = self.unverified.iter().map(|path| {
            format!(
                "the revocation list {} revokes nothing: it has the name of an authority of callers that has another key now",
                path.display()
            )
        });
        let all: Vec<String> = kept.chain(unverified).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn invalid_files(&self) -> Vec<PathBuf> {
        fn invalid<T>(kept: &Kept<T>) -> impl Iterator<Item = PathBuf> {
            kept.problem().is_some().then(|| kept.paths().cloned()).into_iter().flatten()
        }
        let authorities = self.authorities.iter().flat_map(invalid);
        let crls = self.crls.iter().flat_map(invalid);
        invalid(&self.own).chain(authorities).chain(crls).chain(self.unverified.iter().cloned()).collect()
    }

    fn ends(&self) -> Vec<End> {
        ends::all(&self.own, &self.authorities, &self.crls)
    }
}

/// Returns the trust anchors of all authorities.
fn anchors(authorities: &[Kept<Vec<CertificateDer<'static>>>]) -> Vec<TrustAnchor<'static>> {
    let certificates = authorities.iter().flat_map(|authority| authority.get());
    let anchors = certificates.filter_map(|certificate| webpki::anchor_from_trusted_cert(certificate).ok());
    anchors.map(|anchor| anchor.to_owned()).collect()
}

/// Builds the verifier of callers; also returns the files of lists that it leaves out.
fn verifier(
    authorities: &[Kept<Vec<CertificateDer<'static>>>],
    crls: &[Kept<Vec<Crl>>],
    files: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<CallerVerifier>, Vec<PathBuf>), TlsError> {
    let confinements = files.client_ca.iter().map(|_| None).chain(files.client_authorities.iter().map(Some));
    let all: Vec<Authority<'_>> = authorities
        .iter()
        .zip(confinements)
        .flat_map(|(kept, confined)| kept.get().iter().map(move |certificate| Authority { certificate, confined }))
        .collect();
    let lists: Vec<(&Crl, &PathBuf)> =
        crls.iter().zip(&files.crls).flat_map(|(kept, path)| kept.get().iter().map(move |crl| (crl, path))).collect();
    let of_lists: Vec<&Crl> = lists.iter().map(|(crl, _)| *crl).collect();
    let (verifier, unverified) = CallerVerifier::new(&all, &of_lists, files.expired_crl, provider)
        .map_err(|error| TlsError::Authority(files.caller_files().map(|(_, path)| path.to_owned()).collect(), error))?;
    let mut unverified: Vec<PathBuf> = unverified.into_iter().map(|index| lists[index].1.clone()).collect();
    unverified.dedup();
    Ok((Arc::new(verifier), unverified))
}

fn server_config(
    own: &Own,
    callers: Arc<CallerVerifier>,
    files: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |e: rustls::Error| TlsError::Certificate(files.certificate.clone(), e.to_string());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong)?
        .with_client_cert_verifier(callers)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.key.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Returns the next time at which a list that is valid now expires.
fn next_crl_expiry(crls: &[Kept<Vec<Crl>>], now_s: i64) -> i64 {
    let ends = crls.iter().flat_map(|kept| kept.get()).map(|crl| crl.info.next_update_s);
    ends.filter(|end| *end >= now_s).min().unwrap_or(i64::MAX)
}

/// Returns the time in seconds since 1970.
pub(crate) fn now_s() -> i64 {
    i64::try_from(crate::clock::now_ms() / 1000).unwrap_or(i64::MAX)
}

fn unix_time(now_s: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_s).unwrap_or(0)))
}

/// Verifies the chain of an open connection: its caller must be accepted as on a new one.
fn verify(callers: &CallerVerifier, chain: &Chain, now_s: i64) -> Result<(), String> {
    callers.identify(chain, unix_time(now_s)).map_err(|e| e.to_string())?.map(|_| ())
}

/// Returns the algorithms that are accepted. Keys are exchanged with X25519MLKEM768 where the caller offers it, so that a recording of
/// the connection does not help a future quantum computer.
fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![X25519MLKEM768, X25519, SECP256R1];
    provider
}
