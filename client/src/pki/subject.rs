//! Subjects of certificates: an instance or a caller, and the names that a certificate gives it.

use packs_schema::base::certificate::{CLIENT_AUTH, CertificateInfo, INSTANCE_URI, SERVER_AUTH};
use packs_schema::base::name::{InstanceId, Principal};
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::is_host_name;

/// Maximum number of further addresses in a request or certificate.
const MAX_ADDRESSES: usize = 32;

/// Subject of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The agent of an instance, with further host names and IP addresses for programs that check these.
    Instance {
        /// The instance id.
        id: InstanceId,
        /// Host names and IP addresses beside the id; Bolt checks the id alone.
        addresses: Vec<String>,
    },
    /// A caller.
    Client(Principal),
}

/// Error returned for names that no certificate of this authority has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectProblem {
    /// Not exactly one URI name.
    #[error(
        "it has {0} URI names instead of one: an instance is bolt://instance/<ID>, a caller a URI such as \
         spiffe://example.org/oncall"
    )]
    Uris(usize),
    /// A name of another kind, such as an e-mail address.
    #[error("it has a name that is neither a URI, a host name nor an IP address")]
    OtherName,
    /// An instance's URI without a valid id.
    #[error("its URI name holds no valid instance id")]
    InstanceId,
    /// A URI that is not a principal.
    #[error("its URI name is not a valid principal")]
    Principal,
    /// A URI with the scheme of local access.
    #[error(
        "its URI name has the scheme local, which is that of local access: no agent accepts a certificate with it; choose \
         another name, such as spiffe://example.org/oncall"
    )]
    Local,
    /// A caller with a host name or IP address.
    #[error("it names a caller, and a host name or IP address besides")]
    CallerWithAddress,
    /// A host name that is none.
    #[error("it has a host name that is not valid")]
    HostName,
    /// Too many addresses.
    #[error("it has more than {MAX_ADDRESSES} host names and IP addresses")]
    TooMany,
    /// A usage that does not fit the name.
    #[error(
        "its extended key usage does not fit its name: serverAuth for an instance, clientAuth for a caller, and no other"
    )]
    Usage,
    /// An authority, which may sign certificates.
    #[error("it is for an authority (CA:TRUE), which may sign")]
    Authority,
}

impl Subject {
    /// Returns the URI that names the subject.
    pub fn uri(&self) -> String {
        match self {
            Subject::Instance { id, .. } => format!("{INSTANCE_URI}{id}"),
            Subject::Client(principal) => principal.to_string(),
        }
    }

    /// Returns the host names and IP addresses beside the id.
    pub fn addresses(&self) -> &[String] {
        match self {
            Subject::Instance { addresses, .. } => addresses,
            Subject::Client(_) => &[],
        }
    }

    /// Describes what the certificate is for.
    pub fn purpose(&self) -> &'static str {
        match self {
            Subject::Instance { .. } => "the agent of an instance (TLS server)",
            Subject::Client(_) => "a caller (TLS client)",
        }
    }

    /// Returns the common name.
    pub(super) fn common_name(&self) -> &str {
        match self {
            Subject::Instance { id, .. } => id.as_str(),
            Subject::Client(principal) => principal.as_str(),
        }
    }

    /// Returns every name of the certificate. The id is a host name as well, where it can be one:
    /// `curl --resolve <id>:8443:<address>` verifies it.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = vec![self.uri()];
        if let Subject::Instance { id, addresses } = self {
            names.extend(is_host_name(id.as_str()).then(|| id.to_string()));
            names.extend(addresses.iter().filter(|address| address.as_str() != id.as_str()).cloned());
        }
        names
    }

    pub(super) fn usage(&self) -> ExtendedKeyUsagePurpose {
        match self {
            Subject::Instance { .. } => ExtendedKeyUsagePurpose::ServerAuth,
            Subject::Client(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }

    /// Makes a subject of the URI, host and IP names of a request or certificate.
    fn of(names: &[Name]) -> Result<Subject, SubjectProblem> {
        let uris: Vec<&str> =
            names.iter().filter_map(|name| if let Name::Uri(uri) = name { Some(&**uri) } else { None }).collect();
        let [uri] = uris[..] else { return Err(SubjectProblem::Uris(uris.len())) };
        let addresses =
            names.iter().filter_map(|name| if let Name::Address(text) = name { Some(text.clone()) } else { None });
        let mut addresses: Vec<String> = addresses.collect();
        let Some(id) = uri.strip_prefix(INSTANCE_URI) else {
            if names_instance(uri) {
                return Err(SubjectProblem::InstanceId);
            }
            let principal = Principal::new(uri).map_err(|_| SubjectProblem::Principal)?;
            if principal.is_local() {
                return Err(SubjectProblem::Local);
            }
            return if addresses.is_empty() {
                Ok(Subject::Client(principal))
            } else {
                Err(SubjectProblem::CallerWithAddress)
            };
        };
        let id = InstanceId::new(id).map_err(|_| SubjectProblem::InstanceId)?;
        addresses.retain(|address| address != id.as_str());
        if addresses.len() > MAX_ADDRESSES {
            return Err(SubjectProblem::TooMany);
        }
        if !addresses.iter().all(|address| address.parse::<std::net::IpAddr>().is_ok() || is_host_name(address)) {
            return Err(SubjectProblem::HostName);
        }
        Ok(Subject::Instance { id, addresses })
    }

    /// Reads the subject of a certificate in DER.
    pub fn of_certificate(der: &[u8]) -> Result<Subject, SubjectProblem> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| SubjectProblem::OtherName)?;
        if certificate.is_ca() {
            return Err(SubjectProblem::Authority);
        }
        let extension = certificate.subject_alternative_name().ok().flatten();
        let general = extension.iter().flat_map(|extension| &extension.value.general_names);
        let names = general.map(Name::of_general).collect::<Result<Vec<_>, _>>()?;
        let subject = Subject::of(&names)?;
        let info = CertificateInfo::parse(der).ok_or(SubjectProblem::OtherName)?;
        let (server, client) = (info.has_usage(SERVER_AUTH), info.has_usage(CLIENT_AUTH));
        match (&subject, server, client) {
            (Subject::Instance { .. }, true, false) | (Subject::Client(_), false, true) => Ok(subject),
            _ => Err(SubjectProblem::Usage),
        }
    }

    /// Reads the subject that a request asks for.
    pub(super) fn of_request(params: &rcgen::CertificateParams) -> Result<Subject, SubjectProblem> {
        if matches!(params.is_ca, rcgen::IsCa::Ca(_)) {
            return Err(SubjectProblem::Authority);
        }
        let names = params.subject_alt_names.iter().map(Name::of_san).collect::<Result<Vec<_>, _>>()?;
        let subject = Subject::of(&names)?;
        match &params.extended_key_usages[..] {
            [] => Ok(subject),
            [usage] if *usage == subject.usage() => Ok(subject),
            _ => Err(SubjectProblem::Usage),
        }
    }
}

/// True if a URI names an instance, in any spelling: scheme and host of a URI are the same in upper and lower case.
pub(crate) fn names_instance(uri: &str) -> bool {
    uri.get(..INSTANCE_URI.len()).is_some_and(|start| start.eq_ignore_ascii_case(INSTANCE_URI))
}

/// Subject alternative name.
enum Name {
    Uri(String),
    /// A host name or IP address.
    Address(String),
}

impl Name {
    fn of_san(san: &SanType) -> Result<Name, SubjectProblem> {
        match san {
            SanType::URI(uri) => Ok(Name::Uri(uri.to_string())),
            SanType::DnsName(name) => Ok(Name::Address(name.to_string())),
            SanType::IpAddress(ip) => Ok(Name::Address(ip.to_string())),
            _ => Err(SubjectProblem::OtherName),
        }
    }

    fn of_general(name: &GeneralName<'_>) -> Result<Name, SubjectProblem> {
        match name {
            GeneralName::URI(uri) => Ok(Name::Uri((*uri).to_owned())),
            GeneralName::DNSName(name) => Ok(Name::Address((*name).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
                ip.map(|ip| Name::Address(ip.to_string())).map_err(|_| SubjectProblem::OtherName)
            }
            _ => Err(SubjectProblem::OtherName),
        }
    }
}
