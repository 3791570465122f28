//! The clouds that give credentials, and the registries for which they do.

use std::fmt;
use std::sync::Arc;

use super::error::CloudError;
use crate::profile::cloud_host::{AcrHost, EcrHost, is_google};
use tagpin_domain::fact::Cloud;

/// The cloud that gives the credential of an entry, and the identity towards it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Access {
    /// Amazon ECR.
    Aws {
        /// A role to assume, for instance in another account.
        role: Option<String>,
        /// The regions for which credentials are requested. Without them, the name of an image could make tagpin ask
        /// every region.
        regions: Arc<[String]>,
    },
    /// Google Artifact Registry and gcr.io.
    Gcp {
        /// The key of a service account, used instead of the metadata server.
        key: Option<Arc<ServiceKey>>,
    },
    /// Azure Container Registry.
    Azure,
}

/// The key file of a Google service account.
#[cfg_attr(not(feature = "gcp"), allow(dead_code, reason = "nobody reads one then"))]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    pub(super) email: String,
    pub(super) token_uri: String,
    /// The private key: PKCS #8, as DER.
    pub(super) key: Secret,
}

/// Bytes that are never printed.
#[cfg_attr(not(feature = "gcp"), allow(dead_code, reason = "nobody reads one then"))]
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Secret(pub(super) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Access {
    /// Returns the cloud.
    pub(super) const fn cloud(&self) -> Cloud {
        match self {
            Self::Aws { .. } => Cloud::Aws,
            Self::Gcp { .. } => Cloud::Gcp,
            Self::Azure => Cloud::Azure,
        }
    }

    /// Returns the stable word for metrics, which is also the key in the configuration.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        self.cloud().word()
    }

    /// Checks that this binary supports the cloud.
    ///
    /// # Errors
    /// Returns an error if it was built without it.
    pub(crate) const fn built_in(&self) -> Result<(), CloudError> {
        let built = match self {
            Self::Aws { .. } => cfg!(feature = "aws"),
            Self::Gcp { .. } => cfg!(feature = "gcp"),
            Self::Azure => cfg!(feature = "azure"),
        };
        if built { Ok(()) } else { Err(CloudError::NotBuiltIn(self.word())) }
    }

    /// Returns true if the cloud gives credentials for this host.
    #[must_use]
    pub(crate) fn answers_for(&self, host: &str) -> bool {
        reach(self, host).is_ok()
    }
}

/// Returns the scope of a credential for this host: a region, a cloud, or one registry.
///
/// # Errors
/// Returns an error if the host does not belong to the cloud, or is in a region that is not listed.
pub(super) fn reach(access: &Access, host: &str) -> Result<String, CloudError> {
    let reach = match access {
        Access::Aws { regions, .. } => match EcrHost::parse(host) {
            Some(ecr) if regions.is_empty() || regions.iter().any(|region| region == ecr.region()) => {
                // One token is valid for the registries of all accounts in the region.
                Some(ecr.api())
            }
            Some(ecr) => return Err(CloudError::NotListed { region: ecr.region().to_owned() }),
            None => None,
        },
        Access::Gcp { .. } => is_google(host).then(|| "google".to_owned()),
        Access::Azure => AcrHost::parse(host).map(|acr| acr.login().to_owned()),
    };
    reach.ok_or(CloudError::NotOurs("the host is not a registry of this cloud"))
}
