//! Who asks a registry. It does not know any credential, only where the credentials are.

/// The identity on whose behalf a registry is asked: only its own pull secrets may answer it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker {
    /// The namespace of the object that names the image.
    pub namespace: String,
    /// Names of the pull secrets in that namespace, in the pod's order: those of the
    /// pod (or template) if it names any, else those of its service account, which is
    /// what the ServiceAccount admission plugin of Kubernetes would fill in.
    pub pull_secrets: Vec<String>,
}

impl Asker {
    /// Someone without a namespace's credentials, as the command line is.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self { namespace: String::new(), pull_secrets: Vec::new() }
    }
}
