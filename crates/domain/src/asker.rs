//! The identity that asks a registry. It holds the names of pull secrets, and no credential.

/// The identity on whose behalf a registry is asked. Only its own pull secrets may be used for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker {
    /// The namespace of the object that names the image.
    pub namespace: String,
    /// Names of the pull secrets in that namespace, in the pod's order. A pod (or template) that names none
    /// gets those of its service account, which is what the ServiceAccount admission plugin of Kubernetes
    /// would fill in.
    pub pull_secrets: Vec<String>,
}

impl Asker {
    /// Returns an asker without the credentials of a namespace, such as the command line.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self { namespace: String::new(), pull_secrets: Vec::new() }
    }
}
