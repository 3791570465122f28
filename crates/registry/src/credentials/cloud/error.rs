//! Errors of asking a cloud for a credential.

/// The reason why a cloud gave no credential. It never repeats an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// This binary was built without the cloud.
    #[error("this tagpin was built without the feature `{0}`")]
    NotBuiltIn(&'static str),
    /// The host is not a registry of the cloud.
    #[error("{0}")]
    NotOurs(&'static str),
    /// The registry is in a region that the configuration does not list.
    #[error("aws.regions does not list {region}, so tagpin requests no credential there")]
    NotListed {
        /// The region.
        region: String,
    },
    /// No identity is configured.
    #[error("tagpin has no identity for this cloud: {0}")]
    Nobody(&'static str),
    /// A service denied access to the identity of tagpin.
    #[error("{service} denies access to this user or role (status {status})")]
    Denied {
        /// The name of the service.
        service: &'static str,
        /// The status of its answer.
        status: u16,
    },
    /// A service did not answer, or answered with an error.
    #[error("{service} {problem}")]
    Service {
        /// The name of the service.
        service: &'static str,
        /// The problem.
        problem: String,
    },
}

impl CloudError {
    /// Returns the error for a deadline that passed.
    pub(super) fn late() -> Self {
        Self::Service { service: "the cloud", problem: "did not answer in time".to_owned() }
    }
}
