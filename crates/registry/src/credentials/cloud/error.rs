//! Errors of asking a cloud for a credential.

/// Why a cloud gave no credential. It never repeats an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// This binary was built without the cloud.
    #[error("this tagpin is built without the feature `{0}`")]
    NotBuiltIn(&'static str),
    /// The host is none of the cloud's registries, or of no region that is listed.
    #[error("{0}")]
    NotOurs(&'static str),
    /// Nothing says who we are.
    #[error("nothing says who tagpin is: {0}")]
    Nobody(&'static str),
    /// A service did not answer, or not as it should.
    #[error("{service} {problem}")]
    Service {
        /// Which one.
        service: &'static str,
        /// What came instead.
        problem: String,
    },
}

impl CloudError {
    /// Returns the error that the deadline passed.
    pub(super) fn late() -> Self {
        Self::Service { service: "the cloud", problem: "was too slow".to_owned() }
    }
}
