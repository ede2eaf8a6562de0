//! Credentials for one account: the default chain, or a role that is assumed with it.

use std::sync::Arc;
use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::OnceCell;

use super::{Access, Ec2Error, endpoint};
use crate::error::deepest;
use crate::sdk::{Options, sdk_config};
use crate::web::Web;

/// Maximum time of an attempt, and of the credentials of the chain.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Role in an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// External id that its trust policy asks for.
    pub external_id: Option<String>,
    /// Name of the session, which the account's logs show.
    pub session_name: String,
}

/// The caller's own credentials, asked for once: for all roles and regions.
#[derive(Debug)]
pub struct Base {
    profile: Option<String>,
    region: String,
    loaded: OnceCell<Result<(SdkConfig, Credentials), Ec2Error>>,
}

impl Base {
    /// Takes the credentials of a profile, or of the default chain. `region` is the one in which roles are assumed.
    pub fn new(profile: Option<String>, region: String) -> Base {
        Base { profile, region, loaded: OnceCell::new() }
    }

    async fn load(&self) -> Result<&(SdkConfig, Credentials), Ec2Error> {
        let load = async || {
            let options = Options {
                region: Some(self.region.clone()),
                profile: self.profile.clone(),
                timeout: TIMEOUT,
                ..Options::default()
            };
            let config = sdk_config(&options).await?;
            let provider = config.credentials_provider();
            let provider = provider.ok_or_else(|| Ec2Error::NoCredentials("no provider".to_owned()))?;
            let credentials = in_time(provider.provide_credentials()).await.map_err(Ec2Error::NoCredentials)?;
            // Roles are assumed with these, without asking the chain again.
            let provider = SharedCredentialsProvider::new(credentials.clone());
            Ok((config.into_builder().credentials_provider(provider).build(), credentials))
        };
        self.loaded.get_or_init(load).await.as_ref().map_err(Ec2Error::clone)
    }
}

/// Access to one account. Cheap to clone; clones share their credentials, also the error to get them.
#[derive(Debug, Clone)]
pub struct Account {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    base: Arc<Base>,
    role: Option<Role>,
    credentials: OnceCell<Result<Credentials, Ec2Error>>,
    web: OnceCell<Web>,
}

impl Account {
    /// Creates the access with a role, or with the caller's own credentials.
    pub fn new(base: Arc<Base>, role: Option<Role>) -> Account {
        Account { shared: Arc::new(Shared { base, role, credentials: OnceCell::new(), web: OnceCell::new() }) }
    }

    pub(super) async fn access(&self, region: &str) -> Result<Access, Ec2Error> {
        let Shared { base, role, credentials, web } = &*self.shared;
        let (config, own) = base.load().await?;
        let credentials = match role {
            None => own.clone(),
            Some(role) => credentials.get_or_init(|| assume(config, role)).await.clone()?,
        };
        let web = web.get_or_try_init(async || Web::new(TIMEOUT)).await?.clone();
        Ok(Access { web, endpoint: endpoint::endpoint(config, region)?, region: region.to_owned(), credentials })
    }
}

async fn assume(config: &SdkConfig, role: &Role) -> Result<Credentials, Ec2Error> {
    let Role { arn, external_id, session_name } = role;
    let mut builder = AssumeRoleProvider::builder(arn).session_name(session_name).configure(config);
    if let Some(id) = external_id {
        builder = builder.external_id(id);
    }
    if let Some(region) = config.region() {
        builder = builder.region(Region::new(region.to_string()));
    }
    let provider = builder.build().await;
    in_time(provider.provide_credentials()).await.map_err(Ec2Error::Role)
}

async fn in_time<E: std::error::Error + 'static>(
    credentials: impl Future<Output = Result<Credentials, E>>,
) -> Result<Credentials, String> {
    match tokio::time::timeout(TIMEOUT.saturating_mul(2), credentials).await {
        Ok(Ok(credentials)) => Ok(credentials),
        Ok(Err(error)) => Err(deepest(&error).split(". Attempted:").next().unwrap_or_default().to_owned()),
        Err(_) => Err(format!("none within {:?}", TIMEOUT.saturating_mul(2))),
    }
}
