//! Mutual TLS 1.3: the server's certificate, the callers' authorities, and the principal of a caller.
//!
//! The files are checked for changes at each connection, and each second by the watcher; changed files take effect at once.
//! Files that cannot be used leave the last valid ones in effect, and the agent degraded. Sessions are never resumed: a
//! resumed session would skip the check of the certificate.

mod callers;
mod files;
mod own;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use packs_schema::agent::config::TlsConfig;
use packs_schema::base::certificate::CertificateInfo;
use packs_schema::base::name::InstanceId;
use packs_schema::base::trust::Purpose;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

use super::connections::{Chain, Connections, Open};
use crate::access::Stamp;
use crate::health::Health;
use crate::trust;
pub(crate) use callers::{CallerVerifier, principal};
pub(crate) use files::TlsError;
use own::OwnCertificate;

/// Health code while the files cannot be used.
const BROKEN: &str = "tls_invalid";

/// Files of TLS, and the configuration built from them.
pub(crate) struct Tls {
    files: TlsConfig,
    health: Arc<Health>,
    state: Mutex<InEffect>,
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

/// Stamps of certificate, key and authorities, and the result of a check of owners and modes of key and authorities.
type FileStates = ([Option<Stamp>; 3], Option<bool>);

struct InEffect {
    stamps: [Option<Stamp>; 3],
    trusted: bool,
    config: Arc<ServerConfig>,
    callers: Arc<CallerVerifier>,
    own: OwnCertificate,
}

impl Tls {
    /// Reads the files. Files that cannot be used prevent the start; later they only degrade health.
    pub(crate) fn load(files: &TlsConfig, health: Arc<Health>) -> Result<Tls, TlsError> {
        let stamps = stamps(files);
        let state = Mutex::new(build(files, stamps)?);
        let (files, connections) = (files.clone(), Arc::default());
        Ok(Tls { files, health, state, connections, instance: OnceLock::new() })
    }

    /// Requires the agent's certificate to name this instance from now on.
    pub(crate) fn serve_as(&self, instance: &InstanceId) {
        // The identity never changes while the agent runs.
        let _ = self.instance.set(instance.clone());
        self.check_for_changes(now_s());
    }

    /// Returns the configuration for a new connection, and what [`Tls::open`] takes for it.
    pub(crate) fn current(&self) -> (Arc<ServerConfig>, Verifying) {
        let since_s = now_s();
        let (config, callers) = self.refresh((stamps(&self.files), None), since_s);
        (config, Verifying { callers, since_s })
    }

    /// FileStates for changes of the files, for certificates that end, and for connections that must end with one.
    pub(crate) fn check_for_changes(&self, now_s: i64) {
        let trusted = trust::check(&self.files.key, Purpose::Secret).is_ok()
            && trust::check(&self.files.client_ca, Purpose::Anchor).is_ok();
        self.refresh((stamps(&self.files), Some(trusted)), now_s);
        let callers = {
            let state = self.lock();
            if let Some(instance) = self.instance.get() {
                state.own.report(&self.health, &self.files.certificate, instance, now_s);
            }
            state.callers.clone()
        };
        self.connections.close_expired(now_s, |chain| verify(&callers, chain, now_s));
    }

    /// Registers a caller's new connection, whose chain was verified in its handshake; `None` when the authorities have changed since
    /// and no longer accept it.
    pub(crate) fn open(&self, chain: Chain, verified: &Verifying) -> Option<Open> {
        // A certificate that has expired since the beginning of the handshake is due at once.
        let open = self.connections.open(chain.clone(), verified.since_s);
        let callers = self.lock().callers.clone();
        let is_accepted = Arc::ptr_eq(&callers, &verified.callers) || verify(&callers, &chain, now_s()).is_ok();
        is_accepted.then_some(open)
    }

    /// Returns the expiry of the agent's own certificate, in seconds since 1970.
    pub(crate) fn expires_at_s(&self) -> i64 {
        self.lock().own.info.not_after_s
    }

    fn refresh(&self, (stamps, trusted): FileStates, now_s: i64) -> (Arc<ServerConfig>, Arc<CallerVerifier>) {
        let mut state = self.lock();
        if stamps == state.stamps && trusted.is_none_or(|trusted| trusted == state.trusted) {
            return (state.config.clone(), state.callers.clone());
        }
        state.stamps = stamps;
        let built = build(&self.files, stamps);
        state.trusted = !matches!(built, Err(TlsError::Trust(_)));
        let built = built.and_then(|built| {
            let instance = self.instance.get();
            match instance.and_then(|instance| built.own.is_worse_than(&state.own, instance, now_s)) {
                Some(why) => Err(TlsError::Worse(self.files.certificate.clone(), why)),
                None => Ok(built),
            }
        });
        match built {
            Ok(built) => {
                tracing::info!("certificates read again");
                *state = built;
                self.health.clear(BROKEN);
                let callers = state.callers.clone();
                self.connections.close_refused(now_s, |chain| verify(&callers, chain, now_s));
            }
            Err(error) => {
                let message = crate::log::chain(&error);
                tracing::error!(%message, "cannot use the certificates; the previous ones remain in effect");
                self.health.set(BROKEN, format!("{message}; the previous certificates remain in effect"));
            }
        }
        (state.config.clone(), state.callers.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InEffect> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Problem of one of the files, as [`check`] finds it.
pub(crate) struct FileProblem {
    pub(crate) path: PathBuf,
    pub(crate) message: String,
    /// True if the start is refused, or if no caller accepts the agent.
    pub(crate) prevents_service: bool,
}

impl FileProblem {
    fn error(path: &Path, message: String) -> FileProblem {
        FileProblem { path: path.to_owned(), message, prevents_service: true }
    }
}

/// Checks the files as a start does, and returns everything that is wrong, for `check-config`. Without an
/// `instance`, which only the metadata service may know, the name in the certificate is not compared.
pub(crate) fn check(files: &TlsConfig, instance: Option<&InstanceId>, now_s: i64) -> Vec<FileProblem> {
    let provider = Arc::new(provider());
    let mut found = Vec::new();
    let mut failed = |path: &Path, error: TlsError| {
        let mut message = crate::log::chain(&error);
        // The report names the file already.
        for prefix in [format!("the certificate {path:?} "), format!("{path:?} "), format!("{}: ", path.display())] {
            message = message.strip_prefix(&prefix).map(str::to_owned).unwrap_or(message);
        }
        found.push(FileProblem::error(path, message));
    };
    let chain = files::certificates(&files.certificate).map_err(|e| failed(&files.certificate, e)).ok();
    let key = files::private_key(&files.key).map_err(|e| failed(&files.key, e)).ok();
    let own = match key.and(chain.as_ref()) {
        Some(_) => files::own(files, &provider).map_err(|e| failed(&files.certificate, e)).ok(),
        None => None,
    };
    let authorities = files::authorities(&files.client_ca).map_err(|e| failed(&files.client_ca, e)).ok();
    if authorities.is_some()
        && let Err(error) = callers(files, &provider)
    {
        failed(&files.client_ca, error);
    }
    match own.as_ref().map(|own| own::OwnCertificate::of(&own.cert)) {
        Some(None) => found.push(FileProblem::error(&files.certificate, "it is damaged".to_owned())),
        Some(Some(own)) => {
            for (_, problem, stops) in own.problems(instance, now_s) {
                let path = files.certificate.clone();
                found.extend(problem.map(|message| FileProblem { path, message, prevents_service: stops }));
            }
        }
        None => {}
    }
    let others = chain.iter().flatten().skip(1).map(|certificate| (&files.certificate, certificate, true));
    let authorities = authorities.iter().flatten();
    // The TLS library accepts callers of an authority that has ended.
    let authorities = authorities.map(|certificate| (&files.client_ca, certificate, false));
    for (path, certificate, prevents_service) in others.chain(authorities) {
        let Some(info) = CertificateInfo::parse(certificate) else { continue };
        if let Some(problem) = own::validity_problem(&info, now_s) {
            let message = format!("an authority in it {problem}");
            found.push(FileProblem { path: path.clone(), message, prevents_service });
        } else if let Some(problem) = own::expiry_warning(&info, now_s) {
            let message = format!("an authority in it {problem}");
            found.push(FileProblem { path: path.clone(), message, prevents_service: false });
        }
    }
    found
}

/// Returns the time in seconds since 1970.
pub(crate) fn now_s() -> i64 {
    i64::try_from(crate::clock::now_ms() / 1000).unwrap_or(i64::MAX)
}

fn verify(callers: &CallerVerifier, chain: &Chain, now_s: i64) -> Result<(), String> {
    let now = Duration::from_secs(u64::try_from(now_s).unwrap_or(0));
    callers.verify(chain, UnixTime::since_unix_epoch(now)).map_err(|e| e.to_string())
}

fn stamps(files: &TlsConfig) -> [Option<Stamp>; 3] {
    [&files.certificate, &files.key, &files.client_ca].map(|path| Stamp::of(path))
}

/// Returns the algorithms that are accepted. Keys are exchanged with X25519MLKEM768 where the caller offers it, so that a recording of
/// the connection does not help a future quantum computer.
fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![X25519MLKEM768, X25519, SECP256R1];
    provider
}

/// Builds the configuration from the files whose stamps are `stamps`.
fn build(files: &TlsConfig, stamps: [Option<Stamp>; 3]) -> Result<InEffect, TlsError> {
    let provider = Arc::new(provider());
    let certified = files::own(files, &provider)?;
    let own = OwnCertificate::of(&certified.cert)
        .ok_or_else(|| TlsError::Certificate(files.certificate.clone(), "it is damaged".to_owned()))?;
    let callers = callers(files, &provider)?;
    let wrong = |e: rustls::Error| TlsError::Certificate(files.certificate.clone(), e.to_string());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong)?
        .with_client_cert_verifier(callers.clone())
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(InEffect { stamps, trusted: true, config: Arc::new(config), callers, own })
}

/// Builds the verifier of callers from the authorities in the file.
fn callers(files: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<Arc<CallerVerifier>, TlsError> {
    let authority = |e: String| TlsError::Authority(files.client_ca.clone(), e);
    let mut roots = RootCertStore::empty();
    for certificate in files::authorities(&files.client_ca)? {
        roots.add(certificate).map_err(|e| authority(e.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| authority(e.to_string()))?;
    Ok(Arc::new(CallerVerifier::new(verifier)))
}
