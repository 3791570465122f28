//! Credentials that clouds give for their registries: Amazon ECR, Google Artifact Registry, Azure Container Registry.
//!
//! Each cloud is a feature of the crate; without it, an entry of the configuration that names the cloud is refused.

mod access;
mod clouds;
mod error;
mod exchange;
mod given;
mod host;

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcp")]
mod gcp;

pub use self::access::{Access, ServiceKey};
pub use self::clouds::Clouds;
pub use self::error::CloudError;
pub use self::exchange::Surroundings;
pub(crate) use self::host::{EcrHost, is_cloud_registry};
